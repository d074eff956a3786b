"""Where text for people goes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console
from rich.filesize import decimal

WIDTH_ELSEWHERE = 300  # of pipes and files, which have none of their own
LINE_EVERY_SECONDS = 60  # on a transfer of bytes, where there is no terminal


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for every table where there is none.

    It takes all text as it is: brackets in the error of a method or in a path are no markup, and neither a character
    that the terminal's encoding lacks nor a full or closed stream ends what is being done.
    """
    stream: Any = _Tolerant(sys.stderr if stderr else sys.stdout)
    console = Console(file=stream, markup=False, emoji=False)
    return console if console.is_terminal else Console(file=stream, markup=False, emoji=False, width=WIDTH_ELSEWHERE)


class _Tolerant:
    """A stream to which anything can be written: what it cannot encode is escaped, what it cannot take is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or 'utf-8'
        try:
            return self._stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
        except (OSError, ValueError):  # full; closed
            return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def printable(name: str | bytes | os.PathLike[str]) -> str:
    """A path or name that any terminal and file takes: bytes that are no UTF-8, and line breaks, as ``\\x`` escapes."""
    try:
        text = os.fsencode(name).decode('utf-8', 'backslashreplace')
    except UnicodeEncodeError:  # half a character, as a pickle or JSON may hold
        text = str(name).encode('utf-8', 'backslashreplace').decode()
    return ''.join(letter if letter.isprintable() else letter.encode('unicode_escape').decode() for letter in text)


def say(line: str) -> None:
    """Tell what is being done, beside the output proper: on stderr."""
    make_console(stderr=True).print(line, highlight=False, soft_wrap=True)


@contextmanager
def transfer(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how many bytes have come: a bar on a terminal, one line and then one a minute elsewhere.

    Args:
        what: What is done to what.
        total: Bytes in all; 0 where nobody knows.
        done: Bytes that were there before.

    Yields:
        To be called with the number of bytes that have come since the last call.
    """
    console = make_console(stderr=True)
    if console.is_terminal:
        from rich import progress

        columns = (
            progress.TextColumn('{task.description}', markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total or None, completed=done)
            yield lambda count: bar.advance(task, count)
        return
    size = decimal(total) if total else 'unknown size'
    say(f'{what} ({size}{f", {decimal(done)} of it are here already" if done else ""})')
    began = last = time.monotonic()
    came = 0

    def advance(count: int) -> None:
        nonlocal came, last
        came += count
        now = time.monotonic()
        if now - last > LINE_EVERY_SECONDS:
            last, speed = now, came / (now - began)
            left = f', {(total - done - came) / speed / 60:.0f} min left' if total and speed else ''
            say(f'  {decimal(done + came)} of {size}, {decimal(int(speed))}/s{left}')

    yield advance

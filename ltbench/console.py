"""Where text for people goes."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.filesize import decimal

WIDTH_ELSEWHERE = 300  # of pipes and files, which have none of their own
STDOUT, STDERR = 1, 2  # descriptors
LINE_EVERY_SECONDS = 60  # on a transfer of bytes, where there is no terminal


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for every table where there is none.

    In a notebook it writes plain text, in order, among what else is printed there. It takes all text as it is: brackets
    in the error of a method or in a path are no markup, and neither a character that the terminal's encoding lacks nor
    a full or closed stream ends what is being done.
    """
    stream: Any = _Tolerant(sys.stderr if stderr else sys.stdout)
    plain: dict[str, Any] = {'markup': False, 'emoji': False, 'force_jupyter': False}
    console = Console(file=stream, **plain)
    return console if console.is_terminal else Console(file=stream, width=WIDTH_ELSEWHERE, **plain)


@contextmanager
def meanwhile(words: str) -> Iterator[None]:
    """Say on a terminal what is being done before there is anything to show; nothing of it stays."""
    console = make_console()
    with console.status(words) if console.is_terminal else nullcontext():
        yield


class _Tolerant:
    """A stream to which anything can be written: what it cannot encode is escaped, what it cannot take is lost.

    Attributes:
        lost: Why something was lost; '' where nothing was, or nobody reads any more, as after ``| head``.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = ''

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or 'utf-8'
        try:
            return self._stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
        except (OSError, ValueError) as error:  # full; closed
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.lost = self.lost or error.strerror or str(error)


@contextmanager
def tolerant_streams() -> Iterator[Callable[[], str]]:
    """Let standard output and standard error take anything, whoever writes to them, also where they are full or closed.

    Yields:
        To be called for the reason why standard output could not take all; '' where it could.
    """
    before = sys.stdout, sys.stderr
    out, err = (_Tolerant(stream if stream is not None else _nowhere()) for stream in before)
    streams: Any = (out, err)
    sys.stdout, sys.stderr = streams

    def why() -> str:
        out.flush()
        return out.lost

    try:
        yield why
    finally:
        for stream in streams:
            stream.flush()
            if stream.lost:  # what is still in its buffer would be tried once more as Python ends
                with suppress(OSError, ValueError), _nowhere() as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())
                stream.flush()
        sys.stdout, sys.stderr = before


def _nowhere() -> TextIO:
    return Path(os.devnull).open('w', encoding='utf-8')


@contextmanager
def machine_output() -> Iterator[Callable[[str], None]]:
    """Keep standard output for what a program reads: all that foreign code prints meanwhile goes to standard error.

    Yields:
        To be called with the text, which is written at the end.
    """
    out, texts = sys.stdout, list[str]()
    out.flush()
    own = None
    with suppress(OSError, ValueError):
        if out.fileno() == STDOUT:  # not when it is captured
            own = os.dup(STDOUT)
    if own is not None:
        os.dup2(STDERR, STDOUT)  # also for what does not go through Python
    sys.stdout = sys.stderr
    try:
        yield texts.append
    finally:
        sys.stdout.flush()
        out.flush()  # what was written to it by way of a reference
        sys.stdout = out
        if own is not None:
            os.dup2(own, STDOUT)
            os.close(own)
    out.write(''.join(texts))
    out.flush()
    if own is not None:
        atexit.register(os.dup2, STDERR, STDOUT)  # before what was registered meanwhile


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

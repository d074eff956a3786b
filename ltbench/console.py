"""Output for users: consoles, notes and progress."""

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

WIDTH_ELSEWHERE = 300  # for pipes and files, which have no width
STDOUT, STDERR = 1, 2  # descriptors
LINE_EVERY_SECONDS = 60  # on a transfer of bytes, where there is no terminal


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for every table where there is none.

    In a notebook it writes plain text, in order with other output there. Text is printed as it is: brackets in an error
    message or in a path are not markup. Characters that the terminal's encoding lacks, and a full or closed stream,
    raise no error.
    """
    stream: Any = _Tolerant(sys.stderr if stderr else sys.stdout)
    plain: dict[str, Any] = {'markup': False, 'emoji': False, 'force_jupyter': False}
    console = Console(file=stream, **plain)
    return console if console.is_terminal else Console(file=stream, width=WIDTH_ELSEWHERE, **plain)


@contextmanager
def meanwhile(words: str) -> Iterator[None]:
    """Show on a terminal what is being done until there is a result; the text then disappears."""
    console = make_console()
    with console.status(words) if console.is_terminal else nullcontext():
        yield


class _Tolerant:
    """A stream that accepts all text: what it cannot encode is escaped, what it cannot write is lost.

    Attributes:
        lost: Why text was lost; '' if none was, or if the reader has closed the pipe, as in ``| head``.
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
    """Let standard output and standard error accept all text from all code, also if they are full or closed.

    Yields:
        A function that returns why standard output lost text; '' if it did not.
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
            if stream.lost:  # otherwise Python would try to write its buffer again at exit
                with suppress(OSError, ValueError), _nowhere() as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())
                stream.flush()
        sys.stdout, sys.stderr = before


def _nowhere() -> TextIO:
    return Path(os.devnull).open('w', encoding='utf-8')


@contextmanager
def machine_output() -> Iterator[Callable[[str], None]]:
    """Reserve standard output for machine-readable text: all that other code prints meanwhile goes to standard error.

    Yields:
        A function to call with the text, which is written at the end.
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
        out.flush()  # text that was written through an older reference to it
        sys.stdout = out
        if own is not None:
            os.dup2(own, STDOUT)
            os.close(own)
    out.write(''.join(texts))
    out.flush()
    if own is not None:
        atexit.register(os.dup2, STDERR, STDOUT)  # before what was registered meanwhile


def printable(name: str | bytes | os.PathLike[str]) -> str:
    """A path or name as text for any terminal or file: bytes that are no UTF-8, and line breaks, as ``\\x`` escapes."""
    try:
        text = os.fsencode(name).decode('utf-8', 'backslashreplace')
    except UnicodeEncodeError:  # half a character, as a pickle or JSON may hold
        text = str(name).encode('utf-8', 'backslashreplace').decode()
    return ''.join(letter if letter.isprintable() else letter.encode('unicode_escape').decode() for letter in text)


def say(line: str) -> None:
    """Print a message to stderr, separate from the output of the command."""
    make_console(stderr=True).print(line, highlight=False, soft_wrap=True)


@contextmanager
def transfer(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show the progress of a transfer: a bar on a terminal, elsewhere one line at the start and one per minute.

    Args:
        what: Description of the transfer.
        total: Bytes in total; 0 if unknown.
        done: Bytes that were there before.

    Yields:
        A function to call with the number of bytes received since the last call.
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
    say(f'{what} ({size}{f", {decimal(done)} already here" if done else ""})')
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

"""Files that are derived from data: where they are kept, how they are written, and how they are verified when read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ltbench.console import say
from ltbench.errors import DataError
from ltbench.sealed import open_plain, remove_abandoned

FOLDER = '.ltbench-cache'
SEAL_BYTES = 32
_BLOCK = 1 << 20
_REASONS = {
    errno.ENOSPC: 'the disk is full',
    errno.EDQUOT: 'your quota is used up',
    errno.EROFS: 'the file system is read-only',
    errno.EACCES: 'permission denied',
    errno.EPERM: 'permission denied',
}


def data_root() -> Path:
    """Where data files are looked for and downloaded to: ``$LTBENCH_DATA``, default ``./data``."""
    return Path(os.environ.get('LTBENCH_DATA', 'data'))


def cache_places(source: Path) -> tuple[Path, Path]:
    """Where files derived from ``source`` may be: beside it, or in a folder of their own under the data folder."""
    name = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:16]
    return source / FOLDER, data_root() / 'cache' / name


def cache_folder(source: Path) -> Path:
    """The first of :func:`cache_places` that can be written to.

    Raises:
        DataError: If neither can.
    """

    def probe(folder: Path) -> Path:
        file = folder / f'.{uuid.uuid4().hex[:8]}'
        file.touch()
        file.unlink()
        return folder

    return _in_first_place(source, 'caches', probe)


def write_sealed(source: Path, name: str, kind: str, write: Callable[[Any], None]) -> Path:
    """Write a file derived from ``source``, whole or not at all, with a seal at its end; returns where it is.

    Args:
        source: Folder of the data; the file stands in the first of :func:`cache_places` that takes it.
        name: Of the file.
        kind: What the file is; :func:`is_sealed` must be told the same.
        write: Is given an open binary file.

    Raises:
        DataError: If it can be written in neither place; the message says why and what to do.
    """

    def whole(folder: Path) -> Path:
        temporary = folder / f'.{name}.{uuid.uuid4().hex[:8]}'
        try:
            with temporary.open('wb') as file:
                sealing = _Sealing(file)
                write(sealing)
                sealing.digest.update(kind.encode())
                file.write(sealing.digest.digest())
                file.flush()
                os.fsync(file.fileno())
            remove_abandoned(folder)
            return temporary.replace(folder / name)
        finally:
            with contextlib.suppress(OSError):  # the folder itself may be missing: the first error is the one to show
                temporary.unlink(missing_ok=True)

    return _in_first_place(source, name, whole)


def seal(body: bytes, kind: str) -> bytes:
    """``body`` with its seal behind it: the sha256 of body and kind."""
    return body + hashlib.sha256(body + kind.encode()).digest()


def unseal(sealed: bytes, kind: str) -> bytes | None:
    """What :func:`seal` was given, or None if that was something else."""
    body = sealed[:-SEAL_BYTES]
    return body if sealed == seal(body, kind) else None


def is_sealed(path: Path, kind: str) -> bool:
    """Whether the file at ``path`` is as :func:`write_sealed` wrote it, without holding it in memory.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.sha256()
    with open_plain(path) as file:
        left = os.fstat(file.fileno()).st_size - SEAL_BYTES
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
        digest.update(kind.encode())
        return left == 0 and file.read() == digest.digest()


class _Sealing:
    """A file that also hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        return self.file.write(block)


def _in_first_place(source: Path, what: str, act: Callable[[Path], Path]) -> Path:
    beside, elsewhere = cache_places(source)
    failures = []
    for folder in (beside, elsewhere):
        try:
            folder.mkdir(parents=folder is elsewhere, exist_ok=True)  # a source that is not there is not created
            return act(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and folder is beside:
                say(f'no room for {what} in {beside} ({_REASONS[error.errno]}): trying {elsewhere}')
            failures.append(f'{folder} ({_REASONS.get(error.errno or 0, str(error))})')
    raise DataError(
        f'{what} of {source} cannot be written: neither in {failures[0]} nor in {failures[1]}; free some space there, '
        'or set LTBENCH_DATA to a folder with room that can be written'
    )

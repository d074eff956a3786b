"""Sealed files: each states its kind, its owner, and the checksum of its contents.

There is one way to write and one way to read them. A file that was cut, changed, moved to another's place or written by
another version is distinguished from one that cannot be read at the moment, and neither is ever used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import msgspec

from ltbench.console import say
from ltbench.errors import StoreError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

BLOB = b'ltbench-blob-1'
"""First word of a binary file; its kind, owner and sha256 follow in the first line, its contents after that."""
BLOCK = 1 << 20


TEMPORARY = re.compile(r'\..+\.~[0-9a-f]{8}')
"""Names of files and folders until they are complete, see :func:`temporary`. Nobody else names a file like this: a
date, as in ``.config.20240115``, is eight hexadecimal digits, too."""
ABANDONED_SECONDS = 3600.0
"""A temporary file that nobody has written to for so long is from a process that was killed."""
SILENT_SECONDS, PATIENT_SECONDS = 3.0, 60.0
"""How long to wait for a lock without a message, and in total."""


class DamagedFileError(StoreError):
    """The contents of a file are not what was written there."""


class UnreadableFileError(StoreError):
    """A file exists but cannot be read at the moment; its contents are unknown."""


def write_document(path: Path, kind: str, owner: str, content: Mapping[str, Any]) -> None:
    """Write plain data as JSON, sealed.

    Args:
        path: The file.
        kind: What it is, as ``'manifest'``.
        owner: Its owner: a fingerprint, or another name that is unique for its kind.
        content: JSON data.
    """
    sealed = {'kind': kind, 'owner': owner, 'sha256': _seal(kind, owner, content), 'content': content}
    write_atomically(path, json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + '\n')


def read_document(path: Path, kind: str, owner: str, shape: Any = dict[str, Any]) -> Any:
    """The content of a file that :func:`write_document` wrote.

    Args:
        path: The file.
        kind: As it was written.
        owner: Likewise.
        shape: Type that the content must have, as msgspec understands it.

    Raises:
        FileNotFoundError: If there is none.
        UnreadableFileError: If it cannot be read.
        DamagedFileError: If its contents are incomplete, have another owner or another form.
    """
    try:
        sealed = json.loads(_read(path))
        if not isinstance(sealed, dict) or sealed.keys() != {'kind', 'owner', 'sha256', 'content'}:
            raise ValueError('it is not in the form that this version of ltbench writes')
        if (sealed['kind'], sealed['owner']) != (kind, owner):
            raise ValueError(f'it is the {sealed["kind"]} of {sealed["owner"]}, expected the {kind} of {owner}')
        if sealed['sha256'] != _seal(kind, owner, sealed['content']):
            raise ValueError('its checksum does not fit')
        msgspec.convert(sealed['content'], shape)
        return sealed['content']
    except (ValueError, RecursionError) as error:  # JSON, Unicode and msgspec errors are ValueErrors
        raise DamagedFileError(f'{path} is damaged: {error}') from error


def write_blob(path: Path, kind: str, owner: str, payload: bytes) -> None:
    """Write bytes, sealed."""
    head = b' '.join((BLOB, kind.encode(), owner.encode(), hashlib.sha256(payload).hexdigest().encode()))
    write_atomically(path, head + b'\n' + payload)


def read_blob(path: Path, kind: str, owner: str) -> bytes:
    """The bytes of a file that :func:`write_blob` wrote; raises as :func:`read_document`."""
    head, _, payload = _read(path).partition(b'\n')
    words = head.split(b' ')
    if len(words) != 4 or words[0] != BLOB:
        raise DamagedFileError(f'{path} is damaged: it is not in the form that this version of ltbench writes')
    if words[1:3] != [kind.encode(), owner.encode()]:
        actual = ' of '.join(word.decode(errors='replace') for word in words[1:3])
        raise DamagedFileError(f'{path} is damaged: it is the {actual}, expected the {kind} of {owner}')
    if words[3] != hashlib.sha256(payload).hexdigest().encode():
        raise DamagedFileError(f'{path} is damaged: its checksum does not fit')
    return payload


def write_stream(path: Path, kind: str, owner: str, write: Callable[[Any], object]) -> Path:
    """Write a file that is too large for memory, or that others read from its first byte: its seal is at the end.

    Args:
        path: The file; returned.
        kind: Its kind.
        owner: Its owner.
        write: Called with an open binary file.
    """
    with _replacing(path) as file:
        sealing = _Sealing(file)
        write(sealing)
        file.write(_tail(sealing.digest, kind, owner))
    return path


def is_stream(path: Path, kind: str, owner: str) -> bool:
    """Whether a file is as :func:`write_stream` wrote it. It is read block by block.

    Raises:
        OSError: If there is none, or it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            left = os.fstat(file.fileno()).st_size - digest.digest_size
            while left > 0 and (block := file.read(min(left, BLOCK))):
                digest.update(block)
                left -= len(block)
            return left == 0 and file.read() == _tail(digest, kind, owner)
    except ValueError:  # a FIFO, socket, device or folder in its place
        return False


class _Sealing:
    """A file that also hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        return self.file.write(block)


def _tail(digest: Any, kind: str, owner: str) -> bytes:
    digest.update(f'\0{kind}\0{owner}'.encode())
    return digest.digest()


def _seal(kind: str, owner: str, content: Any) -> str:
    text = json.dumps([kind, owner, content], sort_keys=True, separators=(',', ':'), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return contents_of(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise DamagedFileError(f'{path} is damaged: {error}') from error


def unreadable(path: Path, error: OSError) -> UnreadableFileError:
    """The error for a file or folder that the operating system does not let us read; its contents may be intact."""
    advice = {
        errno.EACCES: 'permission denied; two users of one store need a common group and umask 002',
        errno.EMFILE: 'too many files are open; raise the limit (`ulimit -n 4096`) and run the same command again',
    }.get(error.errno or 0, f'{error.strerror or error}; run the same command again later')
    if error.errno == errno.ENOTDIR:
        advice = _in_the_way(path, 'LTBENCH_STORE')
    return UnreadableFileError(f'{path} cannot be read: {advice}')


def _in_the_way(path: Path, variable: str) -> str:
    file = next((part for part in (path, *path.parents) if part.is_file()), path)
    return f'{file} is a file where a folder should be; set {variable} to a folder'


# ---------------------------------------------------------------------------------------------- plain files


def write_atomically(path: Path, contents: str | bytes) -> None:
    """Write a file so that readers see the old or the new contents, never a part, even after a crash."""
    with _replacing(path) as file:
        file.write(contents.encode() if isinstance(contents, str) else contents)


def temporary(path: Path) -> Path:
    """A name beside ``path`` for a file or folder that becomes ``path`` once it is complete."""
    return path.with_name(f'.{path.name}.~{uuid.uuid4().hex[:8]}')


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that replaces ``path`` once it is complete."""
    unfinished = temporary(path)
    try:
        with unfinished.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        with suppress(OSError):  # its folder may be missing: the first error is the one to show
            unfinished.unlink(missing_ok=True)


def contents_of(path: Path) -> bytes:
    """The bytes of a regular file; others are refused, since reading a FIFO could wait for ever.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a folder, FIFO, socket or device.
    """
    with open_regular(path) as file:
        return file.read()


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read its bytes; raises as :func:`contents_of`."""
    try:
        # must neither take over a terminal nor wait for a FIFO without a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ELOOP):
            raise ValueError('it is a socket, device or circular link, no regular file') from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((name for is_kind, name in KINDS.items() if is_kind(mode)), 'device')
        raise ValueError(f'it is a {kind}, no regular file')
    return os.fdopen(descriptor, 'rb')


KINDS = {stat.S_ISDIR: 'folder', stat.S_ISFIFO: 'FIFO', stat.S_ISSOCK: 'socket'}
"""What may be in the place of a file."""


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left in a folder: temporary files and folders that nobody writes to any more."""
    with suppress(OSError):  # the folder is missing or not writable; then only disk space is wasted
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name) and time.time() - path.lstat().st_mtime > ABANDONED_SECONDS:
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder that is in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Sha256 of a file's contents; empty, so equal to no sha256, for a FIFO, socket, device or folder."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except ValueError:
        return ''


@contextmanager
def explained(what: str, root: Path, variable: str = 'LTBENCH_STORE') -> Iterator[None]:
    """Turn the operating system's errors into one line that says what to do.

    Args:
        what: What is written.
        root: The folder.
        variable: Environment variable that chooses another place.
    """
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: 'the disk is full; free some space and run the same command again',
            errno.EDQUOT: 'your quota is used up; free some space and run the same command again',
            errno.EROFS: f'the file system is read-only; set {variable} to a folder that can be written',
            errno.EACCES: f'permission denied; set {variable} to a folder that can be written',
            errno.ENOENT: f'{error}; set {variable} to a folder that can be written',
        }.get(error.errno or 0, str(error))
        if error.errno == errno.ENOTDIR:
            advice = _in_the_way(Path(error.filename or root), variable)
        raise StoreError(f'cannot write {what} in {root}: {advice}') from error


# ---------------------------------------------------------------------------------------------- locks


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock; only one process can at a time.

    The file ``path`` stays: if it were deleted, two processes could hold the lock. On a disk without ``flock`` there is
    another file, ``PATH.held``, as long as the lock is held.

    Raises:
        StoreError: If another process holds it for too long.
        OSError: If the file cannot be written.
    """
    from filelock import FileLock, SoftFileLock, Timeout  # most commands do not need it

    lock = FileLock(path) if _has_flock(path) else SoftFileLock(path.with_name(f'{path.name}.held'))
    try:
        held = lock.acquire(SILENT_SECONDS)
    except Timeout:
        say(f'another process holds {lock.lock_file}: waiting for it')
        try:
            held = lock.acquire(PATIENT_SECONDS - SILENT_SECONDS)
        except Timeout:
            raise StoreError(f'another process holds {lock.lock_file}; if none does, remove it') from None
    with held:
        yield


def _has_flock(path: Path) -> bool:
    """Whether the disk has locks that end with their process. Creates the file."""
    if fcntl is None:  # Windows has other locks, which do
        return True
    try:
        with path.open('a+b') as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        return False
    return True

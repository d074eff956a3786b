"""Downloads that survive a broken connection: resumed, checked before they get their name, unpacked completely."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from rich.filesize import decimal

from ltbench.console import printable, say, transfer
from ltbench.errors import DataError, InterruptedRunError
from ltbench.sealed import locked

CHUNK = 1 << 20
LOCK = '.download.lock'  # in the data folder
TIMEOUT = 30  # seconds without a byte
WAITS = (1, 3, 10, 30, 60)  # seconds between attempts; from the first on again after any progress
# errors that another attempt will not fix, if the server has sent nothing
HOPELESS = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError, FileNotFoundError, str)
RETRIED = {408, 429, 500, 502, 503, 504}
LEAST_ROOM = 1_000_000_000  # bytes to keep free on the disk if a server does not report how much it sends


@dataclass(frozen=True)
class FileStatus:
    """Whether one file is there and whole."""

    name: str
    state: str  # 'whole', 'missing' or 'damaged'; 'here': a folder, of which nothing more is known
    detail: str


@dataclass(frozen=True)
class RemoteFile:
    """A published archive (``.tar.gz``) or compressed file (``.gz``).

    Attributes:
        url: Where it is published.
        md5: Its published checksum.
        size: Bytes; 0 where it is not published.
        folder: Folder to unpack it in, under the data folder.
        md5_of_contents: Whether ``md5`` is that of the decompressed contents, which may be compressed in different
            ways.
    """

    url: str
    md5: str
    size: int = 0
    folder: str = ''
    md5_of_contents: bool = False

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rpartition('/')[2]


class DownloadError(DataError):
    """No address provides the published file."""


def complete(check: Callable[[], list[FileStatus]], sources: Mapping[str, RemoteFile], root: Path) -> None:
    """Download and unpack what ``check`` does not find whole; an archive is deleted once its contents are whole.

    Args:
        check: Returns the state of each file.
        sources: The archive of each file, in the order of download.
        root: The data folder.

    Raises:
        DownloadError: If an archive cannot be obtained; the message says how to continue.
        DataError: If a file or archive is damaged, or the disk fails; likewise.
        InterruptedRunError: On Ctrl-C; what has been downloaded is kept.
        StoreError: If another process downloads into the folder for more than a minute.
    """
    try:
        if any(status.state != 'whole' for status in check()):
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / LOCK):  # a second command would write into the same files
                _complete(check, sources, root)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f'interrupted; what has been downloaded is kept in {root.absolute()}, and the same command continues '
            'from there'
        ) from None
    except OSError as error:
        raise DataError(
            f'data in {root.absolute()} cannot be read or written: {error}; fix that, or set LTBENCH_DATA to another '
            'folder, and run the same command again'
        ) from error


def _complete(check: Callable[[], list[FileStatus]], sources: Mapping[str, RemoteFile], root: Path) -> None:
    unpacked: dict[RemoteFile, Path] = {}
    # checked again after each archive: the files that a list names are known only when the list is there
    while True:
        lacking = {status.name: status.detail for status in check() if status.state != 'whole'}
        wanted = list(dict.fromkeys(remote for name, remote in sources.items() if name in lacking))
        for remote in unpacked.keys() - wanted:
            archive = unpacked.pop(remote)
            archive.unlink()
            say(f'deleted {archive}: its contents are whole')
        if not lacking:
            return
        details = '; '.join(lacking.values())
        if lacking.keys() - sources.keys():
            raise DataError(f'{details}; delete the damaged files and run the same command again')
        if wanted[0] in unpacked:
            raise DataError(f'{unpacked[wanted[0]]} is the published file, but lacks expected files: {details}')
        folder = root / wanted[0].folder
        try:
            unpacked[wanted[0]] = fetch(wanted[0], folder)
        except DownloadError as error:
            raise DownloadError(f'{error}. {_by_hand(wanted, root)}') from error
        unpack(unpacked[wanted[0]], folder)


def fetch(remote: RemoteFile, folder: Path) -> Path:
    """The whole, checked file in ``folder``: found there, or downloaded through ``NAME.part``.

    ``$LTBENCH_MIRROR`` is the address of a folder that is tried first, with the same file name.

    Raises:
        DownloadError: If no address gives the published file.
        DataError: If the disk is too small for the file and its contents.
    """
    path, part = folder / remote.name, folder / f'{remote.name}.part'
    if path.is_file():
        wrong = _difference(path, remote)
        if not wrong:
            return path
        say(f'{path} is not the published file and will be replaced: {wrong}')
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for url in _addresses(remote):
        try:
            _download(url, part, remote.size)
            if wrong := _difference(part, remote):
                part.unlink()
                raise _UselessError(f'not the published file, so deleted: {wrong}')
        except _UselessError as error:
            problems.append(f'{url}: {error}')
        else:
            part.replace(path)
            return path
    raise DownloadError(f'{remote.name} could not be downloaded: {"; ".join(problems)}')


def unpack(archive: Path, folder: Path) -> None:
    """Put the contents of an archive or compressed file into ``folder``, each of them whole or not at all.

    Raises:
        DataError: If the archive is broken, or would write outside of the folder.
    """
    is_tar = archive.name.endswith('.tar.gz')
    if is_tar and not hasattr(tarfile, 'data_filter'):
        raise DataError('this Python cannot unpack archives safely; update it to 3.11.4 or newer')
    size = archive.stat().st_size
    _need_room(folder, size, f'what is unpacked from {archive.name}')
    # unpacked elsewhere and then moved: a killed process leaves no half file under a final name
    staging = folder / f'.{archive.name}.unpacking'
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        with (
            archive.open('rb') as file,
            transfer(f'unpacking {archive.name}', size) as advance,
            gzip.GzipFile(fileobj=cast(IO[bytes], _Metered(file, advance))) as contents,
        ):
            if is_tar:
                # not 'r|gz': its own decompression copies all it holds for every few kilobytes read
                with tarfile.open(fileobj=contents, mode='r|') as tar:
                    tar.extractall(staging, filter='data')
            else:
                with (staging / archive.stem).open('wb') as target:
                    shutil.copyfileobj(contents, target, CHUNK)
        _move(staging, folder)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f'{archive} cannot be unpacked: {error}; delete it and run the same command again') from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class _UselessError(Exception):
    """An address does not provide the file."""


class _BrokenError(Exception):
    """A connection failed; another attempt may help, unless the failure is ``lasting``."""

    lasting = False


class _Metered:
    """A file that reports how much of it has been read."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]) -> None:
        self.file, self.advance = file, advance

    def read(self, size: int = -1) -> bytes:
        contents = self.file.read(size)
        self.advance(len(contents))
        return contents


def _addresses(remote: RemoteFile) -> list[str]:
    mirror = os.environ.get('LTBENCH_MIRROR', '')
    if mirror and not re.match('(https?|file)://', mirror):
        raise DataError(
            f'LTBENCH_MIRROR is {mirror!r}: expected the address of a folder, like https://example.org/data'
        )
    return [f'{mirror.rstrip("/")}/{remote.name}', remote.url] if mirror else [remote.url]


def _download(url: str, part: Path, size: int) -> None:
    """Download the rest of ``part``, with as many requests as needed."""
    at_first = furthest = _size_of(part)
    waits = iter(WAITS)
    while not size or _size_of(part) != size:
        try:
            _request(url, part, size)
            return
        except _BrokenError as error:
            if _size_of(part) > furthest:
                furthest, waits = _size_of(part), iter(WAITS)
            wait = None if error.lasting and furthest == at_first else next(waits, None)
            if wait is None:
                raise _UselessError(str(error)) from error
            say(f'{url}: {error}; trying again in {wait} s')
            time.sleep(wait)


def _request(url: str, part: Path, size: int) -> None:
    """Request the rest of ``part`` once, and append what arrives."""
    have = _size_of(part)
    if size and have > size:
        part.unlink()
        have = 0
    if url.startswith('file:'):
        local = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
        if local.exists() and not local.is_file():
            raise _UselessError('no regular file')  # reading a named pipe would wait for ever
    headers = {'User-Agent': 'ltbench', **({'Range': f'bytes={have}-'} if have else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        # no bytes follow ours: either the file is complete, or ours are from another file
        if error.code == 416 and have:
            if error.headers.get('Content-Range') in (None, f'bytes */{have}'):
                return
            part.unlink()
            raise _BrokenError(f'{part.name} does not belong to the file on the server, so it was deleted') from error
        kind = _BrokenError if error.code in RETRIED else _UselessError
        raise kind(f'the server answered {error.code} {printable(error.reason)}') from error
    except (ValueError, http.client.InvalidURL) as error:
        raise _UselessError(f'it is, or redirects to, an invalid address ({printable(str(error))})') from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', error)
        broken = _BrokenError(f'cannot be reached ({printable(str(reason))})')
        broken.lasting = isinstance(reason, HOPELESS)
        raise broken from error
    with response:
        if response.status == 206:
            sent = re.fullmatch(r'bytes (\d+)-\d+/(\d+)', response.headers.get('Content-Range', ''))
            if sent is None or int(sent[1]) != have:
                raise _UselessError('the server sent another part of the file than requested')
            total = int(sent[2])
        else:
            have = 0  # the server does not support ranges and sends the whole file again
            total = _length(response.headers.get('Content-Length')) or size
        if size and total != size:
            raise _UselessError(f'the file on the server has {total} bytes, expected {size}')
        # contents take at least as much as the archive, which stays until they have been checked
        _need_room(part.parent, 2 * total - have, f'{part.stem} ({decimal(total)}) and what is unpacked from it')
        received = have
        with (
            part.open('ab' if have else 'wb') as file,
            transfer(f'downloading {part.stem}', total, have) as advance,
        ):
            for chunk in _chunks(response):
                received += len(chunk)
                if total and received > total:
                    part.unlink()
                    raise _UselessError(f'the server sends more than the {total} bytes of the file')
                if not total:
                    _need_room(part.parent, LEAST_ROOM, f'{part.stem}, whose size the server does not report')
                file.write(chunk)
                advance(len(chunk))
    if _size_of(part) < total:
        raise _BrokenError(f'the connection ended after {decimal(_size_of(part))} of {decimal(total)}')


def _length(text: str | None) -> int:
    """Bytes that a server announces; 0 if it is missing or invalid."""
    return int(text) if text and re.fullmatch(r'\s*\d{1,18}\s*', text, re.ASCII) else 0


def _chunks(response: Any) -> Iterator[bytes]:
    """The answer in chunks. Network errors become one kind, so that they differ from disk errors."""
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f'the connection broke ({printable(str(error))})') from error
        if not chunk:
            return
        yield chunk


def _difference(path: Path, remote: RemoteFile) -> str:
    """How a file differs from the published one; empty if it does not."""
    size = path.stat().st_size
    if remote.size and size != remote.size:
        return f'it has {size} bytes, expected {remote.size}'
    digest = hashlib.md5()
    with path.open('rb') as file, transfer(f'checking {remote.name}', size) as advance:
        source = cast(IO[bytes], _Metered(file, advance))
        try:
            contents = gzip.GzipFile(fileobj=source) if remote.md5_of_contents else source
            while chunk := contents.read(CHUNK):
                digest.update(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return f'it cannot be decompressed ({error})'
    if digest.hexdigest() == remote.md5:
        return ''
    of = ' of its contents' if remote.md5_of_contents else ''
    return f'its md5{of} is {digest.hexdigest()}, expected {remote.md5}'


def _need_room(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f'{folder.absolute()} has {decimal(free)} left, and {decimal(needed)} are needed for {what}; free some '
            'space, or set LTBENCH_DATA to a folder on a larger disk, and run the same command again'
        )


def _by_hand(remotes: list[RemoteFile], root: Path) -> str:
    files = ', '.join(
        f'{root.absolute() / remote.folder / remote.name} ({f"{remote.size} bytes, " if remote.size else ""}md5 '
        f'{"of its contents " if remote.md5_of_contents else ""}{remote.md5})'
        for remote in remotes
    )
    return (
        'Run the same command again later. Or set LTBENCH_MIRROR to the address of a folder with the missing files; '
        f'or copy them here by other means and run the same command again: {files}'
    )


def _move(source: Path, target: Path) -> None:
    """Move the contents of a folder into another one, over what is there."""
    for here in list(source.iterdir()):
        there = target / here.name
        if here.is_dir() and there.is_dir():
            _move(here, there)
        else:
            here.replace(there)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

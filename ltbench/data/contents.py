"""Sha256 of files: computed once, stored in an index beside them, computed again for files that changed."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltbench.console import printable, say, transfer
from ltbench.data.derived import cache_places, in_first_place
from ltbench.errors import DataError
from ltbench.sealed import DamagedFileError, UnreadableFileError, read_blob, write_blob

INDEX = 'contents.index'
KIND, OWNER = 'index', 'files'
WORKERS = 16  # threads: on network disks each look-up and each read waits for an answer
LOOKS_AT_ONCE = 2000
READS_AT_ONCE = 16
SAVE_EVERY_SECONDS = 30.0
SHOWN_FROM_BYTES, SHOWN_FROM_FILES = 100_000_000, 10_000  # no progress bar for less than about a second
SETTLED_NS = 2_000_000_000
"""Time stamps are coarse: a file that changed less than this ago may change again without a new one, so its hash is not
stored."""
ATTEMPTS = 3
_BLOCK = 1 << 20
_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Contents:
    """Sizes and hashes of files, in the order in which they were requested.

    Attributes:
        sizes: Bytes of each, int64 ``[N]``; -1 for one that cannot be read.
        hashes: Sha256 of each, uint8 ``[N, 32]``; zeros for one that cannot be read.
    """

    sizes: np.ndarray
    hashes: np.ndarray


def contents_of(root: Path, names: Sequence[bytes], unreadable_ok: bool = False) -> Contents:
    """Sizes and sha256 of the files ``names`` under ``root``.

    A stored hash is reused if the file's size, mtime, ctime and inode are the same as when it was computed. All other
    files are read, in parallel. The hashes are stored in a sealed index, see
    :func:`~ltbench.data.derived.cache_places`, which is also saved in between: the next call continues a killed one.

    Args:
        root: Folder.
        names: Paths relative to it, as the file system has them.
        unreadable_ok: Accept files that are missing or cannot be read; otherwise they are an error.

    Raises:
        DataError: If a file is missing, cannot be read or keeps changing, or the index cannot be written.
    """
    names = list(names)
    prefix = os.fsencode(root) + b'/'
    stamps, problems = _look_at_all(prefix, names)
    if problems and not unreadable_ok:
        raise _error(prefix, names, problems)
    indexes = [index for folder in cache_places(root) if (index := _Index.load(folder / INDEX))]
    hashes, is_known = _recall(indexes, names, stamps)
    is_known[list(problems)] = False
    lacking = [position for position in np.flatnonzero(~is_known).tolist() if position not in problems]
    if lacking:
        index = _Index(names, stamps, hashes)
        problems |= _read_all(root, index, lacking, is_known, _others(prefix, indexes, names))
        if problems and not unreadable_ok:
            raise _error(prefix, names, problems)
    sizes = stamps[:, 0].copy()
    sizes[list(problems)] = -1
    return Contents(sizes, hashes)


def _stamp(status: os.stat_result) -> _Stamp:
    """What changes when a file is written to or replaced by another."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & 0x7FFF_FFFF_FFFF_FFFF


@dataclass
class _Index:
    """Names, stamps int64 ``[N, 4]`` and hashes uint8 ``[N, 32]``."""

    names: list[bytes]
    stamps: np.ndarray
    hashes: np.ndarray

    @classmethod
    def load(cls, path: Path) -> _Index | None:
        """The index at ``path``; None if it is missing, or, with a message, if it is damaged."""
        try:
            with np.load(io.BytesIO(read_blob(path, KIND, OWNER)), allow_pickle=False) as arrays:
                return cls(arrays['names'].tobytes().split(b'\0'), arrays['stamps'], arrays['hashes'])
        except FileNotFoundError:
            return None
        except DamagedFileError:
            reason = 'damaged, or from another version'
        except UnreadableFileError as error:
            reason = f'not readable ({error.__cause__})'
        say(f'{path} is {reason}: hashing the files again')
        return None

    def save(self, root: Path) -> None:
        """Write it to the place of the index of ``root``."""
        arrays = io.BytesIO()
        joined = np.frombuffer(b'\0'.join(self.names), np.uint8)
        np.savez_compressed(arrays, names=joined, stamps=self.stamps, hashes=self.hashes)
        body = arrays.getvalue()
        in_first_place(root, INDEX, lambda folder: write_blob(folder / INDEX, KIND, OWNER, body))

    def take(self, rows: np.ndarray) -> _Index:
        """The files of these rows, positions or a mask."""
        rows = np.arange(len(self.names))[rows]
        return _Index([self.names[row] for row in rows.tolist()], self.stamps[rows], self.hashes[rows])

    def __add__(self, other: _Index) -> _Index:
        """The files of both."""
        return _Index(
            self.names + other.names,
            np.concatenate([self.stamps, other.stamps]),
            np.concatenate([self.hashes, other.hashes]),
        )


def _look_at_all(prefix: bytes, names: Sequence[bytes]) -> tuple[np.ndarray, dict[int, str]]:
    """Stamps int64 ``[N, 4]``, and the problem with each file that has none."""
    problems: dict[int, str] = {}

    def look(first: int) -> np.ndarray:
        found = []
        for position, name in enumerate(names[first : first + LOOKS_AT_ONCE], start=first):
            try:
                status = os.stat(prefix + name)  # noqa: PTH116 - a Path a file would take three times as long
                found.append(_stamp(status))
                if not stat.S_ISREG(status.st_mode):
                    problems[position] = 'is not a file'
            except OSError as error:
                found.append((-1, -1, -1, -1))
                problems[position] = _problem(error)
            except ValueError:  # a zero byte in it
                found.append((-1, -1, -1, -1))
                problems[position] = 'is not a valid file name'
        return np.array(found, dtype=np.int64)

    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(look, range(0, len(names), LOOKS_AT_ONCE)))
    return np.concatenate(parts) if parts else np.empty((0, 4), np.int64), problems


def _recall(indexes: Sequence[_Index], names: list[bytes], stamps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes ``[N, 32]`` of unchanged files, and a mask ``[N]`` of these."""
    hashes = np.zeros((len(names), 32), np.uint8)
    is_known = np.zeros(len(names), bool)
    for index in indexes:
        if index.names == names:
            rows = np.arange(len(names))
        else:
            row_of = {name: row for row, name in enumerate(index.names)}
            rows = np.array([row_of.get(name, -1) for name in names], dtype=np.int64)
        same = ~is_known & (rows >= 0) & (index.stamps[rows] == stamps).all(axis=1)
        hashes[same] = index.hashes[rows[same]]
        is_known |= same
    return hashes, is_known


def _others(prefix: bytes, indexes: Sequence[_Index], names: Sequence[bytes]) -> _Index:
    """Index entries of files that are not requested now but still exist."""
    seen = set(names)
    others = _Index([], np.empty((0, 4), np.int64), np.empty((0, 32), np.uint8))
    for index in indexes:
        is_other = [name not in seen and os.path.lexists(prefix + name) for name in index.names]
        others += index.take(np.array(is_other))
        seen.update(index.names)
    return others


def _read_all(root: Path, index: _Index, lacking: list[int], is_known: np.ndarray, others: _Index) -> dict[int, str]:
    """Fill in stamps and hashes of the files that lack one; returns the problem with each that cannot be read.

    Args:
        root: Folder.
        index: Of all requested files; filled in and saved, also in between.
        lacking: Positions of those without a hash.
        is_known: Which rows of the index may be saved; filled in.
        others: Entries of other files, which are saved, too.
    """
    prefix, problems, is_saved = os.fsencode(root) + b'/', {}, True

    def read(positions: list[int]) -> list[tuple[int, _Reading]]:
        return [(position, _read(prefix + index.names[position])) for position in positions]

    parts = [lacking[first : first + READS_AT_ONCE] for first in range(0, len(lacking), READS_AT_ONCE)]
    pool = ThreadPoolExecutor(WORKERS)
    try:
        with _progress(root, len(lacking), int(index.stamps[lacking, 0].sum())) as advance:
            last = time.monotonic()
            for future in as_completed([pool.submit(read, part) for part in parts]):
                for position, reading in future.result():
                    if reading.problem:
                        problems[position] = reading.problem
                        continue
                    index.stamps[position] = reading.stamp
                    index.hashes[position] = np.frombuffer(reading.digest, np.uint8)
                    is_known[position] = reading.is_settled
                    is_saved = is_saved and not reading.is_settled
                    advance(reading.stamp[0])
                if not is_saved and time.monotonic() - last > SAVE_EVERY_SECONDS:
                    (others + index.take(is_known)).save(root)
                    last, is_saved = time.monotonic(), True
    finally:
        pool.shutdown(cancel_futures=True)
        if not is_saved:
            (others + index.take(is_known)).save(root)
    return problems


class _Reading(NamedTuple):
    stamp: _Stamp = (-1, -1, -1, -1)
    digest: bytes = b''
    is_settled: bool = False  # its hash may be stored
    problem: str = ''


def _read(path: bytes) -> _Reading:
    """Stamp and sha256 of a file at one moment, or the problem with it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for _ in range(ATTEMPTS):
                began = time.time_ns()
                stamp = _stamp(os.fstat(descriptor))
                digest = hashlib.sha256()
                os.lseek(descriptor, 0, os.SEEK_SET)
                left = stamp[0]  # not to the end: a file that grows may have none
                while left and (block := os.read(descriptor, min(left, _BLOCK))):
                    digest.update(block)
                    left -= len(block)
                if not left and _stamp(os.fstat(descriptor)) == stamp:
                    return _Reading(stamp, digest.digest(), began - stamp[2] > SETTLED_NS)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _Reading(problem=_problem(error))
    return _Reading(problem='changes while it is read')


@contextmanager
def _progress(root: Path, files: int, total: int) -> Iterator[Callable[[int], None]]:
    if total < SHOWN_FROM_BYTES and files < SHOWN_FROM_FILES:
        yield lambda count: None
        return
    with transfer(f'hashing {files:,} files in {root}, only once', total) as advance:
        yield advance


def _problem(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return 'is missing'
    return f'cannot be read ({error.strerror})'


def _error(prefix: bytes, names: Sequence[bytes], problems: dict[int, str]) -> DataError:
    first = min(problems)
    others = f' (and {len(problems) - 1:,} more of {len(names):,} files)' if len(problems) > 1 else ''
    return DataError(f'{printable(prefix + names[first])} {problems[first]}{others}; put a whole copy in its place')

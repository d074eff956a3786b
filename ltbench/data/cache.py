"""Decoded images as one uint8 array on disk, memory-mapped; keyed by the checksum of what they were decoded from."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.data.base import data_root

FOLDER = '.ltbench-cache'


def cached_array(source: Path, name: str, files: Sequence[Path], make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that ``make`` decodes from ``files``, from the cache if it is there.

    The cache stands beside the source, or under the data folder where the source cannot be written to. Its name holds
    the sha256 of all source bytes, so a changed byte makes another cache. The bytes are read again only where a file's
    size or time stamp has changed since its checksum was taken.

    Args:
        source: Folder the files are in.
        name: Tells several arrays of one source apart.
        files: What the array depends on, in order.
        make: Decodes them.

    Returns:
        A memory-mapped array; what is written to it does not reach the file.
    """
    folder = cache_folder(source)
    path = folder / f'{name}-{checksum_of(folder / f"{name}.json", source, files)[:32]}.npy'
    if not path.is_file():
        temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex[:8]}')
        try:
            with temporary.open('wb') as file:
                np.save(file, make())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        for old in folder.glob(f'{name}-*.npy'):
            if old != path:
                old.unlink()
    return np.load(path, mmap_mode='c')


def checksum_of(index: Path, source: Path, files: Sequence[Path]) -> str:
    """Sha256 over names and contents of files, remembered in ``index`` with their sizes and time stamps."""
    stamps = [[str(path.relative_to(source)), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in files]
    try:
        known = json.loads(index.read_text(encoding='utf-8'))
        if known['stamps'] == stamps:
            return known['sha256']
    except (OSError, json.JSONDecodeError, KeyError):
        pass
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(os.fsencode(path.relative_to(source))).digest())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    temporary = index.with_name(f'.{index.name}.{uuid.uuid4().hex[:8]}')
    contents: dict[str, Any] = {'sha256': digest.hexdigest(), 'stamps': stamps}
    temporary.write_text(json.dumps(contents), encoding='utf-8')
    temporary.replace(index)
    return digest.hexdigest()


def cache_folder(source: Path) -> Path:
    """Beside the source, or, where nothing can be written there, a folder of its own under the data folder."""
    beside = source / FOLDER
    try:
        beside.mkdir(parents=True, exist_ok=True)
        probe = beside / f'.{uuid.uuid4().hex[:8]}'
        probe.touch()
        probe.unlink()
        return beside
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise
    elsewhere = data_root() / 'cache' / hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    elsewhere.mkdir(parents=True, exist_ok=True)
    return elsewhere

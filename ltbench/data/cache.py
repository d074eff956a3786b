"""Decoded images as one memory-mapped uint8 array on disk; its name holds a hash of the source files' contents."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ltbench.console import say
from ltbench.data.contents import contents_of
from ltbench.data.derived import cache_places, in_first_place
from ltbench.errors import DataError
from ltbench.sealed import is_stream, write_stream

KIND = 'array'
ATTEMPTS = 3


def cached_array(
    source: Path,
    name: str,
    files: Sequence[Path],
    make: Callable[[], np.ndarray],
    decoder: str = '',
    unreadable_ok: bool = False,
) -> np.ndarray:
    """The array that ``make`` decodes from ``files``, loaded from the cache if it is there.

    The cache is stored beside the source, or under the data folder if the source is not writable. Its name holds the
    hash of all files' contents, see :func:`~ltbench.data.contents.contents_of`, so one changed byte gives another
    cache. It is sealed with that hash: a cache that was truncated, changed, renamed or written by others is rebuilt.

    Args:
        source: Folder the files are in.
        name: Distinguishes several arrays of one source.
        files: What the array depends on, in order.
        make: Decodes them.
        decoder: What else the array depends on, such as the decoder's version.
        unreadable_ok: ``make`` accepts files that are missing or cannot be read.

    Returns:
        A memory-mapped array; writing to it does not change the file.

    Raises:
        DataError: If a file is missing or cannot be read, files keep changing, or the cache cannot be written.
    """
    names = [os.fsencode(path.relative_to(source)) for path in files]

    def key_now() -> str:
        contents = contents_of(source, names, unreadable_ok)
        digest = hashlib.sha256(f'{decoder} {len(names)}'.encode())
        digest.update(contents.hashes.data)
        return digest.hexdigest()[:32]

    for _ in range(ATTEMPTS):
        key = key_now()
        for folder in cache_places(source):
            array = _load(folder / f'{name}-{key}.npy', key)
            if array is not None:
                return array
        made = make()
        if key_now() == key:
            break
        say(f'files in {source} changed while they were decoded: decoding them again')
    else:
        raise DataError(f'files in {source} keep changing; wait until they are complete')
    file_name = f'{name}-{key}.npy'

    def write(folder: Path) -> Path:
        return write_stream(folder / file_name, KIND, key, lambda file: np.save(file, made, allow_pickle=False))

    path = in_first_place(source, file_name, write)
    for old in path.parent.iterdir():
        if old != path and re.fullmatch(re.escape(name) + r'-[0-9a-f]{32}\.npy', old.name):
            old.unlink(missing_ok=True)
    return np.load(path, mmap_mode='c', allow_pickle=False)


def _load(path: Path, key: str) -> np.ndarray | None:
    """The array at ``path``; None if it is missing, or, with a message, if it is damaged."""
    try:
        if is_stream(path, KIND, key):
            return np.load(path, mmap_mode='c', allow_pickle=False)
        reason = 'damaged, or from another version'
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f'not readable ({error})'
    say(f'{path} is {reason}: decoding the images again')
    return None

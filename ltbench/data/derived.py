"""Where files that are derived from data are stored; :mod:`ltbench.sealed` writes and reads them."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ltbench.console import say
from ltbench.errors import DataError
from ltbench.places import place
from ltbench.sealed import remove_abandoned

FOLDER = '.ltbench-cache'
Written = TypeVar('Written')
_REASONS = {
    errno.ENOSPC: 'the disk is full',
    errno.EDQUOT: 'your quota is used up',
    errno.EROFS: 'the file system is read-only',
    errno.EACCES: 'permission denied',
    errno.EPERM: 'permission denied',
}


def data_root() -> Path:
    """Where data files are looked for and downloaded to: ``$LTBENCH_DATA``, default ``./data``."""
    return place('LTBENCH_DATA', 'data')


def cache_places(source: Path) -> tuple[Path, Path]:
    """Where files derived from ``source`` may be: beside it, or in a separate folder under the data folder."""
    name = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:16]
    return source / FOLDER, data_root() / 'cache' / name


def in_first_place(source: Path, what: str, act: Callable[[Path], Written]) -> Written:
    """Write a file derived from ``source`` to the first place that works; returns what ``act`` returns.

    Args:
        source: Folder of the data.
        what: The file's name, for messages.
        act: Writes it into the folder that it is given: the first of :func:`cache_places`, and if that raises an
            OSError the second.

    Raises:
        DataError: If it can be written in neither place; the message says why and what to do.
    """
    beside, elsewhere = cache_places(source)
    failures = []
    for folder in (beside, elsewhere):
        try:
            folder.mkdir(parents=folder is elsewhere, exist_ok=True)  # a missing source is not created
            remove_abandoned(folder)
            return act(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and folder is beside:
                say(f'no room for {what} in {beside} ({_REASONS[error.errno]}): trying {elsewhere}')
            failures.append(f'{folder} ({_REASONS.get(error.errno or 0, str(error))})')
    raise DataError(
        f'{what} of {source} cannot be written: neither in {failures[0]} nor in {failures[1]}; free some space there, '
        'or set LTBENCH_DATA to a writable folder with enough space'
    )

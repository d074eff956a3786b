"""Locations: this package, its plug-ins, the folders that environment variables name, the cache."""

from __future__ import annotations

import os
from pathlib import Path

from ltbench.errors import DataError, UsageError

ROOT_OF_PACKAGE = Path(__file__).resolve().parent
ENTRY_POINT_GROUP = 'ltbench.methods'
"""Entry points with which installed packages name their modules with methods."""


def place(variable: str, default: str) -> Path:
    """The folder that ``variable`` names, else ``./default``.

    Raises:
        UsageError: If the variable is empty, as after ``LTBENCH_STORE=$SCRATCH`` without ``$SCRATCH``: the default is
            not what the user meant.
    """
    chosen = os.environ.get(variable)
    if chosen is not None and not chosen.strip():
        raise UsageError(f'{variable} is set but empty: set it to a folder, or unset it to use ./{default}')
    return Path(chosen or default)


def with_home(path: str) -> Path:
    """A path, whose ``~`` or ``~USER`` stands for a home folder.

    Raises:
        DataError: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = Path(path).parts[0][1:]
        why = f'there is no user {user}' if user else 'you have no home folder'
        raise DataError(f'{path}: {why}') from error


def cache_root() -> Path | None:
    """This user's cache of what takes long to compute; all of it can be rebuilt. None for a user without a home, as in
    a container with a user number only."""
    try:
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'ltbench'
    except RuntimeError:
        return None

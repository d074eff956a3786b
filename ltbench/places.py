"""Where things are: this package, its plug-ins, the folders that environment variables name, what is remembered."""

from __future__ import annotations

import os
from pathlib import Path

from ltbench.errors import DataError, UsageError

ROOT_OF_PACKAGE = Path(__file__).resolve().parent
ENTRY_POINT_GROUP = 'ltbench.methods'
"""Where installed packages say which of their modules hold methods."""


def place(variable: str, default: str) -> Path:
    """The folder that ``variable`` names, else ``./default``.

    Raises:
        UsageError: If the variable is set to nothing, as by ``LTBENCH_STORE=$SCRATCH`` where ``$SCRATCH`` is not set:
            the default is not what was meant.
    """
    chosen = os.environ.get(variable)
    if chosen is not None and not chosen.strip():
        raise UsageError(f'{variable} is set, but to nothing: set it to a folder, or unset it to mean ./{default}')
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
    """Where what takes long to find out is remembered for this user; whatever is in it can be made again. None for a
    user without a home, as in a container that is run under a number."""
    try:
        return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'ltbench'
    except RuntimeError:
        return None

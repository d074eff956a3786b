"""The folders that environment variables name."""

from __future__ import annotations

import os
from pathlib import Path

from ltbench.errors import UsageError


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

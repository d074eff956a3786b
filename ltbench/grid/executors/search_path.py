"""The search path of processes that we start: they find code where this one does, and nowhere else."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def safe_environment() -> dict[str, str]:
    """Environment variables with which another process of this Python imports what this one imports.

    Files in a working directory, among the user's data, must not be imported in place of a package, unless this process
    itself does so. Passed on is the part of ``sys.path`` before the standard library, which every Python finds.
    """
    own = sys.path
    standard = os.path.realpath(sysconfig.get_path('stdlib'))
    first = next((place for place, entry in enumerate(own) if os.path.realpath(entry) == standard), len(own))
    before = [str(Path(entry).absolute()) for entry in own[:first] if not entry.endswith('.zip')]
    return {'PYTHONSAFEPATH': '1', 'PYTHONPATH': os.pathsep.join(dict.fromkeys(before))}

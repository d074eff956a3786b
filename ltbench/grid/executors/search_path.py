"""Where other processes of ours find code: where this one does, and nowhere else."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def safe_environment() -> dict[str, str]:
    """Variables with which another Python of this kind imports what this one imports.

    What lies in a working directory, among somebody's data, must not be imported in place of a package; unless this
    process itself does so. Of ``sys.path`` the part is handed on that comes before what every Python finds by itself.
    """
    own = sys.path
    standard = os.path.realpath(sysconfig.get_path('stdlib'))
    first = next((place for place, entry in enumerate(own) if os.path.realpath(entry) == standard), len(own))
    before = [str(Path(entry).absolute()) for entry in own[:first] if not entry.endswith('.zip')]
    return {'PYTHONSAFEPATH': '1', 'PYTHONPATH': os.pathsep.join(dict.fromkeys(before))}

"""Matplotlib without a screen."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ltbench.processes import isolated


def import_matplotlib() -> None:
    """Import matplotlib whatever ``$MPLBACKEND`` names, such as a notebook's backend that is not installed here.

    Otherwise ``import matplotlib`` raises a ValueError. A backend that matplotlib knows is active afterwards.
    """
    if os.environ.get('MPLBACKEND') and 'matplotlib' not in sys.modules:
        with isolated(MPLBACKEND='agg'):
            import matplotlib as mpl
        with suppress(ValueError):
            mpl.rcParams['backend'] = os.environ['MPLBACKEND']

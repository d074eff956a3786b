"""Do without garbage collection where much is made and nothing of it is garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside of this, nothing is looked through for cycles of objects; also a decorator.

    With 10,000 records or runs in memory each look takes half a second, and neither they nor a page have cycles.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

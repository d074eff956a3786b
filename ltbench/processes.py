"""What a process that ltbench starts does not take over from the one that starts it, be that a script or a notebook."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def isolated(**variables: str) -> Iterator[None]:
    """Processes started meanwhile do not run this process' main module, and see these environment variables.

    multiprocessing has every new process run the script that started it: one without ``if __name__ == '__main__'``
    would start itself again and again. Ours need nothing of it, as all that they call lies in ltbench. Both main
    module and variables are as before afterwards: what else the script starts is none of our business.

    Args:
        variables: Set for the processes, beside those of this one.
    """
    with _ONE_AT_A_TIME:
        main, before = sys.modules['__main__'], {name: os.environ.get(name) for name in variables}
        sys.modules['__main__'] = _Nowhere(main)
        os.environ.update(variables)
        try:
            yield
        finally:
            sys.modules['__main__'] = main
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class _Nowhere(ModuleType):
    """The main module without the file and the name that it could be run by; other threads find all else in it."""

    def __init__(self, main: ModuleType) -> None:
        super().__init__('__main__')
        self.__dict__['_main'] = main

    def __getattr__(self, name: str) -> Any:
        if name == '__file__':
            raise AttributeError(name)
        return getattr(self.__dict__['_main'], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__['_main'], name, value)

"""Keep the processes that ltbench starts independent of the script or notebook that starts them."""

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
    """Processes started in this context do not run the main module of this one, and see these environment variables.

    multiprocessing makes every new process run the script that started it: a script without
    ``if __name__ == '__main__'`` would start itself again and again. Our processes do not need it: all that they call
    is in ltbench. Main module and variables are restored afterwards: other processes of the script are not affected.

    Args:
        variables: Set for the processes, in addition to those of this one.
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
    """The main module without the file and name by which it could be run; for other threads all else is in it."""

    def __init__(self, main: ModuleType) -> None:
        super().__init__('__main__')
        self.__dict__['_main'] = main

    def __getattr__(self, name: str) -> Any:
        if name == '__file__':
            raise AttributeError(name)
        return getattr(self.__dict__['_main'], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__['_main'], name, value)

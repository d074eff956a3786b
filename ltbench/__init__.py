"""ltbench: the benchmark suite for long-tailed recognition.

In Python: :func:`run`, :func:`plan`, :func:`records`, :func:`evaluate` and :func:`report`, with the checks and messages
of the command line; what is wrong is raised as an :class:`LTBenchError`. Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltbench.errors import LTBenchError
    from ltbench.face import evaluate, plan, records, report, run

__version__ = '0.1.0'
__all__ = ['LTBenchError', 'evaluate', 'plan', 'records', 'report', 'run']


class _Package(ModuleType):
    """`ltbench.plan` and `ltbench.report` are modules, too, and importing one sets it as an attribute of its package.

    Here the functions keep their names, whatever is imported; ``from ltbench.plan import Plan`` works as everywhere.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        home = importlib.import_module('ltbench.errors' if name == 'LTBenchError' else 'ltbench.face')
        found = self.__dict__[name] = getattr(home, name)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package

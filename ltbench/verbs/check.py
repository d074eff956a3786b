"""The verb `check`: which checks of the contract each method passes, and why others fail, each cause once."""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ltbench import plugins
from ltbench.console import make_console
from ltbench.engine.outputs import NonFiniteError
from ltbench.errors import EXIT_FAILED, LTBenchError
from ltbench.places import ROOT_OF_PACKAGE
from ltbench.registry import METHODS, lookup
from ltbench.verbs.contract import CHECKS, BrokenContractError

BASIC = ('has_a_plan', 'loss_and_gradients_are_finite')
"""Checks that all later ones need: if one fails, those are not tried, as all would fail for the same cause."""

INSTALLED = ('site-packages', 'dist-packages')
STYLES = {'passed': 'green', 'FAILED': 'bold red', 'not tried': 'yellow'}


@dataclass(frozen=True)
class Outcome:
    """Result of one check of one method.

    Attributes:
        method: Its name.
        check: One of :data:`~ltbench.verbs.contract.CHECKS`.
        state: ``'passed'``, ``'FAILED'`` or ``'not tried'``.
        reason: Why it failed, with file and line if known; or which check has to pass first.
    """

    method: str
    check: str
    state: str
    reason: str = ''

    @property
    def title(self) -> str:
        """The check in words."""
        return self.check.replace('_', ' ')


def check_methods(names: list[str], plugin_files: Iterable[str]) -> int:
    """Print what each method passes and fails; return 0 if all pass everything and every plug-in loads, else 1."""
    broken = plugins.load(plugin_files)
    for name in names:
        lookup(METHODS, name)
    console = make_console()
    chosen = list(dict.fromkeys(names)) or plugins.method_names()
    failed = [name for name in chosen if not _show(name, console)]
    kept = f'{len(chosen) - len(failed)} of {len(chosen)} methods keep the contract'
    console.print(kept + (f'; not {", ".join(failed)}' if failed else ''), highlight=False, soft_wrap=True)
    for line in plugins.not_loaded():
        console.print(line, style='yellow', soft_wrap=True)
    return EXIT_FAILED if failed or broken else 0


def _show(name: str, console: Console) -> bool:
    """Print a method's outcomes as they come; return whether it passes everything."""
    console.print(name, highlight=False)
    states = []
    for outcome in check(name):
        states.append(outcome.state)
        reason = f': {outcome.reason}' if outcome.reason else ''
        console.print(
            f'  {outcome.state:9}  {outcome.title}{reason}',
            style=STYLES[outcome.state] if outcome.state != 'passed' else None,
            highlight=False,
            soft_wrap=True,
        )
    return set(states) == {'passed'}


def check(name: str) -> Iterator[Outcome]:
    """Run every check on one method, in their order."""
    torch.set_num_threads(1)
    causes: dict[str, str] = {}  # reason -> the first check that failed for it
    missing = ''
    for check_name, function in CHECKS.items():
        if missing:
            yield Outcome(name, check_name, 'not tried', f'after "{missing}" has passed')
            continue
        try:
            with warnings.catch_warnings():
                # mmengine warns about several Runners per second; `ltbench run` shows warnings of the method itself
                warnings.simplefilter('ignore')
                function(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the method is foreign code
            reason = _reason(error, lookup(METHODS, name))
            first = causes.setdefault(reason, check_name)
            as_before = f'as in "{first.replace("_", " ")}"'
            yield Outcome(name, check_name, 'FAILED', reason if first == check_name else as_before)
            missing = check_name.replace('_', ' ') if check_name in BASIC else ''
        else:
            yield Outcome(name, check_name, 'passed')


# ---------------------------------------------------------------------------------------------- where and why


def _reason(error: BaseException, method: type) -> str:
    """What is wrong, in one line, with the line in the method's own files that caused it."""
    if isinstance(error, BrokenContractError):
        reason = str(error)
    elif isinstance(error, SystemExit):
        reason = 'it calls sys.exit'
    elif isinstance(error, LTBenchError | NonFiniteError):
        reason = str(error)
    else:
        reason = f'{type(error).__name__}: {error}'
    reason = ' '.join(reason.split())
    place = _place_of(error, method, reason)
    return f'{reason} ({place})' if place else reason


def _place_of(error: BaseException, method: type, reason: str) -> str:
    """``FILE:LINE`` of the innermost call in the method's files; else of the class in them that the reason names."""
    home = _folder_of(method)
    if home is None:
        return ''
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if path.is_relative_to(home) and not path.is_relative_to(ROOT_OF_PACKAGE) and not {*path.parts} & {*INSTALLED}:
            return f'{_shown(path)}:{frame.lineno}'
    module = sys.modules[method.__module__]
    words = set(re.findall(r'\w+', reason))
    parts = [part for part in vars(module).values() if inspect.isclass(part) and part.__module__ == module.__name__]
    named: list[Any] = [part for part in parts if part.__name__ in words]
    functions = [value for part in named for name, value in vars(part).items() if name in words and callable(value)]
    return next((place for thing in (*functions, *named) if (place := _line_of(thing))), '')


def _folder_of(method: type) -> Path | None:
    try:
        return Path(inspect.getfile(method)).resolve().parent
    except (OSError, TypeError):  # typed into a notebook
        return None


def _line_of(thing: Any) -> str:
    try:
        return f'{_shown(Path(inspect.getfile(thing)).resolve())}:{inspect.getsourcelines(thing)[1]}'
    except (OSError, TypeError):
        return ''


def _shown(path: Path) -> str:
    """A path relative to the working directory if it is below that, else the whole path."""
    here = Path(os.path.realpath(os.curdir))
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

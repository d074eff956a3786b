"""Speed of our paths against references, alternating in one run; `ltbench bench PART`."""

from __future__ import annotations

import errno
import inspect
import json
import platform
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ltbench.engine.environment import describe, keep_freed_memory
from ltbench.errors import LTBenchError, UsageError, unknown
from ltbench.sealed import write_atomically

PARTS = ('train', 'data', 'views', 'large', 'stage2', 'grid', 'start', 'report')
"""Each is the module of this folder with that name, and in it ``measure(rounds, ...)``, which gives its results."""

LEAST_ROUNDS = 5


def bench(part: str, out: Path | None = None, rounds: int = 7, **options: Any) -> dict[str, Any]:
    """Measure one part; return, and write as JSON if asked, figures, ratios and their spread.

    Args:
        part: One of :data:`PARTS`.
        out: File to write to.
        rounds: Measurements of each side; the median counts.
        options: Further arguments of the part; None is its default.

    Raises:
        UsageError: If there is no such part, it has no such argument, or there are too few rounds.
    """
    if part not in PARTS:
        raise unknown('part to measure', part, PARTS)
    if rounds < LEAST_ROUNDS:
        raise UsageError(
            f'{rounds} rounds are too few on a machine that does other things too: give at least {LEAST_ROUNDS}'
        )
    if out is not None:
        _check_writable(out)  # now, not when all has been measured
    measure: Callable[..., list[dict[str, Any]]] = import_module(f'ltbench.verbs.bench.{part}').measure
    given = {name: value for name, value in options.items() if value is not None}
    _check_options(part, measure, given)
    keep_freed_memory()  # as a worker does first, for all measurements
    torch.set_flush_denormal(True)
    before, started = torch.get_num_threads(), time.time()
    threads = given.get('threads', 1)
    torch.set_num_threads(threads)
    try:
        cases = measure(rounds, **given)
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)  # the default: the caller's arithmetic must not change
    result = {
        'part': part,
        'cases': cases,
        'seconds': round(time.time() - started, 1),
        'environment': describe(torch.device('cpu'), threads) | {'machine': platform.machine()},
    }
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1, sort_keys=True) + '\n')
    return result


def _check_writable(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out.with_name(f'.{out.name}.probe'), '')
        out.with_name(f'.{out.name}.probe').unlink()
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, 'it is a folder')
    except OSError as error:
        raise LTBenchError(f'cannot write {out}: {error.strerror}') from error


def show(result: Mapping[str, Any]) -> list[str]:
    """The result as lines of text."""
    lines = []
    for case in result['cases']:
        target = ''
        if case['goal'] is not None:
            bound = 'at most' if case['less_is_better'] else 'at least'
            target = f'; target: {bound} {case["goal"]:g}, {"met" if case["holds"] else "not met"}'
        lines += [
            case['what'],
            f'  ours {case["ours"]:,g} {case["unit"]}, reference {case["reference"]:,g} {case["unit"]}',
            f'  ratio {case["ratio"]:g} ({case["ratio_min"]:g} to {case["ratio_max"]:g}, {case["rounds"]} rounds)'
            + target,
        ]
        if case['note']:
            lines.append(f'  {case["note"]}')
    return lines


def _check_options(part: str, measure: Callable[..., Any], given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in inspect.signature(measure).parameters:
            raise UsageError(f'--{name} has no effect on part {part}')

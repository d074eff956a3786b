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
        rounds: Turns of each; the median counts.
        options: What the part can be told beside that; None is its default.

    Raises:
        UsageError: If there is no such part, it cannot be told that, or there are too few rounds.
    """
    if part not in PARTS:
        raise unknown('part to measure', part, PARTS)
    if rounds < LEAST_ROUNDS:
        raise UsageError(f'{rounds} rounds say little on a machine that does other things too: {LEAST_ROUNDS} or more')
    if out is not None:
        _check_writable(out)  # now, not when all has been measured
    measure: Callable[..., list[dict[str, Any]]] = import_module(f'ltbench.verbs.bench.{part}').measure
    given = {name: value for name, value in options.items() if value is not None}
    _only_what_acts(part, measure, given)
    keep_freed_memory()  # what a worker does first, for all that is measured
    torch.set_flush_denormal(True)
    before, started = torch.get_num_threads(), time.time()
    threads = given.get('threads', 1)
    torch.set_num_threads(threads)
    try:
        cases = measure(rounds, **given)
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)  # as it is by default; the caller's own arithmetic is none of our business
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
    """Lines for people."""
    lines = []
    for case in result['cases']:
        asked = ''
        if case['goal'] is not None:
            least = 'at most' if case['less_is_better'] else 'at least'
            asked = f'; asked for: {least} {case["goal"]:g}; {"holds" if case["holds"] else "falls short"}'
        lines += [
            case['what'],
            f'  ours {case["ours"]:,g} {case["unit"]}, reference {case["reference"]:,g} {case["unit"]}',
            f'  ratio {case["ratio"]:g} ({case["ratio_min"]:g} to {case["ratio_max"]:g}, {case["rounds"]} rounds)'
            + asked,
        ]
        if case['note']:
            lines.append(f'  {case["note"]}')
    return lines


def _only_what_acts(part: str, measure: Callable[..., Any], given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in inspect.signature(measure).parameters:
            raise UsageError(f'--{name} changes nothing in part {part}')

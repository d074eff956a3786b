"""The verb `eval RUN`: recompute the metrics of a recorded run from its stored logits. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from ltbench.console import make_console
from ltbench.errors import EXIT_FAILED, StoreError
from ltbench.evaluation import evaluate
from ltbench.evaluation.predictions import Predictions, predictions_of, write_with_predictions
from ltbench.record import read_record
from ltbench.store import Store
from ltbench.verbs.find import RecordedRun, all_records, find_run, no_logits, stored_logits

ROUNDING = 1e-9
"""Relative and absolute difference that another order of a sum, or another numpy, can cause; errors are larger."""
HALF_PRECISION = 1e-3
"""Difference of probabilities that rounding them to float16 can cause on another processor."""


@dataclass(frozen=True)
class Rescored:
    """One metric, or the predictions, as recorded and recomputed.

    Attributes:
        metric: Its name.
        recorded: Value in the record; None for an empty group, ``'missing'`` if the record does not have it.
        recomputed: Value computed now, in the same form.
        values: How many numbers it has.
        different: How many of them differ by more than rounding.
        apart: The largest difference of two numbers; infinite if only one side has a number.
    """

    metric: str
    recorded: Any
    recomputed: Any
    values: int
    different: int
    apart: float


def show_rescored(text: str) -> int:
    """Recompute metrics and predictions of the run that ``text`` names, and print them beside the recorded ones.

    Returns:
        0 if they are equal up to rounding; else 1.

    Raises:
        UsageError: If the text names no run, or several.
        StoreError: If its record, predictions or logits are damaged or missing, or do not fit together.
    """
    run, store = find_run(text), Store()
    outputs = stored_logits(run, store)
    if outputs is None:
        raise no_logits(run, store)
    try:
        rows = rescore(run, evaluate(*outputs, run.record['class_counts']))
        rows.append(_repredicted(predictions_of(run.path, run.record), Predictions.of_logits(*outputs)))
    except ValueError as error:
        raise StoreError(f'{run.path} and the logits of its fingerprint do not fit together: {error}') from error
    console = make_console()
    console.print(f'{run}\nrecord: {run.path}\nlogits: {store.folder(run.record["fingerprint"])}/test.npz',
                  highlight=False, soft_wrap=True)  # fmt: skip
    table = Table('metric', 'recorded', 'recomputed', '', box=None)
    for row in rows:
        if row.values == 1:
            table.add_row(row.metric, _number(row.recorded), _number(row.recomputed), _verdict(row))
        else:
            table.add_row(row.metric, f'{row.values} values', f'{row.values} values', _verdict(row))
    console.print(table)
    new = [row.metric for row in rows if row.recorded == 'missing']
    wrong = [row.metric for row in rows if row.different and row.metric not in new]
    if wrong:
        console.print(
            f'The record does not match its logits: {len(wrong)} of {len(rows)} entries differ '
            f'({", ".join(wrong)}). It was edited, or made by another version of ltbench.',
            style='red', highlight=False, soft_wrap=True,
        )  # fmt: skip
        return EXIT_FAILED
    apart = max(row.apart for row in rows if row.metric not in new)
    how = 'bit for bit' if apart == 0 else f'apart from rounding (at most {apart:.0e})'
    same = len(rows) - len(new)
    console.print(f'Equal, {how}: all {same} entries match the {len(outputs[1]):,} stored logits.')
    if new:
        console.print(f'Not recorded yet: {", ".join(new)}; `ltbench eval --all` adds them.')
    return 0


def complete_records() -> int:
    """Add to every record what it lacks and its stored logits give: metrics and predictions that did not exist when it
    was written, and predictions that were lost.

    Returns:
        0, or 1 if a record does not match its logits, its predictions are lost and there are no logits, or it is
        damaged; such a record is not changed, and it is named.

    Raises:
        UsageError: If there are no records.
    """
    console, store = make_console(), Store()
    counts: Counter[str] = Counter()
    for path in all_records():
        try:
            outcome = _complete(RecordedRun(path, read_record(path)), store)
        except (StoreError, ValueError) as error:
            console.print(f'{path}: {error}', style='red', highlight=False, soft_wrap=True)
            outcome = WRONG
        counts[outcome] += 1
    console.print('; '.join(f'{outcome}: {count}' for outcome, count in counts.items()))
    return EXIT_FAILED if counts[WRONG] else 0


WRONG = 'wrong (see above)'


def _complete(run: RecordedRun, store: Store) -> str:
    """Complete one record; return what was done, as :func:`complete_records` prints it."""
    outputs = stored_logits(run, store)
    if outputs is None:
        try:
            predictions_of(run.path, run.record)
        except StoreError as error:
            raise StoreError(f'{error}; {no_logits(run, store)}') from error
        return 'without logits in this store'
    predictions, metrics = Predictions.of_logits(*outputs), evaluate(*outputs, run.record['class_counts'])
    try:
        kept = predictions_of(run.path, run.record)
    except StoreError:
        kept = None
    rows = rescore(run, metrics)
    rows.append(_repredicted(kept, predictions))
    new = [row.metric for row in rows if row.recorded == 'missing']
    if wrong := [row.metric for row in rows if row.different and row.metric not in new]:
        raise StoreError(f'{", ".join(wrong)} differ from its logits')
    if not new:
        return 'complete'
    record = {key: value for key, value in run.record.items() if key != 'checksum'}
    added = {name: value for name, value in metrics.items() if name in new}
    write_with_predictions(run.path, record | {'metrics': {**record['metrics'], **added}}, predictions)
    return 'completed'


def rescore(run: RecordedRun, metrics: Mapping[str, Any]) -> list[Rescored]:
    """Each recorded metric beside ``metrics``, in the order of the latter; then those that only the record has."""
    recorded = run.record['metrics']
    rows = []
    for name in [*metrics, *(name for name in recorded if name not in metrics)]:
        old, new = (dict(_leaves(side[name])) if name in side else {} for side in (recorded, metrics))
        gaps = [_gap(old.get(key, 'missing'), new.get(key, 'missing')) for key in old | new]
        rows.append(
            Rescored(
                name,
                recorded.get(name, 'missing'),
                metrics.get(name, 'missing'),
                len(gaps),
                sum(gap > ROUNDING for gap, _ in gaps),
                max((apart for _, apart in gaps), default=0.0),
            )
        )
    return rows


def _repredicted(kept: Predictions | None, now: Predictions) -> Rescored:
    """The recorded predictions beside those from the logits."""
    if kept is None:
        return Rescored('predictions', 'missing', 'there', len(now), 0, 0.0)
    gap = (kept.predicted != now.predicted).astype(np.float32)
    for old, new in ((kept.p_right, now.p_right), (kept.p_predicted, now.p_predicted)):
        gap = np.maximum(gap, np.inf if old is None or new is None else abs(old - new))
    return Rescored('predictions', 'there', 'there', len(now), int((gap > HALF_PRECISION).sum()), float(gap.max()))


def _leaves(value: Any, key: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """All single values inside dicts and lists, with their keys."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return [(key, value)]
    return [leaf for name, inner in items for leaf in _leaves(inner, (*key, name))]


def _gap(old: Any, new: Any) -> tuple[float, float]:
    """Difference of two values: relative if they are large, and absolute."""
    if old == new:
        return 0.0, 0.0
    if not all(isinstance(value, int | float) for value in (old, new)):
        return math.inf, math.inf
    return abs(old - new) / max(1.0, abs(old)), abs(old - new)


def _number(value: Any) -> str:
    return 'none' if value is None else value if isinstance(value, str) else f'{value:.6f}'


def _verdict(row: Rescored) -> Text | str:
    if row.recorded == 'missing':
        return 'not recorded yet'
    if not row.different:
        return 'equal'
    if row.values == 1:
        return Text('differs' + (f' by {row.apart:.2g}' if math.isfinite(row.apart) else ''), 'red')
    return Text(f'{row.different} of {row.values} differ', 'red')

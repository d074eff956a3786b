"""The frame of runs to the leaderboard, and tables to CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ltbench.report.environments import as_text as environments_as_text
from ltbench.report.escaping import in_csv
from ltbench.report.frame import COSTS, DECIMALS, GROUP, METRICS, TableKey
from ltbench.report.intervals import BOUNDED, image_intervals
from ltbench.report.statistics import against, standing

WHOLE, P_VALUES = ('imbalance_factor', 'parameters', 'flops', 'rank'), ('p', 'p_holm', 'p_equal_variances')
FORMATS = dict.fromkeys(WHOLE, '.12g') | dict.fromkeys(P_VALUES, '.4g')
"""Formats of columns for which four decimals are too many or too few."""
HEAD = ['rank', 'method', 'also', 'n_seeds', 'n_failed', 'best', 'behind', 'noise', 'noise_of']


def leaderboard(
    frame: pd.DataFrame, failures: Sequence[Mapping[str, Any]] = (), tests: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row for each table and method, best top-1 first, failed methods last.

    Columns: the group, ``rank`` (by top-1; ties share one), ``method``, ``also`` (other names of the same computation),
    ``n_seeds``, ``n_failed``, ``best``, ``behind``, ``noise`` and ``noise_of`` (points below the best, how many of
    them are noise, and what varies; see :func:`ltbench.report.statistics.standing`), ``*_mean`` and ``*_std`` of each
    metric, ``*_low`` and ``*_high`` of accuracies (95 % interval over test images, for single seeds), the mean costs,
    and ``environments``, a Counter of the runs by environment. Accuracies are in percent. ``*_std`` has ddof=1 and is
    NaN for one seed; an empty group is NaN.

    Args:
        frame: Of :func:`runs_frame`.
        failures: Runs that failed, see :class:`ltbench.record_schema.Failure`, with settings of
            :func:`ltbench.report.frame.distinguish`. A method all of whose runs failed has a row with ``n_seeds`` 0 and
            nothing else.
        tests: Of :func:`ltbench.report.statistics.against`; None: computed here.
    """
    key = [*GROUP, 'method']
    groups = frame.groupby(key, dropna=False, sort=False)
    board = groups.agg(also=('also', 'first'), n_seeds=('run_seed', 'count')).reset_index()
    for metric in METRICS:
        board[f'{metric}_mean'] = groups[metric].mean().round(DECIMALS).to_numpy()
        board[f'{metric}_std'] = groups[metric].std(ddof=1).to_numpy()
    for cost in COSTS:
        board[cost] = groups[cost].mean().to_numpy()
    board['environments'] = groups['environment'].agg(Counter).to_numpy()
    tests = against(frame) if tests is None else tests
    single = frame[groups['run_seed'].transform('count') == 1]
    board = board.merge(pd.concat([single[key], image_intervals(single)], axis=1), on=key, how='left')
    board = board.merge(_count(failures, frame), on=key, how='outer').fillna({'also': ''})
    board[['n_seeds', 'n_failed']] = board[['n_seeds', 'n_failed']].fillna(0).astype(int)
    board['environments'] = [row if isinstance(row, Counter) else Counter() for row in board['environments']]
    board['rank'] = board.groupby(GROUP, dropna=False)['top1_mean'].rank(method='min', ascending=False)
    board = pd.concat([board, standing(board, tests)], axis=1)
    bounds = {metric: ('low', 'high') if metric in BOUNDED else () for metric in METRICS}
    metrics = [f'{metric}_{what}' for metric in METRICS for what in ('mean', 'std', *bounds[metric])]
    order = [*GROUP, 'top1_mean', 'method']
    board = board[[*GROUP, *HEAD, *metrics, *COSTS, 'environments']]
    return board.sort_values(order, ascending=[name != 'top1_mean' for name in order], ignore_index=True)


def csv(frame: pd.DataFrame) -> str:
    """A table as CSV: four decimals (p values: four digits), whole numbers without any, empty cells for NaN."""
    text = frame.rename(columns=lambda name: in_csv(str(name)))
    for column in text.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in text.dtypes]]:
        text[column] = [in_csv(value) if isinstance(value, str) else value for value in text[column]]
    for column in text.columns.intersection(list(FORMATS)):
        text[column] = [('' if pd.isna(value) else format(value, FORMATS[column])) for value in text[column]]
    if 'environments' in text:
        text['environments'] = text['environments'].map(environments_as_text).map(in_csv)
    return text.to_csv(index=False, float_format='%.4f', lineterminator='\n')


def _count(failures: Sequence[Mapping[str, Any]], frame: pd.DataFrame) -> pd.DataFrame:
    """How many runs of each row failed, under any name of its computation."""
    key = [*GROUP, 'method']
    shown = {
        (TableKey.of(row), name): row['method']
        for row in frame.drop_duplicates(key).to_dict('records')
        for name in row['also'].split(', ')
    }
    rows = [
        {**{name: failure[name] for name in GROUP}, 'method': shown.get((TableKey.of(failure), method), method)}
        for failure in failures
        for method in [failure['method']]
    ]
    failed = pd.DataFrame(rows, columns=key)
    failed['imbalance_factor'] = failed['imbalance_factor'].astype(float)
    return failed.groupby(key, dropna=False).size().rename('n_failed').reset_index()

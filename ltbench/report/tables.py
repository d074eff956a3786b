"""Records to the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ltbench.errors import StoreError

GROUP = ['benchmark', 'imbalance_factor', 'setting']
METRICS = (
    'top1', 'many', 'medium', 'few', 'macro', 'geometric_mean', 'nll', 'ece',
)  # fmt: skip
COSTS = ('parameters', 'flops', 'cpu_seconds')


def runs_frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run, in a stable order.

    Columns: the group (benchmark, imbalance_factor, setting), method, run_seed, fingerprint, one a metric and cost,
    ``per_class``, ``class_counts``. A metric that a run does not have is NaN.

    Raises:
        StoreError: If two records are of the same run; they may be of different code and must not be averaged.
    """
    rows = []
    for record in records:
        row = {key: record[key] for key in (*GROUP, 'method', 'run_seed', 'fingerprint', 'computation', 'class_counts')}
        row |= {metric: record['metrics'][metric] for metric in METRICS}
        row |= {cost: record['cost'][cost] for cost in COSTS}
        rows.append(row | {'per_class': record['metrics']['per_class']})
    frame = pd.DataFrame(rows)
    frame[list(METRICS)] = frame[list(METRICS)].astype(float)
    frame['imbalance_factor'] = frame['imbalance_factor'].astype(float)
    identity = [*GROUP, 'method', 'run_seed']
    twice = frame[frame.duplicated(identity, keep=False)]
    if len(twice):
        one = twice.iloc[0]
        raise StoreError(
            f'{len(twice)} records are of the same run ({one.benchmark}, {one.method}, seed {one.run_seed}): '
            f'keep one of the fingerprints {", ".join(fp[:12] for fp in twice.fingerprint)}'
        )
    computations = frame.groupby([*GROUP, 'method'], dropna=False)['computation'].nunique()
    if (computations > 1).any():
        benchmark, _, setting, method = computations.index[computations > 1][0]
        raise StoreError(
            f'records of {method} on {benchmark} ({setting}) were made by different code or data and cannot share '
            'a row: remove the older ones, or run that method again for all seeds'
        )
    return frame.sort_values(identity, ignore_index=True)


def leaderboard(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each benchmark x imbalance factor x setting x method, best top-1 first.

    Accuracies in percent. ``*_std`` has ddof=1 and is NaN for one seed; an empty group is NaN.
    """
    groups = frame.groupby([*GROUP, 'method'], dropna=False, sort=False)
    board = groups.agg(n_seeds=('run_seed', 'count')).reset_index()
    for metric in METRICS:
        board[f'{metric}_mean'] = groups[metric].mean().to_numpy()
        board[f'{metric}_std'] = groups[metric].std(ddof=1).to_numpy()
    for cost in COSTS:
        board[cost] = groups[cost].mean().to_numpy()
    return board.sort_values(
        [*GROUP, 'top1_mean', 'method'], ascending=[True, True, True, False, True], ignore_index=True
    )


def csv(board: pd.DataFrame) -> str:
    """The leaderboard as CSV: four decimals, whole numbers without any, empty cells for what does not exist."""
    text = board.copy()
    for column in ('imbalance_factor', 'parameters', 'flops'):
        text[column] = text[column].map(lambda value: '' if pd.isna(value) else f'{value:.12g}')
    return text.to_csv(index=False, float_format='%.4f', lineterminator='\n')


def markdown(board: pd.DataFrame, suite: str) -> str:
    """The leaderboard for people: mean ± standard deviation over seeds."""
    columns = {'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few', 'macro': 'macro', 'ece': 'ECE'}
    lines = [
        f'# {suite}',
        '',
        'Accuracy in %, mean ± standard deviation (ddof = 1) over run seeds; last epoch, test set. '
        'many / medium / few: '
        'classes with more than 100 / 20 to 100 / fewer than 20 training images; empty where there is no such class.',
    ]
    for (benchmark, factor, setting), rows in board.groupby(GROUP, sort=False, dropna=False):
        where = f', imbalance factor {factor:g}' if pd.notna(factor) else ''
        lines += ['', f'## {benchmark}{where} ({setting})', '']
        lines += ['| method | seeds | ' + ' | '.join(columns.values()) + ' |', '|---|---|' + '---|' * len(columns)]
        for row in rows.to_dict('records'):
            cells = [_mean_std(row[f'{metric}_mean'], row[f'{metric}_std']) for metric in columns]
            lines.append(f'| {row["method"]} | {row["n_seeds"]} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _mean_std(mean: float, std: float) -> str:
    if pd.isna(mean):
        return ''
    return f'{mean:.1f} ± {std:.1f}' if pd.notna(std) else f'{mean:.1f}'

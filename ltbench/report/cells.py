"""Cells of tables for people: scores, marks, differences with their noise, and which ones a table resolves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from ltbench.evaluation.metrics import GROUPS
from ltbench.report.noise import ALPHA

SCORES = {
    'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few', 'macro': 'macro',
    'geometric_mean': 'geometric mean', 'ece': 'ECE',
}  # fmt: skip
"""Metrics that are shown, by their names for people."""
WITHIN = '≈'
"""Marks a top-1 within noise of the best."""

SAME = 0.05  # points; scores that differ by less are printed alike


def resolution(rows: pd.DataFrame, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """Which differences of a table are noise, in a sentence; '' where nothing is compared.

    Args:
        rows: Of one table of a leaderboard.
        names: Names to show instead of the methods as typed.
    """
    seeds = rows.loc[rows['n_seeds'] > 0, 'n_seeds']
    if rows['noise'].isna().all():
        return ''
    counts = counted(seeds.max(), 'seed')
    counts = counts if seeds.min() == seeds.max() else f'{seeds.min()} to {counts}'
    noise_of = rows['noise_of'].dropna().iloc[0]
    what = {'seeds': 'between seeds', 'test images': 'of the test images'}.get(noise_of, f'of {noise_of}')
    points = round(rows['noise'].quantile(0.5, interpolation='lower'), 1)
    behind, within = rows['behind'].round(1), rows['best'] == 'within noise'
    further = rows[(within & (behind > points)) | ((rows['best'] == '') & (behind < points))]
    below: dict[str, list[str]] = {}
    for name, noise in zip(further['method'], further['noise'], strict=True):
        below.setdefault(f'{noise:.1f}', []).append(names.get(name, name))
    others = '; '.join(f'{", ".join(methods)}: up to {noise}' for noise, methods in below.items())
    others = f' ({others})' if others else ''
    return f'{counts}: up to about {points:.1f} points below the best is noise {what}{others}.'


def scores_of(rows: pd.DataFrame) -> dict[str, str]:
    """The metrics to show for a table: macro and groups only where they differ from top-1."""
    known = {metric: title for metric, title in SCORES.items() if rows[f'{metric}_mean'].notna().any()}
    over_images = [metric for metric in known if metric in ('macro', *GROUPS)]
    alike = [name for name in over_images if (rows[f'{name}_mean'] - rows['top1_mean']).abs().max() < SAME]
    return {metric: title for metric, title in known.items() if metric not in alike}


def named(row: Mapping[str, Any]) -> str:
    """A method, and other names of the same computation."""
    return ' = '.join([row['method'], *(row['also'].split(', ') if row['also'] else [])])


def marked(row: Mapping[str, Any], metric: str) -> str:
    """A metric as Markdown: top-1 of the best in bold, those within noise of it with a mark."""
    mark = row['best'] if metric == 'top1' else ''
    return {'best': '**{}**', 'within noise': f'{{}} {WITHIN}'}.get(mark, '{}').format(score(row, metric))


def score(row: Mapping[str, Any], metric: str, plus_minus: str = '±') -> str:
    """A metric of a leaderboard's row: ``80.7 ± 2.3``, or ``70.0 [65.8, 74.0]`` for one seed; may be empty."""
    mean, std = row[f'{metric}_mean'], row[f'{metric}_std']
    low, high = row.get(f'{metric}_low'), row.get(f'{metric}_high')
    if pd.isna(mean):
        return ''
    if pd.notna(std):
        return f'{mean:.1f} {plus_minus} {std:.1f}'
    return f'{mean:.1f} [{low:.1f}, {high:.1f}]' if pd.notna(low) else f'{mean:.1f}'


def to_best(row: Mapping[str, Any]) -> str:
    """A row's difference to the best of its table, with its noise; empty for the best."""
    return '' if pd.isna(row['behind']) else _with_noise(-row['behind'], row['noise'])


def _with_noise(difference: float, noise: float) -> str:
    return f'{round(difference, 1) + 0.0:+.1f} ± {noise:.1f}'  # no -0.0


def difference_cells(tests: pd.DataFrame) -> pd.DataFrame:
    """Each difference with its noise as text, and whether it is significant: ``[methods, scores]``, largest gain first.

    Args:
        tests: Of :func:`ltbench.report.statistics.against`, one table and one reference.
    """
    texts = map(_with_noise, tests['difference'], tests['noise'])
    table = tests.assign(cell=list(zip(texts, tests['p'] < ALPHA, strict=True)))
    top1 = tests[tests['score'] == 'top1'].sort_values(['difference', 'method'], ascending=[False, True])
    return table.pivot(index='method', columns='score', values='cell').loc[top1['method']]


def counted(count: int, noun: str) -> str:
    """``1 table``, ``2 tables``."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'

"""Records to figures, PNG and SVG; the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ltbench.report.tables import GROUP

GROUPS = {'many': 'many (> 100)', 'medium': 'medium (20 to 100)', 'few': 'few (< 20)'}
SAYS = {
    'leaderboard': 'mean and standard deviation over seeds; each point is a seed, the dashed line ERM',
    'groups': 'mean and standard deviation over seeds, by training images of the class',
    'per_class': 'mean over seeds',
}
SHOWN_METHODS = 8  # more lines than that nobody can tell apart


def draw_all(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw every figure for every benchmark x imbalance factor x setting; return the files."""
    style: Any = {
        'svg.hashsalt': 'ltbench',
        'svg.fonttype': 'none',
        'savefig.dpi': 150,
        'figure.constrained_layout.use': True,
    }
    drawings: dict[str, Callable[[pd.DataFrame], Figure]] = {
        'leaderboard': leaderboard,
        'groups': groups,
        'per_class': per_class,
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with sns.axes_style('whitegrid'), sns.plotting_context('notebook'), plt.rc_context(style):
        for (benchmark, factor, setting), rows in frame.groupby(GROUP, sort=True, dropna=False):
            for name, draw in drawings.items():
                figure = draw(rows)
                figure.suptitle(f'{_title(benchmark, factor, setting)}\n{SAYS[name]}', x=0.01, ha='left', fontsize=11)
                for suffix in ('png', 'svg'):
                    path = folder / f'{name}-{_slug(benchmark, factor, setting)}.{suffix}'
                    figure.savefig(path, metadata={'Date': None} if suffix == 'svg' else {'Software': None})
                    paths.append(path)
                plt.close(figure)
    return paths


def leaderboard(rows: pd.DataFrame) -> Figure:
    """Top-1 of every method: mean, standard deviation, and the seeds as points."""
    order = _by_top1(rows)
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.38 * len(order)))
    sns.pointplot(
        rows, x='top1', y='method', order=order, errorbar='sd', linestyle='none', color='black', markersize=5, ax=axes
    )
    sns.stripplot(
        rows, x='top1', y='method', order=order, jitter=False, alpha=0.6, size=5, color=_colours(1)[0], ax=axes
    )
    axes.set(xlabel='top-1 accuracy (%)', ylabel='')
    if 'erm' in order:
        axes.axvline(rows.loc[rows.method == 'erm', 'top1'].mean(), color='0.5', linestyle='--', linewidth=1, zorder=0)
    return figure


def groups(rows: pd.DataFrame) -> Figure:
    """Many, medium and few-shot accuracy of every method."""
    present = [group for group in GROUPS if rows[group].notna().any()]
    long = rows.melt(['method', 'run_seed'], present, var_name='group', value_name='accuracy')
    long['group'] = long['group'].map(GROUPS)
    order = _by_top1(rows)
    figure, axes = plt.subplots(figsize=(max(6.0, 1.5 + 0.95 * len(order)), 4.2))
    sns.barplot(
        long, x='method', y='accuracy', hue='group', order=order, hue_order=[GROUPS[group] for group in present],
        errorbar='sd', err_kws={'linewidth': 1}, palette=_colours(len(present)), ax=axes,
    )  # fmt: skip
    axes.set(xlabel='', ylabel='accuracy (%)')
    axes.tick_params(axis='x', rotation=35)
    plt.setp(axes.get_xticklabels(), ha='right', rotation_mode='anchor')
    sns.move_legend(axes, 'lower center', bbox_to_anchor=(0.5, 1.0), ncol=3, title=None, frameon=False)
    return figure


def per_class(rows: pd.DataFrame) -> Figure:
    """Accuracy of each class against its number of training images, mean over seeds."""
    order = _by_top1(rows)
    kept = [method for method in order if method != 'erm'][: SHOWN_METHODS - 1]
    kept = [method for method in order if method in kept or method == 'erm']
    figure, axes = plt.subplots(figsize=(7, 4.4))
    markers = ['o', 's', 'D', '^', 'v', 'P', 'X', '*']
    for method, colour, marker in zip(kept, _colours(len(kept)), markers, strict=False):
        mine = rows[rows.method == method]
        counts = np.asarray(mine.class_counts.iloc[0])
        accuracy = np.array([[np.nan if a is None else a for a in classes] for classes in mine.per_class]).mean(axis=0)
        by_count = pd.Series(accuracy).groupby(counts).mean()  # classes of equal size share a point
        axes.plot(
            by_count.index, by_count.values, marker=marker, markersize=4.5, linewidth=1.3, color=colour, label=method
        )
    axes.set_xscale('log')
    axes.invert_xaxis()
    axes.set(xlabel='training images of the class (log, head to tail)', ylabel='class accuracy (%)')
    axes.legend(loc='lower left', fontsize=8, ncol=2)
    return figure


def _by_top1(rows: pd.DataFrame) -> list[str]:
    means = rows.groupby('method')['top1'].mean()
    return sorted(means.index, key=lambda method: (-means[method], method))


def _colours(count: int) -> list[tuple[float, float, float]]:
    return sns.color_palette('colorblind', count)


def _title(benchmark: str, factor: float, setting: str) -> str:
    return f'{benchmark}' + (f', imbalance factor {factor:g}' if pd.notna(factor) else '') + f' ({setting})'


def _slug(benchmark: str, factor: float, setting: str) -> str:
    text = benchmark + (f'-if{factor:g}' if pd.notna(factor) else '') + ('' if setting == 'paper' else f'-{setting}')
    return ''.join(character if character.isalnum() or character in '-_.=' else '_' for character in text)

"""Accuracy against what it depends on: the imbalance factor, and the cost of training."""

from __future__ import annotations

from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from ltbench.report.families import look_of
from ltbench.report.figures.accuracy import Drawn, shown_note
from ltbench.report.figures.material import FigureData, chosen_methods
from ltbench.report.figures.style import LINE, PALE, family_legend, legend, looks, plain_log, sheet
from ltbench.report.frame import BASELINE


def imbalance(data: FigureData, width: float) -> Drawn | None:
    """Top-1 against the imbalance factor, in the seeds that all methods shown have at every factor."""
    rows = data.rows[data.rows.top1.notna()]
    factors = sorted(rows.imbalance_factor.unique())
    rows = rows[rows.groupby('method').imbalance_factor.transform('nunique') == len(factors)]
    shown = [method for method in data.show if method in {*rows.method}] or chosen_methods(rows)
    rows = rows[rows.method.isin(shown)]
    complete = rows.groupby('run_seed').size() == len(shown) * len(factors)
    seeds = complete.index[complete].tolist()
    if not shown or not seeds:
        return None
    figure, [[axes]] = sheet(width, 0.3 + 0.42 * width)
    stats = rows[rows.run_seed.isin(seeds)].groupby(['method', 'imbalance_factor']).top1.agg(['mean', 'std'])
    look = looks(shown)
    for method in shown:
        line = stats.loc[method]
        name = data.names[method]
        axes.errorbar(line.index, line['mean'], yerr=line['std'], elinewidth=0.9, label=name, **look[method])
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(FixedLocator(factors))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter('{x:g}')
    axes.set(xlabel='imbalance factor (log scale)', ylabel='top-1 accuracy (%)')
    legend(figure, axes)
    notes = [f'seed{"s" * (len(seeds) > 1)} {", ".join(map(str, seeds))} at every factor', shown_note(data, shown)]
    return Drawn(figure, '; '.join(filter(None, notes)))


def cost(data: FigureData, width: float) -> Drawn | None:
    """Top-1 against the training cost relative to the baseline's in the same seed; every method has its name."""
    rows = data.rows[(data.rows.seconds > 0) & data.rows.top1.notna()]
    baseline = rows[rows.method == BASELINE].set_index('run_seed').seconds
    rows = rows.assign(relative=rows.seconds / rows.run_seed.map(baseline))
    rows = rows[rows.relative.notna()]
    if rows.method.nunique() < 2:
        return None
    stats = rows.groupby('method')[['relative', 'top1']].agg(['mean', 'std'])
    stats = stats.sort_values([('top1', 'mean'), ('relative', 'mean')], ascending=[False, True])
    x, y = stats['relative']['mean'].to_numpy(), stats['top1']['mean'].to_numpy()
    names = [fill(data.names[method], int(5.6 * width)) for method in stats.index]
    sizes = np.array([LINE * (name.count('\n') + 1) + 0.03 for name in names])
    tall = max(0.45 * width, sizes.sum())
    figure, [[axes]] = sheet(width, tall + 0.4)
    spreads = stats['relative']['std'], stats['top1']['std']
    axes.errorbar(x, y, xerr=spreads[0], yerr=spreads[1], linestyle='none', ecolor=PALE, elinewidth=0.8, zorder=2)
    for method, x_of, y_of in zip(stats.index, x, y, strict=True):
        family = look_of(method)
        axes.plot(x_of, y_of, ls='', marker=family.marker, color=family.light, zorder=3)
    axes.axvline(1, color=PALE, linestyle='--', linewidth=1, zorder=1)
    if x.max() > 4 * x.min():
        axes.set_xscale('log')
        plain_log(axes.xaxis)
    axes.xaxis.set_major_formatter('{x:g}×')
    axes.set(xlabel=f'training cost, relative to {data.names[BASELINE]}', ylabel='top-1 accuracy (%)')
    _name_on_the_right(axes, x, y, names, sizes / tall)
    family_legend(figure, axes, list(stats.index))
    without = data.rows.method.nunique() - len(stats)
    lacking = f'{without} without training cost, or without a seed of ERM, not shown' if without else ''
    return Drawn(figure, '; '.join(filter(None, [f'cost: {data.seconds}', lacking])))


def _name_on_the_right(axes: Axes, x: np.ndarray, y: np.ndarray, names: list[str], sizes: np.ndarray) -> None:
    """Names beside the axes, as near the height of their points as they can be without touching each other."""
    low, high = axes.get_ylim()
    for x_of, y_of, name, height in zip(x, y, names, spread((y - low) / (high - low), sizes), strict=True):
        axes.annotate(
            name, (x_of, y_of), (1.04, height), textcoords='axes fraction', va='center', annotation_clip=False,
            arrowprops={'arrowstyle': '-', 'color': '0.75', 'linewidth': 0.6, 'relpos': (0, 0.5), 'shrinkA': 1},
        )  # fmt: skip


def spread(wanted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Centres of labels of these sizes within 0 to 1, from the top down: without overlap, near where they are wanted.

    ``wanted`` falls; the sizes must fit into 1 together.
    """
    below = np.append(sizes[::-1].cumsum()[::-1][1:], 0)  # what has to find room further down
    centres, ceiling = np.zeros(len(sizes)), 1.0
    for n, size in enumerate(sizes):
        centres[n] = max(min(wanted[n], ceiling - size / 2), below[n] + size / 2)
        ceiling = centres[n] - size / 2
    return centres

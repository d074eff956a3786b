"""The ablation at a glance: differences to the row without the part, seeds as points, mean and 95 % interval."""

from __future__ import annotations

from itertools import product

import matplotlib as mpl

mpl.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

FIRST = ('weight', 'bias', 'both')
SHOWN = {'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few'}
BESIDE = ('bias_init', 'scalar')
"""Options told apart by colour and marker; the others that vary have rows of panels."""

MARKERS = ('o', 's', 'D', '^', 'v', 'P', 'X', '*', '<')


def draw(runs: pd.DataFrame) -> Figure:
    """Panels: columns are scores, rows the other parts of the method and what else varies; the parts of BN in order.

    Args:
        runs: One group of :func:`ltbench.report.ablation.part_differences`.

    Raises:
        ValueError: If no row has a difference to draw.
    """
    rows = runs[~runs.is_reference & runs.difference.notna()].copy()
    scores = [score for score in SHOWN if (rows.score == score).any()]
    if not scores:
        raise ValueError('no row of this group has one without the part beside it')
    options = list(rows.columns)[list(rows.columns).index('with') + 1 : list(rows.columns).index('is_reference')]
    varied = [option for option in options if option != 'normalize' and rows[option].nunique() > 1]
    hues = [option for option in varied if option in BESIDE]
    facets = ['with', *(option for option in varied if option not in BESIDE)]
    rows['hue'] = rows[hues].agg(', '.join, axis=1) if hues else ''
    rows['panel'] = [_panel(facets, values) for values in rows[facets].itertuples(index=False)]
    order, panels = [v for v in FIRST if v in set(rows.normalize)], list(dict.fromkeys(rows.panel))
    names = list(dict.fromkeys(rows.hue))
    palette = sns.color_palette('colorblind', len(names))
    height = 0.9 + len(panels) * max(1.2, 0.16 * len(order) * len(names) + 0.5)
    figure, grid = plt.subplots(
        len(panels), len(scores), figsize=(1.6 + 2.4 * len(scores), height + 0.5), squeeze=False,
        sharex='col', sharey=True, layout='constrained',
    )  # fmt: skip
    places = np.linspace(-0.3, 0.3, len(names)) if len(names) > 1 else np.zeros(1)
    for (i, panel), (j, score) in product(enumerate(panels), enumerate(scores)):
        axes, mine = grid[i, j], rows[(rows.panel == panel) & (rows.score == score)]
        axes.axvline(0, color='0.4', linewidth=1, zorder=0)
        for k, name in enumerate(names):
            for y, value in enumerate(order):
                seeds = mine.loc[(mine.hue == name) & (mine.normalize == value), 'difference'].to_numpy()
                if len(seeds):
                    style = {'color': palette[k], 'marker': MARKERS[k % len(MARKERS)]}
                    axes.plot(seeds, np.full(len(seeds), y + places[k]), ls='', ms=3, alpha=0.5, **style)
                    axes.errorbar(seeds.mean(), y + places[k], xerr=_half_width(seeds), ms=6, capsize=2,
                                  mec='black', mew=0.6, label=name, **style)  # fmt: skip
        axes.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.5, -0.5))
        if i == 0:
            axes.set_title(SHOWN[score], fontsize=10)
        if j == 0:
            axes.set_ylabel(panel, fontsize=9)
        axes.grid(axis='x', color='0.9')
        sns.despine(ax=axes, left=True)
    figure.supxlabel('difference to the row without it (points)', fontsize=10)
    if hues:
        found = {
            label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            [found[n] for n in names], names, title=', '.join(hues), loc='outside right center', frameon=False
        )
    return figure


def _panel(facets: list[str], values: tuple[str, ...]) -> str:
    said = [values[0] or 'alone', *(f'{f}: {v}' for f, v in zip(facets[1:], values[1:], strict=True))]
    return '\n'.join(said)


def _half_width(values: np.ndarray) -> float | None:
    """Of the 95 % t interval of a mean; None for one seed."""
    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))

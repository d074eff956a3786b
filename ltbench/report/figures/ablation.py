"""An ablation at a glance: differences to the row without a part, seeds as points, mean and 95 % interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from ltbench.report.figures.accuracy import Drawn
from ltbench.report.figures.style import legend, looks_of_options, sheet, title_panel
from ltbench.report.names import in_titles

SHOWN = {'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few'}
BESIDE = ('bias_init', 'scalar')
"""Options shown by colour and marker; the others that vary have rows of panels."""


def draw(runs: pd.DataFrame, part: str, width: float) -> Drawn | None:
    """Panels: columns are scores, rows the other parts of the method and what else varies.

    The first option of the part has a line for each value in every panel, in order.

    Args:
        runs: One group of :func:`ltbench.report.ablation.part_differences`.
        part: The part that is removed, by the name of its method.
        width: In inches.
    """
    rows = runs[~runs.is_reference & runs.difference.notna()].copy()
    scores = [score for score in SHOWN if (rows.score == score).any()]
    if not scores:
        return None
    columns = list(rows.columns)
    first, *options = columns[columns.index('with') + 1 : columns.index('is_reference')]
    varied = [option for option in options if rows[option].nunique() > 1]
    rows['look'] = _joined(rows, [option for option in varied if option in BESIDE])
    facets = _joined(rows, [option for option in varied if option not in BESIDE])
    rows['panel'] = [
        ', '.join(filter(None, (in_titles(f'{part} + {other}' if other else f'{part} alone'), facet)))
        for other, facet in zip(rows['with'], facets, strict=True)
    ]
    values, shown, panels = (list(dict.fromkeys(rows[column])) for column in (first, 'look', 'panel'))
    tall = max(0.5, len(values) * (0.1 * len(shown) + 0.08)) + 0.25
    figure, grid = sheet(width, tall * len(panels) + 0.5, len(panels), len(scores), sharex='col', sharey=True)
    palette = looks_of_options(shown)
    for panel, line in zip(panels, grid, strict=True):
        title_panel(figure, line[0], panel, width - 0.8, 'left')
        for score, axes in zip(scores, line, strict=True):
            cell = rows[(rows.panel == panel) & (rows.score == score)]
            axes.axvline(0, color='0.4', linewidth=1, zorder=0)
            for look, aside in zip(shown, np.linspace(-0.3, 0.3, len(shown)) if shown[1:] else [0.0], strict=True):
                _draw_line(axes, cell[cell['look'] == look], first, values, aside, {**palette[look], 'label': look})
            axes.grid(axis='y', visible=False)
    grid[0, 0].set(yticks=range(len(values)), yticklabels=values, ylim=(len(values) - 0.5, -0.5))
    for score, axes in zip(scores, grid[-1], strict=True):
        axes.set_xlabel(f'{SHOWN[score]}\n(points)')
    figure.supylabel(first, fontsize='medium')
    if shown[1:]:
        legend(figure, *grid.flat)
    return Drawn(figure)


def _joined(rows: pd.DataFrame, options: list[str]) -> list[str]:
    return [', '.join(f'{o}={v}' for o, v in zip(options, values, strict=True)) for values in rows[options].to_numpy()]


def _draw_line(axes: Axes, rows: pd.DataFrame, first: str, values: list[str], aside: float, look: dict) -> None:
    """The differences of one look: a mean with its interval at each value of the first option, and the seeds."""
    for place, value in enumerate(values):
        seeds = rows.loc[rows[first] == value, 'difference'].to_numpy()
        if len(seeds):
            wide = stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(seeds) if len(seeds) > 1 else None
            axes.errorbar(seeds.mean(), place + aside, xerr=wide, elinewidth=1, **look | {'linestyle': 'none'})
            places = np.full(len(seeds), place + aside)
            axes.plot(seeds, places, ls='', marker='o', ms=2.2, mec='0.25', mfc='white', mew=0.5, zorder=3)

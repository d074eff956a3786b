"""An ablation at a glance: differences to the row without a part, seeds as points, mean and 95 % interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ltbench.report.figures.style import MARKERS, add_title, canvas, colours, legend_below, text_width

SHOWN = {'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few'}
BESIDE = ('bias_init', 'scalar')
"""Options told apart by colour and marker; the others that vary have rows of panels."""


def draw(runs: pd.DataFrame, part: str, title: str, caveat: str = '') -> Figure:
    """Panels: columns are scores, rows the other parts of the method and what else varies.

    The first option of the part has a line for each value in every panel, in order.

    Args:
        runs: One group of :func:`ltbench.report.ablation.part_differences`.
        part: The method whose part is taken away.
        title: Of the group.
        caveat: What all figures of the benchmark have to say.

    Raises:
        ValueError: If no row has a difference to draw.
    """
    rows = runs[~runs.is_reference & runs.difference.notna()].copy()
    scores = [score for score in SHOWN if (rows.score == score).any()]
    if not scores:
        raise ValueError('no row of this group has one without the part beside it')
    first, *options = list(rows.columns)[
        list(rows.columns).index('with') + 1 : list(rows.columns).index('is_reference')
    ]
    varied = [option for option in options if rows[option].nunique() > 1]
    hues = [option for option in varied if option in BESIDE]
    facets = [option for option in varied if option not in BESIDE]
    rows['look'] = [
        ', '.join(f'{o} {v}' for o, v in zip(hues, values, strict=True)) for values in rows[hues].to_numpy()
    ]
    rows['panel'] = [
        '\n'.join(
            [
                f'{part} + {other}' if other else f'{part} alone',
                *(f'{f}: {v}' for f, v in zip(facets, values, strict=True)),
            ]
        )
        for other, values in zip(rows['with'], rows[facets].to_numpy(), strict=True)
    ]
    values, looks, panels = (list(dict.fromkeys(rows[column])) for column in (first, 'look', 'panel'))
    left = 0.35 + max(map(text_width, panels)) + max(map(text_width, values))
    tall = max(0.55, len(values) * (0.13 * len(looks) + 0.08))
    figure, grid = canvas([1.75] * len(scores), [tall] * len(panels), left=left, bottom=0.42, gap=(0.2, 0.22), top=0.25)
    palette = dict(zip(looks, zip(colours(len(looks)), MARKERS, strict=False), strict=False))
    for panel, line in zip(panels, grid, strict=True):
        for score, axes in zip(scores, line, strict=True):
            _draw_panel(axes, rows[(rows.panel == panel) & (rows.score == score)], first, values, palette)
        line[0].set_yticks(range(len(values)), values)
        line[0].set_ylabel(panel, rotation=0, ha='right', va='center', multialignment='right')
    for column, score in enumerate(scores):
        grid[0][column].set_title(SHOWN[score])
        low, high = np.array([line[column].get_xlim() for line in grid]).T
        for line in grid:
            line[column].set_xlim(low.min(), high.max())
            line[column].tick_params(labelbottom=line is grid[-1])
        grid[-1][column].set_xlabel('difference (points)')
    if hues:
        handles = {look: handle for line in grid for axes in line for look, handle in _handles(axes).items()}
        legend_below(figure, [handles[look] for look in looks], looks)
    add_title(
        figure,
        f'{title}: what {part} changes, by {first}',
        f'Difference to the same without {part}, paired by seed: mean and 95 % t interval over seeds, small points are '
        'seeds. Right of the line is better.',
        *filter(None, [caveat]),
    )
    return figure


def _draw_panel(
    axes: Axes, rows: pd.DataFrame, first: str, values: list[str], palette: dict[str, tuple[tuple[float, ...], str]]
) -> None:
    """The differences of one panel, a line a value of the first option; looks side by side within it."""
    axes.axvline(0, color='0.4', linewidth=1, zorder=0)
    places = np.linspace(-0.32, 0.32, len(palette)) if len(palette) > 1 else np.zeros(1)
    for (look, (colour, marker)), place in zip(palette.items(), places, strict=True):
        for y, value in enumerate(values):
            seeds = rows.loc[(rows['look'] == look) & (rows[first] == value), 'difference'].to_numpy()
            if len(seeds):
                axes.plot(
                    seeds,
                    np.full(len(seeds), y + place),
                    ls='',
                    marker='o',
                    ms=2.6,
                    mec='0.25',
                    mfc='white',
                    mew=0.6,
                    zorder=3,
                )
                axes.errorbar(
                    seeds.mean(), y + place, xerr=_half_width(seeds), ms=5.5, capsize=2, mec='black', mew=0.5,
                    color=colour, marker=marker, label=look, zorder=2,
                )  # fmt: skip
    axes.set(yticks=range(len(values)), yticklabels=[], ylim=(len(values) - 0.5, -0.5))
    axes.grid(axis='y', visible=False)
    sns.despine(ax=axes, left=True)


def _handles(axes: Axes) -> dict[str, Artist]:
    return dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))


def _half_width(values: np.ndarray) -> float | None:
    """Of the 95 % t interval of a mean; None for one seed."""
    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))

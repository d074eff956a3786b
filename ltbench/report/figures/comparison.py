"""Accuracy against what it depends on: the imbalance factor, and the cost of training."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ltbench.report.figures.accuracy import Drawn, said_shown
from ltbench.report.figures.material import Material, chosen_methods
from ltbench.report.figures.style import (
    BASELINE,
    INK,
    PALE,
    TEXT,
    broken,
    canvas,
    legend_below,
    looks,
    plain_log,
    text_width,
)

LABELLED = 12  # so many methods are all labelled; of more, the front and the baseline


def imbalance(material: Material) -> Drawn | None:
    """Top-1 against the imbalance factor, a line a method that has two or more."""
    rows = material.rows[material.rows.top1.notna()]
    several = rows.groupby('method').imbalance_factor.nunique()
    rows = rows[rows.method.isin(several.index[several > 1])]
    shown = chosen_methods(rows) if len(rows) else []
    if not shown:
        return None
    figure, [[axes]] = canvas([5.2], [3.4])
    look = looks(shown)
    stats = rows.groupby(['method', 'imbalance_factor']).top1.agg(['mean', 'std'])
    for method in shown:
        mine = stats.loc[method]
        axes.errorbar(
            mine.index,
            mine['mean'],
            yerr=mine['std'].fillna(0),
            capsize=2,
            elinewidth=0.9,
            label=method,
            **look[method],
        )
    factors = sorted(rows.imbalance_factor.unique())
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(FixedLocator(factors))
    axes.xaxis.set_minor_locator(NullLocator())
    plain_log(axes.xaxis)
    axes.set(xlabel='imbalance factor (log scale)', ylabel='top-1 accuracy (%)')
    handles, labels = axes.get_legend_handles_labels()
    legend_below(figure, handles, labels)
    return Drawn(figure, said_shown(material, shown))


def cost(material: Material) -> Drawn | None:
    """Top-1 against the cost of training, with the Pareto front; names stand on the right, in order of accuracy."""
    means = material.rows.groupby('method')[['seconds', 'top1']].mean()
    means = means[(means.seconds > 0) & means.top1.notna()]
    if len(means) < 2:
        return None
    seconds, top1 = means.seconds.to_numpy(), means.top1.to_numpy()
    front = pareto_front(seconds, top1)
    is_front = np.isin(np.arange(len(means)), front)
    labelled = [
        n for n, method in enumerate(means.index) if is_front[n] or method == BASELINE or len(means) <= LABELLED
    ]
    labelled.sort(key=lambda n: (-top1[n], seconds[n], n))
    names = [broken(str(means.index[n])) for n in labelled]
    room = sum(0.07 + 0.14 * (name.count('\n') + 1) for name in names)
    figure, [[axes]] = canvas(
        [4.6], [max(3.4, room)], left=0.7, right=0.5 + 1.12 * max(map(text_width, names))
    )  # front: bold
    axes.plot(
        seconds[front], top1[front], drawstyle='steps-post', color=INK, linewidth=1.2, marker='D', markersize=6,
        label='Pareto front',
    )  # fmt: skip
    axes.plot(
        seconds[~is_front],
        top1[~is_front],
        linestyle='none',
        marker='o',
        color=PALE,
        markersize=5,
        label='not on it: another is no worse in either',
    )
    if seconds.max() > 8 * seconds.min():
        axes.set_xscale('log')
        plain_log(axes.xaxis)
    axes.margins(0.06)
    axes.set(xlabel=f'training cost ({material.seconds})', ylabel='top-1 accuracy (%)')
    _label_on_the_right(
        figure, axes, [(seconds[n], top1[n], name, is_front[n]) for n, name in zip(labelled, names, strict=True)]
    )
    legend_below(figure, *axes.get_legend_handles_labels())
    without = material.rows.method.nunique() - len(means)
    notes = [f'{without} without training cost not shown' if without else '']
    notes += ['named: the front and erm' if len(labelled) < len(means) else '']
    return Drawn(figure, '; '.join(note for note in notes if note))


def pareto_front(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Indices, cheapest first, of the points that no other one beats in cost or gain and equals in the other."""
    order = np.lexsort((-gain, cost))
    front: list[int] = []
    for n in order:
        if not front or gain[n] > gain[front[-1]] or (gain[n] == gain[front[-1]] and cost[n] == cost[front[-1]]):
            front.append(int(n))
    return np.array(front, dtype=int)


def _label_on_the_right(figure: Figure, axes: Axes, points: list[tuple[float, float, str, bool]]) -> None:
    """Names beside the axes, as near the height of their points as they can be without touching each other."""
    box = axes.get_position()
    inches = box.height * figure.get_size_inches()[1]
    low, high = axes.get_ylim()
    sizes = [(0.06 + 0.14 * (name.count('\n') + 1)) / inches for _, _, name, _ in points]
    wanted = [(y - low) / (high - low) for _, y, _, _ in points]
    heights = spread(wanted, sizes)
    for (_, _, name, is_front), height in zip(points, heights, strict=True):
        axes.text(
            1.04, height, name, transform=axes.transAxes, va='center', fontsize=TEXT,
            color=INK if is_front else '0.35', weight='bold' if is_front else 'normal',
        )  # fmt: skip
    # one artist, below the markers; arrows of annotations are cut to fit their texts, which takes longer than the rest
    starts = (axes.transData - axes.transAxes).transform([(x, y) for x, y, _, _ in points])
    leaders = [[start, (1.03, height)] for start, height in zip(starts, heights, strict=True)]
    axes.add_collection(
        LineCollection(leaders, transform=axes.transAxes, colors='0.75', linewidths=0.7, clip_on=False, zorder=1.5),
        autolim=False,
    )


def spread(wanted: list[float], sizes: list[float]) -> list[float]:
    """Centres of labels of these sizes within 0 to 1, from the top down: none on another, near where they are wanted.

    ``wanted`` falls; the sizes must fit into 1 together.
    """
    centres: list[float] = []
    ceiling = 1.0
    for centre, size in zip(wanted, sizes, strict=True):
        centres.append(min(centre, ceiling - size / 2))
        ceiling = centres[-1] - size / 2
    floor = 0.0
    for n in reversed(range(len(centres))):
        centres[n] = max(centres[n], floor + sizes[n] / 2)
        floor = centres[n] + sizes[n] / 2
    return centres

"""Accuracy: of methods, of the groups of classes, and of each class against its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ltbench.report.figures.material import GROUPS, Material, by_top1, chosen_methods
from ltbench.report.figures.style import (
    BASELINE,
    INK,
    PALE,
    PANEL_GAP,
    canvas,
    colours,
    draw_bars,
    legend_below,
    looks,
    plain_log,
    row_canvas,
)

MOST_POINTS = 40  # class sizes; where there are more, classes are put together in bins
BINS = 16


class Drawn(NamedTuple):
    """A figure, and what its title has to say about these records in particular."""

    figure: Figure
    note: str = ''


def leaderboard(material: Material) -> Drawn | None:
    """Top-1 of every method: the seeds as points, their mean and standard deviation."""
    rows = material.rows
    order = by_top1(rows)
    if not order:
        return None
    figure, [axes] = row_canvas(order, [4.6])
    place = {method: number for number, method in enumerate(order)}
    seen = rows[rows.top1.notna()]
    axes.scatter(seen.top1, seen.method.map(place), s=22, color=colours(1), alpha=0.65, linewidths=0, label='one seed')
    stats = seen.groupby('method').top1.agg(['mean', 'std', 'count']).loc[order]
    draw_means(axes, stats['mean'], stats['std'])
    resampled = [method for method in order if stats['count'][method] == 1 and method in material.intervals]
    handles = [*axes.get_legend_handles_labels()[0], *draw_baseline(axes, stats['mean'])]
    if resampled:
        low, high = np.array([material.intervals[method] for method in resampled]).T
        line = axes.hlines(
            [place[method] for method in resampled], low, high, color=PALE, linestyle=(0, (2, 1.2)), linewidth=1.3,
            zorder=2, label='bootstrap interval over test images (one seed)',
        )  # fmt: skip
        handles.append(line)
    axes.set_xlabel('top-1 accuracy (%)')
    legend_below(figure, handles, [str(handle.get_label()) for handle in handles])
    return Drawn(figure)


def groups(material: Material) -> Drawn | None:
    """Many, medium and few-shot accuracy of every method, a panel a group that exists."""
    present = [group for group in GROUPS if material.rows[group].notna().any()]
    order = by_top1(material.rows)
    if not present or not order:
        return None
    wide = 2.1 if len(present) > 1 else 4.6
    figure, panels = row_canvas(order, [wide] * len(present), top=0.22)
    handles: list[Line2D] = []
    for group, colour, axes in zip(present, colours(3), panels, strict=False):
        stats = material.rows.groupby('method')[group].agg(['mean', 'std']).loc[order]
        draw_bars(axes, np.zeros(len(order)), stats['mean'].to_numpy(), facecolor=colour)
        draw_means(axes, stats['mean'], stats['std'], marker='none')
        handles = draw_baseline(axes, stats['mean']) or handles
        axes.set(xlim=(0, 102), xticks=range(0, 101, 25))
        axes.set_title(GROUPS[group], pad=3)
    across = (wide * len(panels) + PANEL_GAP * (len(panels) - 1)) / wide  # in widths of the first
    panels[0].set_xlabel('mean accuracy of the classes of the group (%)', x=across / 2)
    if handles:
        legend_below(figure, handles, [str(handle.get_label()) for handle in handles])
    absent = [GROUPS[group] for group in GROUPS if group not in present]
    return Drawn(figure, f'No such classes here: {", ".join(absent)}' if absent else '')


def per_class(material: Material) -> Drawn | None:
    """Accuracy of classes against their number of training images, mean over seeds."""
    by_class = {method: [one.per_class for one in seeds] for method, seeds in material.details.items()}
    return against_size(material, by_class, 'class accuracy (%)', (-3, 103))


def against_size(
    material: Material, by_class: Mapping[str, Sequence[np.ndarray]], what: str, limits: tuple[float, float | None]
) -> Drawn | None:
    """A number for each class against its training images, mean over seeds; of the methods that line figures show.

    Args:
        material: The runs.
        by_class: Of methods, ``[C]`` a seed; NaN for a class without a number, empty where a seed has none.
        what: Label of the numbers.
        limits: Of their axis.
    """
    counts = material.class_counts
    lines = {}
    for method in chosen_methods(material.rows):
        seeds = [numbers for numbers in by_class[method] if len(numbers)]
        x, y = by_count(counts, pd.DataFrame(seeds).mean().to_numpy()) if seeds else ((), ())
        if len(x):
            lines[method] = (x, y)
    if not lines:
        return None
    figure, [[axes]] = canvas([6.0], [3.4], top=0.2)
    look = looks(list(lines))
    for method, (x, y) in lines.items():
        axes.plot(x, y, label=method, **look[method])
    _mark_groups(axes, counts)
    axes.set(xlabel='training images of the class (log scale, head to tail)', ylabel=what, ylim=limits)
    legend_below(figure, *axes.get_legend_handles_labels())
    sizes = len(np.unique(counts))
    note = f'{BINS} bins of class size, each point the mean of its classes' if sizes > MOST_POINTS else ''
    if sizes < len(counts) and not note:
        note = 'classes of equal size share a point'
    return Drawn(figure, '; '.join(part for part in (note, said_shown(material, list(lines))) if part))


def by_count(counts: np.ndarray, accuracy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean accuracy of classes of the same size, or of bins of equal width in log size where there are many sizes.

    Classes without accuracy are left out; a bin is placed at the geometric mean of its classes' sizes.
    """
    seen = ~np.isnan(accuracy)
    frame = pd.DataFrame({'log': np.log(np.maximum(counts[seen], 1)), 'accuracy': accuracy[seen]})
    key: pd.Series = frame['log']
    if len(np.unique(counts)) > MOST_POINTS:
        edges = np.linspace(np.log(max(counts.min(), 1)), np.log(counts.max()), BINS + 1)
        key = pd.Series(np.digitize(frame['log'], edges[1:-1]))
    means = frame.groupby(key.to_numpy())[['log', 'accuracy']].mean()
    return np.exp(means['log'].to_numpy()), means['accuracy'].to_numpy()


def said_shown(material: Material, shown: list[str]) -> str:
    """That not all methods are shown, where this is so."""
    number = material.rows.method.nunique()
    return f'{len(shown)} of {number} methods shown (erm and the best by top-1)' if len(shown) < number else ''


def draw_means(axes: Axes, means: pd.Series, deviations: pd.Series, marker: str = 's') -> None:
    """Means of rows with whiskers of one standard deviation, where there is one."""
    places = np.arange(len(means))
    if marker != 'none':
        axes.plot(means, places, linestyle='none', marker=marker, color=INK, markersize=4.5, label='mean', zorder=4)
    known = deviations.notna().to_numpy()
    if known.any():
        axes.errorbar(
            means[known], places[known], xerr=deviations[known], fmt='none', ecolor=INK, elinewidth=1, capsize=2,
            label='standard deviation', zorder=3,
        )  # fmt: skip


def draw_baseline(axes: Axes, means: pd.Series) -> list[Line2D]:
    """A dashed line at the baseline, where it is among the methods."""
    if BASELINE not in means or pd.isna(means[BASELINE]):
        return []
    return [axes.axvline(means[BASELINE], color='0.35', linestyle='--', linewidth=1, zorder=1, label=BASELINE)]


def _mark_groups(axes: Axes, counts: np.ndarray) -> None:
    """Log axis from head to tail, with lines between many, medium and few where they are inside."""
    low, high = max(counts.min(), 1), counts.max()
    axes.set_xscale('log')
    axes.set_xlim(high * 1.15, low / 1.15)
    plain_log(axes.xaxis)
    if np.floor(np.log10(high)) < np.ceil(np.log10(low)):  # no power of ten inside
        axes.set_xticks(sorted({low, high}))
    for bound in (100, 20):
        if low <= bound < high:
            axes.axvline(bound, color=PALE, linestyle=':', linewidth=1, zorder=1)
    inside = (
        ('many', counts[counts > 100]),
        ('medium', counts[(counts >= 20) & (counts <= 100)]),
        ('few', counts[counts < 20]),
    )
    for name, members in inside:
        if len(members):
            axes.annotate(
                name, (np.sqrt(float(members.min()) * members.max()), 1), xycoords=('data', 'axes fraction'),
                xytext=(0, 2), textcoords='offset points', ha='center', va='bottom', color='0.4', fontsize=7.5,
            )  # fmt: skip

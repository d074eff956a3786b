"""Accuracy: of methods, of groups of classes, and of each class minus the baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltbench.evaluation.metrics import group_members
from ltbench.report.families import look_of
from ltbench.report.figures.material import GROUPS, FigureData
from ltbench.report.figures.style import (
    GROUP_LOOKS,
    INK,
    PALE,
    family_legend,
    grow,
    legend,
    row_sheet,
    sheet,
    title_panel,
)
from ltbench.report.frame import BASELINE


class Drawn(NamedTuple):
    """A figure, and a note of its caption about these records."""

    figure: Figure
    note: str = ''


def leaderboard(data: FigureData, width: float) -> Drawn | None:
    """Top-1 of every method: the seeds as points, their mean and standard deviation."""
    order = data.order
    if not order:
        return None
    figure, [axes], places = row_sheet([data.names[method] for method in order], width)
    place = dict(zip(order, places, strict=True))
    seen = data.rows[data.rows.method.isin(order) & data.rows.top1.notna()]
    for method in order:
        family, rows = look_of(method), seen[seen.method == method]
        axes.plot(
            rows.top1, rows.method.map(place), ls='', marker=family.marker, color=family.light, alpha=0.8,
            markersize=5, markeredgewidth=0, zorder=3,
        )  # fmt: skip
    stats = seen.groupby('method').top1.agg(['mean', 'std', 'count']).loc[order]
    single = [method for method in order if stats['count'][method] == 1 and method in data.intervals]
    if single:
        low, high = np.array([data.intervals[method] for method in single]).T
        axes.hlines(
            [place[method] for method in single], low, high, color=PALE, linestyle=(0, (2, 1.2)), linewidth=1.3,
            zorder=1.5, label='95 % interval over test images (one seed)',
        )  # fmt: skip
    several = (stats['count'] > 1).to_numpy()
    if several.any():
        draw_means(axes, stats[several], places[several], 'mean ± standard deviation', color=INK, marker='|')
    draw_baseline(axes, data, stats['mean'])
    axes.set_xlabel('top-1 accuracy (%)')
    _within_percent(axes)
    family_legend(figure, axes, order)
    return Drawn(figure)


def _within_percent(axes: Axes) -> None:
    """End the axis near 0 and 100 %, which a standard deviation may exceed."""
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, -2), min(right, 102))


def groups(data: FigureData, width: float) -> Drawn | None:
    """Many, medium and few-shot accuracy of every method."""
    present = [group for group in GROUPS if data.rows[group].notna().any()]
    order = data.order
    if not present or not order:
        return None
    figure, [axes], places = row_sheet([data.names[method] for method in order], width)
    for group, aside in zip(present, np.linspace(-0.045, 0.045, len(present)), strict=True):
        stats = data.rows.groupby('method')[group].agg(['mean', 'std']).loc[order]
        draw_means(axes, stats, places + aside, GROUPS[group], **GROUP_LOOKS[group])
        if BASELINE in order:
            colour = GROUP_LOOKS[group]['color']
            axes.axvline(stats['mean'][BASELINE], color=colour, linestyle=':', linewidth=1, zorder=1)
    if BASELINE in order:
        axes.plot([], color=INK, linestyle=':', linewidth=1, label=data.names[BASELINE])
    axes.set_xlabel('mean accuracy of the classes (%)')
    _within_percent(axes)
    legend(figure, axes)
    absent = [GROUPS[group] for group in GROUPS if group not in present]
    return Drawn(figure, f'no such classes here: {", ".join(absent)}' if absent else '')


def per_class(data: FigureData, width: float) -> Drawn | None:
    """Accuracy of each class minus the baseline's in the same seed, a panel for each method."""
    baseline = {one.run_seed: one.per_class for one in data.details.get(BASELINE, ())}
    differences = {
        method: [one.per_class - baseline[one.run_seed] for one in seeds if one.run_seed in baseline]
        for method in data.lines()
        if method != BASELINE and (seeds := data.details[method])
    }
    shown = [method for method, seeds in differences.items() if seeds]
    if not shown:
        return None
    bins, labels, colours = class_bins(data, width)
    figure, grid = sheet(width, 0.3 + 0.75 * len(shown), len(shown), sharex=True, sharey=True)
    for [axes], method in zip(grid, shown, strict=True):
        values = pd.DataFrame(differences[method]).T.groupby(bins).mean().T
        axes.bar(range(len(labels)), values.mean(), yerr=values.std(), color=colours, error_kw={'elinewidth': 0.8})
        axes.axhline(0, color=INK, linewidth=0.7)
        title_panel(figure, axes, data.names[method], width - 0.6, 'left')
        axes.grid(axis='x', visible=False)
    label_classes(figure, grid[-1, 0], labels)
    baseline_name = data.names[BASELINE]  # there is no room for more beside one panel
    label = f'accuracy minus that of {baseline_name} (points)' if len(shown) > 1 else f'points to {baseline_name}'
    figure.supylabel(label, fontsize='medium')
    for group in data.groups:
        grid[0, 0].bar(0, 0, color=GROUP_LOOKS[group]['color'], label=GROUPS[group])
    legend(figure, grid[0, 0])
    notes = ['a bar is the mean of several classes' if len(labels) < len(bins) else '', shown_note(data, shown)]
    return Drawn(figure, '; '.join(filter(None, notes)))


def class_bins(data: FigureData, width: float) -> tuple[np.ndarray, list[str], list[str]]:
    """The place of each class, ``[C]``, most training images first; labels and colours of the places.

    Where there is not enough room, classes of a group share places.
    """
    counts, room = data.class_counts, int(6 * width)
    order = np.argsort(-counts, kind='stable')
    bins = np.zeros(len(counts), int)
    labels: list[str] = []
    colours: list[str] = []
    for group, members in group_members(counts.tolist()).items():
        of_group = order[np.isin(order, members)]
        share = len(of_group) if len(counts) <= room else -(-len(of_group) * room // len(counts))
        for classes in np.array_split(of_group, share) if share else ():
            bins[classes] = len(labels)
            high, low = counts[classes].max(), counts[classes].min()
            name = data.class_names[classes[0]] if len(classes) == 1 else ''
            images = f'{high}' if high == low else f'{high} to {low}'
            labels.append(f'{shortened(name)} ({images})' if name else images)
            colours.append(GROUP_LOOKS[group]['color'])
    return bins, labels, colours


def shortened(name: str, longest: int = 24) -> str:
    """A class name, cut where it is too long for a figure."""
    return name if len(name) <= longest else f'{name[: longest - 1]}…'


def label_classes(figure: Figure, axes: Axes, labels: Sequence[str]) -> None:
    """Names of classes under an axis; the figure grows by their height."""
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_xlim(-0.7, len(labels) - 0.3)
    axes.set_xlabel('class (training images)' if '(' in labels[0] else 'training images of the class')
    grow(figure, 0.07 * max(map(len, labels)))


def shown_note(data: FigureData, shown: Sequence[str]) -> str:
    """A note that not all methods are shown; '' where all are."""
    number = data.rows.method.nunique()
    chosen = {*shown, BASELINE} & {*data.rows.method}
    which = f'{"ERM and " * (BASELINE in chosen)}the best by top-1'
    return f'{len(chosen)} of {number} methods: {which}' if len(chosen) < number else ''


def draw_means(axes: Axes, stats: pd.DataFrame, places: np.ndarray, label: str, **look: Any) -> None:
    """Means of rows with whiskers of one standard deviation, where there is one."""
    axes.errorbar(stats['mean'], places, xerr=stats['std'], linestyle='none', elinewidth=1, label=label, **look)


def draw_baseline(axes: Axes, data: FigureData, means: pd.Series) -> None:
    """A dashed line at the baseline, where it is among the methods."""
    if BASELINE in means and pd.notna(means[BASELINE]):
        name = data.names[BASELINE]
        axes.axvline(means[BASELINE], color='0.35', linestyle='--', linewidth=1, zorder=1, label=name)

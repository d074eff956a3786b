"""How reliable confidence is, and as which wrong classes images of the tail are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ltbench.report.figures.accuracy import Drawn, shown_note
from ltbench.report.figures.material import GROUPS, FigureData
from ltbench.report.figures.style import GROUP_HATCHES, GROUP_LOOKS, INK, PALE, legend, row_sheet, sheet

LINES = 4  # of methods; more would not be distinguishable near the diagonal
LEAST = 10  # images of a bin whose accuracy is shown
WRONG = {'many': 'a many-shot class', 'medium': 'a wrong medium-shot class', 'few': 'a wrong few-shot class'}


def reliability(data: FigureData, width: float) -> Drawn | None:
    """Accuracy against confidence for all images and those of each group; the larger a point, the more images."""
    shown = data.lines(LINES)
    panels: dict[str, dict[str, tuple[np.ndarray, ...]]] = {}
    for group in ('all', *GROUPS):
        for method in shown:
            images, *means = pool(one.reliability.get(group) for one in data.details[method])
            if (images >= LEAST).any():
                panels.setdefault(group, {})[method] = (images, *means)
    if not panels:
        return None
    columns = min(len(panels), 2 if width < 5 else 4)
    rows = -(-len(panels) // columns)
    figure, grid = sheet(width, rows * (width / columns + 0.15), rows, columns, sharex=True, sharey=True)
    for (group, lines), axes in zip(panels.items(), grid.flat, strict=False):
        axes.plot([0, 100], [0, 100], color=PALE, linestyle=':', linewidth=1)
        for method, (images, confidence, accuracy) in lines.items():
            look, enough = data.looks[method], images >= LEAST
            axes.plot(confidence[enough], accuracy[enough], **look | {'linewidth': 1, 'marker': ''})
            axes.plot([], label=data.names[method], **look)
            axes.scatter(
                confidence[enough], accuracy[enough], s=2 + 60 * images[enough] / images.sum(), color=look['color'],
                marker=look['marker'], linewidths=0, zorder=3,
            )  # fmt: skip
        axes.set(xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
        axes.set_title('all images' if group == 'all' else GROUPS[group], pad=3)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel('accuracy (%)')
    for axes in grid[-1]:
        axes.set_xlabel('confidence (%)')
    legend(figure, *grid.flat)
    absent = [GROUPS[group] for group in GROUPS if group not in panels]
    notes = [f'no bin with that many images here: {", ".join(absent)}' if absent else '', shown_note(data, shown)]
    return Drawn(figure, '; '.join(filter(None, notes)))


def pool(seeds: Iterable[Mapping[str, list[Any]] | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, mean confidence and accuracy of the bins that have images, over the images of all seeds together."""
    known = [seed for seed in seeds if seed]
    if not known:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    images = np.array([seed['images'] for seed in known], dtype=float)
    total = images.sum(axis=0)
    full = total > 0
    confidence, accuracy = (
        (np.nan_to_num(np.array([seed[name] for seed in known], dtype=float)) * images).sum(axis=0)[full] / total[full]
        for name in ('confidence', 'accuracy')
    )
    return total[full], confidence, accuracy


def confusion(data: FigureData, width: float) -> Drawn | None:
    """How many images of few- and medium-shot classes are predicted as wrong classes, by method; the head first."""
    rows, order = data.rows, data.order
    tails = [group for group in ('few', 'medium') if rows[f'{group}_correct'].notna().any()]
    if not tails or 'many' not in data.groups:
        return None
    figure, panels, places = row_sheet([data.names[method] for method in order], width, len(tails))
    for tail, axes in zip(tails, panels, strict=True):
        mean = rows.groupby('method').mean(numeric_only=True).loc[order]
        head = rows.groupby('method')[f'{tail}_in_many'].std().loc[order]
        left = np.zeros(len(order))
        for kind in data.groups:
            right_ones = mean[f'{tail}_correct'] if kind == tail else 0
            share = (mean[f'{tail}_in_{kind}'] - right_ones).fillna(0).to_numpy()
            look = {'color': GROUP_LOOKS[kind]['color'], 'hatch': GROUP_HATCHES[kind], 'edgecolor': 'white'}
            axes.barh(places, share, 0.13, left, linewidth=0, label=f'predicted as {WRONG[kind]}', **look)
            left += share
        axes.errorbar(mean[f'{tail}_in_many'], places, xerr=head, fmt='none', ecolor=INK, elinewidth=1)
        axes.set_title(f'{tail}-shot', pad=3)
        axes.set_xlabel('images (%)')
    limit = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(0, limit)
    legend(figure, *panels)
    return Drawn(figure)

"""Training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ltbench.report.figures.accuracy import Drawn, shown_note
from ltbench.report.figures.material import FigureData, RunData
from ltbench.report.figures.style import legend, plain_log, sheet, title_panel
from ltbench.report.frame import BASELINE

LABELS = {'accuracy': 'training accuracy (%)', 'test_top1': 'test top-1 (%)', 'loss': 'training loss'}


def curves(data: FigureData, width: float) -> Drawn | None:
    """By epoch: accuracy on training images as the method samples them, test top-1 where recorded, and the loss.

    Each loss has a separate panel: values of two losses cannot be compared.
    """
    shown = [method for method in data.lines() if has(data.details[method], 'loss')]
    if not shown:
        return None
    same = same_curves(data, shown)
    panels = {(name, ''): [m for m in same if has(data.details[m], name)] for name in ('accuracy', 'test_top1')}
    for method in same:
        panels.setdefault(('loss', data.details[method][0].loss), []).append(method)
    panels = {panel: methods for panel, methods in panels.items() if methods}
    columns = min(len(panels), 2 if width < 5 else 3)
    rows = -(-len(panels) // columns)
    figure, grid = sheet(width, rows * (0.75 * width / columns + 0.5), rows, columns)
    for ((name, loss), methods), axes in zip(panels.items(), grid.flat, strict=False):
        for method in methods:
            draw_curve(axes, data, method, name, ' = '.join(data.names[other] for other in same[method]))
        axes.set(xlabel='epoch', ylabel=LABELS[name])
        title_panel(figure, axes, loss, width / columns - 0.55)  # less the numbers and the label of y
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        low, high = axes.dataLim.intervaly
        if name == 'loss' and 0 < 30 * low < high:
            axes.set_yscale('log')
            plain_log(axes.yaxis)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    legend(figure, *grid.flat)
    joined = any(one.stage_ends for method in same for one in data.details[method])
    notes = ['a bar across a line: the next train stage begins' if joined else '', shown_note(data, shown)]
    return Drawn(figure, '; '.join(filter(None, notes)))


def same_curves(data: FigureData, methods: Sequence[str]) -> dict[str, list[str]]:
    """Methods with different curves, each with all methods of the very same training, itself first."""
    found: dict[bytes, list[str]] = {}
    for method in sorted(methods, key=lambda method: method != BASELINE):
        seeds = [one for one in data.details[method] if 'loss' in one.curve]
        key = b''.join(str(one.run_seed).encode() + one.curve['loss'].tobytes() for one in seeds)
        found.setdefault(key, []).append(method)
    return {together[0]: together for together in found.values()}


def draw_curve(axes: Axes, data: FigureData, method: str, name: str, label: str) -> None:
    """Mean over seeds by epoch, a band of one standard deviation, and bars where a train stage began."""
    seeds, look = data.details[method], data.looks[method]
    values = [one.curve[name] for one in seeds if name in one.curve]
    table = np.full((len(values), max(map(len, values))), np.nan)
    for number, curve in enumerate(values):
        table[number, : len(curve)] = curve
    kept = ~np.isnan(table).all(axis=0)
    epochs, table = np.arange(1, table.shape[1] + 1)[kept], table[:, kept]
    mean = np.nanmean(table, axis=0)
    axes.plot(epochs, mean, label=label, markevery=max(1, len(epochs) // 6), **look)
    several = (~np.isnan(table)).sum(axis=0) > 1
    if several.any():
        deviation = np.nanstd(table[:, several], axis=0, ddof=1)
        band = mean[several] - deviation, mean[several] + deviation
        axes.fill_between(epochs[several], *band, color=look['color'], alpha=0.15, linewidth=0)
    begins = np.isin(epochs, np.array(seeds[0].stage_ends, dtype=int) + 1)
    if begins.any():
        axes.plot(
            epochs[begins], mean[begins], ls='', marker='|', markersize=11, markeredgewidth=1.5, color=look['color']
        )


def has(seeds: Sequence[RunData], name: str) -> bool:
    """Whether a curve of that name was recorded."""
    return any(name in one.curve for one in seeds)

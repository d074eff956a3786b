"""Training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ltbench.report.figures.accuracy import Drawn, said_shown
from ltbench.report.figures.material import Details, Material, chosen_methods
from ltbench.report.figures.style import BASELINE, canvas, legend_below, looks, plain_log

PANELS = {
    'loss': 'training loss',
    'accuracy': 'training accuracy (%)',
    'test_top1': 'test top-1 of the network so far (%)',
}


def curves(material: Material) -> Drawn | None:
    """By epoch: loss and accuracy on training images as the method draws them; test top-1 where it was looked at."""
    shown = [method for method in chosen_methods(material.rows) if has(material.details[method], 'loss')]
    if not shown:
        return None
    same = same_curves({method: material.details[method] for method in shown})
    names = [name for name in PANELS if any(has(material.details[method], name) for method in same)]
    figure, [panels] = canvas([3.3] * len(names), [2.9])
    look = looks(list(same))
    for name, axes in zip(names, panels, strict=True):
        for method, others in same.items():
            draw_curve(axes, material.details[method], name, look[method], _label(method, others))
        axes.set(xlabel='epoch', ylabel=PANELS[name])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses = [one.curve['loss'] for method in same for one in material.details[method] if 'loss' in one.curve]
    least, most = min(map(np.nanmin, losses)), max(map(np.nanmax, losses))
    if least > 0 and most > 30 * least:
        panels[0].set_yscale('log')
        plain_log(panels[0].yaxis)
    legend_below(figure, *panels[0].get_legend_handles_labels())
    joined = any(one.stage_ends for method in same for one in material.details[method])
    notes = ['a bar across a line: the next train stage begins' if joined else '', said_shown(material, shown)]
    return Drawn(figure, '; '.join(note for note in notes if note))


def _label(method: str, others: Sequence[str]) -> str:
    """Name the methods of a line, or count them where that would be long."""
    if len(others) > 2 or sum(map(len, others)) > 40:
        return f'{method} (and {len(others)} more with the same training)'
    return ' = '.join((method, *others))


def same_curves(details: Mapping[str, Sequence[Details]]) -> dict[str, list[str]]:
    """Methods with curves of their own, each with those that rest on the very same training."""
    found: dict[str, list[str]] = {}
    of_curve: dict[bytes, str] = {}
    for method in sorted(details, key=lambda method: method != BASELINE):
        key = b''.join(
            str(one.run_seed).encode() + one.curve['loss'].tobytes() for one in details[method] if 'loss' in one.curve
        )
        first = of_curve.setdefault(key, method)
        if first == method:
            found[method] = []
        else:
            found[first].append(method)
    return found


def draw_curve(axes: Axes, seeds: Sequence[Details], name: str, look: dict, label: str) -> None:
    """Mean over seeds by epoch, a band of one standard deviation, and bars where a train stage began."""
    values = [one.curve[name] for one in seeds if name in one.curve]
    if not values:
        return
    longest = max(map(len, values))
    table = np.full((len(values), longest), np.nan)
    for number, curve in enumerate(values):
        table[number, : len(curve)] = curve
    seen = (~np.isnan(table)).sum(axis=0)
    kept = seen > 0
    epochs, table, seen = np.arange(1, longest + 1)[kept], table[:, kept], seen[kept]
    mean = np.nanmean(table, axis=0)
    axes.plot(epochs, mean, label=label, markevery=max(1, len(epochs) // 8), **look)
    if (seen > 1).any():
        several = seen > 1
        deviation = np.nanstd(table[:, several], axis=0, ddof=1)
        axes.fill_between(
            epochs[several],
            mean[several] - deviation,
            mean[several] + deviation,
            color=look['color'],
            alpha=0.15,
            linewidth=0,
        )
    begins = np.isin(epochs, np.array(seeds[0].stage_ends, dtype=int) + 1)
    if begins.any():
        axes.plot(
            epochs[begins],
            mean[begins],
            linestyle='none',
            marker='|',
            markersize=13,
            markeredgewidth=1.6,
            color=look['color'],
        )


def has(seeds: Sequence[Details], name: str) -> bool:
    """Whether a curve of that name was recorded."""
    return any(name in one.curve for one in seeds)

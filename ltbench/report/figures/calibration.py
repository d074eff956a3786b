"""Whether confidence can be believed, and where images of the tail go wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from ltbench.report.figures.accuracy import Drawn, draw_means, said_shown
from ltbench.report.figures.material import GROUPS, Material, by_top1, chosen_methods
from ltbench.report.figures.style import HATCHES, PALE, canvas, colours, draw_bars, legend_below, looks, row_canvas

LINES = 4  # of methods; with gaps to the diagonal, more cannot be told apart
LEAST = 10  # images of a bin whose accuracy is shown
WRONG = {'many': 'a many-shot class', 'medium': 'a wrong medium-shot class', 'few': 'a wrong few-shot class'}


def reliability(material: Material) -> Drawn | None:
    """Accuracy against confidence for all images and those of each group, and how the images spread over the bins."""
    shown = chosen_methods(material.rows, LINES)
    bins = {group: _bins_of(material, group, shown) for group in ('all', *GROUPS)}
    present = [
        group for group, lines in bins.items() if any((images >= LEAST).any() for images, _, _ in lines.values())
    ]
    if not present:
        return None
    figure, [upper, lower] = canvas([2.3] * len(present), [2.3, 0.75], gap=(0.28, 0.16), left=0.65, top=0.25)
    look = looks(shown)
    for group, axes, shares in zip(present, upper, lower, strict=True):
        axes.plot([0, 100], [0, 100], color=PALE, linestyle=':', linewidth=1)
        for method, (images, confidence, accuracy) in bins[group].items():
            line, enough = look[method], images >= LEAST
            axes.vlines(
                confidence[enough], confidence[enough], accuracy[enough], color=line['color'], linewidth=0.8, alpha=0.45
            )
            axes.plot(confidence[enough], accuracy[enough], **line | {'markersize': 4, 'linewidth': 1.2})
            shares.plot(confidence, 100 * images / images.sum(), **line | {'markersize': 2.5, 'linewidth': 1.1})
        axes.set(xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
        axes.tick_params(labelbottom=False, labelleft=axes is upper[0])
        axes.set_title('all images' if group == 'all' else GROUPS[group], pad=3)
        shares.set(xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 25), xlabel='confidence (%)')
        shares.tick_params(labelleft=axes is upper[0])
    upper[0].set_ylabel('accuracy (%)')
    lower[0].set_ylabel('images (%)')
    legend_below(figure, [upper[0].plot([], [], **look[method])[0] for method in shown], shown)
    absent = [GROUPS[group] for group in GROUPS if group not in present]
    notes = [f'No bin with that many images here: {", ".join(absent)}' if absent else '', said_shown(material, shown)]
    return Drawn(figure, '; '.join(note for note in notes if note))


def pool(seeds: Iterable[Mapping[str, list[Any]] | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Images, mean confidence and accuracy of the bins that have images, over the images of all seeds together."""
    known = [seed for seed in seeds if seed]
    if not known:
        return None
    images = np.array([seed['images'] for seed in known], dtype=float)
    total = images.sum(axis=0)
    full = total > 0
    means = [
        (np.nan_to_num(np.array([seed[name] for seed in known], dtype=float)) * images).sum(axis=0)[full] / total[full]
        for name in ('confidence', 'accuracy')
    ]
    return total[full], means[0], means[1]


def _bins_of(
    material: Material, group: str, methods: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    pooled = {method: pool(one.reliability.get(group) for one in material.details[method]) for method in methods}
    return {method: bins for method, bins in pooled.items() if bins}


def confusion(material: Material) -> Drawn | None:
    """How many images of the few- and medium-shot classes are taken for wrong classes, by method; the head first."""
    rows, order = material.rows, by_top1(material.rows)
    tails = [group for group in ('few', 'medium') if rows[f'{group}_correct'].notna().any()]
    kinds = [group for group in GROUPS if group in material.groups]
    if not tails or 'many' not in kinds:
        return None
    figure, panels = row_canvas(order, [3.1] * len(tails), top=0.22)
    paint = dict(zip(GROUPS, zip(colours(3), HATCHES[:3], strict=True), strict=True))
    most = 0.0
    for tail, axes in zip(tails, panels, strict=True):
        columns = [*(f'{tail}_in_{kind}' for kind in kinds), f'{tail}_correct']
        stats = rows.groupby('method')[columns].agg(['mean', 'std']).loc[order]
        left = np.zeros(len(order))
        for kind in kinds:
            share = stats[f'{tail}_in_{kind}']['mean'].to_numpy()
            if kind == tail:
                share = share - stats[f'{tail}_correct']['mean'].to_numpy()  # wrong, but within the group
            colour, hatch = paint[kind]
            draw_bars(axes, left, share, facecolor=colour, hatch=hatch, edgecolor='white')
            left = left + np.nan_to_num(share)
        head = stats[f'{tail}_in_many']
        draw_means(axes, head['mean'], head['std'], marker='none')
        most = max(most, left.max(), (head['mean'] + head['std'].fillna(0)).max())
        axes.set_title(f'images of {GROUPS[tail]}', pad=3)
        axes.set_xlabel('share of these images (%)')
    for axes in panels:
        axes.set_xlim(0, max(1.03 * most, 1))
    patches = [Patch(facecolor=paint[kind][0], hatch=paint[kind][1], edgecolor='white', linewidth=0) for kind in kinds]
    legend_below(figure, patches, [f'taken for {WRONG[kind]}' for kind in kinds])
    return Drawn(figure)

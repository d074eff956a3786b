"""Inside the network: a figure or two for each probe of ``ltbench/probes``, from its entry of the records.

Those of the probes ``bn_vectors`` and ``channel_strength`` are what "Normalizing Batch Normalization for Long-Tailed
Recognition" argues with. Every run has these entries, so they are drawn for the methods that ask, against the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ltbench.report.figures.accuracy import Drawn, against_size, draw_baseline, draw_means
from ltbench.report.figures.material import SHOWN, Details, Material, by_top1
from ltbench.report.figures.style import BASELINE, INK, canvas, colours, legend_below, looks, row_canvas, text_width
from ltbench.report.figures.training import draw_curve, has

KINDS = ('weight', 'bias')
MOST_NAMES = 24  # of layers on an axis


def bn_vectors(material: Material) -> Drawn | None:
    """Weight and bias of the last BN layer over its channels: how even, and how large."""
    shown = _shown(material, lambda seeds: any(one.bn.get('last') for one in seeds))
    if not shown:
        return None
    figure, grid = canvas([3.3, 3.3], [2.2, 2.0], gap=(0.7, 0.6))
    look = looks(shown)
    names: dict[str, str] = {}
    for column, kind in enumerate(KINDS):
        upper, lower = grid[0][column], grid[1][column]
        for method in shown:
            last = [one.bn['last'] for one in material.details[method] if one.bn.get('last')]
            names[method] = last[0]['name']
            curves = [curve for layer in last if (curve := evenness(layer[kind])) is not None]
            if curves:
                mean = np.mean(curves, axis=0)
                share = (np.arange(len(mean)) + 0.5) / len(mean) * 100
                upper.plot(share, mean, markevery=max(1, len(mean) // 8), **look[method])
        _draw_histograms(lower, {method: _pooled(material.details[method], kind) for method in shown}, look)
        upper.set(xlabel='channels, strongest first (%)', ylabel=f'|{kind}| / mean |{kind}|')
        lower.set(xlabel=kind, ylabel='channels (%)')
    common = names[BASELINE] if BASELINE in names else names[shown[0]]
    handles = [upper.plot([], [], **look[method])[0] for method in shown]
    labels = [method if names[method] == common else f'{method} [{names[method]}]' for method in shown]
    legend_below(figure, handles, labels)
    return Drawn(figure, '; '.join(part for part in (f'Layer: {common}', _said_shown(material)) if part))


def bn_layers(material: Material) -> Drawn | None:
    """Mean and standard deviation over the channels of weight and bias of every BN layer that has them."""
    shown = _shown(material, lambda seeds: any(one.bn.get('layers') for one in seeds))
    if not shown:
        return None
    layers: dict[str, int] = {}
    for method in (BASELINE, *shown):
        for one in material.details.get(method, ()):
            for layer in one.bn.get('layers', ()):
                layers.setdefault(layer['name'], len(layers))
    step = -(-len(layers) // MOST_NAMES)
    figure, grid = canvas(
        [max(4.5, min(7.0, 0.3 * len(layers)))],
        [1.9, 1.9],
        gap=(0, 0.15),
        bottom=0.15 + max(map(text_width, layers)),
        left=0.7,
    )
    look = looks(shown)
    for kind, [axes] in zip(KINDS, grid, strict=True):
        for number, method in enumerate(shown):
            described = [one.bn['layers'] for one in material.details[method] if one.bn.get('layers')]
            mean, deviation = _over_seeds(described, kind, layers)
            places = np.arange(len(layers)) + 0.1 * (number - (len(shown) - 1) / 2)
            axes.errorbar(
                places, mean, yerr=deviation, elinewidth=0.9, label=method, **look[method] | {'linewidth': 0.9}
            )
        axes.set(ylabel=f'BN {kind}', xlim=(-0.6, len(layers) - 0.4), xticks=range(0, len(layers), step))
        axes.set_xticklabels([])
    grid[1][0].set_xticklabels(list(layers)[::step], rotation=90)
    legend_below(figure, *grid[0][0].get_legend_handles_labels())
    return Drawn(figure, _said_shown(material))


def strength(material: Material) -> Drawn | None:
    """How strongly channels of frequent and of rare classes answer to images of rare classes, and the ratio R/F."""
    rows = material.rows[material.rows.method.isin([BASELINE, *material.relatives])]
    rows = rows[rows[['frequent', 'rare']].notna().any(axis=1)]
    order = by_top1(rows) if len(rows) else []
    if not set(order) & set(material.relatives):
        return None
    rows = rows.assign(ratio=(rows.rare / rows.frequent).where(rows.frequent > 0))
    figure, [left, right] = row_canvas(order, [2.9, 2.5])
    places = np.arange(len(order))
    means = rows.groupby('method')[['frequent', 'rare']].mean().loc[order]
    left.hlines(places, means.min(axis=1), means.max(axis=1), color='0.75', linewidth=1.5, zorder=1)
    for kind, colour, marker in zip(('frequent', 'rare'), colours(2), 'o^', strict=True):
        left.plot(
            means[kind],
            places,
            linestyle='none',
            marker=marker,
            color=colour,
            markersize=6,
            label=f'{kind}-specific channels',
        )
    left.set_xlabel('mean activation on images of rare classes')
    left.set_xlim(min(0, 1.08 * means.min().min()), 1.08 * means.max().max())
    ratio = rows.groupby('method').ratio.agg(['mean', 'std']).loc[order]
    seen = rows[rows.ratio.notna()]
    place = {method: number for number, method in enumerate(order)}
    right.scatter(
        seen.ratio, seen.method.map(place), s=20, color=colours(3)[2], alpha=0.65, linewidths=0, label='R/F of one seed'
    )
    draw_means(right, ratio['mean'], ratio['std'])
    baseline = draw_baseline(right, ratio['mean'])
    right.set_xlabel('ratio rare / frequent (R/F)')
    handles = [
        *left.get_legend_handles_labels()[0],
        *(h for h in right.get_legend_handles_labels()[0] if h not in baseline),
        *baseline,
    ]
    legend_below(figure, handles, [str(handle.get_label()) for handle in handles], columns=3)
    return Drawn(figure, f'Rare: {material.rare_group}-shot classes; frequent: many-shot classes')


def scale(material: Material) -> Drawn | None:
    """The learned scalar (mean where there are several) over training."""
    shown = _shown(material, lambda seeds: has(seeds, 'bn_scale'), alone=True)
    if not shown:
        return None
    figure, [[axes]] = canvas([5.2], [2.8], left=0.85)  # room for numbers near zero, with a sign
    look = looks(shown)
    for method in shown:
        draw_curve(axes, material.details[method], 'bn_scale', look[method], method)
    axes.set(xlabel='epoch', ylabel='learned scalar')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, *axes.get_legend_handles_labels())
    return Drawn(figure, _said_shown(material))


def feature_norms(material: Material) -> Drawn | None:
    """Mean length of the features of each class against its training images."""
    by_class = {method: [one.feature_norms for one in seeds] for method, seeds in material.details.items()}
    return against_size(material, by_class, 'mean length of the features', (0, None))


def evenness(values: Sequence[float]) -> np.ndarray | None:
    """``|v_k| / mean |v|``, largest first: 1 everywhere where all channels are alike; None for a vector of zeros."""
    size = np.abs(np.asarray(values, dtype=float))
    return np.sort(size)[::-1] / size.mean() if size.size and size.mean() > 0 else None


def _shown(material: Material, can: Callable[[Sequence[Details]], bool], alone: bool = False) -> list[str]:
    """The baseline and the relatives that can be drawn; none without a relative."""
    able = [method for method in material.relatives if can(material.details.get(method, ()))][: SHOWN - 1]
    if not able:
        return []
    baseline = [BASELINE] if not alone and can(material.details.get(BASELINE, ())) else []
    return baseline + able


def _said_shown(material: Material) -> str:
    hidden = len(material.relatives) - (SHOWN - 1)
    return f'{hidden} more methods with BN of their own are not shown' if hidden > 0 else ''


def _pooled(seeds: Sequence[Details], kind: str) -> np.ndarray:
    return np.concatenate([np.asarray(one.bn['last'][kind], dtype=float) for one in seeds if one.bn.get('last')])


def _draw_histograms(axes: Axes, values: dict[str, np.ndarray], look: dict) -> None:
    """Outlines over the channels of all seeds, with the same bins for all methods."""
    every = np.concatenate(list(values.values()))
    low, high = every.min(), every.max()
    edges = np.linspace(low, high, 31) if high > low else np.linspace(low - 0.5, low + 0.5, 32)
    for method, mine in values.items():
        shares = 100 * np.histogram(mine, edges)[0] / len(mine)
        axes.stairs(shares, edges, color=look[method]['color'], linestyle=look[method]['linestyle'], linewidth=1.3)
    axes.set_ylim(bottom=0)
    axes.axvline(0, color=INK, linewidth=0.5)


def _over_seeds(
    described: Sequence[Sequence[dict]], kind: str, layers: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds of the mean and the deviation of each layer; NaN where a network lacks it."""
    table = np.full((len(described), 2, len(layers)), np.nan)
    for number, network in enumerate(described):
        for layer in network:
            table[number, :, layers[layer['name']]] = layer[f'{kind}_mean'], layer[f'{kind}_std']
    mean, deviation = np.nanmean(table, axis=0) if len(table) == 1 else _nanmean(table)
    return mean, deviation


def _nanmean(table: np.ndarray) -> np.ndarray:
    known = (~np.isnan(table)).sum(axis=0)
    return np.where(known, np.nansum(table, axis=0) / np.maximum(known, 1), np.nan)

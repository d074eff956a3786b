"""Inside the network: a figure or two for each probe of ``ltbench/probes``, from its entry of the records.

Those of the probes ``bn_vectors`` and ``channel_strength`` are the evidence in "Normalizing Batch Normalization for
Long-Tailed Recognition". Every run has these entries, so only methods that request the probes are drawn, against
the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ltbench.report.figures.accuracy import Drawn, class_bins, draw_baseline, draw_means, label_classes, shown_note
from ltbench.report.figures.material import SHOWN, FigureData, RunData
from ltbench.report.figures.style import GROUP_LOOKS, INK, legend, row_sheet, sheet
from ltbench.report.figures.training import draw_curve, has
from ltbench.report.frame import BASELINE

KINDS = ('weight', 'bias')


def bn_vectors(data: FigureData, width: float) -> Drawn | None:
    """Weight and bias of the last BN layer over its channels: how even, and how large."""
    shown = _shown(data, lambda seeds: any(one.bn.get('last') for one in seeds))
    if not shown:
        return None
    figure, grid = sheet(width, 0.4 + 0.7 * width, 2, 2)
    last = {method: [one.bn['last'] for one in data.details[method] if one.bn.get('last')] for method in shown}
    common = last[shown[0]][0]['name']
    for (upper, lower), kind in zip(grid.T, KINDS, strict=True):
        pooled = {method: np.concatenate([np.array(one[kind], float) for one in last[method]]) for method in shown}
        edges = np.histogram_bin_edges(np.concatenate(list(pooled.values())), 30)
        for method in shown:
            layer, look = last[method][0]['name'], data.looks[method]
            name = data.names[method] + (f' [{layer}]' if layer != common else '')
            curves = [curve for one in last[method] if (curve := evenness(one[kind])) is not None]
            mean = np.mean(curves, axis=0) if curves else np.zeros(0)
            share = (np.arange(len(mean)) + 0.5) / max(len(mean), 1) * 100
            upper.plot(share, mean, markevery=max(1, len(mean) // 6), label=name, **look)
            shares = 100 * np.histogram(pooled[method], edges)[0] / len(pooled[method])
            lower.stairs(shares, edges, color=look['color'], linestyle=look['linestyle'], linewidth=1.2)
        upper.set(xlabel='channel rank (%)', ylabel=f'|{kind}| / mean')
        lower.set(xlabel=kind, ylabel='channels (%)', ylim=(0, None))
        lower.axvline(0, color=INK, linewidth=0.5)
    legend(figure, grid[0, 0])
    return Drawn(figure, '; '.join(filter(None, (f'layer: {common}', _hidden_note(data)))))


def bn_layers(data: FigureData, width: float) -> Drawn | None:
    """Mean and standard deviation over the channels of weight and bias of every BN layer that has them."""
    shown = _shown(data, lambda seeds: any(one.bn.get('layers') for one in seeds))
    if not shown:
        return None
    described = pd.DataFrame(
        [layer | {'method': m} for m in shown for one in data.details[m] for layer in one.bn.get('layers', ())]
    )
    layers = list(dict.fromkeys(described.name))
    means = described.groupby(['method', 'name']).mean(numeric_only=True)
    step = -(-len(layers) // int(5 * width))
    figure, grid = sheet(width, 2.6 + 0.065 * max(map(len, layers)), 2, sharex=True)
    for kind, [axes] in zip(KINDS, grid, strict=True):
        for method, aside in zip(shown, np.linspace(-0.2, 0.2, len(shown)), strict=True):
            of_method = means.loc[method].reindex(layers)
            places = np.arange(len(layers)) + aside
            look = data.looks[method] | {'linewidth': 0.9}
            mean, deviation = of_method[f'{kind}_mean'], of_method[f'{kind}_std']
            axes.errorbar(places, mean, yerr=deviation, elinewidth=0.8, label=data.names[method], **look)
        axes.set(ylabel=f'BN {kind}', xlim=(-0.6, len(layers) - 0.4))
    axes.set_xticks(range(0, len(layers), step), layers[::step], rotation=90)
    legend(figure, axes)
    return Drawn(figure, _hidden_note(data))


def strength(data: FigureData, width: float) -> Drawn | None:
    """How strongly channels of frequent and of rare classes respond to images of rare classes, and the ratio R/F."""
    rows = data.rows[data.rows.method.isin([BASELINE, *data.relatives])]
    rows = rows[rows[['frequent', 'rare']].notna().any(axis=1)]
    order = [method for method in data.order if method in {*rows.method}]
    if not set(order) & set(data.relatives):
        return None
    rows = rows.assign(ratio=(rows.rare / rows.frequent).where(rows.frequent > 0))
    figure, [left, right], places = row_sheet([data.names[method] for method in order], width, 2)
    for kind, group in (('frequent', 'many'), ('rare', data.rare_group)):
        stats = rows.groupby('method')[kind].agg(['mean', 'std']).loc[order]
        draw_means(left, stats, places, f'{kind}-specific channels', **GROUP_LOOKS[group])
    left.set_xlabel('mean activation on\nimages of rare classes')
    left.set_xlim(left=min(0, left.get_xlim()[0]))
    ratio = rows.groupby('method').ratio.agg(['mean', 'std']).loc[order]
    draw_means(right, ratio, places, 'ratio', color=INK, marker='D')
    draw_baseline(right, data, ratio['mean'])
    right.set_xlabel('ratio rare /\nfrequent')
    legend(figure, left, right)
    return Drawn(figure, f'rare: {data.rare_group}-shot classes; frequent: many-shot classes')


def scale(data: FigureData, width: float) -> Drawn | None:
    """The learned scalar (mean where there are several) over training."""
    shown = _shown(data, lambda seeds: has(seeds, 'bn_scale'), alone=True)
    if not shown:
        return None
    figure, [[axes]] = sheet(width, 0.2 + 0.42 * width)
    for method in shown:
        draw_curve(axes, data, method, 'bn_scale', data.names[method])
    axes.set(xlabel='epoch', ylabel='learned scalar')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes)
    return Drawn(figure, _hidden_note(data))


def feature_norms(data: FigureData, width: float) -> Drawn | None:
    """Mean length of the features of each class, mean over seeds."""
    norms = {
        method: pd.DataFrame(seeds).mean()
        for method in data.lines()
        if (seeds := [one.feature_norms for one in data.details[method] if len(one.feature_norms)])
    }
    if not norms:
        return None
    bins, labels, _ = class_bins(data, width)
    figure, [[axes]] = sheet(width, 0.2 + 0.42 * width)
    for method, by_class in norms.items():
        axes.plot(by_class.groupby(bins).mean(), label=data.names[method], **data.looks[method])
    axes.set(ylabel='mean feature length', ylim=(0, None))
    label_classes(figure, axes, labels)
    legend(figure, axes)
    return Drawn(figure, shown_note(data, list(norms)))


def evenness(values: Sequence[float]) -> np.ndarray | None:
    """``|v_k| / mean |v|``, largest first: 1 everywhere where all channels are alike; None for a vector of zeros."""
    size = np.abs(np.asarray(values, dtype=float))
    return np.sort(size)[::-1] / size.mean() if size.size and size.mean() > 0 else None


def _shown(data: FigureData, can: Callable[[Sequence[RunData]], bool], alone: bool = False) -> list[str]:
    """The baseline and the relatives that can be drawn; none without a relative."""
    able = [method for method in data.relatives if can(data.details.get(method, ()))][: SHOWN - 1]
    if not able:
        return []
    baseline = [BASELINE] if not alone and can(data.details.get(BASELINE, ())) else []
    return baseline + able


def _hidden_note(data: FigureData) -> str:
    hidden = len(data.relatives) - (SHOWN - 1)
    return f'{hidden} more methods that change BN are not shown' if hidden > 0 else ''

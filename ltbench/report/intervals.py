"""Bootstrap intervals over test images, for what was run with a single seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom

from ltbench.evaluation.metrics import GROUPS, group_members

BOUNDED = ('top1', *GROUPS, 'macro')
"""Metrics that are sums over test images, and so follow from per-class accuracies and image counts alone."""
LEVEL = 0.95
DRAWS = 1000
SEED = 0
EXACT = 9
"""Decimals of a percentage that are the same on every CPU; the last bits of a sum depend on the order it is made in."""


def image_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Percentile intervals of each run's accuracies, had other test images of the same classes been drawn.

    The bootstrap is stratified by class: each class keeps its number of test images. How many of ``n`` images drawn
    with replacement are right is binomial, so no single image is needed. The draws of a class are 1000 quantiles of its
    binomial distribution in an order of its own (a Latin hypercube): steadier than as many free draws, and cheap for
    thousands of runs. They tell nothing of the variation between training seeds.

    Args:
        rows: Runs, with ``per_class`` (percent), ``test_images`` and ``class_counts``.

    Returns:
        Columns ``*_low`` and ``*_high`` in percent, with the index of ``rows``; NaN for an empty group.
    """
    columns = [f'{metric}_{side}' for metric in BOUNDED for side in ('low', 'high')]
    bounds = pd.DataFrame(np.nan, index=rows.index, columns=columns)
    tests = zip(rows['class_counts'].map(tuple), rows['test_images'].map(tuple), strict=True)
    alike = pd.Series(list(tests), index=rows.index, dtype=object)
    for (counts, images), index in alike.groupby(alike, sort=False).groups.items():
        accuracies = np.array(rows.loc[index, 'per_class'].tolist(), dtype=float)  # None becomes NaN
        bounds.loc[index] = _intervals(accuracies, np.array(images), counts)
    return bounds


def _intervals(accuracies: np.ndarray, images: np.ndarray, class_counts: Sequence[int]) -> np.ndarray:
    """``[runs, 2 * metrics]`` for ``[runs, classes]`` of one test set."""
    seen = images > 0
    images, accuracies = images[seen], accuracies[:, seen]
    hits = np.rint(accuracies / 100 * images).astype(int)
    pairs = np.stack([np.broadcast_to(images, hits.shape), hits]).reshape(2, -1)
    pairs, kind = np.unique(pairs, axis=1, return_inverse=True)  # few: classes share their distributions
    kind = kind.reshape(hits.shape)
    levels = (np.arange(DRAWS) + 0.5) / DRAWS
    quantiles = 100 * binom.ppf(levels, pairs[0][:, None], (pairs[1] / pairs[0])[:, None]) / pairs[0][:, None]
    order = np.random.default_rng(SEED).permuted(np.tile(np.arange(DRAWS), (len(images), 1)), axis=1)
    weights = _weights(images, np.asarray(class_counts)[seen])
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    draws = (weights @ quantiles[run[:, None], order] for run in kind)
    return np.stack([np.quantile(sums.round(EXACT), tails, axis=1).T.ravel() for sums in draws])


def _weights(images: np.ndarray, class_counts: np.ndarray) -> np.ndarray:
    """``[metrics, classes]``: what each class's accuracy counts in each of :data:`BOUNDED`; NaN for an empty group."""
    members = group_members(class_counts.tolist())
    weights = {'top1': images / images.sum(), 'macro': np.full(len(images), 1 / len(images))}
    for name in GROUPS:
        inside = np.isin(np.arange(len(images)), members[name])
        weights[name] = inside / inside.sum() if inside.any() else np.full(len(images), np.nan)
    return np.stack([weights[metric] for metric in BOUNDED])

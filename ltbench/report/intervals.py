"""Variation of accuracies over test images: the only one that is known of a single seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from ltbench.evaluation.metrics import GROUPS, group_members

BOUNDED = ('top1', *GROUPS, 'macro')
"""Metrics that are sums over test images, and so follow from per-class accuracies and image counts alone."""
LEVEL = 0.95


def image_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """95 % intervals of each run's accuracies over test images; they do not cover the variation between seeds.

    Args:
        rows: Runs, with the scores :data:`BOUNDED`, ``per_class`` (percent), ``test_images`` and ``class_counts``.

    Returns:
        Columns ``*_low`` and ``*_high`` in percent, with the index of ``rows``; NaN for an empty group.
    """
    half = norm.ppf((1 + LEVEL) / 2) * image_variances(rows) ** 0.5
    ends = {'low': rows[list(BOUNDED)] - half, 'high': rows[list(BOUNDED)] + half}
    return pd.concat([end.clip(0, 100).add_suffix(f'_{side}') for side, end in ends.items()], axis=1)


def image_variances(rows: pd.DataFrame) -> pd.DataFrame:
    """Variance of each run's accuracies over test images, points squared: columns :data:`BOUNDED`.

    Each class keeps its number of test images, so hits are binomial. Half a wrong and half a right image are
    added to each class, so that a class without errors varies, too.

    Args:
        rows: As of :func:`image_intervals`.
    """
    found = pd.DataFrame(np.nan, index=rows.index, columns=list(BOUNDED))
    for run in rows.itertuples():
        images = np.array(run.test_images)
        seen = images > 0
        share = (np.array(run.per_class, float)[seen] / 100 * images[seen] + 0.5) / (images[seen] + 1)
        weights = _weights(images[seen], np.asarray(run.class_counts)[seen])
        found.loc[run.Index] = 1e4 * weights**2 @ (share * (1 - share) / images[seen])
    return found


def smallest_steps(test_images: Sequence[int], class_counts: Sequence[int]) -> dict[str, float]:
    """By how many points each of :data:`BOUNDED` changes with one test image, of the class where that is least.

    NaN for an empty group.

    Args:
        test_images: Of each class, ``[C]``.
        class_counts: Training images of each class, ``[C]``.
    """
    images = np.array(test_images)
    seen = images > 0
    steps = 100 * _weights(images[seen], np.asarray(class_counts)[seen]) / images[seen]
    least = [row[row > 0].min(initial=np.inf) for row in steps]
    return {metric: float(step) if np.isfinite(step) else np.nan for metric, step in zip(BOUNDED, least, strict=True)}


def paired_variance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Variance of differences in top-1 over test images, paired by image, points squared: ``[...]``.

    Args:
        first: Whether runs are right, or the share of a method's runs that are, 0 to 1: ``[..., N]``.
        second: The same for what they are compared with, on the same images.
    """
    return 1e4 * (np.asarray(first, float) - second).var(axis=-1, ddof=1) / np.shape(first)[-1]


def _weights(images: np.ndarray, class_counts: np.ndarray) -> np.ndarray:
    """``[metrics, classes]``: weights of class accuracies in each of :data:`BOUNDED`; NaN for an empty group."""
    members = group_members(class_counts.tolist())
    weights = {'top1': images / images.sum(), 'macro': np.full(len(images), 1 / len(images))}
    for name in GROUPS:
        inside = np.isin(np.arange(len(images)), members[name])
        weights[name] = inside / inside.sum() if inside.any() else np.full(len(images), np.nan)
    return np.stack([weights[metric] for metric in BOUNDED])

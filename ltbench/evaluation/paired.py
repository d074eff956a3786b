"""Tests whether two networks differ on the same test images by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 9999
LEVEL = 0.95


@dataclass(frozen=True)
class PairedTest:
    """Two runs on the same test images.

    Attributes:
        images: N.
        only_first: Images that only the first run classifies correctly.
        only_second: Images that only the second run classifies correctly.
        p_value: Of McNemar's exact test, two-sided: could these two numbers come from a fair coin?
        difference: Top-1 of the second minus that of the first, in percentage points.
        low: Lower end of the 95 % bootstrap interval of it, over test images.
        high: Upper end.
    """

    images: int
    only_first: int
    only_second: int
    p_value: float
    difference: float
    low: float
    high: float


def paired_test(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """McNemar's exact test and a bootstrap interval of the difference in top-1, paired by test image.

    An image contributes -1, 0 or 1 to the difference, so a bootstrap sample of N images is a draw from a multinomial
    distribution over these three, which gives the same result in no time. Percentile interval, fixed seed.

    Args:
        first: Whether the first run is correct, ``[N]`` booleans.
        second: Whether the second run is correct, likewise.
    """
    images = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_second, discordant).pvalue) if discordant else 1.0
    shares = np.array([only_first, only_second, images - discordant]) / images
    samples = np.random.default_rng(0).multinomial(images, shares, size=RESAMPLES)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(100 * (samples[:, 1] - samples[:, 0]) / images, [tail, 1 - tail])
    difference = 100 * (only_second - only_first) / images
    return PairedTest(images, only_first, only_second, p_value, difference, float(low), float(high))

"""Noise with a long tail: for measuring speed without images."""

from __future__ import annotations

import numpy as np

from ltbench.data.base import LongTailData, Split
from ltbench.data.profiles import Count, Factor, check_whole, class_counts
from ltbench.registry import DATASETS


@DATASETS.register_module()
class NoiseLT(LongTailData):
    """Random pixels in the shape of CIFAR with a long tail: training is as fast as on images, without a download.

    Args:
        n_max: Training images of class 0.
        imbalance_factor: Largest over smallest class.
        num_classes: C.
        test_per_class: Test images of each class.
    """

    title = 'noise in the shape of CIFAR'
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)

    def __init__(
        self, n_max: Count = 500, imbalance_factor: Factor = 100, num_classes: int = 100, test_per_class: Count = 100
    ) -> None:
        check_whole('num_classes', num_classes, least=2, most=100_000)
        check_whole('test_per_class', test_per_class, least=1)
        self.class_names = tuple(str(label) for label in range(num_classes))
        random = np.random.default_rng(0)

        def noise(counts: list[int]) -> Split:
            labels = np.repeat(np.arange(num_classes), counts)
            return Split(random.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8), labels)

        self.train = noise(class_counts('exp', n_max, imbalance_factor, num_classes))
        self.test = noise([test_per_class] * num_classes)

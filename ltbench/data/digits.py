"""digits_lt: scikit-learn's bundled digits with a long tail. Nothing to download."""

from __future__ import annotations

import numpy as np

from ltbench.data.base import LongTailData, Split
from ltbench.data.profiles import class_counts, select
from ltbench.registry import DATASETS


@DATASETS.register_module()
class DigitsLT(LongTailData):
    """8x8 grey digits: ``test_per_class`` balanced test images a class, a long tail of the others to train on.

    Each class is shuffled by ``RandomState(split_seed)``; its first images are the test part, the next ones train.

    Args:
        imbalance_factor: Largest over smallest class.
        profile: ``'exp'`` or ``'step'``.
        n_max: Training images of class 0.
        test_per_class: Test images of each class.
        split_seed: Chooses the images.
    """

    title = "scikit-learn's digits (UCI optical recognition of handwritten digits)"
    mean = (0.2876,)
    std = (0.3536,)
    class_names = tuple('0123456789')

    def __init__(
        self,
        imbalance_factor: float = 40,
        profile: str = 'exp',
        n_max: int = 120,
        test_per_class: int = 50,
        split_seed: int = 0,
    ) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = (digits.images * 15).astype(np.uint8)[..., None]  # 0..16 -> 0..240
        everything = Split(pixels, digits.target.astype(np.int64))
        counts = class_counts(profile, n_max, imbalance_factor, self.num_classes)
        self.test = everything.take(select(everything.labels, [test_per_class] * self.num_classes, split_seed))
        self.train = everything.take(select(everything.labels, counts, split_seed, skip=test_per_class))

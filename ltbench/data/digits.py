"""digits_lt: scikit-learn's bundled digits with a long tail. Nothing to download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ltbench.data.base import LongTailData, Split
from ltbench.data.profiles import Count, Factor, Seed, check_whole, class_counts, select
from ltbench.errors import DataError
from ltbench.registry import DATASETS


@DATASETS.register_module()
class DigitsLT(LongTailData):
    """8x8 grey digits: ``test_per_class`` test images per class, and a long tail of the others to train on.

    Each class is shuffled by ``RandomState(split_seed)``; its first images are the test part, the next ones train.

    Args:
        imbalance_factor: Largest over smallest class.
        profile: ``'exp'`` or ``'step'``.
        n_max: Training images of class 0.
        test_per_class: Test images of each class.
        split_seed: Chooses the images.

    Raises:
        DataError: If scikit-learn, or its file of digits, is missing.
    """

    title = "scikit-learn's digits (UCI optical recognition of handwritten digits)"
    mean = (0.2876,)
    std = (0.3536,)
    class_names = tuple('0123456789')

    def __init__(
        self,
        imbalance_factor: Factor = 40,
        profile: str = 'exp',
        n_max: Count = 120,
        test_per_class: Count = 50,
        split_seed: Seed = 0,
    ) -> None:
        check_whole('test_per_class', test_per_class, least=1)
        self.files = (digits_file(),)
        pixels, labels = read_digits()
        everything = Split((pixels * 15).reshape(-1, 8, 8, 1), labels)  # 0..16 -> 0..240
        counts = class_counts(profile, n_max, imbalance_factor, self.num_classes)
        self.test = everything.take(select(everything.labels, [test_per_class] * self.num_classes, split_seed))
        self.train = everything.take(select(everything.labels, counts, split_seed, skip=test_per_class))


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 digits: pixels uint8 ``[N, 64]`` of 0 to 16 and labels int64 ``[N]``.

    The same as ``sklearn.datasets.load_digits``, but read from its file: the import would cost every process of ltbench
    two seconds.
    """
    rows = np.loadtxt(digits_file(), delimiter=',', dtype=np.uint8)
    return rows[:, :-1], rows[:, -1].astype(np.int64)


def digits_file() -> Path:
    """The file of digits that scikit-learn contains.

    Raises:
        DataError: If scikit-learn or the file is missing.
    """
    package = find_spec('sklearn')
    if package is None or package.origin is None:
        raise DataError('digits_lt needs scikit-learn, which is not installed: pip install scikit-learn')
    file = Path(package.origin).parent / 'datasets' / 'data' / 'digits.csv.gz'
    if not file.is_file():
        raise DataError(f'{file} is missing: install scikit-learn again, or another version of it')
    return file

"""CIFAR-10-LT and CIFAR-100-LT, from the official pickles or the official binary version: the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ltbench.console import say
from ltbench.data.base import FileStatus, LongTailData, Size, Split, data_root
from ltbench.data.cache import cached_array
from ltbench.data.cifar_files import Binary, Pickles, Version
from ltbench.data.download import DownloadError, RemoteFile, complete
from ltbench.data.profiles import Factor, Seed, class_counts, select
from ltbench.errors import DataError
from ltbench.registry import DATASETS

PUBLISHED = 'https://www.cs.toronto.edu/~kriz'


class _CIFARLT(LongTailData):
    """Common to CIFAR-10-LT and CIFAR-100-LT.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
    https://arxiv.org/abs/1906.07413: class counts are truncated; one legacy ``RandomState(0)`` shuffles the images of
    each class, classes ascending, and the first of each are kept; kaidic/LDAM-DRW@2536330. Subsets of different
    imbalance are nested.

    The official pickles are read if all of them are whole, otherwise the official binary version; both give the same
    arrays and the same fingerprint.

    Args:
        imbalance_factor: Largest over smallest class before truncation; 10, 20, 50, 100 and 200 are published.
        profile: ``'exp'`` or ``'step'``.
        split_seed: Chooses the images; 0 as published.

    Raises:
        DataError: If neither version is whole: a file is missing or not the published one.
    """

    # as in LDAM and its successors, for both data sets; the true deviation of CIFAR-10 is (0.2470, 0.2435, 0.2616)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)
    benchmark: ClassVar[str]
    pickles: ClassVar[Pickles]
    binary: ClassVar[Binary]

    def __init__(self, imbalance_factor: Factor = 100, profile: str = 'exp', split_seed: Seed = 0) -> None:
        version, statuses = self._nearest()
        if lacking := [status for status in statuses if status.state != 'whole']:
            detail = '; '.join(status.detail for status in lacking)
            if all(status.state == 'missing' for status in statuses):
                detail = f'{self.title} is neither in {self.pickles.place} nor in {self.binary.place}'
            raise DataError(f'{detail}; run `ltbench data get {self.benchmark}`')
        self.files = [version.place / name for name in version.files]
        train, self.test = self._split(version, 'train', version.train), self._split(version, 'test', version.test)
        n_max = int(np.bincount(train.labels).max())
        counts = class_counts(profile, n_max, imbalance_factor, self.num_classes)
        self.train = train.take(select(train.labels, counts, split_seed))

    @classmethod
    def published_size(cls, imbalance_factor: float = 100, profile: str = 'exp', **options: Any) -> Size:
        """Of the 50,000 training images those that the profile keeps, and all test images."""
        classes = len(cls.class_names)
        counts = class_counts(profile, 50_000 // classes, imbalance_factor, classes)
        return Size(classes, sum(counts), 10_000, 3, 32)

    def _split(self, version: Version, name: str, files: Mapping[str, str]) -> Split:
        labels = np.concatenate([self._labels(version, file) for file in files])
        paths = [version.place / file for file in files]
        return Split(cached_array(version.place, name, paths, lambda: _images(version, files)), labels)

    def _labels(self, version: Version, file: str) -> np.ndarray:
        labels = version.labels(file)
        invalid = np.flatnonzero((labels < 0) | (labels >= self.num_classes))
        if len(invalid):
            raise DataError(
                f'{version.place / file}: image {invalid[0]} has label {labels[invalid[0]]}, expected 0 to '
                f'{self.num_classes - 1}; delete the file and run `ltbench data get {self.benchmark}`'
            )
        return labels

    @classmethod
    def _nearest(cls) -> tuple[Version, list[FileStatus]]:
        """The version to read: a whole one, else the one with the most files present; and the state of its files."""
        pickles = cls.pickles.check()
        if all(status.state == 'whole' for status in pickles):
            return cls.pickles, pickles
        binary = cls.binary.check()
        if all(status.state == 'whole' for status in binary) or _present(binary) > _present(pickles):
            return cls.binary, binary
        return cls.pickles, pickles

    @classmethod
    def check(cls) -> list[FileStatus]:
        """Compare the official files of the version to read with their published md5."""
        return cls._nearest()[1]

    @classmethod
    def sources(cls) -> dict[str, RemoteFile]:
        """One archive for all files of a version."""
        return {name: version.archive for version in (cls.pickles, cls.binary) for name in version.files}

    @classmethod
    def get(cls) -> None:
        """Download what is missing or damaged, and check it: the pickles, or the binary version.

        An archive that was copied here by hand is used first, otherwise the version with more files present. If the
        first archive cannot be obtained, the other one is tried.

        Raises:
            DataError: If neither can be obtained; the message says what to do.
        """
        nearest, statuses = cls._nearest()
        if all(status.state == 'whole' for status in statuses):
            return
        first, second = sorted(
            (nearest, cls.binary if nearest is cls.pickles else cls.pickles),
            key=lambda version: not (data_root() / version.archive.name).is_file(),
        )
        try:
            complete(first.check, cls.sources(), data_root())
        except DownloadError as problem:
            try:
                complete(second.check, cls.sources(), data_root())
            except DownloadError as other_problem:
                raise DownloadError(f'{problem}. The same images in another form: {other_problem}') from problem
            say(f'{problem.__cause__}; used {second.archive.name} instead, which holds the same images')


def _images(version: Version, files: Mapping[str, str]) -> np.ndarray:
    """All pixels of some files, uint8 ``[N, 32, 32, 3]``."""
    rows = np.concatenate([version.images(file) for file in files])
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _present(statuses: list[FileStatus]) -> tuple[int, int]:
    """Number of whole files, and of files that exist."""
    states = [status.state for status in statuses]
    return states.count('whole'), len(states) - states.count('missing')


@DATASETS.register_module()
class CIFAR10LT(_CIFARLT):
    """10 classes of 32x32 colour images, at most 5,000 each to train on; 10,000 balanced test images."""

    __doc__ = f'{__doc__}\n\n{_CIFARLT.__doc__}'
    title = 'CIFAR-10'
    benchmark = 'cifar10_lt'
    class_names = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
    pickles = Pickles(
        archive=RemoteFile(f'{PUBLISHED}/cifar-10-python.tar.gz', 'c58f30108f718f92721af3b95e74349a', 170_498_071),
        folder='cifar-10-batches-py',
        train={
            'data_batch_1': 'c99cafc152244af753f735de768cd75f',
            'data_batch_2': 'd4bba439e000b95fd0a9bffe97cbabec',
            'data_batch_3': '54ebc095f3ab1f0389bbae665268c751',
            'data_batch_4': '634d18415352ddfa80567beed471001a',
            'data_batch_5': '482c414d41f54cd18b22e5b47cb7c3cb',
        },
        test={'test_batch': '40351d587109b95175f43aff81a1287e'},
        meta={'batches.meta': '5ff9c542aee3614f3951f8cda6e48888'},
        label_key='labels',
    )
    binary = Binary(
        archive=RemoteFile(f'{PUBLISHED}/cifar-10-binary.tar.gz', 'c32a1d4ab5d03f1284b67883e8d87530', 170_052_171),
        folder='cifar-10-batches-bin',
        train={
            'data_batch_1.bin': '5dd7e06a14cb22eb9f671a540d1b7c25',
            'data_batch_2.bin': '5ea93a67294ea407fff1d09f752e9692',
            'data_batch_3.bin': '942cd6a4bcdd0dd3c604fbe906cb4421',
            'data_batch_4.bin': 'ae636b3ba5c66a11e91e8cb52e771fcb',
            'data_batch_5.bin': '53f37980c15c3d472c316c40844f3f0d',
        },
        test={'test_batch.bin': '803d5f7f4d78ea53de84dbe85f74fb6d'},
        label_bytes=1,
    )


@DATASETS.register_module()
class CIFAR100LT(_CIFARLT):
    """100 classes of 32x32 colour images, at most 500 each to train on; 10,000 balanced test images.

    The md5 of the two binary files come from the only list that was found, rai-project/dldataset@6dfb67e
    (vision/cifar100.go). They have not been compared with the files; those that the project lists for CIFAR-10 are
    right.
    """

    __doc__ = f'{__doc__}\n\n{_CIFARLT.__doc__}'
    title = 'CIFAR-100'
    benchmark = 'cifar100_lt'
    class_names = (
        'apple', 'aquarium_fish', 'baby', 'bear', 'beaver', 'bed', 'bee', 'beetle', 'bicycle', 'bottle', 'bowl', 'boy',
        'bridge', 'bus', 'butterfly', 'camel', 'can', 'castle', 'caterpillar', 'cattle', 'chair', 'chimpanzee', 'clock',
        'cloud', 'cockroach', 'couch', 'crab', 'crocodile', 'cup', 'dinosaur', 'dolphin', 'elephant', 'flatfish',
        'forest', 'fox', 'girl', 'hamster', 'house', 'kangaroo', 'keyboard', 'lamp', 'lawn_mower', 'leopard', 'lion',
        'lizard', 'lobster', 'man', 'maple_tree', 'motorcycle', 'mountain', 'mouse', 'mushroom', 'oak_tree', 'orange',
        'orchid', 'otter', 'palm_tree', 'pear', 'pickup_truck', 'pine_tree', 'plain', 'plate', 'poppy', 'porcupine',
        'possum', 'rabbit', 'raccoon', 'ray', 'road', 'rocket', 'rose', 'sea', 'seal', 'shark', 'shrew', 'skunk',
        'skyscraper', 'snail', 'snake', 'spider', 'squirrel', 'streetcar', 'sunflower', 'sweet_pepper', 'table', 'tank',
        'telephone', 'television', 'tiger', 'tractor', 'train', 'trout', 'tulip', 'turtle', 'wardrobe', 'whale',
        'willow_tree', 'wolf', 'woman', 'worm',
    )  # fmt: skip
    pickles = Pickles(
        archive=RemoteFile(f'{PUBLISHED}/cifar-100-python.tar.gz', 'eb9058c3a382ffc7106e4002c42a8d85', 169_001_437),
        folder='cifar-100-python',
        train={'train': '16019d7e3df5f24257cddd939b257f8d'},
        test={'test': 'f0ef6b0ae62326f3e7ffdfab6717acfc'},
        meta={'meta': '7973b15100ade9c7d40fb424638fde48'},
        label_key='fine_labels',
    )
    binary = Binary(
        archive=RemoteFile(f'{PUBLISHED}/cifar-100-binary.tar.gz', '03b5dce01913d631647c71ecec9e9cb8', 168_513_733),
        folder='cifar-100-binary',
        train={'train.bin': '6172c7755cfe09b2fe270c85cebc1b15'},
        test={'test.bin': '4499cfba6c016c1be1438163640a0898'},
        label_bytes=2,
    )

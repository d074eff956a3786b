"""CIFAR-10-LT and CIFAR-100-LT, from the official pickles."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ltbench.data.base import FileStatus, LongTailData, Split, data_root
from ltbench.data.cache import cached_array
from ltbench.data.download import RemoteFile
from ltbench.data.profiles import class_counts, select
from ltbench.errors import DataError
from ltbench.registry import DATASETS


class _CIFARLT(LongTailData):
    """What the two have in common.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
    https://arxiv.org/abs/1906.07413: counts by truncation, images by one legacy ``RandomState(0)``, classes ascending,
    the first of each shuffled class; kaidic/LDAM-DRW@2536330. Subsets of different imbalance nest.

    Args:
        imbalance_factor: Largest over smallest class before truncation; 10, 20, 50, 100 and 200 are published.
        profile: ``'exp'`` or ``'step'``.
        split_seed: Chooses the images; 0 as published.

    Raises:
        DataError: If a file is missing or not the published one.
    """

    # of the LDAM lineage, for both data sets; the true pixel deviation of CIFAR-10 is (0.2470, 0.2435, 0.2616)
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)
    archive: ClassVar[RemoteFile]
    folder: ClassVar[str]  # its contents
    benchmark: ClassVar[str]
    train_files: ClassVar[dict[str, str]]  # name -> md5
    test_files: ClassVar[dict[str, str]]
    meta_file: ClassVar[tuple[str, str]]
    label_key: ClassVar[str]
    names_key: ClassVar[str]

    def __init__(self, imbalance_factor: float = 100, profile: str = 'exp', split_seed: int = 0) -> None:
        for status in self.check():
            if status.state != 'whole':
                raise DataError(f'{status.detail}; run `ltbench data get {self.benchmark}`')
        self.class_names = tuple(self._read(self.meta_file[0])[self.names_key])
        train, self.test = self._split('train', self.train_files), self._split('test', self.test_files)
        n_max = int(np.bincount(train.labels).max())
        counts = class_counts(profile, n_max, imbalance_factor, self.num_classes)
        self.train = train.take(select(train.labels, counts, split_seed))

    def _split(self, name: str, files: dict[str, str]) -> Split:
        source = data_root() / self.folder
        images = cached_array(source, name, [source / file for file in files], lambda: self._images(files))
        labels = np.concatenate([self._read(file)[self.label_key] for file in files])
        return Split(images, labels.astype(np.int64))

    def _images(self, files: dict[str, str]) -> np.ndarray:
        rows = np.concatenate([self._read(file)['data'] for file in files])
        return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))

    def _read(self, file: str) -> dict[str, Any]:
        with (data_root() / self.folder / file).open('rb') as opened:
            return pickle.load(opened, encoding='latin1')

    @classmethod
    def check(cls) -> list[FileStatus]:
        """Compare every official file with its published md5."""
        found = []
        for name, md5 in {**cls.train_files, **cls.test_files, cls.meta_file[0]: cls.meta_file[1]}.items():
            path = data_root() / cls.folder / name
            if not path.is_file():
                found.append(FileStatus(name, 'missing', f'{cls.title}: {path} is missing'))
                continue
            actual = _md5(path)
            whole = actual == md5
            detail = str(path) if whole else f'{path} is damaged: md5 is {actual}, expected {md5}'
            found.append(FileStatus(name, 'whole' if whole else 'damaged', detail))
        return found

    @classmethod
    def sources(cls) -> dict[str, RemoteFile]:
        """One archive for all."""
        return dict.fromkeys([*cls.train_files, *cls.test_files, cls.meta_file[0]], cls.archive)


def _md5(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'md5').hexdigest()


@DATASETS.register_module()
class CIFAR10LT(_CIFARLT):
    """10 classes of 32x32 colour images, at most 5,000 each to train on; 10,000 balanced test images."""

    __doc__ = f'{__doc__}\n\n{_CIFARLT.__doc__}'
    title = 'CIFAR-10'
    benchmark = 'cifar10_lt'
    archive = RemoteFile(
        'https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz', 'c58f30108f718f92721af3b95e74349a', 170_498_071
    )
    folder = 'cifar-10-batches-py'
    train_files = {
        'data_batch_1': 'c99cafc152244af753f735de768cd75f',
        'data_batch_2': 'd4bba439e000b95fd0a9bffe97cbabec',
        'data_batch_3': '54ebc095f3ab1f0389bbae665268c751',
        'data_batch_4': '634d18415352ddfa80567beed471001a',
        'data_batch_5': '482c414d41f54cd18b22e5b47cb7c3cb',
    }
    test_files = {'test_batch': '40351d587109b95175f43aff81a1287e'}
    meta_file = ('batches.meta', '5ff9c542aee3614f3951f8cda6e48888')
    label_key = 'labels'
    names_key = 'label_names'


@DATASETS.register_module()
class CIFAR100LT(_CIFARLT):
    """100 classes of 32x32 colour images, at most 500 each to train on; 10,000 balanced test images."""

    __doc__ = f'{__doc__}\n\n{_CIFARLT.__doc__}'
    title = 'CIFAR-100'
    benchmark = 'cifar100_lt'
    archive = RemoteFile(
        'https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz', 'eb9058c3a382ffc7106e4002c42a8d85', 169_001_437
    )
    folder = 'cifar-100-python'
    train_files = {'train': '16019d7e3df5f24257cddd939b257f8d'}
    test_files = {'test': 'f0ef6b0ae62326f3e7ffdfab6717acfc'}
    meta_file = ('meta', '7973b15100ade9c7d40fb424638fde48')
    label_key = 'fine_labels'
    names_key = 'fine_label_names'

"""fashion_mnist_lt: Fashion-MNIST with a long tail, padded to 32x32."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.data.base import FileStatus, LongTailData, Size, Split, data_root
from ltbench.data.download import RemoteFile
from ltbench.data.profiles import Count, Factor, Seed, class_counts, select
from ltbench.errors import DataError
from ltbench.registry import DATASETS

# md5 of the raw files: the compressed ones differ between distributors
MD5 = {
    'train-images-idx3-ubyte': 'f4a8712d7a061bf5bd6d2ca38dc4d50a',
    'train-labels-idx1-ubyte': '9018921c3c673c538a1fc5bad174d6f9',
    't10k-images-idx3-ubyte': '8181f5470baa50b63fa0f6fddb340f0a',
    't10k-labels-idx1-ubyte': '15d484375f8d13e6eb1aabb0c3f46965',
}
MIRROR = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com'
RAW_FOLDER = 'FashionMNIST/raw'
DEBIAN_FOLDER = Path('/usr/share/datasets/fashion-mnist')
MEND = 'run `ltbench data get fashion_mnist_lt` (or `apt-get install dataset-fashion-mnist` on Debian)'


@DATASETS.register_module()
class FashionMNISTLT(LongTailData):
    """10 classes of 32x32 grey images (28x28, zero-padded by 2): at most 6,000 a class to train on, 1,000 to test.

    Xiao et al., "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017,
    https://arxiv.org/abs/1708.07747; MIT licence.

    Args:
        imbalance_factor: Largest over smallest class.
        profile: ``'exp'`` or ``'step'``.
        n_max: Training images of class 0, at most 6000.
        split_seed: Chooses the images.

    Raises:
        DataError: If a file is missing or its contents are not the published ones.
    """

    title = 'Fashion-MNIST'
    mean = (0.2190,)
    std = (0.3318,)
    class_names = (
        'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
    )  # fmt: skip

    def __init__(
        self, imbalance_factor: Factor = 100, profile: str = 'exp', n_max: Count = 6000, split_seed: Seed = 0
    ) -> None:
        train = Split(_images('train-images-idx3-ubyte'), _labels('train-labels-idx1-ubyte'))
        counts = class_counts(profile, n_max, imbalance_factor, self.num_classes)
        self.train = train.take(select(train.labels, counts, split_seed))
        self.files = [_read(name)[0] for name in MD5]
        self.test = Split(_images('t10k-images-idx3-ubyte'), _labels('t10k-labels-idx1-ubyte'))

    @classmethod
    def published_size(
        cls, imbalance_factor: float = 100, profile: str = 'exp', n_max: int = 6000, **options: Any
    ) -> Size:
        """Of the 60,000 training images those that the profile keeps, and all test images."""
        counts = class_counts(profile, n_max, imbalance_factor, len(cls.class_names))
        return Size(len(counts), sum(counts), 10_000, 1, 32)

    @classmethod
    def check(cls) -> list[FileStatus]:
        """Find each file and compare its contents with the published checksum."""
        found = []
        for name in MD5:
            try:
                path, _ = _read(name)
                found.append(FileStatus(name, 'whole', str(path)))
            except DataError as error:
                found.append(FileStatus(name, 'missing' if _find(name) is None else 'damaged', str(error)))
        return found

    @classmethod
    def sources(cls) -> dict[str, RemoteFile]:
        """One compressed file each."""
        return {
            name: RemoteFile(f'{MIRROR}/{name}.gz', md5, folder=RAW_FOLDER, md5_of_contents=True)
            for name, md5 in MD5.items()
        }


def _raw_folder() -> Path:
    return data_root() / RAW_FOLDER


def _find(name: str) -> Path | None:
    candidates = (_raw_folder() / name, _raw_folder() / f'{name}.gz', DEBIAN_FOLDER / f'{name}.gz')
    return next((path for path in candidates if path.is_file()), None)


@cache
def _read(name: str) -> tuple[Path, bytes]:
    path = _find(name)
    if path is None:
        raise DataError(f'Fashion-MNIST: {name} is neither in {_raw_folder()} nor in {DEBIAN_FOLDER}; {MEND}')
    try:
        contents = path.read_bytes()
        if path.suffix == '.gz':
            contents = gzip.decompress(contents)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} cannot be read ({error}); delete it and {MEND}') from error
    md5 = hashlib.md5(contents).hexdigest()
    if md5 != MD5[name]:
        raise DataError(
            f'{path} is damaged: md5 of its raw contents is {md5}, expected {MD5[name]}; delete it and {MEND}'
        )
    return path, contents


def _images(name: str) -> np.ndarray:
    images = np.frombuffer(_read(name)[1], np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))


def _labels(name: str) -> np.ndarray:
    return np.frombuffer(_read(name)[1], np.uint8, offset=8).astype(np.int64)

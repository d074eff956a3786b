"""What a data set offers: its splits, its class names, and a fingerprint of its contents."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ltbench.data.download import RemoteFile, complete
from ltbench.data.profiles import select
from ltbench.registry import DATASETS, build


def data_root() -> Path:
    """Where data files are looked for and downloaded to: ``$LTBENCH_DATA``, default ``./data``."""
    return Path(os.environ.get('LTBENCH_DATA', 'data'))


@dataclass(frozen=True)
class Split:
    """One part of a data set, in memory.

    Attributes:
        images: uint8 ``[N, H, W, channels]``.
        labels: int64 ``[N]``.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: np.ndarray) -> Split:
        """The images at ``positions`` (indices or a mask), copied."""
        return Split(self.images[positions], self.labels[positions])


@dataclass(frozen=True)
class FileSplit:
    """One part of a data set whose images are too large to be held in memory.

    Attributes:
        root: Folder that the names are relative to.
        names: Paths as bytes ``[N]``.
        labels: int64 ``[N]``.
    """

    root: Path
    names: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Where one image is."""
        return self.root / self.names[index].decode()

    def take(self, positions: np.ndarray) -> FileSplit:
        """The images at ``positions`` (indices or a mask)."""
        return FileSplit(self.root, self.names[positions], self.labels[positions])


@dataclass(frozen=True)
class FileStatus:
    """Whether one file is there and whole."""

    name: str
    state: str  # 'whole', 'missing' or 'damaged'
    detail: str


class LongTailData:
    """A long-tailed training part and a test part (balanced in the published sets).

    Attributes:
        train: The long-tailed training images.
        validation: Images to choose values on; None where the data set has none.
        test: What is reported on. Never used to choose anything.
        class_names: One name a class.
        mean: Pixel mean a channel, in units of 0..1.
        std: Pixel standard deviation a channel, in units of 0..1.
        notes: What a user should know about how they were read; shown, and kept in every record.
    """

    title: ClassVar[str] = ''
    mean: Sequence[float]
    std: Sequence[float]
    class_names: Sequence[str]
    train: Split | FileSplit
    validation: Split | FileSplit | None = None
    test: Split | FileSplit
    notes: Sequence[str] = ()

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.mean)

    @property
    def class_counts(self) -> list[int]:
        """Training images a class."""
        return np.bincount(self.train.labels, minlength=self.num_classes).tolist()

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of all pixels (of large images: their names) and labels, in order, and of what normalises them."""
        digest = hashlib.sha256(repr([[float(value) for value in values] for values in (self.mean, self.std)]).encode())
        for split in (self.train, self.validation, self.test):
            if split is None:
                continue
            for array in (split.images if isinstance(split, Split) else split.names, split.labels):
                digest.update(repr((array.shape, str(array.dtype))).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @classmethod
    def check(cls) -> list[FileStatus]:
        """State of the files it is read from; empty if it needs none."""
        return []

    @classmethod
    def glance(cls) -> list[FileStatus]:
        """What ``check`` says, without what takes more than a moment."""
        return cls.check()

    @classmethod
    def sources(cls) -> dict[str, RemoteFile]:
        """What each file of ``check`` is unpacked from; empty if nothing can be downloaded."""
        return {}

    @classmethod
    def get(cls) -> None:
        """Download what is missing or damaged, and check it.

        Raises:
            DataError: If something cannot be had; the message says what to do.
        """
        complete(cls.check, cls.sources(), data_root())


def load_data(config: Mapping[str, Any]) -> LongTailData:
    """Build the data set of a benchmark's ``data`` section (a recorded fingerprint in it is ignored).

    With ``holdout``, that share of each class's training images (at least one of two) becomes the validation part.

    Raises:
        DataError: If files are missing or damaged; the message says how to mend it.
    """
    return _load(json.dumps({key: value for key, value in config.items() if key != 'fingerprint'}, sort_keys=True))


@lru_cache(maxsize=8)
def _load(config: str) -> LongTailData:
    arguments = json.loads(config)
    share = arguments.pop('holdout', None)
    if share is None:
        return build(DATASETS, arguments)
    whole = _load(json.dumps(arguments, sort_keys=True))
    data = copy.copy(whole)
    data.fingerprint = whole.fingerprint  # of the source; the share is in the config
    held_out = [max(int(share * count), 1) if count > 1 else 0 for count in whole.class_counts]
    chosen = np.zeros(len(whole.train), dtype=bool)
    chosen[select(whole.train.labels, held_out, split_seed=1)] = True
    data.validation, data.train = whole.train.take(chosen), whole.train.take(~chosen)
    return data

"""What a data set offers: its splits, its class names, and a fingerprint of its contents."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ltbench.data.contents import Contents, contents_of
from ltbench.data.derived import data_root
from ltbench.data.download import FileStatus, RemoteFile, complete
from ltbench.data.profiles import select
from ltbench.registry import DATASETS, build


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
        return self.root / os.fsdecode(self.names[index])

    def take(self, positions: np.ndarray) -> FileSplit:
        """The images at ``positions`` (indices or a mask)."""
        return FileSplit(self.root, self.names[positions], self.labels[positions])


class Size(NamedTuple):
    """Size of a data set.

    Attributes:
        classes: C.
        train: Training images.
        test: Test images.
        channels: Channels of an image.
        side: Height and width of an image in memory, in pixels; None for large images, whose crop the recipe sets.
    """

    classes: int
    train: int
    test: int
    channels: int
    side: int | None


class LongTailData:
    """A long-tailed training part and a test part (balanced in the published sets).

    Attributes:
        train: The long-tailed training images.
        validation: Images for choosing values; None where the data set has none.
        test: Images that results are reported on. Never used to choose anything.
        class_names: One name per class.
        mean: Pixel mean per channel, in units of 0..1.
        std: Pixel standard deviation per channel, in units of 0..1.
        notes: What a user should know about how the images were read; printed, and stored in every record.
        files: The files that the contents depend on; None where their number or names are not known in advance.
    """

    title: ClassVar[str] = ''
    mean: Sequence[float]
    std: Sequence[float]
    class_names: Sequence[str]
    train: Split | FileSplit
    validation: Split | FileSplit | None = None
    test: Split | FileSplit
    notes: Sequence[str] = ()
    files: Sequence[Path] | None = None

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
        """Training images per class."""
        return np.bincount(self.train.labels, minlength=self.num_classes).tolist()

    @cached_property
    def contents(self) -> str:
        """Sha256 of all images and labels of all parts, in order, independent of where they are stored.

        For images in memory it covers the pixels; for image files their names relative to the root, sizes and contents.

        Raises:
            DataError: If an image file is missing or cannot be read.
        """
        splits = [split for split in (self.train, self.validation, self.test) if split is not None]
        of_files = _contents_of_files([split for split in splits if isinstance(split, FileSplit)])
        digest = hashlib.sha256()
        for split in splits:
            if isinstance(split, Split):
                arrays = [split.images, split.labels]
            else:
                found = next(of_files)
                names = np.frombuffer(b'\0'.join(split.names.tolist()), np.uint8)
                arrays = [names, split.labels, found.sizes, found.hashes]
            for array in arrays:
                digest.update(repr((array.shape, str(array.dtype))).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def fingerprint(self) -> str:
        """Sha256 of what a network sees: the contents, and the mean and deviation that normalise the pixels."""
        normalised_by = [[float(value) for value in values] for values in (self.mean, self.std)]
        seen = max((int(split.labels.max()) for split in (self.train, self.test) if len(split)), default=-1) + 1
        more = f' of {self.num_classes} classes' if self.num_classes != seen else ''  # some without an image
        return hashlib.sha256(f'{self.contents} {normalised_by}{more}'.encode()).hexdigest()

    @property
    def size(self) -> Size:
        """Its size."""
        side = self.train.images.shape[1] if isinstance(self.train, Split) else None
        return Size(self.num_classes, len(self.train), len(self.test), self.channels, side)

    @classmethod
    def published_size(cls, **options: Any) -> Size | None:
        """Its size for given arguments, known without its files; None where it depends on them."""
        return None

    @classmethod
    def check(cls) -> list[FileStatus]:
        """State of the files it is read from; empty if it needs none."""
        return []

    @classmethod
    def glance(cls) -> list[FileStatus]:
        """Like ``check``, without anything that takes more than a moment."""
        return cls.check()

    @classmethod
    def sources(cls) -> dict[str, RemoteFile]:
        """The archive of each file of ``check``; empty if nothing can be downloaded."""
        return {}

    @classmethod
    def get(cls) -> None:
        """Download what is missing or damaged, and check it.

        Raises:
            DataError: If a file cannot be obtained; the message says what to do.
        """
        complete(cls.check, cls.sources(), data_root())


def _contents_of_files(splits: Sequence[FileSplit]) -> Iterator[Contents]:
    """The contents of each split, in order; splits with the same root are looked up together."""
    roots = {split.root for split in splits}
    names = {root: [name for s in splits if s.root == root for name in s.names.tolist()] for root in roots}
    found = {root: contents_of(root, names[root]) for root in roots}
    done = dict.fromkeys(roots, 0)
    for split in splits:
        rows = slice(done[split.root], done[split.root] + len(split))
        done[split.root] = rows.stop
        yield Contents(found[split.root].sizes[rows], found[split.root].hashes[rows])


def load_data(config: Mapping[str, Any]) -> LongTailData:
    """Build the data set of a benchmark's ``data`` section (a recorded fingerprint in it is ignored).

    With ``holdout``, that share of each class's training images becomes the validation part: at least one image of a
    class that has two or more.

    Raises:
        DataError: If files are missing or damaged; the message says how to fix it.
    """
    return _load(json.dumps({key: value for key, value in config.items() if key != 'fingerprint'}, sort_keys=True))


def forget_data() -> None:
    """Clear the cache of loaded data sets, so that a command plans with what is on disk now."""
    _load.cache_clear()


@lru_cache(maxsize=8)
def _load(config: str) -> LongTailData:
    arguments = json.loads(config)
    share = arguments.pop('holdout', None)
    if share is None:
        return build(DATASETS, arguments)
    whole = _load(json.dumps(arguments, sort_keys=True))
    data = copy.copy(whole)
    data.contents = whole.contents  # of the source; the share is in the config
    held_out = [max(int(share * count), 1) if count > 1 else 0 for count in whole.class_counts]
    chosen = np.zeros(len(whole.train), dtype=bool)
    chosen[select(whole.train.labels, held_out, split_seed=1)] = True
    data.validation, data.train = whole.train.take(chosen), whole.train.take(~chosen)
    return data

"""folder_lt: any folder of class folders as a long-tailed benchmark of small images."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np

from ltbench.console import printable
from ltbench.data.base import LongTailData, Split, data_root
from ltbench.data.cache import cached_array
from ltbench.data.class_folders import ClassFolders, read_parts, some
from ltbench.data.images import ImageError, decode, decode_all, decoder, mean_and_std
from ltbench.data.profiles import (
    LARGEST_SEED,
    Count,
    Factor,
    Seed,
    check_profile,
    check_whole,
    class_counts,
    largest_fit,
    select,
)
from ltbench.errors import DataError, UsageError, unknown
from ltbench.places import with_home
from ltbench.registry import DATASETS

PROFILES = ('natural', 'exp', 'step')
NAMED = 50  # names of left-out images in a note
LARGEST = 4096  # largest image size in pixels: all images are held in memory


@DATASETS.register_module()
class FolderLT(LongTailData):
    """``ROOT/train/CLASS/*`` and ``ROOT/test/CLASS/*`` (or ``val``), or ``ROOT/CLASS/*``; decoded once.

    Classes are ordered by their number of training images before any re-sampling, the largest first (the head), and
    classes of equal size by name. Images in subfolders count for their class. :func:`ltbench.data.images.decode` says
    how files are read. Pixels are normalised by the mean and standard deviation of the training part.

    Without a test folder, test images are held out of each class, chosen by ``split_seed``: ``test_per_class`` images,
    but at most a third of the class, and at least one if the class has two or more. A class with one image is trained
    on but not tested.

    ``notes`` report what was held out, which files in the folder are not used, which images were left out, and how many
    test images are also training images.

    Args:
        root: The folder, relative to the working directory or to the data folder (``$LTBENCH_DATA``).
        image_size: Height and width; images of another size are scaled to it (bilinear, antialiased).
        imbalance_factor: Re-sample the classes to this ratio of largest to smallest; None keeps the folder's counts.
        profile: ``'natural'`` keeps the folder's counts; with an imbalance factor ``'exp'`` (``'natural'`` then means
            the same) or ``'step'``.
        n_max: Training images of the first class, only with an imbalance factor; None is the largest number for which
            all classes have enough images.
        test_per_class: Largest number of images of each class that are held out as test images.
        split_seed: Chooses the images.
        skip_unreadable: Leave out images that cannot be read or decoded, and note it; otherwise they are an error.

    Raises:
        UsageError: If an argument is out of range; before anything is read.
        DataError: If the folder or its classes are not as required, or images cannot be decoded.
    """

    title = 'a folder of images'

    def __init__(
        self,
        root: str,
        image_size: int = 32,
        imbalance_factor: Factor | None = None,
        profile: str = 'natural',
        n_max: Count | None = None,
        test_per_class: Count = 100,
        split_seed: Seed = 0,
        skip_unreadable: bool = False,
    ) -> None:
        check_whole('image_size', image_size, least=1, most=LARGEST)
        check_whole('test_per_class', test_per_class, least=1)
        check_whole('split_seed', split_seed, least=0, most=LARGEST_SEED)
        if not isinstance(skip_unreadable, bool):
            raise UsageError(f'skip_unreadable is True or False, got {skip_unreadable!r}')
        profile = _profile(profile, imbalance_factor, n_max)
        self.image_size, self.skip_unreadable, self.root = image_size, skip_unreadable, find_folder(root)
        parts = read_parts(self.root)
        notes = list(parts.notes)
        images = self._read(parts.train, notes)
        names = list(parts.train.images)
        sizes = np.bincount(images.labels, minlength=len(names))
        if not sizes.all():
            empty = some([name for name, size in zip(names, sizes, strict=True) if not size])
            raise DataError(f'{printable(root)}: classes without a readable image: {empty}; repair or remove them')
        order = np.argsort(-sizes, kind='stable')  # head first
        names, sizes = [names[position] for position in order], sizes[order]
        self.class_names = tuple(map(printable, names))
        images = _relabelled(images, list(parts.train.images), names)
        held_out = np.zeros_like(sizes)
        if parts.test is None:
            held_out = np.minimum(test_per_class, np.maximum(sizes // 3, sizes > 1))
            self.test = images.take(select(images.labels, held_out.tolist(), split_seed))
            notes.append(_held_out_note(self.class_names, sizes, held_out, test_per_class, split_seed))
        else:
            self.test = _relabelled(self._read(parts.test, notes), list(parts.test.images), names)
        if not len(self.test):
            raise DataError(f'{printable(root)}: there is no image to test on')
        counts = self._counts(sizes - held_out, profile, imbalance_factor, n_max)
        self.train = images.take(select(images.labels, counts, split_seed, skip=held_out.tolist()))
        self.mean, self.std = mean_and_std(self.train.images)
        if shared := _in_both(self.train, self.test):
            notes.append(f'{shared:,} of {len(self.test):,} test images are also training images: the same pixels')
        self.notes = tuple(f'folder {printable(self.root.absolute().name)}: {note}' for note in notes)

    def _read(self, part: ClassFolders, notes: list[str]) -> Split:
        """The images of a part; a label is the position of its class folder."""
        paths = part.paths
        labels = np.repeat(np.arange(len(part.images)), [len(images) for images in part.images.values()])
        size = self.image_size
        rows = cached_array(
            part.folder, str(size), paths, lambda: decode_all(paths, size), decoder=decoder(), unreadable_ok=True
        )
        unreadable = part.unreadable + [_reason(paths[number]) for number in np.flatnonzero(~rows['readable'])]
        if unreadable and not self.skip_unreadable:
            raise DataError(
                f'{len(unreadable):,} images or folders cannot be read: {some(unreadable)}; repair or remove them, '
                'or leave them out: -b "folder_lt(..., skip_unreadable=True)"'
            )
        split = Split(rows['image'], labels.astype(np.int64))
        if unreadable:
            notes.append(f'left out, unreadable: {len(unreadable):,} ({some(unreadable, NAMED)})')
            split = split.take(rows['readable'])
        return split

    def _counts(
        self, available: np.ndarray, profile: str, imbalance_factor: float | None, n_max: int | None
    ) -> list[int]:
        """Number of training images of each class, out of those available."""
        if imbalance_factor is None:
            return available.tolist()
        n_max = n_max or largest_fit(profile, imbalance_factor, available.tolist())
        present = f'classes have {available.max():,} to {available.min():,} training images'
        try:
            counts = class_counts(profile, n_max, imbalance_factor, self.num_classes)
        except UsageError as error:
            raise UsageError(f'{error}; {present}: choose a smaller factor, or none to keep them') from error
        for name, wanted, found in zip(self.class_names, counts, available, strict=True):
            if wanted > found:
                raise UsageError(f'n_max {n_max} needs {wanted:,} images of class {name}, which has {found:,}')
        return counts


def _profile(profile: str, imbalance_factor: float | None, n_max: int | None) -> str:
    """The profile to use, checked together with the other arguments."""
    if profile not in PROFILES:
        raise unknown('profile', str(profile), PROFILES)
    if imbalance_factor is not None:
        check_profile(imbalance_factor, n_max)
        return 'exp' if profile == 'natural' else profile
    if profile != 'natural':
        raise UsageError(f'profile {profile} needs an imbalance factor: write imbalance_factor=100')
    if n_max is not None:
        raise UsageError('n_max needs an imbalance_factor; without one all images are used')
    return profile


def find_folder(root: str) -> Path:
    """Path of a folder of images: relative to the working directory, or in the data folder.

    Raises:
        DataError: If it is in neither, its name is not printable, or it is in the home of an unknown user.
    """
    if not isinstance(root, str) or not root:
        raise DataError(f'folder_lt: {root!r} is not a folder; pass one: -b "folder_lt(root=/path/to/images)"')
    if printable(root) != root:  # it is in every record and table
        raise DataError(f'{printable(root)} is not printable; rename the folder, or link it under another name')
    here, there = with_home(root), data_root() / root
    for path in (here, there):
        with suppress(OSError):  # a name that is too long for any file, say
            if path.is_dir():
                return path
    raise DataError(
        f'{printable(root)} is not a folder, neither here nor in the data folder ({printable(there)}); pass one: '
        'root=/path/to/images'
    )


def _relabelled(split: Split, before: list[str], after: list[str]) -> Split:
    """The same images; labels are positions in ``after`` instead of ``before``."""
    ranks = {name: rank for rank, name in enumerate(after)}
    return Split(split.images, np.array([ranks[name] for name in before], dtype=np.int64)[split.labels])


def _in_both(train: Split, test: Split) -> int:
    """How many test images have the pixels of a training image."""
    trained_on = {sha256(image).digest() for image in train.images}
    return sum(sha256(image).digest() in trained_on for image in test.images)


def _reason(path: Path) -> str:
    """Why an image could not be decoded; caches do not store the reason."""
    try:
        decode(path)
    except ImageError as error:
        return f'{printable(path)} ({error.reason})'
    return f'{printable(path)} (it could not be read when it was cached; run touch on it)'


def _held_out_note(
    names: tuple[str, ...], sizes: np.ndarray, held_out: np.ndarray, test_per_class: int, split_seed: int
) -> str:
    note = (
        f'{held_out.sum():,} of {sizes.sum():,} images are held out as test images, chosen by split_seed {split_seed}: '
        f'{test_per_class} of each class, but at most a third of it and at least one if it has two'
    )
    if fewer := int((held_out < test_per_class).sum()):
        note += f'; {fewer:,} of {len(names):,} classes give fewer: {names[-1]} {held_out[-1]} of {sizes[-1]}'
    if alone := [name for name, number in zip(names, held_out, strict=True) if not number]:
        note += f'; classes with one image are not tested: {some(alone)}'
    return note

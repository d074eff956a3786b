"""folder_lt: any folder of class folders as a long-tailed benchmark of small images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ltbench.data.base import LongTailData, Split, data_root
from ltbench.data.cache import cached_array
from ltbench.data.profiles import class_counts, select
from ltbench.errors import DataError, MethodWarning, UsageError
from ltbench.registry import DATASETS

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.tif', '.tiff')
SHOWN = 5  # unreadable images named in an error


@DATASETS.register_module()
class FolderLT(LongTailData):
    """``ROOT/train/CLASS/*`` and ``ROOT/test/CLASS/*``, or ``ROOT/CLASS/*`` split by a seed; decoded once.

    Classes are in alphabetical order, the first one is the head. Pixels are normalised by the training
    part's own mean and standard deviation.

    Args:
        root: The folder, from here or from the data folder (``$LTBENCH_DATA``).
        image_size: Height and width; images of another size are scaled to it (bilinear, antialiased).
        imbalance_factor: Largest over smallest class.
        profile: ``'exp'`` or ``'step'``.
        n_max: Training images of the first class; None is as many as the smallest class has, so that all profiles fit.
        test_per_class: Where there is no ``test`` folder, images of each class that are held out to test on.
        split_seed: Chooses the images.
        skip_unreadable: Leave out images that cannot be decoded, with a warning, where it is an error otherwise.

    Raises:
        DataError: If the folder or its classes are not as they should be, or images cannot be decoded.
    """

    title = 'a folder of images'

    def __init__(
        self,
        root: str,
        image_size: int = 32,
        imbalance_factor: float = 100,
        profile: str = 'exp',
        n_max: int | None = None,
        test_per_class: int = 100,
        split_seed: int = 0,
        skip_unreadable: bool = False,
    ) -> None:
        self.root, self.image_size, self.skip_unreadable = Path(root), image_size, skip_unreadable
        if root and not self.root.is_dir() and (data_root() / root).is_dir():
            self.root = data_root() / root
        if not root or not self.root.is_dir():
            raise DataError(f'folder_lt: {root!r} is no folder; name one: -b "folder_lt(root=/path/to/images)"')
        split = (self.root / 'train').is_dir()
        everything, self.class_names = self._read(self.root / 'train' if split else self.root)
        held_out = 0 if split else test_per_class
        smallest = int(np.bincount(everything.labels).min())
        if n_max is None and smallest <= held_out:
            raise UsageError(
                f'{root}: the smallest class has {smallest} images, {held_out} of each are held out to test'
            )
        counts = class_counts(profile, n_max or smallest - held_out, imbalance_factor, self.num_classes)
        self.train = everything.take(select(everything.labels, counts, split_seed, skip=held_out))
        if split:
            self.test, names = self._read(self.root / 'test')
            if names != self.class_names:
                odd = sorted(set(names) ^ set(self.class_names))
                raise DataError(f'{root}: train and test have different classes: {", ".join(odd[:SHOWN])}')
        else:
            self.test = everything.take(select(everything.labels, [held_out] * self.num_classes, split_seed))
        self.mean, self.std = mean_and_std(self.train.images)

    def _read(self, folder: Path) -> tuple[Split, tuple[str, ...]]:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))
        files = [[p for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES] for path in classes]
        if len(classes) < 2 or not all(files):
            empty = [path.name for path, mine in zip(classes, files, strict=True) if not mine]
            raise DataError(f'{folder}: needs two or more class folders with images in each; empty: {empty or "all"}')
        paths = [path for mine in files for path in mine]
        labels = np.repeat(np.arange(len(classes)), [len(mine) for mine in files])
        name = f'{self.image_size}{"-skip" if self.skip_unreadable else ""}'
        rows = cached_array(folder, name, paths, lambda: self._decode(paths))
        split = Split(rows['image'], labels.astype(np.int64))
        if not rows['readable'].all():
            unreadable = [str(path) for path, good in zip(paths, rows['readable'], strict=True) if not good]
            text = f'left out {len(unreadable)} unreadable images: {_some(unreadable)}'
            warnings.warn(text, MethodWarning, stacklevel=2)
            split = split.take(rows['readable'])
        return split, tuple(path.name for path in classes)

    def _decode(self, paths: Sequence[Path]) -> np.ndarray:
        shape = (self.image_size, self.image_size, 3)
        rows = np.zeros(len(paths), dtype=[('image', np.uint8, shape), ('readable', bool)])
        unreadable: list[str] = []

        def decode(number: int) -> None:
            try:
                with Image.open(paths[number]) as image:
                    colour = image.convert('RGB')
                if colour.size != (self.image_size, self.image_size):
                    colour = colour.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
                rows['image'][number] = np.asarray(colour)
                rows['readable'][number] = True
            except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
                unreadable.append(f'{paths[number]} ({error})')

        with ThreadPoolExecutor() as pool:
            list(pool.map(decode, range(len(paths)), chunksize=256))
        if unreadable and not self.skip_unreadable:
            raise DataError(
                f'{len(unreadable)} images cannot be decoded: {_some(sorted(unreadable))}; mend or remove them, or '
                'leave them out with skip_unreadable=True'
            )
        return rows


def mean_and_std(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Pixel mean and standard deviation of uint8 images ``[N, H, W, channels]`` by channel, in units of 0..1."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        # counting the 256 values, in parts, takes next to no memory; the pixels as floats take eight times the images
        parts = np.array_split(images[..., channel], max(len(images) // 1000, 1))
        counts = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
        shares = counts / counts.sum()
        mean = float(shares @ values)
        means.append(round(mean, 4))
        deviations.append(round(float(np.sqrt(shares @ (values - mean) ** 2)), 4))
    return tuple(means), tuple(deviations)


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:SHOWN]) + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')

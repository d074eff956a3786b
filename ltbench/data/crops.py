"""Views of prepared images: random resized crops, drawn for whole batches and scaled without being decoded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltbench.data.base import FileSplit, LongTailData
from ltbench.data.large import FileDataset, scaled
from ltbench.data.prepared import prepare

TRIES = 10
NUMBERS = 2 * TRIES + 3  # random numbers for a crop and its flip
LEAST, SHAPE = 0.08, math.log(4 / 3)
"""Smallest share of the area; log of the largest ratio of width to height, which lies between 3/4 and 4/3."""


class PreparedImages(FileDataset):
    """Images of a :class:`FileSplit` that are decoded and scaled once, see :func:`~ltbench.data.prepared.prepare`.

    Crops and flips have torchvision's distribution, from separate draws. Test images are only center-cropped, because
    their shorter side is already that of ``resize``.

    Args:
        split: Paths and labels.
        augmentation: See :class:`FileDataset`.
        training: Whether to augment.
        views: See :class:`FileDataset`.
    """

    def __init__(
        self,
        split: FileSplit,
        augmentation: Mapping[str, Any],
        training: bool,
        views: Sequence[str | Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(split, augmentation, training, views)
        self.images = prepare(split, augmentation['prepared'])

    def _views(self, items: list[tuple[int, int]]) -> list[Tensor]:
        if not self.training:
            (view,) = self.views
            return [torch.stack([view.centre(self.images[index]) for index, _ in items])]
        boxes, flips = self.draw(items)
        seen = [torch.empty(len(items), view.side, view.side, 3, dtype=torch.uint8) for view in self.views]
        for row, (index, seed) in enumerate(items):
            torch.default_generator.manual_seed(seed)
            for number, view in enumerate(self.views):
                top, left, height, width = boxes[row][number]
                cropped = scaled(self.images.lines(index, top, height), (0, left, height, width), view.side)
                seen[number][row] = view.coloured(cropped.flip(1) if flips[row][number] else cropped)
        return seen

    def draw(self, items: Sequence[tuple[int, int]]) -> tuple[list[list[list[int]]], list[list[bool]]]:
        """Boxes ``[B, views, 4]`` (top, left, height, width) and flips ``[B, views]`` of a batch."""
        indices, seeds = zip(*items, strict=True)
        numbers = uniform(np.array(seeds, dtype=np.uint64), len(self.views) * NUMBERS)
        sizes = np.repeat(self.images.sizes[list(indices)], len(self.views), axis=0)
        boxes, flips = random_boxes(sizes, numbers.reshape(-1, NUMBERS)), numbers.reshape(-1, NUMBERS)[:, -1] < 0.5
        may_flip = np.array([view.flip is not None for view in self.views])
        shape = len(items), len(self.views)
        return boxes.reshape(*shape, 4).tolist(), (flips.reshape(shape) & may_flip).tolist()


def large_dataset(
    split: FileSplit,
    augmentation: Mapping[str, Any],
    training: bool,
    views: Sequence[str | Mapping[str, Any]] | None = None,
) -> FileDataset:
    """Large images, see :class:`~ltbench.data.large.FileDataset`: prepared if the augmentation says so, else decoded.

    Test images are decoded if the prepared ones have another shorter side than ``resize``.
    """
    side = augmentation.get('prepared')
    is_prepared = side is not None and (training or side == augmentation['resize'])
    return (PreparedImages if is_prepared else FileDataset)(split, augmentation, training, views)


def prepare_all(data: LongTailData, augmentation: Mapping[str, Any]) -> None:
    """Prepare all large images that a run will see, if it asks for that, so that a full disk stops it at the start."""
    for split in (data.train, data.validation, data.test):
        if isinstance(split, FileSplit):
            large_dataset(split, augmentation, training=split is data.train)


def uniform(seeds: np.ndarray, count: int) -> np.ndarray:
    """Numbers ``[B, count]`` in [0, 1) that depend only on each seed, uint64 ``[B]``.

    SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 13.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mixed(_mixed(seeds)[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def random_boxes(sizes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Tops, lefts, heights and widths ``[B, 4]`` of crops as torchvision's ``RandomResizedCrop`` has them.

    The first of ten areas and shapes that fits; if none does, the largest central part whose shape is within the
    bounds.

    Args:
        sizes: Heights and widths ``[B, 2]``.
        numbers: Uniform in [0, 1), ``[B, NUMBERS]``.
    """
    areas = sizes.prod(axis=1)[:, None] * (LEAST + (1 - LEAST) * numbers[:, :TRIES])
    shapes = np.exp(SHAPE * (2 * numbers[:, TRIES : 2 * TRIES] - 1))
    tried = np.rint(np.sqrt(np.stack([areas / shapes, areas * shapes], axis=2)))
    fits = ((tried > 0) & (tried <= sizes[:, None])).all(axis=2)
    largest = np.minimum(sizes, np.rint(sizes[:, ::-1] * 4 / 3))
    some = fits.any(axis=1)[:, None]
    chosen = np.where(some, tried[np.arange(len(sizes)), fits.argmax(axis=1)], largest)
    room = sizes - chosen
    corners = np.where(some, np.floor(numbers[:, 2 * TRIES : -1] * (room + 1)), room // 2)
    return np.concatenate([corners, chosen], axis=1).astype(np.int64)

"""Large images: decoded and cropped in worker processes, each with its own random draws."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.filesize import decimal
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from ltbench.console import printable
from ltbench.data.base import FileSplit
from ltbench.data.images import decode, decode_jpeg
from ltbench.data.samplers import EpochSampler, Paired
from ltbench.data.views import resolve
from ltbench.errors import DataError, unknown
from ltbench.recipe import LargeImages
from ltbench.registry import POLICIES, build
from ltbench.seeding import derive_seed

AUGMENTATIONS = LargeImages.__struct_fields__
SHARED_MEMORY = Path('/dev/shm')
BATCHES_A_WORKER = 3  # two that wait to be used (torch's default), and one being built
STALL_SECONDS = 600
"""Time without a batch after which a stage fails, for example because the disk no longer responds."""
LOGGER = logging.getLogger('ltbench')
PARTNER = 0x5DEECE66D  # gives a partner other draws than its image


class FileDataset(Dataset[Any]):
    """Images of a :class:`FileSplit`, decoded when asked for.

    Args:
        split: Paths and labels.
        augmentation: ``random_resized_crop`` (pixels), ``flip``, ``color_jitter`` (brightness, contrast, saturation,
            hue) and ``policies`` (configs of registered parts, in order) while training; ``resize`` (shorter side) and
            ``center_crop`` otherwise. ``prepared`` (shorter side) trains on images that are decoded and scaled once,
            see :class:`~ltbench.data.crops.PreparedImages`.
        training: Whether to augment.
        views: Of each image while training, see :func:`~ltbench.data.views.resolve`; None is the augmentation alone.

    Raises:
        UsageError: For an unknown augmentation.
    """

    metainfo: Mapping[str, Any] = {}

    def __init__(
        self,
        split: FileSplit,
        augmentation: Mapping[str, Any],
        training: bool,
        views: Sequence[str | Mapping[str, Any]] | None = None,
    ) -> None:
        self.split, self.training = split, training
        wanted = views or ('plain',) if training else ('plain',)
        self.views = [LargeView(resolve(view, augmentation), training) for view in wanted]
        self.image_bytes = sum(3 * view.side * view.side for view in self.views)

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, items: list[tuple[Any, int]]) -> dict[str, Any]:
        """A batch: ``images`` uint8 ``[B, H, W, 3]`` and ``labels [B]``; further views are ``others``.

        For items whose index is a pair also ``partners``, the views of the second, and ``partner_labels``.

        Args:
            items: Index (or a pair of them) and seed of each; the seed alone decides its draws.

        Raises:
            DataError: If a file is missing or cannot be decoded; the message names it.
        """
        if not isinstance(items[0][0], tuple):
            return self._batch(items)
        main = self._batch([(pair[0], seed) for pair, seed in items])
        partners = self._batch([(pair[1], seed ^ PARTNER) for pair, seed in items])
        views = [partners['images'], *partners.get('others', ())]
        return {**main, 'partners': views, 'partner_labels': partners['labels']}

    def _batch(self, items: list[tuple[int, int]]) -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):
            first, *others = self._views(items)
        batch = {'images': first, 'labels': torch.from_numpy(self.split.labels[[index for index, _ in items]])}
        return {**batch, 'others': others} if others else batch

    def _views(self, items: list[tuple[int, int]]) -> list[Tensor]:
        """Each view of a batch, uint8 ``[B, H, W, 3]``."""
        seen = []
        for index, seed in items:
            path = self.split.path(index)
            image: Image.Image | Tensor
            if self.training:
                pixels = decode_jpeg(path)
                image = decode(path) if pixels is None else pixels
            else:  # test images are scaled whole by Pillow, exact to the bit
                image = decode(path)
                check_shape(path, image, self.views[0].shorter)
            torch.default_generator.manual_seed(seed)
            seen.append([view(image) for view in self.views])
        return [torch.stack(view) for view in zip(*seen, strict=True)]


class LargeView:
    """One view of large images: torchvision's transforms in their order, with their draws.

    Args:
        augmentation: See :class:`FileDataset`.
        training: Whether to augment.

    Raises:
        UsageError: For an unknown augmentation.
    """

    def __init__(self, augmentation: Mapping[str, Any], training: bool) -> None:
        for key in augmentation:
            if key not in AUGMENTATIONS:
                raise unknown('augmentation of large images', key, AUGMENTATIONS)
        from torchvision.transforms import v2  # imports all of torchvision, which small images never need

        self.training = training
        self.side = augmentation['random_resized_crop' if training else 'center_crop']
        if not training:
            self.shorter = augmentation['resize']
            self.resize, self.crop = v2.Resize(self.shorter, antialias=True), v2.CenterCrop(self.side)
            return
        self.crop = v2.RandomResizedCrop(self.side, antialias=True)
        self.flip = v2.RandomHorizontalFlip() if augmentation.get('flip') else None
        self.jitter = v2.ColorJitter(*augmentation['color_jitter']) if augmentation.get('color_jitter') else None
        self.policies = [build(POLICIES, config).on_single() for config in augmentation.get('policies') or ()]

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """uint8 ``[side, side, 3]`` of an image, or of pixels ``[H, W, 3]``; draws from torch's generator."""
        if not self.training:
            return torch.from_numpy(np.array(self.crop(self.resize(image))))
        if isinstance(image, Tensor):
            drawn = self.crop.make_params([image.permute(2, 0, 1)])
            seen = scaled(image, [drawn[name] for name in ('top', 'left', 'height', 'width')], self.side)
            seen = self.flip(seen.permute(2, 0, 1)).permute(1, 2, 0) if self.flip else seen
            return self.coloured(seen)
        seen = self.crop(image)
        return self.coloured(torch.from_numpy(np.array(self.flip(seen) if self.flip else seen)))

    def centre(self, pixels: Tensor) -> Tensor:
        """The center crop of pixels ``[H, W, 3]`` that already have the right shorter side."""
        return self.crop(pixels.permute(2, 0, 1)).permute(1, 2, 0)

    def coloured(self, pixels: Tensor) -> Tensor:
        """Colour jitter and policies on a flipped crop ``[side, side, 3]``; draws from torch's generator."""
        steps = [*([self.jitter] if self.jitter else []), *self.policies]
        if not steps:
            return pixels
        seen = Image.fromarray(pixels.contiguous().numpy())
        for step in steps:
            seen = step(seen)
        return torch.from_numpy(np.array(seen))


def check_shape(path: Path, image: Image.Image, shorter: int) -> None:
    """Check that an image is not too long for scaling its shorter side to ``shorter`` pixels.

    Raises:
        DataError: If it would then have more than ``PIL.Image.MAX_IMAGE_PIXELS``; the message names it.
    """
    limit, pixels = Image.MAX_IMAGE_PIXELS, shorter * shorter * max(image.size) // min(image.size)
    if limit is not None and pixels > limit:
        raise DataError(
            f'{printable(path)} is too long: {image.width:,} x {image.height:,} pixels, scaled to a shorter side of '
            f'{shorter}, become {pixels // shorter:,} x {shorter}; crop it'
        )


def scaled(pixels: Tensor, box: Sequence[int], side: int) -> Tensor:
    """A part of an image, scaled (bilinear, antialiased): uint8 ``[side, side, 3]``.

    Uses torch's operation, which takes a quarter of the time of Pillow's and has the same definition: at 224 pixels
    0.2 % of the values differ, by 1 of 255.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        box: Top, left, height and width of the part.
        side: Height and width of the result.
    """
    top, left, height, width = box
    part = pixels[None, top : top + height, left : left + width].permute(0, 3, 1, 2)
    image = functional.interpolate(part, (side, side), mode='bilinear', antialias=True)
    return image[0].permute(1, 2, 0)


class SeededSampler(Sampler[tuple[Any, int]]):
    """The indices of another sampler, each with a seed for its augmentation that derives from (seed, epoch, position).

    So the draws do not depend on the number of workers, and a resumed epoch repeats them.
    """

    def __init__(self, sampler: EpochSampler | Paired) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0-based)."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        first = derive_seed(self.sampler.seed, self.sampler.epoch, 'augmentation')
        for position, index in enumerate(self.sampler):
            yield index, (first + position * 0x9E3779B97F4A7C15) % 2**63

    def __len__(self) -> int:
        return len(self.sampler)


class FileLoader(DataLoader[dict[str, Any]]):
    """A data loader that raises a clear error when no batch arrives.

    Raises:
        DataError: While it is iterated, once no process has decoded a batch for ``STALL_SECONDS``.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if 'timed out' not in str(error):
                raise
            raise DataError(
                f'no batch of images has arrived for {STALL_SECONDS:g} s; check that the disk with the images still '
                'responds, then run the same command again'
            ) from error


def file_loader(
    dataset: Any, sampler: SeededSampler | None, batch_size: int, workers: int
) -> DataLoader[dict[str, Any]]:
    """Batches of decoded images, in the sampler's order; without one, in that of the data set."""
    is_paired = sampler is not None and isinstance(sampler.sampler, Paired)
    workers = workers_that_fit(workers, batch_size * dataset.image_bytes * (2 if is_paired else 1))
    context = 'fork' if workers and 'fork' in multiprocessing.get_all_start_methods() else None
    return FileLoader(
        dataset,
        batch_size,
        sampler=sampler if sampler is not None else [(index, 0) for index in range(len(dataset))],
        num_workers=workers,
        persistent_workers=workers > 0 and sampler is not None,
        timeout=STALL_SECONDS if workers else 0,
        collate_fn=as_it_is,
        generator=torch.Generator(),  # for the loader's own draws; ours come from the sampler
        multiprocessing_context=context,
    )


def workers_that_fit(workers: int, batch_bytes: int) -> int:
    """The largest number of workers whose batches fit in shared memory; 0 decodes in this process.

    A worker whose batch does not fit would wait for ever: containers often have 64 MB, less than one batch of 512
    images of 224 x 224 pixels.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return workers
    free = shutil.disk_usage(SHARED_MEMORY).free
    fitting = min(workers, int(free // (BATCHES_A_WORKER * batch_bytes)))
    if fitting < workers:
        LOGGER.warning(
            '%s has %s left, room for the batches of %d of %d decoding processes: %s; give the container more '
            '(docker run --shm-size=8g)',
            SHARED_MEMORY, decimal(free), fitting, workers, 'this process decodes' if not fitting else 'fewer are used',
        )  # fmt: skip
    return fitting


def as_it_is(batch: Any) -> Any:
    """The collate function of data sets that return whole batches."""
    return batch

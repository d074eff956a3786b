"""Batches of images that live in memory: one gather a batch, augmentation on the whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ltbench.data.base import FileSplit, LongTailData, Split
from ltbench.data.files import FileDataset, SeededSampler, as_it_is, file_loader
from ltbench.data.samplers import EpochSampler
from ltbench.errors import UsageError, given
from ltbench.seeding import derive_seed

PREPARED_BYTES = 4 << 20
"""Of images as floats that are prepared at once. On Zen 4, 3 to 8 MB took 17 % less time than single batches of 32x32
images, and 32 MB took as long as those."""


@dataclass(frozen=True)
class Share:
    """Which images of every batch this process works on: each ``size``-th one, from ``rank`` on.

    All processes draw the whole epoch and the augmentation of whole batches alike, and keep what is theirs. So together
    they see what one process would see, and neither repeat nor leave out an image.
    """

    rank: int = 0
    size: int = 1

    def of(self, batch: Any) -> Any:
        """The part of ``batch`` (a list or tensor) for this process.

        Where a batch has fewer images than there are processes, the first image stands in; it must not be counted.
        """
        return batch[self.rank :: self.size] if self.counts(len(batch)) else batch[:1]

    def counts(self, batch_size: int) -> bool:
        """Whether a batch has an image for this process."""
        return self.rank < batch_size


ALONE = Share()


class SharedDataset(Dataset[dict[str, Any]]):
    """A data set of which one process loads its share of every batch; ``whole`` is the size of the whole batch."""

    metainfo: Mapping[str, Any] = {}

    def __init__(self, dataset: Any, share: Share) -> None:
        self.dataset, self.share = dataset, share

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[Any]) -> dict[str, Any]:
        """This process' part of the batch ``indices``."""
        return {**self.dataset.__getitems__(self.share.of(indices)), 'whole': len(indices)}


class ResidentDataset(Dataset[dict[str, Tensor]]):
    """A split as tensors; the data loader asks for a whole batch at once."""

    metainfo: Mapping[str, Any] = {}

    def __init__(self, split: Split) -> None:
        self.shape = split.images.shape[1:]
        self.rows = torch.from_numpy(np.ascontiguousarray(split.images)).view(len(split), -1)
        self.labels = torch.from_numpy(split.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int] | Tensor) -> dict[str, Tensor]:
        """Images uint8 ``[B, H, W, channels]`` and labels ``[B]``."""
        chosen = torch.as_tensor(indices)
        images = torch.index_select(self.rows, 0, chosen)  # copies whole rows; indexing 4-d images is 20 times slower
        return {'images': images.view(-1, *self.shape), 'labels': self.labels[chosen]}


def train_loader(
    split: Split | FileSplit,
    sampler: EpochSampler,
    batch_size: int,
    augmentation: Mapping[str, Any],
    workers: int = 0,
    share: Share = ALONE,
) -> DataLoader[dict[str, Any]]:
    """Batches in the sampler's order, the last one shorter.

    Args:
        split: Images in memory are gathered by this process; large ones are decoded and augmented by workers.
        sampler: Gives the order; its ``set_epoch`` also decides the workers' draws.
        batch_size: Images a batch.
        augmentation: As in a recipe.
        workers: Processes that decode; 0 is this one.
        share: Which images of each batch to load.
    """
    dataset: Any = FileDataset(split, augmentation, True) if isinstance(split, FileSplit) else ResidentDataset(split)
    if share.size > 1:
        dataset = SharedDataset(dataset, share)
    if isinstance(split, FileSplit):
        return file_loader(dataset, SeededSampler(sampler), batch_size, workers)
    return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=as_it_is)


class ResidentLoader(DataLoader[dict[str, Tensor]]):
    """Batches of images in memory as the network takes them: augmented, normalised, on its device.

    Small batches are prepared several at a time, because to start the operations on one takes longer than to carry
    them out. The draws, and so the bits, are those of one batch after the other.

    Args:
        split: The images.
        sampler: Gives the order.
        batch_size: Images a batch; the last one is shorter.
        preprocess: Augments and normalises.
    """

    def __init__(self, split: Split, sampler: EpochSampler, batch_size: int, preprocess: BatchPreprocessor) -> None:
        self.split, self.preprocess = ResidentDataset(split), preprocess
        super().__init__(self.split, batch_size, sampler=sampler)
        self.at_once = max(1, PREPARED_BYTES // (4 * batch_size * split.images[0].size))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        preprocess, device, size = self.preprocess, self.preprocess.mean.device, given(self.batch_size)
        torch.empty((), dtype=torch.int64).random_()  # as any DataLoader does: others go on with the global generator
        for indices in torch.tensor(list(self.sampler)).split(size * self.at_once):
            several = self.split.__getitems__(indices)
            draws = [preprocess.draw(len(batch)) for batch in indices.split(size)]
            drawn = [torch.cat(parts) for parts in zip(*draws, strict=True)]
            images = preprocess.augment(several['images'].to(device), *drawn)
            labels = several['labels'].to(device)
            for batch in zip(images.split(size), labels.split(size), strict=True):
                yield dict(zip(('images', 'labels'), batch, strict=True))


class BatchPreprocessor(BaseDataPreprocessor):
    """uint8 batches to normalised float batches; random crop and flip while training.

    The same operations as torchvision's RandomCrop (zero padding), RandomHorizontalFlip, ToTensor and Normalize on
    single images, for the same draws.

    Args:
        data: Gives mean and standard deviation.
        augmentation: ``crop_padding`` (pixels, 0 for none) and ``flip`` (bool).
        seed: The run seed; draws derive from (seed, epoch).
        share: Which images of each batch it is given while training.

    Raises:
        UsageError: For an unknown augmentation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, data: LongTailData, augmentation: Mapping[str, Any], seed: int, share: Share = ALONE) -> None:
        super().__init__()
        resident = isinstance(data.train, Split)  # large images come from the workers augmented
        unknown = set(augmentation) - {'crop_padding', 'flip'}
        if resident and unknown:
            raise UsageError(f'unknown augmentation {", ".join(sorted(unknown))}: known are crop_padding, flip')
        self.padding = int(augmentation.get('crop_padding', 0)) if resident else 0
        self.flip = bool(augmentation.get('flip', False)) and resident
        self.seed, self.share = seed, share
        self.random = torch.Generator()
        self.register_buffer('mean', torch.tensor(data.mean), persistent=False)
        self.register_buffer('std', torch.tensor(data.std), persistent=False)

    def set_epoch(self, epoch: int) -> None:
        """Start the draws of an epoch (0-based)."""
        self.random.manual_seed(derive_seed(self.seed, epoch, 'augmentation'))

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Tensor]:
        """Normalise a batch, augmented if ``training``: float ``[B, channels, H, W]``, channels last in memory.

        Float images are returned as they are: :class:`ResidentLoader` has prepared them.
        """
        data = self.cast_data(data)
        images = data['images']
        if images.is_floating_point():
            return data
        whole = data.pop('whole', len(images))
        if training and (self.padding or self.flip):
            return {**data, 'images': self.augment(images, *map(self.share.of, self.draw(whole)))}
        return {**data, 'images': self.normalize(images)}

    def augment(self, images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
        """uint8 ``[B, H, W, channels]`` -> float ``[B, channels, H, W]`` for given draws, see :meth:`draw`."""
        if self.padding or self.flip:
            images = crop_and_flip(images, self.padding, rows, columns, flips)
        return self.normalize(images)

    def draw(self, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Row offsets, column offsets (0 .. 2 * padding) and flips of a batch, each ``[B]``."""
        offsets = torch.randint(0, 2 * self.padding + 1, (2, batch_size), generator=self.random)
        flips = torch.rand(batch_size, generator=self.random) < 0.5 if self.flip else torch.zeros(batch_size).bool()
        return offsets[0], offsets[1], flips

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 ``[B, H, W, channels]`` -> float ``[B, channels, H, W]``."""
        batch, height, width, channels = images.shape
        # one image line at a time: broadcasting over single pixels would be four times slower
        lines = images.float().div_(255).view(batch * height, width * channels)
        lines.sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return lines.view(batch, height, width, channels).permute(0, 3, 1, 2)


def crop_and_flip(images: Tensor, padding: int, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
    """Cut a window of the original size out of each zero-padded image, then mirror it where ``flips``.

    Args:
        images: uint8 ``[B, H, W, channels]``.
        padding: Zeros on each side.
        rows: Top of each window, ``[B]``.
        columns: Left edge of each window, ``[B]``.
        flips: bool ``[B]``.
    """
    batch, height, width, channels = images.shape
    device = images.device
    padded = images.new_zeros(batch, height + 2 * padding, width + 2 * padding, channels)
    padded[:, padding : padding + height, padding : padding + width] = images
    # each line of a window is `width * channels` bytes in a row: gather those, from their first byte on
    line, per_row, per_image = width * channels, padded.stride(1), padded.stride(0)
    first = torch.arange(batch, device=device) * per_image + rows.to(device) * per_row + columns.to(device) * channels
    starts = (first[:, None] + torch.arange(height, device=device) * per_row).flatten()
    windows = padded.flatten().as_strided((padded.numel() - line + 1, line), (1, 1))
    cropped = torch.index_select(windows, 0, starts).view(batch, height, width, channels)
    # mirror those images alone and gather whole ones: choosing pixel by pixel between all and their mirrors is four
    # times as slow
    mirrored = flips.nonzero().flatten()
    if not len(mirrored):
        return cropped
    source = torch.arange(batch)
    source[mirrored] = batch + torch.arange(len(mirrored))
    both = torch.cat([cropped, torch.index_select(cropped, 0, mirrored.to(device)).flip(2)])
    return torch.index_select(both.view(len(both), -1), 0, source.to(device)).view(images.shape)


def sequential_batches(
    split: Split | FileSplit, batch_size: int, augmentation: Mapping[str, Any], workers: int = 0
) -> Iterable[dict[str, Tensor]]:
    """A split in its own order, as raw batches (large images resized and cropped as the recipe says)."""
    if isinstance(split, FileSplit):
        return file_loader(FileDataset(split, augmentation, False), None, batch_size, workers)
    dataset = ResidentDataset(split)
    starts = range(0, len(dataset), batch_size)
    return (dataset.__getitems__(list(range(start, min(start + batch_size, len(dataset))))) for start in starts)


def example_of(data: LongTailData, augmentation: Mapping[str, Any]) -> Tensor:
    """A black image of the size that the network sees: uint8 ``[1, H, W, channels]``."""
    if isinstance(data.train, FileSplit):
        side = augmentation['center_crop']
        return torch.zeros(1, side, side, data.channels, dtype=torch.uint8)
    return torch.zeros(1, *data.train.images.shape[1:], dtype=torch.uint8)

"""Batches of images that live in memory: one gather a batch, augmentation on the whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ltbench.data.base import FileSplit, LongTailData, Split
from ltbench.data.files import file_loader
from ltbench.data.samplers import EpochSampler
from ltbench.errors import UsageError
from ltbench.seeding import derive_seed


class ResidentDataset(Dataset[dict[str, Tensor]]):
    """A split as tensors; the data loader asks for a whole batch at once."""

    metainfo: Mapping[str, Any] = {}

    def __init__(self, split: Split) -> None:
        self.shape = split.images.shape[1:]
        self.rows = torch.from_numpy(np.ascontiguousarray(split.images)).view(len(split), -1)
        self.labels = torch.from_numpy(split.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
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
) -> DataLoader[dict[str, Tensor]]:
    """Batches in the sampler's order, the last one shorter.

    Args:
        split: Images in memory are gathered by this process; large ones are decoded and augmented by workers.
        sampler: Gives the order; its ``set_epoch`` also decides the workers' draws.
        batch_size: Images a batch.
        augmentation: As in a recipe.
        workers: Processes that decode; 0 is this one.
    """
    if isinstance(split, FileSplit):
        return file_loader(split, sampler, batch_size, augmentation, workers)
    return DataLoader(ResidentDataset(split), batch_size, sampler=sampler, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch


class BatchPreprocessor(BaseDataPreprocessor):
    """uint8 batches to normalised float batches; random crop and flip while training.

    The same operations as torchvision's RandomCrop (zero padding), RandomHorizontalFlip, ToTensor and Normalize on
    single images, for the same draws.

    Args:
        data: Gives mean and standard deviation.
        augmentation: ``crop_padding`` (pixels, 0 for none) and ``flip`` (bool).
        seed: The run seed; draws derive from (seed, epoch).

    Raises:
        UsageError: For an unknown augmentation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, data: LongTailData, augmentation: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        resident = isinstance(data.train, Split)  # large images come from the workers augmented
        unknown = set(augmentation) - {'crop_padding', 'flip'}
        if resident and unknown:
            raise UsageError(f'unknown augmentation {", ".join(sorted(unknown))}: known are crop_padding, flip')
        self.padding = int(augmentation.get('crop_padding', 0)) if resident else 0
        self.flip = bool(augmentation.get('flip', False)) and resident
        self.seed = seed
        self.random = torch.Generator()
        self.register_buffer('mean', torch.tensor(data.mean), persistent=False)
        self.register_buffer('std', torch.tensor(data.std), persistent=False)

    def set_epoch(self, epoch: int) -> None:
        """Start the draws of an epoch (0-based)."""
        self.random.manual_seed(derive_seed(self.seed, epoch, 'augmentation'))

    def forward(self, data: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """Normalise a batch, augmented if ``training``: float ``[B, channels, H, W]``, channels last in memory."""
        data = self.cast_data(data)
        images = data['images']
        if training and (self.padding or self.flip):
            images = crop_and_flip(images, self.padding, *self.draw(len(images)))
        return {**data, 'images': self.normalize(images)}

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
    return torch.where(flips.to(device)[:, None, None, None], cropped.flip(2), cropped)


def sequential_batches(
    split: Split | FileSplit, batch_size: int, augmentation: Mapping[str, Any], workers: int = 0
) -> Iterable[dict[str, Tensor]]:
    """A split in its own order, as raw batches (large images resized and cropped as the recipe says)."""
    if isinstance(split, FileSplit):
        return file_loader(split, None, batch_size, augmentation, workers)
    dataset = ResidentDataset(split)
    starts = range(0, len(dataset), batch_size)
    return (dataset.__getitems__(list(range(start, min(start + batch_size, len(dataset))))) for start in starts)


def example_of(data: LongTailData, augmentation: Mapping[str, Any]) -> Tensor:
    """A black image of the size that the network sees: uint8 ``[1, H, W, channels]``."""
    if isinstance(data.train, FileSplit):
        side = augmentation['center_crop']
        return torch.zeros(1, side, side, data.channels, dtype=torch.uint8)
    return torch.zeros(1, *data.train.images.shape[1:], dtype=torch.uint8)

"""Batches of images in memory: one gather per batch, augmentation on the whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ltbench.data.base import FileSplit, LongTailData, Split
from ltbench.data.crops import large_dataset
from ltbench.data.large import SeededSampler, as_it_is, file_loader
from ltbench.data.samplers import EpochSampler, Paired
from ltbench.data.views import View, resolve
from ltbench.errors import given
from ltbench.seeding import derive_seed

PREPARED_BYTES = 4 << 20
"""Bytes of float images that are prepared together. On Zen 4, 3 to 8 MB took 17 % less time than single batches of
32x32 images, and 32 MB took as long as single batches."""
POLICY_TIMES = 4
"""Factor on these bytes where policies are applied: the more images draw one operation, the less time each takes."""


@dataclass(frozen=True)
class Share:
    """Which images of every batch this process works on: every ``size``-th one, starting at ``rank``.

    All processes draw the same epoch and the same augmentation of whole batches, and each keeps its own part. So
    together they see what a single process would see: no image is repeated or left out.
    """

    rank: int = 0
    size: int = 1

    def of(self, batch: Any) -> Any:
        """The part of ``batch`` (a list or tensor) for this process.

        If a batch has fewer images than there are processes, its first image is a placeholder; it must not be counted.
        """
        return batch[self.rank :: self.size] if self.counts(len(batch)) else batch[:1]

    def counts(self, batch_size: int) -> bool:
        """Whether a batch has an image for this process."""
        return self.rank < batch_size


ALONE = Share()


class SharedDataset(Dataset[dict[str, Any]]):
    """A data set that loads the share of one process of every batch; ``whole`` is the size of the whole batch."""

    metainfo: Mapping[str, Any] = {}

    def __init__(self, dataset: Any, share: Share) -> None:
        self.dataset, self.share = dataset, share
        if hasattr(dataset, 'image_bytes'):
            self.image_bytes = dataset.image_bytes  # all processes of a run use one shared memory

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

    def __getitems__(self, indices: list[Any] | Tensor) -> dict[str, Any]:
        """Images uint8 ``[B, H, W, channels]`` and labels ``[B]``; for pairs of indices also their partners."""
        chosen = torch.as_tensor(indices)
        if chosen.dim() == 2:
            main, partners = (self.__getitems__(column) for column in chosen.unbind(1))
            return {**main, 'partners': [partners['images']], 'partner_labels': partners['labels']}
        images = torch.index_select(self.rows, 0, chosen)  # copies whole rows; indexing 4-d images is 20 times slower
        return {'images': images.view(-1, *self.shape), 'labels': self.labels[chosen]}


def train_loader(
    split: Split | FileSplit,
    sampler: EpochSampler | Paired,
    batch_size: int,
    augmentation: Mapping[str, Any],
    workers: int = 0,
    share: Share = ALONE,
    views: Sequence[str | Mapping[str, Any]] | None = None,
) -> DataLoader[dict[str, Any]]:
    """Batches in the sampler's order, the last one shorter.

    Args:
        split: Images in memory are gathered by this process; large ones are augmented by workers.
        sampler: Gives the order; its ``set_epoch`` also decides the workers' draws.
        batch_size: Images per batch.
        augmentation: As in a recipe.
        workers: Processes that decode; 0 is this one.
        share: Which images of each batch to load.
        views: Views of each image, see :func:`~ltbench.data.views.resolve`; for images in memory they are made later.
    """
    dataset: Any
    if isinstance(split, FileSplit):
        dataset = large_dataset(split, augmentation, True, views)
    else:
        dataset = ResidentDataset(split)
    if share.size > 1:
        dataset = SharedDataset(dataset, share)
    if isinstance(split, FileSplit):
        return file_loader(dataset, SeededSampler(sampler), batch_size, workers)
    return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=as_it_is)


class ResidentLoader(DataLoader[dict[str, Any]]):
    """Batches of images in memory, ready for the network: augmented, normalised, on its device.

    Small batches are prepared several at a time, because starting the operations on one takes longer than running
    them. The random draws, and so all bits, are the same as for one batch after the other.

    Args:
        split: The images.
        sampler: Gives the order.
        batch_size: Images per batch; the last one is shorter.
        preprocess: Augments and normalises.
    """

    def __init__(self, split: Split, sampler: Sampler[Any], batch_size: int, preprocess: BatchPreprocessor) -> None:
        self.split, self.preprocess = ResidentDataset(split), preprocess
        super().__init__(self.split, batch_size, sampler=sampler)
        prepared = PREPARED_BYTES * (POLICY_TIMES if preprocess.has_policies else 1)
        self.at_once = max(1, prepared // (4 * batch_size * split.images[0].size))

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        preprocess, device, size = self.preprocess, self.preprocess.mean.device, given(self.batch_size)
        torch.empty((), dtype=torch.int64).random_()  # as any DataLoader does: later draws use the global generator
        for indices in torch.tensor(list(self.sampler)).split(size * self.at_once):
            streams = indices.unbind(1) if indices.dim() == 2 else [indices]  # of images, and of their partners
            draws: list[list[list[Tensor]]] = [[] for _ in streams]
            for batch in indices.split(size):
                for drawn in draws:
                    drawn.append(preprocess.draw(len(batch)))
            prepared = []
            for chosen, drawn in zip(streams, draws, strict=True):
                several = self.split.__getitems__(chosen)
                together = [torch.cat(parts) for parts in zip(*drawn, strict=True)]
                views = preprocess.augment(several['images'].to(device), together)
                prepared.append([part.split(size) for part in (*views, several['labels'].to(device))])
            for number in range(len(prepared[0][0])):
                yield named(*([part[number] for part in stream] for stream in prepared))


def named(main: Sequence[Tensor], partners: Sequence[Tensor] = ()) -> dict[str, Any]:
    """The views of a batch and its labels, under the argument names of the network.

    Args:
        main: Views, then labels.
        partners: The same of a second stream.
    """
    batch: dict[str, Any] = {'images': main[0], 'labels': main[-1]}
    if len(main) > 2:
        batch['others'] = list(main[1:-1])
    if partners:
        batch |= {'partners': list(partners[:-1]), 'partner_labels': partners[-1]}
    return batch


class BatchPreprocessor(BaseDataPreprocessor):
    """Turns uint8 batches into normalised float batches; augmented while training.

    Args:
        data: Gives mean and standard deviation.
        augmentation: Of images in memory, see :class:`~ltbench.data.views.View`; large images are already
            augmented by the processes that decode them.
        seed: The run seed; draws derive from (seed, epoch).
        share: Which images of each batch it receives while training.
        views: What differs from ``augmentation`` in each view of an image.

    Raises:
        UsageError: For an unknown augmentation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        data: LongTailData,
        augmentation: Mapping[str, Any],
        seed: int,
        share: Share = ALONE,
        views: Sequence[str | Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.views: list[View] = []
        if isinstance(data.train, Split):
            height, width = data.train.images.shape[1:3]
            self.views = [View(resolve(view, augmentation), (height, width)) for view in views or ('plain',)]
        self.seed, self.share = seed, share
        self.random = torch.Generator()
        self.register_buffer('mean', torch.tensor(data.mean), persistent=False)
        self.register_buffer('std', torch.tensor(data.std), persistent=False)

    @property
    def has_policies(self) -> bool:
        """Whether images are changed by more than crop and flip."""
        return any(view.policies for view in self.views)

    def set_epoch(self, epoch: int) -> None:
        """Start the draws of an epoch (0-based)."""
        self.random.manual_seed(derive_seed(self.seed, epoch, 'augmentation'))

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise a batch, augmented if ``training``: float ``[B, channels, H, W]``, channels last in memory.

        Float images are returned as they are: :class:`ResidentLoader` has prepared them.

        Args:
            data: ``images`` uint8 ``[B, H, W, channels]`` and ``labels [B]``; optionally ``others`` (further views),
                and ``partners`` (all views) with ``partner_labels``.
            training: Whether to augment images in memory.
        """
        data = self.cast_data(data)
        if data['images'].is_floating_point():
            return data
        whole = data.pop('whole', len(data['images']))
        streams = {'images': [data['images'], *data.get('others', ())], 'partners': data.get('partners')}
        for name, views in streams.items():
            if views is None:
                continue
            if training and self.views:
                views = self.augment(views[0], [self.share.of(part) for part in self.draw(whole)])
            else:
                views = [self.normalize(view) for view in views]
            data[name] = views if name == 'partners' else views[0]
            if name == 'images' and len(views) > 1:
                data['others'] = views[1:]
        return data

    def draw(self, batch_size: int) -> list[Tensor]:
        """The draws of all views of a batch, one view after the other."""
        return [part for view in self.views for part in view.draw(batch_size, self.random)]

    def augment(self, images: Tensor, draws: Sequence[Tensor]) -> list[Tensor]:
        """uint8 ``[B, H, W, channels]`` -> float ``[B, channels, H, W]``, one per view, for given draws."""
        views, rest = [], list(draws)
        for view in self.views:
            views.append(self.normalize(view.apply(images, rest)))
            rest = rest[view.size :]
        return views

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 ``[B, H, W, channels]`` -> float ``[B, channels, H, W]``."""
        batch, height, width, channels = images.shape
        # one image line at a time: broadcasting over single pixels would be four times slower
        lines = images.float().div_(255).view(batch * height, width * channels)
        lines.sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return lines.view(batch, height, width, channels).permute(0, 3, 1, 2)


def sequential_batches(
    split: Split | FileSplit, batch_size: int, augmentation: Mapping[str, Any], workers: int = 0
) -> Iterable[dict[str, Tensor]]:
    """A split in its own order, as raw batches (large images resized and cropped as the recipe says)."""
    if isinstance(split, FileSplit):
        return file_loader(large_dataset(split, augmentation, False), None, batch_size, workers)
    dataset = ResidentDataset(split)
    starts = range(0, len(dataset), batch_size)
    return (dataset.__getitems__(list(range(start, min(start + batch_size, len(dataset))))) for start in starts)


def example_of(data: LongTailData, augmentation: Mapping[str, Any]) -> Tensor:
    """A black image of the size that the network sees: uint8 ``[1, H, W, channels]``."""
    if isinstance(data.train, FileSplit):
        side = augmentation['center_crop']
        return torch.zeros(1, side, side, data.channels, dtype=torch.uint8)
    return torch.zeros(1, *data.train.images.shape[1:], dtype=torch.uint8)

"""Large images: decoded and cropped in worker processes, each with draws of its own."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.filesize import decimal
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ltbench.data.base import FileSplit
from ltbench.data.contents import contents_of
from ltbench.data.derived import cache_folder
from ltbench.data.images import decode, decoder
from ltbench.data.samplers import EpochSampler, Paired
from ltbench.data.views import resolve
from ltbench.errors import DataError, unknown
from ltbench.registry import POLICIES, build
from ltbench.sealed import is_stream, sha256_of, write_stream
from ltbench.seeding import derive_seed

AUGMENTATIONS = ('random_resized_crop', 'flip', 'color_jitter', 'policies', 'resize', 'center_crop', 'pre_resize')
CACHE_QUALITY = 95  # of JPEG
SHARED_MEMORY = Path('/dev/shm')
BATCHES_A_WORKER = 3  # two that wait to be used, as is torch's default, and one in the making
STALL_SECONDS = 600
"""Without a batch, after which a stage fails: its images are on a disk that no longer answers, say."""
LOGGER = logging.getLogger('ltbench')
COPY_KIND = 'copy'
PARTNER = 0x5DEECE66D  # a partner's draws are not those of the image it is paired with


class FileDataset(Dataset[Any]):
    """Images of a :class:`FileSplit`, decoded when asked for.

    Args:
        split: Paths and labels.
        augmentation: ``random_resized_crop`` (pixels), ``flip``, ``color_jitter`` (brightness, contrast, saturation,
            hue) and ``policies`` (configs of registered parts, in turn) while training; ``resize`` (shorter side) and
            ``center_crop`` otherwise. ``pre_resize`` (shorter side) trains on smaller copies that are made once, see
            :class:`ResizedCopies`.
        training: Which of the two.
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
        self.split = split
        wanted = views or ('plain',) if training else ('plain',)
        resolved = [resolve(view, augmentation) for view in wanted]
        sides = [view['random_resized_crop' if training else 'center_crop'] for view in resolved]
        self.image_bytes = sum(3 * side * side for side in sides)
        self.views = [transform_of(view, training) for view in resolved]
        small = augmentation.get('pre_resize') if training else None
        self.copies = ResizedCopies(split, small) if small else None

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, items: list[tuple[Any, int]]) -> dict[str, Any]:
        """A batch: ``images`` uint8 ``[B, H, W, 3]`` and ``labels [B]``; further views are ``others``.

        For items whose index is a pair also ``partners``, the views of the second, and ``partner_labels``.
        """
        if not isinstance(items[0][0], tuple):
            return self._batch(items)
        main = self._batch([(pair[0], seed) for pair, seed in items])
        partners = self._batch([(pair[1], seed ^ PARTNER) for pair, seed in items])
        views = [partners['images'], *partners.get('others', ())]
        return {**main, 'partners': views, 'partner_labels': partners['labels']}

    def _batch(self, items: list[tuple[int, int]]) -> dict[str, Any]:
        views, labels = zip(*map(self.__getitem__, items), strict=True)
        first, *others = (torch.stack(view) for view in zip(*views, strict=True))
        batch = {'images': first, 'labels': torch.tensor(labels)}
        return {**batch, 'others': others} if others else batch

    def __getitem__(self, item: tuple[int, int]) -> tuple[list[Tensor], int]:
        """Views uint8 ``[H, W, 3]`` and label of image ``index``, augmented by the draws of ``seed``.

        Raises:
            DataError: If the file is missing or cannot be decoded; the message names it.
        """
        index, seed = item
        colour = self.copies.read(index) if self.copies else decode(self.split.path(index))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            views = [torch.from_numpy(np.array(transform(colour))) for transform in self.views]
        return views, int(self.split.labels[index])


def transform_of(augmentation: Mapping[str, Any], training: bool) -> Any:
    """The torchvision transform of a decoded image; see :class:`FileDataset`."""
    for key in augmentation:
        if key not in AUGMENTATIONS:
            raise unknown('augmentation of large images', key, AUGMENTATIONS)
    from torchvision.transforms import v2  # imports all of torchvision, which small images never need

    if not training:
        resize = v2.Resize(augmentation['resize'], antialias=True)
        return v2.Compose([resize, v2.CenterCrop(augmentation['center_crop'])])
    steps: list[Any] = [v2.RandomResizedCrop(augmentation['random_resized_crop'], antialias=True)]
    if augmentation.get('flip'):
        steps.append(v2.RandomHorizontalFlip())
    if augmentation.get('color_jitter'):
        steps.append(v2.ColorJitter(*augmentation['color_jitter']))
    steps += [build(POLICIES, config).on_single() for config in augmentation.get('policies') or ()]
    return v2.Compose(steps)


class ResizedCopies:
    """Copies of large images with a shorter side of ``side`` pixels, made when first asked for and then found.

    They stand beside the images, or under the data folder where nothing can be written there. Training always reads
    the copy, also the first time, so that every epoch sees the same pixels. A copy is sealed with the sha256 of its
    image: one that was damaged or made from another image is made again. Images that are not larger are read as they
    are.

    Args:
        split: The images.
        side: Shorter side in pixels.

    Raises:
        DataError: If an image is missing or cannot be read, or nothing can be written.
    """

    def __init__(self, split: FileSplit, side: int) -> None:
        self.split, self.side = split, side
        self.folder = cache_folder(split.root) / f'shorter-side-{side}'
        self.hashes = contents_of(split.root, split.names.tolist()).hashes

    def read(self, index: int) -> Image.Image:
        """The copy of image ``index`` in RGB, or the image itself.

        Raises:
            DataError: If the image is missing, has changed or cannot be decoded, or the copy cannot be written.
        """
        source, sha256 = self.split.path(index), self.hashes[index].tobytes().hex()
        copy = self.folder / f'{os.fsdecode(self.split.names[index])}.jpg'
        owner = f'{sha256} by {decoder()}'
        try:
            if is_stream(copy, COPY_KIND, owner):
                return decode(copy)
        except OSError:
            pass  # not there yet
        image = decode(source)
        shorter = min(image.size)
        if shorter <= self.side:
            return image
        if sha256_of(source) != sha256:
            raise DataError(f'{source} has changed since this run began; run the command again')
        size = [round(length * self.side / shorter) for length in image.size]
        buffer = io.BytesIO()
        image.resize((size[0], size[1]), Image.Resampling.BILINEAR).save(buffer, 'JPEG', quality=CACHE_QUALITY)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_stream(copy, COPY_KIND, owner, lambda file: file.write(buffer.getbuffer()), durable=False)
        except OSError as error:
            raise DataError(
                f'{copy} cannot be written ({error}); free some space there, or do without copies: pre_resize=None'
            ) from error
        return decode(copy)


class SeededSampler(Sampler[tuple[Any, int]]):
    """The indices of another sampler, each with a seed for its augmentation that derives from (seed, epoch, position).

    So the draws do not hang on the number of workers, and an epoch taken up again repeats them.
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
    """A data loader that says in words why it ends when no batch comes.

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
                f'no batch of images has come for {STALL_SECONDS:g} s; look whether the disk with the images still '
                'answers, then run the same command again'
            ) from error


def file_loader(
    dataset: Any, sampler: SeededSampler | None, batch_size: int, workers: int
) -> DataLoader[dict[str, Any]]:
    """Batches of decoded images, in the sampler's order or in the data set's own."""
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
        generator=torch.Generator(),  # for what the loader draws itself; our draws come from the sampler
        multiprocessing_context=context,
    )


def workers_that_fit(workers: int, batch_bytes: int) -> int:
    """As many of the wanted workers as have room for their batches in shared memory; 0 decodes in this process.

    A worker whose batch does not fit would wait for ever: containers often have 64 MB there, less than one batch of
    512 images of 224 x 224 pixels.
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
    """The collate function of data sets that give whole batches."""
    return batch

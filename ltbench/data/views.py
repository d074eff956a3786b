"""Views: the augmented pictures of one image that a training step sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ltbench.data.policies import Policy
from ltbench.errors import unknown
from ltbench.registry import POLICIES, build

SMALL = ('crop_padding', 'flip', 'policies')
"""Keys of an augmentation for images in memory."""

NAMED = ('plain', 'strong', 'contrastive')


def resolve(view: str | Mapping[str, Any], augmentation: Mapping[str, Any]) -> dict[str, Any]:
    """The augmentation of a view.

    Args:
        view: Entries that differ from the recipe's augmentation, or a name: ``'plain'`` is the recipe's own;
            ``'strong'`` adds AutoAugment and Cutout (images in memory) or RandAugment (large ones); ``'contrastive'``
            has a random resized crop, changed colours and grey; half of large images are blurred, or the share given by
            ``{'name': 'contrastive', 'blurred': 0.2}``.
        augmentation: The recipe's.

    Raises:
        UsageError: For another name.
    """
    large = 'random_resized_crop' in augmentation
    if isinstance(view, str):
        name, blurred = view, 0.5 if large else 0.0
    elif view.keys() == {'name', 'blurred'}:
        name, blurred = view['name'], view['blurred']
        if name != 'contrastive':
            raise unknown('view with a share of blurred images', name, ('contrastive',))
    else:
        return {**augmentation, **view}
    if name == 'plain':
        return dict(augmentation)
    if name == 'strong':
        policies = [{'type': 'RandAugment', 'operations': 2, 'strength': 30, 'probability': 0.5}] if large else [
            {'type': 'AutoAugment', 'table': 'cifar10'}, {'type': 'Cutout'},
        ]  # fmt: skip
        return {**augmentation, 'policies': policies}
    if name == 'contrastive' and large:
        return {**augmentation, 'color_jitter': None, 'policies': [{'type': 'SimAugment', 'blurred': blurred}]}
    if name == 'contrastive':
        policies = [{'type': 'RandomResizedCrop', 'least': 0.2}, {'type': 'SimAugment', 'blurred': blurred}]
        return {**augmentation, 'crop_padding': 0, 'policies': policies}
    raise unknown('view', name, NAMED)


class View:
    """One augmentation of batches of images in memory: crop, flip, then policies.

    The same operations as torchvision's RandomCrop (zero padding) and RandomHorizontalFlip on single images, for the
    same draws.

    Args:
        augmentation: ``crop_padding`` (pixels, 0 for none), ``flip`` (bool) and ``policies`` (configs of registered
            parts, in order).
        side: Height and width of the images.

    Raises:
        UsageError: For an unknown augmentation.
    """

    def __init__(self, augmentation: Mapping[str, Any], side: tuple[int, int]) -> None:
        for key in augmentation:
            if key not in SMALL:
                raise unknown('augmentation', key, SMALL)
        self.side = side
        self.padding, self.flip = int(augmentation.get('crop_padding', 0)), bool(augmentation.get('flip', False))
        self.policies: list[Policy] = [build(POLICIES, config) for config in augmentation.get('policies') or ()]

    @property
    def size(self) -> int:
        """Number of tensors that :meth:`draw` returns."""
        return 3 + sum(policy.drawn for policy in self.policies)

    def draw(self, batch_size: int, random: torch.Generator) -> list[Tensor]:
        """Row offsets and column offsets (0 .. 2 * padding) and flips of a batch, then what its policies draw."""
        offsets = torch.randint(0, 2 * self.padding + 1, (2, batch_size), generator=random)
        flips = torch.rand(batch_size, generator=random) < 0.5 if self.flip else torch.zeros(batch_size).bool()
        drawn = [part for policy in self.policies for part in policy.draw(batch_size, self.side, random)]
        return [offsets[0], offsets[1], flips, *drawn]

    def apply(self, images: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """uint8 ``[B, H, W, channels]`` -> the same, for the first :attr:`size` draws."""
        rows, columns, flips, *rest = draws[: self.size]
        if self.padding or self.flip:
            images = crop_and_flip(images, self.padding, rows, columns, flips)
        if not self.policies:
            return images
        changed = images.permute(0, 3, 1, 2)
        for policy in self.policies:
            changed = policy.apply(changed, *rest[: policy.drawn])
            rest = rest[policy.drawn :]
        return changed.permute(0, 2, 3, 1).contiguous()


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
    # each line of a window is `width * channels` consecutive bytes: gather them, starting at their first byte
    line, per_row, per_image = width * channels, padded.stride(1), padded.stride(0)
    first = torch.arange(batch, device=device) * per_image + rows.to(device) * per_row + columns.to(device) * channels
    starts = (first[:, None] + torch.arange(height, device=device) * per_row).flatten()
    windows = padded.flatten().as_strided((padded.numel() - line + 1, line), (1, 1))
    cropped = torch.index_select(windows, 0, starts).view(batch, height, width, channels)
    # mirror only those images, then gather whole images: choosing pixel by pixel between images and mirrored images is
    # four times as slow
    mirrored = flips.nonzero().flatten()
    if not len(mirrored):
        return cropped
    source = torch.arange(batch)
    source[mirrored] = batch + torch.arange(len(mirrored))
    both = torch.cat([cropped, torch.index_select(cropped, 0, mirrored.to(device)).flip(2)])
    return torch.index_select(both.view(len(both), -1), 0, source.to(device)).view(images.shape)

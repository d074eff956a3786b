"""Strong augmentation: named policies that change images after crop and flip, on whole batches and on single images.

torchvision's policies draw for one image at a time, and for small images starting an operation takes longer than
running it. Here the draws of a whole batch come first; then the images that drew the same operation with the same
strength go through it together. Operations that move pixels use a map of positions, operations that change single
values a table of 256; both are computed by torchvision's own functions, once for each strength. So for the same draw
each image is bit for bit the result of torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.errors import UsageError, unknown
from ltbench.registry import POLICIES

Draws = tuple[Tensor, ...]
"""The random draws for a batch: tensors ``[B, ...]``."""


class Policy:
    """Base of all policies: random draws for a batch, and the change of its images by them.

    Draws come only from the given generator, so that a resumed epoch repeats them.
    """

    drawn: ClassVar[int]
    """Number of tensors that :meth:`draw` returns."""

    def draw(self, batch_size: int, side: tuple[int, int], random: torch.Generator) -> Draws:
        """Draw what happens to each image of a batch.

        Args:
            batch_size: B.
            side: Height and width of the images.
            random: Generator to draw from.
        """
        raise NotImplementedError

    def apply(self, images: Tensor, *draws: Tensor) -> Tensor:
        """uint8 ``[B, channels, H, W]`` -> the same, for given draws."""
        raise NotImplementedError

    def on_single(self) -> Any:
        """The same policy as a transform of torchvision for one PIL image, which draws from torch's generator."""
        raise NotImplementedError


# ---------------------------------------------------------------------------- operations of AutoAugment and others

MOVES = ('ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Rotate')
TONES = ('Brightness', 'Posterize', 'Solarize', 'Invert')
SIGNED = (*MOVES, 'Brightness', 'Color', 'Contrast', 'Sharpness')
OPERATIONS = (*MOVES, *TONES, 'Color', 'Contrast', 'Sharpness', 'AutoContrast', 'Equalize', 'Identity')


def operate(images: Tensor, name: str, strength: float) -> Tensor:
    """One operation, by torchvision's own function.

    Args:
        images: ``[B, channels, H, W]``, 1 or 3 channels.
        name: One of :data:`OPERATIONS`.
        strength: Degrees of ``Rotate``; pixels of ``Translate``; tangent of ``Shear``; how far a factor is from 1; bits
            that ``Posterize`` keeps; share of 255 from which ``Solarize`` inverts.
    """
    from torchvision.transforms.v2 import functional as F  # imports all of torchvision, which a plain run never needs

    if name in ('ShearX', 'ShearY'):
        angle = math.degrees(math.atan(strength))
        shear = [angle, 0.0] if name == 'ShearX' else [0.0, angle]
        return F.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
    if name in ('TranslateX', 'TranslateY'):
        shift = [int(strength), 0] if name == 'TranslateX' else [0, int(strength)]
        return F.affine(images, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
    if name == 'Rotate':
        return F.rotate(images, angle=strength)
    if name == 'Posterize':
        return F.posterize(images, bits=int(strength))
    if name == 'Solarize':
        return F.solarize(images, threshold=255 * strength)
    if name in ('AutoContrast', 'Equalize', 'Invert'):
        whole: Callable[[Tensor], Tensor] = getattr(F, name.lower())
        return whole(images)
    if name == 'Identity':
        return images
    adjust = {'Brightness': 'brightness', 'Color': 'saturation', 'Contrast': 'contrast', 'Sharpness': 'sharpness'}
    return getattr(F, f'adjust_{adjust[name]}')(images, 1.0 + strength)


@lru_cache(maxsize=4096)
def _pixel_map(name: str, strength: float, height: int, width: int) -> Tensor:
    """Source pixel of each pixel: ``[H * W]``, 1-based, row by row; 0 for none, which is black."""
    numbered = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, 1, height, width)
    return operate(numbered, name, strength).flatten().long()


@lru_cache(maxsize=1024)
def _tone_curve(name: str, strength: float) -> Tensor:
    """New value of each value: uint8 ``[256]``."""
    return operate(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16), name, strength).flatten()


def operate_on_groups(images: Tensor, operations: Tensor, strengths: Tensor) -> Tensor:
    """Apply to each image its own operation.

    Args:
        images: uint8 ``[B, channels, H, W]``.
        operations: Positions in :data:`OPERATIONS`, ``[B]``.
        strengths: ``[B]``, see :func:`operate`.
    """
    result = images.clone()
    height, width = images.shape[-2:]
    for number in operations.unique().tolist():
        name = OPERATIONS[number]
        if name == 'Identity':
            continue
        rows = (operations == number).nonzero().flatten()
        values = strengths[rows].tolist()
        if name in MOVES:
            maps = torch.stack([_pixel_map(name, value, height, width) for value in values]).to(images.device)
            flat = functional.pad(images[rows].flatten(2), (1, 0))  # a black pixel before the first
            moved = flat.gather(2, maps[:, None].expand(-1, flat.shape[1], -1))
            result[rows] = moved.view(len(rows), -1, height, width)
        elif name in TONES:
            curves = torch.stack([_tone_curve(name, value) for value in values]).to(images.device)
            result[rows] = curves.gather(1, images[rows].flatten(1).long()).view(len(rows), -1, height, width)
        else:
            for value in set(values):
                alike = rows[strengths[rows] == value]
                result[alike] = operate(images[alike], name, value)
    return result


class _Steps(Policy):
    """Base of policies that apply several of :data:`OPERATIONS`, one after the other."""

    drawn = 2

    def apply(self, images: Tensor, *draws: Tensor) -> Tensor:
        """Apply operations ``[B, K]`` with strengths ``[B, K]``, in order."""
        operations, strengths = draws
        for step in range(operations.shape[1]):
            images = operate_on_groups(images, operations[:, step], strengths[:, step])
        return images


def _scale(name: str, bins: int, side: tuple[int, int], wide: bool = False) -> Tensor:
    """Strengths ``[bins]`` of an operation from none to most, as in torchvision; ``wide`` is TrivialAugment's scale."""
    most = {
        'ShearX': 0.99 if wide else 0.3,
        'ShearY': 0.99 if wide else 0.3,
        'TranslateX': 32.0 if wide else 150.0 / 331.0 * side[1],
        'TranslateY': 32.0 if wide else 150.0 / 331.0 * side[0],
        'Rotate': 135.0 if wide else 30.0,
    }
    if name == 'Posterize':
        return (8 - (torch.arange(bins) / ((bins - 1) / (6 if wide else 4)))).round()
    if name == 'Solarize':
        return torch.linspace(1.0, 0.0, bins)
    if name in SIGNED:
        return torch.linspace(0.0, most.get(name, 0.99 if wide else 0.9), bins)
    return torch.zeros(bins)


def _signed(strengths: Tensor, operations: Tensor, random: torch.Generator) -> Tensor:
    """Strengths with a random sign for operations that have two directions."""
    has_two = torch.tensor([name in SIGNED for name in OPERATIONS])[operations]
    turned = (torch.rand(operations.shape, generator=random) < 0.5) & has_two
    return torch.where(turned, -strengths, strengths)


@POLICIES.register_module()
class AutoAugment(_Steps):
    """One of 25 pairs of operations, found by search; each of the two with a probability and strength of its own.

    Cubuk et al., "AutoAugment: learning augmentation strategies from data", CVPR 2019, https://arxiv.org/abs/1805.09501;
    the tables are torchvision's. Differs from the code that long-tail repositories use: pixels that a move leaves
    empty are black here and grey there.

    Args:
        table: ``'cifar10'``, ``'imagenet'`` or ``'svhn'``: the data that it was searched for.

    Raises:
        UsageError: For another table.
    """

    BINS = 10

    def __init__(self, table: str = 'cifar10') -> None:
        from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
        from torchvision.transforms import AutoAugmentPolicy

        known = {policy.value: policy for policy in AutoAugmentPolicy}
        if table not in known:
            raise unknown('table of AutoAugment', str(table), known)
        self.table = known[table]
        pairs = TorchvisionAutoAugment(self.table).policies
        self.operations = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in pairs])
        self.probabilities = torch.tensor([[probability for _, probability, _ in pair] for pair in pairs])
        self.bins = torch.tensor([[bin_ or 0 for _, _, bin_ in pair] for pair in pairs])

    def draw(self, batch_size: int, side: tuple[int, int], random: torch.Generator) -> Draws:
        """Operations and strengths ``[B, 2]``."""
        pair = torch.randint(len(self.operations), (batch_size,), generator=random)
        happens = torch.rand(batch_size, 2, generator=random) < self.probabilities[pair]
        operations = torch.where(happens, self.operations[pair], OPERATIONS.index('Identity'))
        scales = torch.stack([_scale(name, self.BINS, side) for name in OPERATIONS])
        return operations, _signed(scales[operations, self.bins[pair]], operations, random)

    def on_single(self) -> Any:
        """torchvision's."""
        from torchvision.transforms import v2

        return v2.AutoAugment(self.table)


@POLICIES.register_module()
class RandAugment(_Steps):
    """A number of operations drawn from 14, all of one strength.

    Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space", NeurIPS 2020,
    https://arxiv.org/abs/1909.13719; operations and scales are torchvision's.

    Args:
        operations: Number of operations, one after the other.
        strength: 0 .. 30.
        probability: Of each operation to happen, above 0.

    Raises:
        UsageError: If a value is out of range.
    """

    BINS = 31
    NAMES = tuple(name for name in OPERATIONS if name != 'Invert')

    def __init__(self, operations: int = 2, strength: int = 9, probability: float = 1.0) -> None:
        if not 0 <= strength < self.BINS:
            raise UsageError(f'strength of RandAugment lies between 0 and {self.BINS - 1}, got {strength}')
        if operations < 1:
            raise UsageError(f'operations of RandAugment are 1 or more, got {operations}')
        if not 0 < probability <= 1:
            raise UsageError(f'probability of RandAugment lies above 0 and up to 1, got {probability}')
        self.count, self.strength, self.probability = operations, strength, probability

    def draw(self, batch_size: int, side: tuple[int, int], random: torch.Generator) -> Draws:
        """Operations and strengths ``[B, K]``."""
        allowed = torch.tensor([OPERATIONS.index(name) for name in self.NAMES])
        operations = allowed[torch.randint(len(allowed), (batch_size, self.count), generator=random)]
        if self.probability < 1:
            happens = torch.rand(batch_size, self.count, generator=random) < self.probability
            operations = torch.where(happens, operations, OPERATIONS.index('Identity'))
        strengths = torch.stack([_scale(name, self.BINS, side)[self.strength] for name in OPERATIONS])
        return operations, _signed(strengths[operations], operations, random)

    def on_single(self) -> Any:
        """torchvision's."""
        from torchvision.transforms import v2

        if self.probability == 1:
            return v2.RandAugment(self.count, self.strength)
        step = v2.RandomApply([v2.RandAugment(1, self.strength)], p=self.probability)
        return v2.Compose([step] * self.count)


@POLICIES.register_module()
class TrivialAugmentWide(_Steps):
    """One operation of 14, of a strength drawn uniformly from a wide scale.

    Mueller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", ICCV 2021,
    https://arxiv.org/abs/2103.10158; operations and scales are torchvision's.
    """

    BINS = 31

    def draw(self, batch_size: int, side: tuple[int, int], random: torch.Generator) -> Draws:
        """Operations and strengths ``[B, 1]``."""
        allowed = torch.tensor([OPERATIONS.index(name) for name in RandAugment.NAMES])
        operations = allowed[torch.randint(len(allowed), (batch_size, 1), generator=random)]
        bins = torch.randint(self.BINS, (batch_size, 1), generator=random)
        scales = torch.stack([_scale(name, self.BINS, side, wide=True) for name in OPERATIONS])
        return operations, _signed(scales[operations, bins], operations, random)

    def on_single(self) -> Any:
        """torchvision's."""
        from torchvision.transforms import v2

        return v2.TrivialAugmentWide(self.BINS)


@POLICIES.register_module()
class Cutout(Policy):
    """A black square at a random place, cut at the borders.

    DeVries and Taylor, "Improved regularization of convolutional neural networks with Cutout", 2017,
    https://arxiv.org/abs/1708.04552.

    Args:
        side: Of the square in pixels; None is half of the image's side, as published for CIFAR.

    Raises:
        UsageError: If it is smaller than 1.
    """

    drawn = 2

    def __init__(self, side: int | None = None) -> None:
        if side is not None and side < 1:
            raise UsageError(f'side of Cutout is 1 or larger, got {side}')
        self.side = side

    def draw(self, batch_size: int, side: tuple[int, int], random: torch.Generator) -> Draws:
        """Row and column of the centres ``[B]``."""
        return tuple(torch.randint(length, (batch_size,), generator=random) for length in side)

    def apply(self, images: Tensor, *draws: Tensor) -> Tensor:
        """Blacken the squares."""
        inside = []
        for centre, length in zip(draws, images.shape[-2:], strict=True):
            side = self.side or length // 2
            first = (centre.to(images.device) - side // 2)[:, None]
            places = torch.arange(length, device=images.device)[None]
            inside.append((places >= first) & (places < first + side))
        hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return images.masked_fill(hole, 0)

    def on_single(self) -> Any:
        """The same code for one image."""
        from torchvision.transforms import v2
        from torchvision.transforms.v2 import functional as F

        def cut(image: Any) -> Any:
            pixels = F.pil_to_tensor(image)[None]
            draws = self.draw(1, (pixels.shape[-2], pixels.shape[-1]), torch.default_generator)
            return F.to_pil_image(self.apply(pixels, *draws)[0])

        return v2.Lambda(cut)

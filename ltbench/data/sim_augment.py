"""The views of contrastive learning: random crops enlarged, colours changed, grey, blur; on whole batches.

Strengths are continuous, so operations on the whole batch use a separate strength for each image. They equal
torchvision's on single images up to one part in 255 per step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.data.policies import Draws, Policy
from ltbench.errors import UsageError
from ltbench.registry import POLICIES


@POLICIES.register_module()
class SimAugment(Policy):
    """Colours changed at random, sometimes grey or blurred: the views of contrastive learning.

    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020,
    https://arxiv.org/abs/2002.05709, with the strengths of the code of BCL, and of PaCo on CIFAR (on large images PaCo
    has no hue and changes all images): jitter 0.4 of brightness, contrast and saturation and 0.1 of hue for 80 % of
    images, in random order; 20 % grey; some blurred by a Gaussian of 0.1 to 2 pixels: on CIFAR half in the code of
    PaCo, a fifth in GPaCo's, none in ProCo's, and on large images none in BCL's.

    Args:
        jitter: Brightness, contrast and saturation: factors lie in [1 - jitter, 1 + jitter].
        hue: The hue is rotated by up to this share of the circle, 0 .. 0.5.
        grey: Share of images that lose their colour.
        blurred: Share of images that are blurred.
    """

    drawn = 4
    SHARE = 0.8

    def __init__(self, jitter: float = 0.4, hue: float = 0.1, grey: float = 0.2, blurred: float = 0.0) -> None:
        shares = (('jitter', jitter, 1.0), ('hue', hue, 0.5), ('grey', grey, 1.0), ('blurred', blurred, 1.0))
        for name, value, most in shares:
            if not 0 <= value <= most:
                raise UsageError(f'{name} of SimAugment lies between 0 and {most:g}, got {value}')
        self.jitter, self.hue, self.grey, self.blurred = jitter, hue, grey, blurred

    def draw(self, batch_size: int, side: tuple[int, int], random: torch.Generator) -> Draws:
        """Order of the changes ``[B, 4]`` (-1: none), factors ``[B, 4]``, grey ``[B]``, width of the blur ``[B]``."""
        order = torch.rand(batch_size, 4, generator=random).argsort(dim=1)
        order[torch.rand(batch_size, generator=random) >= self.SHARE] = -1
        factors = 1 + (2 * torch.rand(batch_size, 4, generator=random) - 1) * self.jitter
        factors[:, 3] = (factors[:, 3] - 1) * (self.hue / self.jitter if self.jitter else 0.0)
        grey = torch.rand(batch_size, generator=random) < self.grey
        widths = 0.1 + 1.9 * torch.rand(batch_size, generator=random)
        widths[torch.rand(batch_size, generator=random) >= self.blurred] = 0
        return order, factors, grey, widths

    def apply(self, images: Tensor, *draws: Tensor) -> Tensor:
        """Change colours in the order drawn, then make grey, then blur."""
        order, factors, grey, widths = (part.to(images.device) for part in draws)
        result = _recoloured(images, order, factors)
        rows = grey.nonzero().flatten()
        result[rows] = _grey(result[rows]).to(torch.uint8).expand(-1, result.shape[1], -1, -1)
        rows = (widths > 0).nonzero().flatten()
        if len(rows):
            result[rows] = _blurred(result[rows], widths[rows])
        return result

    def on_single(self) -> Any:
        """The same, built from torchvision's transforms."""
        from torchvision.transforms import v2

        colour = v2.ColorJitter(self.jitter, self.jitter, self.jitter, self.hue)
        steps = [v2.RandomApply([colour], p=self.SHARE), v2.RandomGrayscale(p=self.grey)]
        if self.blurred:
            steps.append(v2.RandomApply([v2.GaussianBlur(23, sigma=(0.1, 2.0))], p=self.blurred))
        return v2.Compose(steps)


def _recoloured(images: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """uint8 ``[B, channels, H, W]`` -> the same, with other colours.

    Args:
        images: The images.
        order: Order in which brightness, contrast, saturation and hue (0 .. 3) change, ``[B, 4]``; -1 is no change.
        factors: Strength of each of the four, ``[B, 4]``; the hue is rotated by a share of the circle.
    """
    result = images.clone()
    for step in range(4):
        for number, change in enumerate((_brighter, _more_contrast, _more_colour, _turned)):
            rows = (order[:, step] == number).nonzero().flatten()
            if len(rows):
                result[rows] = change(result[rows], factors[rows, number].view(-1, 1, 1, 1))
    return result


def _blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    return images.float().mul_(share).add_(others * (1 - share)).clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma ``[B, 1, H, W]``, float, rounded down."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.float().unbind(1)
    return (red * 0.2989 + green * 0.587 + blue * 0.114).floor_().unsqueeze(1)


def _brighter(images: Tensor, factor: Tensor) -> Tensor:
    return images.float().mul_(factor).clamp_(0, 255).to(torch.uint8)


def _more_contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def _more_colour(images: Tensor, factor: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blend(images, _grey(images), factor)


def _turned(images: Tensor, turn: Tensor) -> Tensor:
    """The hue rotated by a share of the circle; saturation and value are unchanged."""
    if images.shape[1] == 1:
        return images
    channels = images.float().div_(255).split(1, dim=1)
    red, green, blue = channels
    most = torch.maximum(torch.maximum(red, green), blue)
    span = most - torch.minimum(torch.minimum(red, green), blue)
    divisor = span.where(span > 0, 1)
    to_red, to_green, to_blue = ((most - channel).div_(divisor) for channel in channels)
    hue = torch.where(
        red == most, to_blue - to_green, torch.where(green == most, 2 + to_red - to_blue, 4 + to_green - to_red)
    )
    hue = (hue / 6).add_(turn)
    sixths = hue.sub_(hue.floor()).mul_(6)
    # each channel falls from its most to its least and back along the circle
    result = torch.empty_like(images)
    for channel, offset in enumerate((5.0, 3.0, 1.0)):
        place = sixths + offset
        place.sub_(6 * (place >= 6))
        fallen = torch.minimum(place, 4 - place).clamp_(0, 1).mul_(span)
        result[:, channel : channel + 1] = (most - fallen).mul_(255.999)
    return result


def _blurred(images: Tensor, widths: Tensor) -> Tensor:
    """Each image blurred by a Gaussian with its own standard deviation in pixels; borders are mirrored."""
    batch, channels, height, width = images.shape
    radius = min(11, (min(height, width) - 1) // 2)
    places = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    kernels = torch.exp(-0.5 * (places / widths[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = functional.pad(images.float(), [radius] * 4, mode='reflect').reshape(
        1, batch * channels, *_padded(images, radius)
    )
    rows = functional.conv2d(padded, kernels[:, None, None, :], groups=batch * channels)
    both = functional.conv2d(rows, kernels[:, None, :, None], groups=batch * channels)
    return both.view(batch, channels, height, width).round_().clamp_(0, 255).to(torch.uint8)


def _padded(images: Tensor, radius: int) -> Sequence[int]:
    return [length + 2 * radius for length in images.shape[-2:]]


@POLICIES.register_module()
class RandomResizedCrop(Policy):
    """A part of the image of random area and shape, enlarged to the image's size (bilinear), as torchvision draws it.

    For images in memory; for large ones the recipe's ``random_resized_crop`` does the same while they are decoded.

    Args:
        least: Smallest share of the area, above 0; the largest is 1. Width to height lies between 3/4 and 4/3.

    Raises:
        UsageError: If the share is out of range.
    """

    drawn = 1
    TRIES = 10

    def __init__(self, least: float = 0.2) -> None:
        if not 0 < least <= 1:
            raise UsageError(f'least of RandomResizedCrop lies above 0 and up to 1, got {least}')
        self.least = least

    def draw(self, batch_size: int, side: tuple[int, int], random: torch.Generator) -> Draws:
        """Top, left, height and width ``[B, 4]``: the first of ten tries that fits into the image, else all of it."""
        area = (
            side[0] * side[1] * (self.least + (1 - self.least) * torch.rand(batch_size, self.TRIES, generator=random))
        )
        shape = (math.log(4 / 3) * (2 * torch.rand(batch_size, self.TRIES, generator=random) - 1)).exp()
        sizes = torch.stack([(area / shape).sqrt().round(), (area * shape).sqrt().round()], dim=2)
        limits = torch.tensor(side, dtype=torch.float32)
        fits = ((sizes > 0) & (sizes <= limits)).all(dim=2)
        first = fits.float().argmax(dim=1)
        sizes = torch.where(fits.any(dim=1)[:, None], sizes[torch.arange(batch_size), first], limits)
        corners = (torch.rand(batch_size, 2, generator=random) * (limits - sizes + 1)).floor()
        return (torch.cat([corners, sizes], dim=1).long(),)

    def apply(self, images: Tensor, *draws: Tensor) -> Tensor:
        """Crop and enlarge: rows and columns of each image with its own weights."""
        (boxes,) = draws
        height, width = images.shape[-2:]
        down = _enlarging(boxes[:, 0], boxes[:, 2], height).to(images.device)
        across = _enlarging(boxes[:, 1], boxes[:, 3], width).to(images.device)
        enlarged = down[:, None] @ images.float() @ across[:, None].transpose(2, 3)
        return enlarged.round_().clamp_(0, 255).to(torch.uint8)

    def on_single(self) -> Any:
        """torchvision's, to the size of the image."""
        from torchvision.transforms import v2

        return v2.Lambda(lambda image: v2.RandomResizedCrop(image.size[::-1], scale=(self.least, 1.0))(image))


def _enlarging(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Weights ``[B, size, size]`` of the pixels of a line, of which ``length`` pixels are enlarged to ``size``."""
    centres = (torch.arange(size) + 0.5)[None] * (length / size)[:, None] - 0.5
    centres = centres.clamp(min=0).minimum(length[:, None] - 1.0) + first[:, None]  # beyond the edge, its pixels
    return (1 - (centres[:, :, None] - torch.arange(size)).abs()).clamp(min=0)

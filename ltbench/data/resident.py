"""Prepared images that stay on the device: crop, resize, flip and colours there, on whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.data.crops import PreparedImages
from ltbench.data.sim_augment import recoloured

SHARE_OF_MEMORY = 0.5  # of a GPU's free memory; the rest is for the network and its batches
AT_ONCE = 64  # images that are scaled together: 70 MB of crops as floats


def stays_on(dataset: PreparedImages, device: torch.device) -> bool:
    """Whether prepared images can stay on a GPU: there is room, and nothing but crop, flip and colours is asked for."""
    if device.type != 'cuda' or any(view.policies for view in dataset.views):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return bool(3 * dataset.images.sizes.prod(axis=1).sum() <= SHARE_OF_MEMORY * free)


class ResidentImages(PreparedImages):
    """The views of prepared images that are trained on, made on the device that the images are on.

    Each image is shown with the draws that it has everywhere else. After crop and flip one in a hundred of its values
    differs from those, by 1 or 2 of 255. Changes of brightness, contrast and saturation, which Pillow rounds otherwise,
    add up to 4, and one of the hue, which Pillow keeps in 8 bits, up to 30.

    Tested on the CPU; it has not been run on a GPU.

    Args:
        dataset: Prepared images and their views, none of them with policies.
        device: Where they are to be.
    """

    def __init__(self, dataset: PreparedImages, device: torch.device) -> None:
        vars(self).update(vars(dataset))
        self.device = device
        sizes = torch.from_numpy(self.images.sizes)
        lengths = 3 * sizes.prod(dim=1)
        self.starts, self.widths = lengths.cumsum(0) - lengths, sizes[:, 1]
        beyond = 3 * int(self.widths.max())  # lines are read at the length of the longest in their batch
        self.pixels = torch.zeros(int(lengths.sum()) + beyond, dtype=torch.uint8, device=device)
        for index, (start, length) in enumerate(zip(self.starts.tolist(), lengths.tolist(), strict=True)):
            self.pixels[start : start + length] = self.images[index].flatten().to(device)

    def _views(self, items: list[tuple[int, int]]) -> list[Tensor]:
        indices = torch.tensor([index for index, _ in items])
        boxes, flips = map(torch.tensor, self.draw(items))
        colours = []
        for _, seed in items:
            torch.default_generator.manual_seed(seed)
            colours.append([view.draw_colours() for view in self.views])
        seen = []
        for number, view in enumerate(self.views):
            several = zip(*(part.split(AT_ONCE) for part in (indices, boxes[:, number], flips[:, number])), strict=True)
            images = torch.cat([self._crops(view.side, *parts) for parts in several])
            if view.jitter:
                orders, factors = (torch.tensor(part) for part in zip(*(row[number] for row in colours), strict=True))
                images = recoloured(images, orders.to(self.device), factors.to(self.device))
            seen.append(images.permute(0, 2, 3, 1).contiguous())
        return seen

    def _crops(self, side: int, indices: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
        """uint8 ``[B, 3, side, side]`` of images, boxes ``[B, 4]`` (top, left, height, width) and flips ``[B]``."""
        tops, lefts, heights, widths = boxes.unbind(1)
        highest, widest = int(heights.max()), int(widths.max())
        rows = tops[:, None] + torch.arange(highest).minimum(heights[:, None] - 1)
        first = self.starts[indices, None] + 3 * (rows * self.widths[indices, None] + lefts[:, None])
        lines = self.pixels.as_strided((len(self.pixels) - 3 * widest + 1, 3 * widest), (1, 1))
        parts = torch.index_select(lines, 0, first.flatten().to(self.device)).view(-1, highest, widest, 3)
        down, across = scaling(heights, highest, side), scaling(widths, widest, side)
        across[flips] = across[flips].flip(1)
        across, down = across.to(self.device)[:, None].mT, down.to(self.device)[:, None]
        whole = (parts.permute(0, 3, 1, 2).float() @ across).round_()  # between the two, as Pillow has it
        return (down @ whole).round_().clamp_(0, 255).to(torch.uint8)


def scaling(lengths: Tensor, longest: int, side: int) -> Tensor:
    """Weights ``[B, side, longest]`` that scale lines of ``lengths`` pixels to ``side``, bilinear and antialiased.

    What lies in a line beyond its length has the weight 0.
    """
    scale = lengths[:, None, None] / side
    centres = (torch.arange(side) + 0.5)[:, None] * scale
    distances = (torch.arange(longest) + 0.5 - centres).abs() / scale.clamp(min=1)
    weights = (1 - distances).clamp(min=0) * (torch.arange(longest) < lengths[:, None, None])
    return weights / weights.sum(dim=2, keepdim=True)

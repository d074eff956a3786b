"""The ResNet of the CIFAR long-tail literature: three stages of 16, 32 and 64 channels, parameter-free shortcuts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import UsageError
from ltbench.models.experts import copies, first_own_stage, run_parts
from ltbench.registry import MODELS

STAGES = 3  # after the stem


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut: every second pixel, new channels zero."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C_in, H, W]`` -> ``[B, C, H / stride, W / stride]``."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride != 1 or self.new_channels:
            before = self.new_channels // 2
            x = functional.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before)
            )
        return functional.relu(out + x)


@MODELS.register_module()
class CIFARResNet(nn.Module):
    """ResNet-8/20/32/44/56 for small images, with option-A shortcuts and Kaiming-normal convolutions.

    He et al., CVPR 2016 (section 4.2), https://arxiv.org/abs/1512.03385, as used by LDAM (kaidic/LDAM-DRW@2536330).

    Args:
        depth: 6n + 2.
        in_channels: 3 for colour, 1 for grey images.
        width: Multiplies the channels of every stage.
        experts: K copies of the last stages after shared first ones; their features are stacked.
        expert_width: Multiplies the channels of those copies.
        experts_from: The first stage that each expert has for itself: 0 is the stem (whole networks), 2 as in RIDE; or
            ``'last_block'`` of the last stage, as in BBN.

    Raises:
        UsageError: If the depth is not 6n + 2, there is no expert or no such stage, or channels would decrease.
    """

    def __init__(
        self,
        depth: int = 32,
        in_channels: int = 3,
        width: float = 1.0,
        experts: int = 1,
        expert_width: float = 1.0,
        experts_from: int | str = 2,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UsageError(f'depth of CIFARResNet is 6n + 2 (8, 20, 32, 56, ...), got {depth}')
        blocks = (depth - 2) // 6
        own = first_own_stage('CIFARResNet', experts, experts_from, expert_width, [blocks] * STAGES)
        stem, first, second, third = (
            round(count * width * (expert_width if stage >= own else 1.0))
            for stage, count in enumerate((16, 16, 32, 64))
        )
        if not 1 <= stem <= first <= second <= third:
            raise UsageError(f'CIFARResNet would have {first}, {second} and {third} channels; they must not decrease')
        parted = own > STAGES  # the last block alone
        self.conv1 = copies(experts, own <= 0, lambda: nn.Conv2d(in_channels, stem, 3, padding=1, bias=False))
        self.bn1 = copies(experts, own <= 0, lambda: nn.BatchNorm2d(stem))
        self.layer1 = copies(experts, own <= 1, lambda: _stage(stem, first, blocks, stride=1))
        self.layer2 = copies(experts, own <= 2, lambda: _stage(first, second, blocks, stride=2))
        self.layer3 = copies(experts, own <= 3, lambda: _stage(second, third, blocks - parted, stride=2))
        self.branches = copies(experts, True, lambda: BasicBlock(third, third, 1)) if parted else None
        self.experts = experts
        self.out_features = third
        self.head_init = 'kaiming'
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @property
    def last_stages(self) -> list[nn.Module]:
        """The last stage (of each expert), which NBN normalises by default."""
        if self.branches is not None:
            return [self.layer3, self.branches]
        return [self.layer3] if self.experts == 1 else list(self.layer3)  # type: ignore[call-overload]

    def forward(self, images: Tensor, expert: int | None = None) -> Tensor:
        """Images ``[B, in_channels, H, W]`` -> pooled features ``[B, F]``, or ``[B, K, F]`` of K experts.

        Args:
            images: The images.
            expert: The only expert to run, for features ``[B, F]``.
        """
        stages = [self.layer1, self.layer2, self.layer3]
        stages += [] if self.branches is None else [self.branches]
        maps = run_parts((self.conv1, self.bn1, functional.relu, *stages), images, expert)
        pooled = [each.mean(dim=(2, 3)) for each in maps]
        return pooled[0] if self.experts == 1 or expert is not None else torch.stack(pooled, dim=1)


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

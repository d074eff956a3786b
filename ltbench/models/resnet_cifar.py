"""The ResNet of the CIFAR long-tail literature: three stages of 16, 32 and 64 channels, parameter-free shortcuts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import UsageError
from ltbench.registry import MODELS


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

    Raises:
        UsageError: If the depth is not 6n + 2.
    """

    def __init__(self, depth: int = 32, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UsageError(f'depth of CIFARResNet is 6n + 2 (8, 20, 32, 56, ...), got {depth}')
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.out_features = 64
        self.head_init = 'kaiming'
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @property
    def last_stage(self) -> nn.Module:
        """The stage that NBN normalises by default."""
        return self.layer3

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[B, in_channels, H, W]`` -> pooled features ``[B, 64]``."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean(dim=(2, 3))


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

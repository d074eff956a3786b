"""ResNets of ImageNet size, built from torchvision's blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ltbench.errors import UsageError, unknown
from ltbench.models.experts import copies, first_own_stage, run_parts
from ltbench.models.pretrained import begin_with, check_declared
from ltbench.registry import MODELS

CHANNELS = (64, 128, 256, 512)  # of the four stages, before the expansion of the blocks


@dataclass(frozen=True)
class Architecture:
    """What distinguishes the networks.

    Attributes:
        block: Name of torchvision's block.
        blocks: Number of blocks of each stage.
        groups: Number of groups of the 3x3 convolutions.
        group_width: Channels of a group in a stage of 64.
    """

    block: str
    blocks: tuple[int, int, int, int]
    groups: int = 1
    group_width: int = 64

    @property
    def expansion(self) -> int:
        """Output channels of a block per channel of its stage."""
        return {'BasicBlock': 1, 'Bottleneck': 4}[self.block]


NETWORKS = {
    'resnet10': Architecture('BasicBlock', (1, 1, 1, 1)),
    'resnet18': Architecture('BasicBlock', (2, 2, 2, 2)),
    'resnet50': Architecture('Bottleneck', (3, 4, 6, 3)),
    'resnet101': Architecture('Bottleneck', (3, 4, 23, 3)),
    'resnet152': Architecture('Bottleneck', (3, 8, 36, 3)),
    'resnext50_32x4d': Architecture('Bottleneck', (3, 4, 6, 3), groups=32, group_width=4),
}


@MODELS.register_module()
class TorchvisionResNet(nn.Module):
    """ResNet-10/18/50/101/152 or ResNeXt-50, by default with Kaiming-normal (fan-out) convolutions, not pre-trained.

    He et al., CVPR 2016, https://arxiv.org/abs/1512.03385; Xie et al., CVPR 2017, https://arxiv.org/abs/1611.05431. As
    in the official codes of Decoupling and NBN; the residual branches' last BN starts at 1, not 0. At widths of 1 and
    one expert it is torchvision's network, with the same initial weights bit for bit. By default experts split after
    the second stage, as in the ImageNet networks of RIDE (frank-xwang/RIDE-LongTailRecognition@ab8be5c, whose
    ``reduce_dimension`` is ``expert_width=0.75``).

    Args:
        name: ``'resnet10'``, ``'resnet18'``, ``'resnet50'``, ``'resnet101'``, ``'resnet152'`` or ``'resnext50_32x4d'``.
        in_channels: 3 for colour, 1 for grey images.
        width: Multiplies the channels of the stem and of every stage.
        experts: K copies of the last stages after shared first ones; their features are stacked.
        expert_width: Multiplies the channels of those copies.
        experts_from: The first stage that each expert has for itself: 0 is the stem (whole networks), 3 as in RIDE; or
            ``'last_block'`` of the last stage, as in BBN.
        conv_init: ``'kaiming'``, or ``'default'``: PyTorch's own, as in NBN's official ResNeXt-50 (its ResNet-50 has
            Kaiming's; yuxiangbao/NBN@7365e21).
        weights: Pre-trained weights to start from: ``dict(sha256='394f9c45')``, the first digits of the sha256 of
            torchvision's file, expected where torchvision puts it (``$TORCH_HOME/hub/checkpoints``), or with
            ``file='PATH'`` any other file in torchvision's format. Its classifier is not loaded; all experts start with
            the same weights. On the meta device nothing is read.

    Raises:
        DataError: If the file is missing, not the declared one or does not fit.
        UsageError: For another name or initialisation, no expert or no such stage, or widths that leave a stage without
            channels or, in ResNeXt, a group with a fraction of a channel.
    """

    def __init__(
        self,
        name: str = 'resnet50',
        in_channels: int = 3,
        width: float = 1.0,
        experts: int = 1,
        expert_width: float = 1.0,
        experts_from: int | str = 3,
        conv_init: str = 'kaiming',
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise unknown('network', name, NETWORKS)
        if conv_init not in ('kaiming', 'default'):
            raise unknown('conv_init of TorchvisionResNet', conv_init, ('kaiming', 'default'))
        network, of_experts = NETWORKS[name], width * expert_width
        own = first_own_stage('TorchvisionResNet', experts, experts_from, expert_width, network.blocks)
        stem, *channels = (
            round(count * (of_experts if stage >= own else width))
            for stage, count in enumerate((CHANNELS[0], *CHANNELS))
        )
        _check_channels(name, stem, channels)
        reached = (stem, *(count * network.expansion for count in channels))

        def first_convolution(colours: int) -> nn.Module:
            return copies(experts, own == 0, lambda: nn.Conv2d(colours, stem, 7, 2, padding=3, bias=False))

        def stage(number: int) -> nn.Module:
            blocks = network.blocks[number] - (own > len(CHANNELS) and number == 3)  # only its last block is split
            make = partial(_stage, network, number, reached[number], channels[number], blocks)
            return copies(experts, number + 1 >= own, make)

        self.conv1 = first_convolution(3)
        self.bn1 = copies(experts, own == 0, lambda: nn.BatchNorm2d(stem))
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (stage(number) for number in range(len(CHANNELS)))
        block = partial(_block, network, reached[-1], channels[-1])
        self.branches = copies(experts, True, block) if own > len(CHANNELS) else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.experts, self.out_features = experts, reached[-1]
        nn.Linear(self.out_features, 1000)  # torchvision draws its classifier here, and later draws depend on it
        if conv_init == 'kaiming':
            _init_kaiming(self)
        if in_channels != 3:
            self.conv1 = first_convolution(in_channels)
            if conv_init == 'kaiming':
                _init_kaiming(self.conv1)
        if weights is not None:
            check_declared(weights)
            if not next(self.parameters()).is_meta:
                begin_with(self, weights, name, partial(_name_in_file, network.blocks[-1] - 1))

    @property
    def last_stages(self) -> list[nn.Module]:
        """The last stage (of each expert), which NBN normalises by default."""
        if self.branches is not None:
            return [self.layer4, self.branches]
        return [self.layer4] if self.experts == 1 else list(self.layer4)  # type: ignore[call-overload]

    def forward(self, images: Tensor, expert: int | None = None) -> Tensor:
        """Images ``[B, in_channels, H, W]`` -> pooled features ``[B, F]``, or ``[B, K, F]`` of K experts.

        Args:
            images: The images.
            expert: The only expert to run, for features ``[B, F]``.
        """
        stages = [self.layer1, self.layer2, self.layer3, self.layer4]
        stages += [] if self.branches is None else [self.branches]
        maps = run_parts((self.conv1, self.bn1, self.relu, self.maxpool, *stages, self.avgpool), images, expert)
        features = [each.flatten(1) for each in maps]
        return features[0] if self.experts == 1 or expert is not None else torch.stack(features, dim=1)


def _name_in_file(last_block: int, name: str) -> str:
    """torchvision's name of a weight: weights of an expert have the name that they have in a single network."""
    name = re.sub(r'^branches\.\d+', f'layer4.{last_block}', name)
    return re.sub(r'^(layer\d(?=\.\d+\.\d)|conv1|bn1)\.\d+', r'\1', name)


def _init_kaiming(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')


def _check_channels(name: str, stem: int, channels: list[int]) -> None:
    """Refuse widths that torchvision's blocks would round down silently, or fail on later."""
    shown = f'{name} would have {", ".join(map(str, channels[:-1]))} and {channels[-1]} channels'
    if min(stem, *channels) < 1:
        raise UsageError(f'{shown}; every stage needs one or more: choose a larger width or expert_width')
    unit = CHANNELS[0] // NETWORKS[name].group_width  # channels of a stage for each channel of a group
    if any(count % unit for count in channels):
        raise UsageError(
            f'{shown}; its {NETWORKS[name].groups} groups need multiples of {unit}: choose a multiple of '
            f'{unit / CHANNELS[0]:g} for width and of {unit / CHANNELS[2]:g} for width times expert_width'
        )


def _stage(network: Architecture, number: int, in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    """A stage of torchvision's blocks, drawn in torchvision's order."""
    from torchvision.models import resnet  # imports all of torchvision, a second that small images do not need

    stride, reached = 1 if number == 0 else 2, channels * network.expansion
    shortcut = None
    if stride != 1 or in_channels != reached:
        shortcut = nn.Sequential(resnet.conv1x1(in_channels, reached, stride), nn.BatchNorm2d(reached))
    first = _block(network, in_channels, channels, stride, shortcut)
    return nn.Sequential(first, *(_block(network, reached, channels) for _ in range(blocks - 1)))


def _block(
    network: Architecture, in_channels: int, channels: int, stride: int = 1, shortcut: nn.Module | None = None
) -> nn.Module:
    from torchvision.models import resnet

    groups = {'groups': network.groups, 'base_width': network.group_width}
    return getattr(resnet, network.block)(in_channels, channels, stride, shortcut, **groups)

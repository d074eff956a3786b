"""ResNets of ImageNet size, from torchvision."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ltbench.errors import unknown
from ltbench.registry import MODELS

NETWORKS = ('resnet10', 'resnet18', 'resnet50', 'resnet101', 'resnet152', 'resnext50_32x4d')


@MODELS.register_module()
class TorchvisionResNet(nn.Module):
    """ResNet-10/18/50/101/152 or ResNeXt-50 with Kaiming-normal (fan-out) convolutions, without pre-training.

    He et al., CVPR 2016, https://arxiv.org/abs/1512.03385; Xie et al., CVPR 2017, https://arxiv.org/abs/1611.05431. As
    in the official codes of Decoupling and NBN; the residual branches' last BN starts at 1, not 0.

    Args:
        name: ``'resnet10'``, ``'resnet18'``, ``'resnet50'``, ``'resnet101'``, ``'resnet152'`` or ``'resnext50_32x4d'``.
        in_channels: 3.

    Raises:
        UsageError: For another name.
    """

    def __init__(self, name: str = 'resnet50', in_channels: int = 3) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise unknown('network', name, NETWORKS)
        network = _network(name)
        self.out_features = network.fc.in_features
        self.conv1, self.bn1, self.relu, self.maxpool = network.conv1, network.bn1, network.relu, network.maxpool
        self.layer1, self.layer2, self.layer3 = network.layer1, network.layer2, network.layer3
        self.layer4, self.avgpool = network.layer4, network.avgpool
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode='fan_out', nonlinearity='relu')

    @property
    def last_stages(self) -> list[nn.Module]:
        """The last stage, which NBN normalises by default."""
        return [self.layer4]

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[B, in_channels, H, W]`` -> pooled features ``[B, F]``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)


def _network(name: str) -> Any:
    from torchvision.models import resnet  # with all that torchvision has: a second, which small images need not spend

    if name == 'resnet10':
        return resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1])
    return getattr(resnet, name)()

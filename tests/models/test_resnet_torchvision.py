"""Networks of ImageNet size: sizes against known values, and what NBN normalises in them."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ltbench.errors import UsageError
from ltbench.models.normalization import NormalizedBatchNorm2d, NormalizedBN
from ltbench.models.resnet_torchvision import TorchvisionResNet


@pytest.mark.parametrize(
    ('name', 'features', 'parameters', 'gigamacs'),
    [  # with the 1000-class head: torchvision's published counts; MACs at 224 pixels without the head
        ('resnet10', 512, 5_418_792, 0.89),
        ('resnet50', 2048, 25_557_032, 4.09),
        ('resnet101', 2048, 44_549_160, 7.80),
        ('resnet152', 2048, 60_192_808, 11.51),
        ('resnext50_32x4d', 2048, 25_028_904, 4.23),
    ],
)
def test_sizes(name, features, parameters, gigamacs):
    with torch.device('meta'):
        network = TorchvisionResNet(name)
        images = torch.empty(1, 3, 224, 224)
    assert network.out_features == features
    assert sum(p.numel() for p in network.parameters()) + 1000 * features + 1000 == parameters
    with FlopCounterMode(display=False) as counter:
        assert network.eval()(images).shape == (1, features)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gigamacs, abs=0.01)


def test_nbn_normalises_the_four_layers_of_the_official_code():
    network = TorchvisionResNet('resnet50')
    NormalizedBN()(network)
    replaced = [name for name, module in network.named_modules() if isinstance(module, NormalizedBatchNorm2d)]
    assert replaced == ['layer4.0.bn3', 'layer4.0.downsample.1', 'layer4.1.bn3', 'layer4.2.bn3']
    NormalizedBN(scope='all')(network)
    kinds = [type(module) for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert kinds == [NormalizedBatchNorm2d] * 53


def test_initial_weights_are_those_of_the_official_codes():
    torch.manual_seed(0)
    network = TorchvisionResNet('resnet10')
    weight = network.layer4[0].conv2.weight  # N(0, sqrt(2 / (k * k * out)))
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert (network.layer4[0].bn2.weight == 1).all()  # not the zero-initialised residual


def test_an_unknown_network_is_an_error_with_near_misses():
    with pytest.raises(UsageError, match='did you mean resnet50'):
        TorchvisionResNet('resnet5O')

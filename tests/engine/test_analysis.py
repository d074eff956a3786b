"""What is said about the inside of a network, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ltbench.engine.analysis import FeatureSums, bn_scale, channel_strength, describe, describe_bn
from ltbench.models.classifier import LongTailClassifier
from ltbench.models.normalization import NormalizedBN

COUNTS = [200, 150, 10, 5]


def network(normalization=None, head='LinearHead'):
    config = {
        'backbone': {'type': 'CIFARResNet', 'depth': 8},
        'head': {'type': head},
        'normalization': normalization,
        'rectification': None,
        'recipe': {'precision': 'fp32'},
    }
    torch.manual_seed(0)
    return LongTailClassifier(config, num_classes=4, in_channels=1)


def test_the_vectors_are_those_that_act():
    model = network({'type': 'NormalizedBN', 'scope': 'all', 'scalar': 'network', 'bias_init': 'ones'})
    last = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        last.weight.copy_(torch.arange(64.0))
        last.weight_scalar.fill_(3.0)
    told = describe_bn(model.backbone)
    expected = 3 * np.arange(64) / np.linalg.norm(np.arange(64))
    assert told['last']['weight'] == pytest.approx(expected, rel=1e-4)
    assert told['last']['bias'] == pytest.approx([3 / 8] * 64, rel=1e-4)
    assert told['layers'][-1]['weight_mean'] == pytest.approx(expected.mean(), rel=1e-4)
    assert told['layers'][-1]['weight_std'] == pytest.approx(expected.std(), rel=1e-4)
    assert bn_scale(model) == 3.0
    assert bn_scale(network()) is None
    assert len(told['layers']) == len(describe_bn(network().backbone)['layers']) == 7
    assert len(describe_bn(network({'type': 'NoAffineBN'}).backbone)['layers']) == 6


def test_the_strength_of_channels_by_hand():
    # one image of each class; channel 0 speaks for class 0, channel 1 for class 3, channel 2 for nobody in particular
    features = torch.tensor([[9.0, 0.0, 1.0], [8.0, 1.0, 1.0], [2.0, 3.0, 1.0], [1.0, 4.0, 1.0]])
    weight = torch.tensor([[1.0, -1.0, 0.1], [1.0, -1.0, 0.1], [-1.0, 1.0, 0.1], [-1.0, 1.0, 0.1]])
    sums = torch.stack([torch.ones(4, 3), features, features**2]).double()
    # centred by class means 5, 2, 1 and times the weight: channel 0 gives many (4 + 3) / 2 and few (3 + 4) / 2, a tie
    weight[0, 0] = 2.0
    told = channel_strength(sums, weight, COUNTS)
    assert told['rare_group'] == 'few'
    assert told['frequent'] == {'channels': 3, 'mean': 2.0, 'std': pytest.approx(np.std([2, 1, 3, 4, 1, 1]), rel=1e-4)}
    assert told['rare'] == {'channels': 0, 'mean': 0.0, 'std': 0.0}
    weight[3, 1] = 2.0
    told = channel_strength(sums, weight, COUNTS)
    assert told['frequent'] == {'channels': 2, 'mean': 1.25, 'std': pytest.approx(np.std([2, 1, 1, 1]), rel=1e-4)}
    assert told['rare'] == {'channels': 1, 'mean': 3.5, 'std': 0.5}
    assert channel_strength(sums, weight, [200, 150, 50, 30])['rare_group'] == 'medium'
    assert channel_strength(sums, weight, [200, 150, 150, 200]) == {}


def test_sums_are_those_of_what_the_head_sees():
    model = network().eval()
    images, labels = torch.randn(10, 1, 8, 8), np.array([0, 1, 2, 3, 3, 2, 1, 0, 0, 0])
    sums = FeatureSums(labels, num_classes=4)
    with sums.watching(model), torch.no_grad():
        for part in images.split(4):
            model(part)
    with torch.no_grad():
        model(images)  # no longer watched
        features = model.backbone(images).double()
    assert sums.sums[0, :, 0].tolist() == [4, 2, 2, 2]
    assert torch.allclose(sums.sums[1, 3], features[[3, 4]].sum(0))
    assert torch.allclose(sums.sums[2, 3], features[[3, 4]].square().sum(0))
    assert set(describe(model, sums, COUNTS)) == {'bn', 'strength'}


def test_scalars_that_layers_share_count_once():
    model = network()
    NormalizedBN(scope='all', scalar='layer')(model.backbone)
    scalars = {id(s): s for m in model.modules() for s in getattr(m, 'scalars', ())}
    with torch.no_grad():
        for value, scalar in enumerate(scalars.values()):
            scalar.fill_(value)
    assert bn_scale(model) == np.mean(range(7))

"""Networks of ImageNet size: sizes against known values, widths, experts, and what NBN normalises in them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.errors import UsageError
from ltbench.method import make_plan
from ltbench.models.classifier import LongTailClassifier, build_loss
from ltbench.models.normalization import NormalizedBatchNorm2d, NormalizedBN
from ltbench.models.resnet_torchvision import TorchvisionResNet

plugins.load()


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


def digest(state: dict[str, torch.Tensor]) -> str:
    whole = hashlib.sha256()
    for name, tensor in state.items():
        whole.update(f'{name} {tuple(tensor.shape)}'.encode())
        whole.update(tensor.numpy().tobytes())
    return whole.hexdigest()


@pytest.mark.parametrize('name', ['resnet10', 'resnet50', 'resnext50_32x4d'])
def test_at_width_one_and_with_one_expert_it_is_torchvisions_network_bit_for_bit(name):
    torch.manual_seed(5)
    published = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1]) if name == 'resnet10' else getattr(resnet, name)()
    drawn_next = torch.rand(3)
    published.fc = nn.Identity()
    torch.manual_seed(5)
    network = TorchvisionResNet(name, width=1, experts=1, expert_width=1)
    assert torch.equal(torch.rand(3), drawn_next)  # the head's initial weights
    assert digest(network.state_dict()) == digest(published.state_dict())
    images = torch.randn(2, 3, 40, 40)
    assert torch.equal(network(images), published(images))  # in training mode: statistics of the batch
    assert digest(network.state_dict()) == digest(published.state_dict())


def gigamacs(name: str, **options: float) -> float:
    """Billions of multiply-adds of the network without a head at 224 pixels."""
    with torch.device('meta'):
        network, images = TorchvisionResNet(name, **options), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        network.eval()(images)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ('name', 'features', 'parameters'),
    [  # counted in the official code, whose weights fit name by name and give the same features
        ('resnet10', 384, 8_249_792),
        ('resnet50', 1536, 39_069_248),
        ('resnext50_32x4d', 1536, 38_281_024),
    ],
)
def test_three_narrow_experts_are_the_official_networks_of_ride(name, features, parameters):
    with torch.device('meta'):
        network = TorchvisionResNet(name, experts=3, expert_width=0.75)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.out_features == features
    assert [len(network.layer3), len(network.layer4), len(network.last_stages)] == [3, 3, 3]
    assert network.layer2[-1].bn2.num_features == (256 if 'resnext' in name else 128)  # shared, of full width


def test_each_expert_has_its_own_last_two_stages():
    torch.manual_seed(0)
    network = TorchvisionResNet('resnet10', width=0.125, experts=3, expert_width=0.75).eval()
    images = torch.randn(2, 3, 32, 32)
    features = network(images)
    assert features.shape == (2, 3, network.out_features) == (2, 3, 48)
    assert not torch.allclose(features[:, 0], features[:, 1])  # each begins elsewhere
    for stage in (network.layer3, network.layer4):
        nn.init.normal_(stage[1][0].conv1.weight)
        changed = network(images)
        assert [torch.equal(features[:, k], changed[:, k]) for k in range(3)] == [True, False, True]
        features = changed
    nn.init.normal_(network.layer2[0].conv1.weight)
    assert not any(torch.equal(features[:, k], network(images)[:, k]) for k in range(3))


@pytest.mark.parametrize('name', ['resnet10', 'resnet50', 'resnext50_32x4d'])
def test_width_multiplies_all_channels(name):
    with torch.device('meta'):
        plain, half = TorchvisionResNet(name), TorchvisionResNet(name, width=0.5)
    shapes = [{key: tuple(p.shape) for key, p in network.named_parameters()} for network in (half, plain)]
    assert shapes[0].keys() == shapes[1].keys()
    for key, (out, *rest) in shapes[0].items():
        into = [1 if key == 'conv1.weight' else 2, 1, 1][: len(rest)]  # the image keeps its three colours
        assert shapes[1][key] == (2 * out, *(a * b for a, b in zip(rest, into, strict=True))), key
    assert half.layer1[0].conv2.groups == plain.layer1[0].conv2.groups
    assert half.out_features == plain.out_features // 2


def test_wide_at_its_default_has_about_the_flops_of_ride_on_resnet50():
    assert gigamacs('resnet50', experts=3, expert_width=0.75) == pytest.approx(5.77, abs=0.01)
    assert gigamacs('resnet50', width=1.2) == pytest.approx(5.87, abs=0.01)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(name='resnext50_32x4d', width=1.2),
            'resnext50_32x4d would have 77, 154, 307 and 614 channels; its 32 groups need multiples of 16: '
            'choose a multiple of 0.25 for width and of 0.0625 for width times expert_width',
        ),
        (dict(name='resnext50_32x4d', experts=3, expert_width=0.7), 'would have 64, 128, 179 and 358 channels; its 32'),
        (dict(name='resnext50_32x4d', width=0.125), 'would have 8, 16, 32 and 64 channels; its 32 groups'),
        (dict(name='resnet50', width=0.005), 'would have 0, 1, 1 and 3 channels; every stage needs one or more'),
        (dict(name='resnet50', width=-1.0), 'every stage needs one or more: choose a larger width'),
        (dict(name='resnet50', experts=0), 'experts of TorchvisionResNet is 1 or larger, got 0'),
    ],
)
def test_sizes_that_torchvision_would_round_or_fail_on_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TorchvisionResNet(**options)


def test_multiples_of_a_quarter_fit_the_groups_of_resnext():
    with torch.device('meta'):
        for width in (0.25, 0.75, 1.25):
            network = TorchvisionResNet('resnext50_32x4d', width=width)
            assert network.layer1[0].conv2.weight.shape[:2] == (128 * width, 4 * width)


def test_nbn_normalises_the_four_layers_of_the_official_code():
    network = TorchvisionResNet('resnet50')
    NormalizedBN()(network)
    replaced = [name for name, module in network.named_modules() if isinstance(module, NormalizedBatchNorm2d)]
    assert replaced == ['layer4.0.bn3', 'layer4.0.downsample.1', 'layer4.1.bn3', 'layer4.2.bn3']
    NormalizedBN(scope='all')(network)
    kinds = [type(module) for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert kinds == [NormalizedBatchNorm2d] * 53


def test_nbn_normalises_the_last_stage_of_every_expert_by_one_scalar():
    network = TorchvisionResNet('resnet50', width=0.125, experts=2)
    NormalizedBN()(network)
    replaced = {name: part for name, part in network.named_modules() if isinstance(part, NormalizedBatchNorm2d)}
    layers = ['0.bn3', '0.downsample.1', '1.bn3', '2.bn3']
    assert list(replaced) == [f'layer4.{expert}.{layer}' for expert in (0, 1) for layer in layers]
    assert len({id(scalar) for part in replaced.values() for scalar in part.scalars}) == 1


@pytest.mark.parametrize('name', ['resnet10', 'resnext50_32x4d'])
def test_normalisation_cosine_heads_and_rectification_work_on_experts(name):
    torch.manual_seed(0)
    config = {
        'backbone': dict(type='TorchvisionResNet', name=name, width=0.25, experts=3, expert_width=0.75),
        'normalization': dict(type='NormalizedBN', scope='all'),
        'head': dict(type='HeadOfEach', experts=3, head=dict(type='CosineHead')),
        'rectification': dict(type='LogitBatchNorm'),
        'recipe': {'precision': 'fp32'},
    }
    model = LongTailClassifier(config, num_classes=5, in_channels=3)
    model.loss = build_loss(dict(type='RIDELoss', balance=0.05), None, [9, 7, 5, 3, 1])
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 5
    logits = model.logits(images)
    assert logits.shape == (6, 3, 5)
    assert torch.allclose(logits.mean(dim=0), torch.zeros(3, 5), atol=1e-5)  # rectified over images, each expert
    assert torch.equal(model(images), model.logits(images).mean(dim=1))
    model(images, labels, mode='loss')['loss'].backward()
    missing = [key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not missing


RELEASED = (
    'nbn(scope=whole_last_stage, scalar=expert, rectify_logits=True)+ride(expert_width=1.0, heads=linear, loss=free)'
)


def released(num_classes: int, **backbone: Any) -> LongTailClassifier:
    """NBN's network of three experts, as the methods declare it."""
    benchmark = load_benchmark('imagenet_lt')
    benchmark = replace(benchmark, backbone={**benchmark.backbone, **backbone})
    (stage,) = make_plan(RELEASED, benchmark, 'data', 0).stages()
    return LongTailClassifier(stage.config, num_classes, in_channels=3)


def test_the_released_network_of_three_experts_has_the_parameters_of_the_official_one():
    """yuxiangbao/NBN@7365e21, resnet50_ride_NBN with Linear_fcbn_notaffine: counted there, 73,781,351, of which 111 are
    its vector of scalars; 3 of these act. And added up from the table of He et al."""
    with torch.device('meta'):
        network = released(1000)

    def stage(inside: int, width: int, blocks: int) -> int:
        """Convolutions 1x1, 3x3, 1x1 with their BN; a projection in the first block."""
        first = inside * width + 9 * width**2 + 4 * width**2 + 12 * width + inside * 4 * width + 8 * width
        other = 4 * width * width + 9 * width**2 + 4 * width**2 + 12 * width
        return first + (blocks - 1) * other

    shared = 3 * 49 * 64 + 128 + stage(64, 64, 3) + stage(256, 128, 4)
    each = stage(512, 256, 6) + stage(1024, 512, 3) + 2048 * 1000 + 1000 + 1
    assert sum(p.numel() for p in network.parameters()) == shared + 3 * each == 73_781_351 - 111 + 3


def test_the_released_network_computes_what_the_formulas_say():
    """Written out with the functions of torch, from the weights alone, with batch and with running statistics."""
    torch.manual_seed(0)
    network, images = released(7, width=0.125).double(), torch.randn(5, 3, 64, 64).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            if name.endswith('_scalar'):
                parameter.copy_(2.0 + torch.rand_like(parameter))
        network.train()(images)  # moves the running statistics
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for training in (True, False):
        network.load_state_dict(state)
        expected = torch.stack([written_out(state, images, expert, training) for expert in range(3)], dim=1)
        torch.testing.assert_close(network.train(training).logits(images), expected)
        if not training:
            torch.testing.assert_close(network(images), expected.mean(dim=1))


def written_out(state: dict[str, Tensor], images: Tensor, expert: int, training: bool) -> Tensor:
    """Logits ``[B, C]`` of one expert."""

    def standardised(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        if training:
            mean, var = x.mean(axes), x.var(axes, unbiased=False)
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        return (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f'{name}.weight'], state[f'{name}.bias']
        if '.layer4.' in name:
            a = state[f'{name}.weight_scalar']
            weight, bias = (a * vector / (vector.norm() + 1e-6) for vector in (weight, bias))
        x = standardised(x, state[f'{name}.running_mean'], state[f'{name}.running_var'])
        return x * weight[:, None, None] + bias[:, None, None]

    def block(x: Tensor, name: str, stride: int) -> Tensor:
        y = norm(functional.conv2d(x, state[f'{name}.conv1.weight']), f'{name}.bn1').relu()
        y = norm(functional.conv2d(y, state[f'{name}.conv2.weight'], stride=stride, padding=1), f'{name}.bn2').relu()
        y = norm(functional.conv2d(y, state[f'{name}.conv3.weight']), f'{name}.bn3')
        if f'{name}.downsample.0.weight' in state:
            x = functional.conv2d(x, state[f'{name}.downsample.0.weight'], stride=stride)
            x = norm(x, f'{name}.downsample.1')
        return (x + y).relu()

    x = functional.conv2d(images, state['backbone.conv1.weight'], stride=2, padding=3)
    x = functional.max_pool2d(norm(x, 'backbone.bn1').relu(), 3, stride=2, padding=1)
    stages = ('layer1', 'layer2', f'layer3.{expert}', f'layer4.{expert}')
    for stage, blocks in zip(stages, (3, 4, 6, 3), strict=True):
        for number in range(blocks):
            x = block(x, f'backbone.{stage}.{number}', 2 if number == 0 and stage != 'layer1' else 1)
    head = f'head.base.heads.{expert}'
    logits = x.mean(dim=(2, 3)) @ state[f'{head}.weight'].T + state[f'{head}.bias']
    mean, var = (state[f'head.rectification.running_{name}'].view(3, -1)[expert] for name in ('mean', 'var'))
    return standardised(logits, mean, var)


@pytest.mark.parametrize('part', [0, 1, 3, 4])
def test_experts_may_part_at_any_stage(part):
    """Each expert is a whole network made of what is shared and what is its own."""
    torch.manual_seed(0)
    shape = dict(name='resnet10', in_channels=1, width=0.125)
    network, images = TorchvisionResNet(**shape, experts=2, experts_from=part).eval(), torch.rand(2, 1, 40, 40)
    features, state = network(images), network.state_dict()
    own = [('conv1', 'bn1'), ('layer1',), ('layer2',), ('layer3',), ('layer4',)][part:]
    for k in range(2):
        single = TorchvisionResNet(**shape).eval()
        names = {name: name.partition('.') for name in single.state_dict()}
        mine = {
            name: state[f'{first}.{k}.{rest}' if any(first in group for group in own) else name]
            for name, (first, _, rest) in names.items()
        }
        single.load_state_dict(mine)
        assert torch.equal(features[:, k], single(images))
    assert not torch.allclose(features[:, 0], features[:, 1])
    with pytest.raises(UsageError, match='experts_from of TorchvisionResNet is a stage between 0'):
        TorchvisionResNet(**shape, experts=2, experts_from=5)


@pytest.mark.parametrize('name', ['resnet10', 'resnet18'])
def test_the_last_block_alone_may_part(name):
    torch.manual_seed(0)
    shape = dict(name=name, in_channels=1, width=0.125)
    network = TorchvisionResNet(**shape, experts=2, experts_from='last_block').eval()
    images, state = torch.rand(2, 1, 40, 40), network.state_dict()
    features = network(images)
    for k in range(2):
        single, mine = TorchvisionResNet(**shape).eval(), {}
        for part in single.state_dict():
            _, own, rest = part.partition('layer4.1.' if name == 'resnet18' else 'layer4.0.')
            there = f'branches.{k}.{rest}' if name == 'resnet18' else f'layer4.{k}.0.{rest}'
            mine[part] = state[there if own else part]
        single.load_state_dict(mine)
        assert torch.equal(features[:, k], single(images))
        assert torch.equal(features[:, k], network(images, expert=k))
    assert not torch.allclose(features[:, 0], features[:, 1])
    assert [len(list(stage.children())) for stage in network.last_stages] == ([1, 2] if name == 'resnet18' else [1, 1])


def test_whole_networks_begin_with_kaiming_weights_in_every_colour_space():
    for channels in (1, 3):
        network = TorchvisionResNet('resnet10', channels, experts=2, experts_from=0)
        for convolution in network.conv1:
            assert convolution.weight.shape == (64, channels, 7, 7)
            assert convolution.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)


def test_a_head_for_another_number_of_experts_is_refused():
    config = {
        'backbone': dict(type='TorchvisionResNet', name='resnet10', width=0.125, experts=3),
        'head': dict(type='HeadOfEach', experts=2, head=dict(type='CosineHead')),  # would leave out the third
        'normalization': None, 'rectification': None, 'recipe': {'precision': 'fp32'},
    }  # fmt: skip
    model = LongTailClassifier(config, num_classes=5, in_channels=3)
    with pytest.raises(UsageError, match='the backbone has 3 experts and the head 2; use the same number'):
        model(torch.randn(2, 3, 32, 32))


def test_initial_weights_are_those_of_the_official_codes():
    torch.manual_seed(0)
    network = TorchvisionResNet('resnet10')
    weight = network.layer4[0].conv2.weight  # N(0, sqrt(2 / (k * k * out)))
    assert weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert (network.layer4[0].bn2.weight == 1).all()  # not the zero-initialised residual


def test_convolutions_may_begin_as_pytorch_begins_them():
    """As in NBN's ResNeXt-50: uniform within 1 / sqrt(fan-in); one channel a group at this width."""
    for channels in (1, 3):
        torch.manual_seed(0)
        network = TorchvisionResNet('resnext50_32x4d', channels, width=0.25, conv_init='default')
        for weight, fan_in in ((network.layer1[0].conv2.weight, 9), (network.conv1.weight, 49 * channels)):
            assert 0.95 * fan_in**-0.5 < weight.abs().max().item() <= fan_in**-0.5
            assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.08)
    with pytest.raises(UsageError, match="unknown conv_init of TorchvisionResNet 'defualt': did you mean default"):
        TorchvisionResNet('resnet10', conv_init='defualt')


def test_an_unknown_network_is_an_error_with_near_misses():
    with pytest.raises(UsageError, match='did you mean resnet50'):
        TorchvisionResNet('resnet5O')

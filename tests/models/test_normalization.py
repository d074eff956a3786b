"""NBN: what is normalised, by what, and the quirk of a bias that starts at zero."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import UsageError
from ltbench.models.normalization import NormalizedBatchNorm2d, NormalizedBN, batch_norms
from ltbench.models.resnet_cifar import CIFARResNet

LAST_STAGE = ['layer3.0.bn2', 'layer3.1.bn2', 'layer3.2.bn2']


def network(depth: int = 8, **options: str) -> CIFARResNet:
    """The same initial weights for all options but a drawn bias."""
    torch.manual_seed(0)
    net = CIFARResNet(depth, in_channels=1)
    NormalizedBN(**options)(net)
    return net


def normalized(net: nn.Module) -> dict[str, NormalizedBatchNorm2d]:
    return {name: module for name, module in net.named_modules() if isinstance(module, NormalizedBatchNorm2d)}


def layer(weight: float | None = None, bias: float | None = None, channels: int = 2) -> NormalizedBatchNorm2d:
    """One layer with the given scalars; None leaves the vector as it is."""
    scalars = [None if value is None else nn.Parameter(torch.tensor(value)) for value in (weight, bias)]
    return NormalizedBatchNorm2d(nn.BatchNorm2d(channels), *scalars)


def put(bn: nn.BatchNorm2d, weight: list[float], bias: list[float]) -> None:
    with torch.no_grad():
        bn.weight.copy_(torch.tensor(weight))
        bn.bias.copy_(torch.tensor(bias))


# ------------------------------------------------------------------------------------------------ one layer


def test_output_by_hand() -> None:
    # w = (3, 4): gamma = 2 * (.6, .8); b = (0, -7): beta = 2 * (0, -1). Running statistics are 0 and 1 still
    bn = layer(weight=2.0, bias=2.0).eval()
    put(bn, [3.0, 4.0], [0.0, -7.0])
    y = bn(torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1)).flatten().tolist()
    assert y == pytest.approx([1.2, 16.0 - 2.0], rel=1e-4)


@pytest.mark.parametrize('scalar', [1.0, 3.25, -0.5])
@pytest.mark.parametrize('channels', [2, 64, 2048])
def test_effective_vectors_have_the_length_of_the_scalar(scalar: float, channels: int) -> None:
    bn = layer(scalar, scalar, channels)
    with torch.no_grad():
        bn.weight.normal_()
        bn.bias.normal_(std=1e3)
    assert bn.gamma.norm().item() == pytest.approx(abs(scalar), rel=1e-5)
    assert bn.beta.norm().item() == pytest.approx(abs(scalar), rel=1e-5)
    direction = functional.cosine_similarity(bn.gamma, bn.weight, dim=0).item()
    assert direction == pytest.approx(math.copysign(1, scalar), abs=1e-5)


def test_gamma_starts_at_one_over_the_root_of_the_channels() -> None:
    """0.125 for 64 channels: the branch starts eight times weaker than with plain BN."""
    assert layer(1.0, 1.0, 64).gamma.tolist() == pytest.approx([0.125] * 64, rel=1e-6)
    assert layer(1.0, 1.0, 64).beta.tolist() == [0.0] * 64  # not NaN: the epsilon is added to the norm


def test_a_scalar_of_the_root_of_the_channels_gives_plain_bn() -> None:
    plain, bn = nn.BatchNorm2d(64), layer(8.0, 8.0, 64)
    x = torch.randn(4, 64, 3, 3)
    for training in (True, True, False):
        plain.train(training)
        bn.train(training)
        assert torch.allclose(bn(x), plain(x), atol=1e-5)
    assert torch.equal(bn.running_mean, plain.running_mean)
    assert torch.equal(bn.running_var, plain.running_var)
    assert bn.num_batches_tracked == plain.num_batches_tracked == 2


@pytest.mark.parametrize('momentum', [0.1, 0.0, 1.0, None])
def test_running_statistics_are_those_of_plain_bn(momentum: float | None) -> None:
    """None is a plain mean over the batches: what SWA renews the statistics with."""
    plain, ours = nn.BatchNorm2d(3), layer(2.0, 2.0, 3)
    for bn in (plain, ours):
        bn.momentum = momentum
    for batch in torch.randn(5, 8, 3, 4, 4) * 3 + 5:
        plain(batch), ours(batch)
    state = ours.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items() if 'running' in name)
    assert int(state['num_batches_tracked']) == 5


def test_gradient_flows_through_the_norm() -> None:
    # gamma = w / |w|, w = (3, 4): its gradient for g = (1, 0) is (g - (g . u) u) / |w| with u = (.6, .8)
    #   = ((1, 0) - .6 * (.6, .8)) / 5 = (.128, -.096); a detached norm would give (.2, 0). The scalar's is g . u = .6
    bn = layer(weight=1.0)
    put(bn, [3.0, 4.0], [0.0, 0.0])
    bn.gamma[0].backward()
    assert bn.weight.grad.tolist() == pytest.approx([0.128, -0.096], abs=1e-5)
    assert bn.weight_scalar.grad.item() == pytest.approx(0.6, abs=1e-5)


# ------------------------------------------------------------------------------------------------ which layers


def test_last_stage_is_the_closing_bn_of_each_block() -> None:
    assert list(normalized(network(20, scope='last_stage'))) == LAST_STAGE


def test_whole_last_stage_is_every_bn_of_the_last_stage() -> None:
    expected = [f'layer3.{block}.{bn}' for block in range(3) for bn in ('bn1', 'bn2')]
    assert list(normalized(network(20, scope='whole_last_stage'))) == expected


def test_all_is_every_bn() -> None:
    net = network(20, scope='all')
    assert len(normalized(net)) == 19  # the stem's and two in each of nine blocks
    assert len(normalized(net)) == sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def test_every_expert_has_a_last_stage_of_its_own() -> None:
    net = CIFARResNet(8, in_channels=1, experts=2)
    NormalizedBN()(net)
    assert list(normalized(net)) == ['layer3.0.0.bn2', 'layer3.1.0.bn2']


def test_bottleneck_nets_include_the_shortcut_of_the_last_stage() -> None:
    """The four layers of the official code's ResNet-50: bn3 of three blocks, and the projection's BN."""
    with torch.device('meta'):
        net = torchvision.models.resnet50(weights=None)
    net.last_stages = [net.layer4]
    names = {module: name for name, module in net.layer4.named_modules()}
    found = {names[bn] for _, _, bn in batch_norms(net, 'last_stage')}
    assert found == {'0.bn3', '1.bn3', '2.bn3', '0.downsample.1'}


# ------------------------------------------------------------------------------------------------ which scalars


def scalars(net: nn.Module) -> list[tuple[int, int]]:
    return [(id(bn.weight_scalar), id(bn.bias_scalar)) for bn in normalized(net).values()]


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(('scalar', 'different'), [('network', 1), ('layer', 3), ('each', 6)])
def test_scalars_are_shared_as_asked(scalar: str, different: int) -> None:
    net = network(20, scalar=scalar)
    assert len({identity for pair in scalars(net) for identity in pair}) == different
    assert all((of_weight == of_bias) == (scalar != 'each') for of_weight, of_bias in scalars(net))
    assert parameters(net) == parameters(CIFARResNet(20, in_channels=1)) + different


@pytest.mark.parametrize(('scope', 'layers'), [('last_stage', 1), ('whole_last_stage', 2)])
def test_each_expert_may_have_a_scalar_of_its_own(scope: str, layers: int) -> None:
    net = CIFARResNet(8, in_channels=1, experts=3)
    before = parameters(net)
    NormalizedBN(scope=scope, scalar='expert')(net)
    of_experts = [{id(bn.weight_scalar) for bn in normalized(stage).values()} for stage in net.layer3]
    assert [len(normalized(stage)) for stage in net.layer3] == [layers] * 3
    assert [len(scalars) for scalars in of_experts] == [1] * 3
    assert len(set.union(*of_experts)) == 3
    assert all(bn.weight_scalar is bn.bias_scalar for bn in normalized(net).values())
    assert parameters(net) == before + 3


def test_a_scalar_for_each_expert_is_neither_for_one_network_nor_for_what_experts_share() -> None:
    with pytest.raises(UsageError, match="this network has one: use scalar='network'"):
        network(8, scalar='expert')
    with pytest.raises(UsageError, match="the scope is 'last_stage' or 'whole_last_stage', not 'all'"):
        NormalizedBN(scope='all', scalar='expert')


def test_a_shared_scalar_moves_all_layers() -> None:
    net = network(20, bias_init='ones')
    with torch.no_grad():
        normalized(net)['layer3.0.bn2'].weight_scalar.fill_(3.0)
    for bn in normalized(net).values():
        assert bn.gamma.norm().item() == pytest.approx(3, rel=1e-5)
        assert bn.beta.norm().item() == pytest.approx(3, rel=1e-5)


def test_a_shared_scalar_collects_the_gradients_of_all_layers() -> None:
    x = images()
    shared, apart = network(20, bias_init='ones'), network(20, bias_init='ones', scalar='each')
    for net in (shared, apart):
        net(x).square().sum().backward()
    each = [part.grad for bn in normalized(apart).values() for part in (bn.weight_scalar, bn.bias_scalar)]
    total = normalized(shared)['layer3.0.bn2'].weight_scalar.grad
    assert torch.allclose(total, torch.stack(each).sum(), rtol=1e-4)


@pytest.mark.parametrize('scalar', ['network', 'layer', 'each'])
def test_state_goes_there_and_back(scalar: str) -> None:
    """Shared scalars stay shared after loading, and after a deep copy."""
    first = network(20, scalar=scalar, bias_init='normal')
    train(first, steps=2)
    second = network(20, scalar=scalar)
    second.load_state_dict(first.state_dict())
    third = copy.deepcopy(first)
    for other in (second, third):
        assert torch.equal(other.eval()(images()), first.eval()(images()))
        assert parameters(other) == parameters(first)


# ------------------------------------------------------------------------------------------------ which vectors


def test_weight_only_leaves_the_bias_an_ordinary_one() -> None:
    for bn in normalized(network(20, normalize='weight', bias_init='ones')).values():
        assert bn.bias_scalar is None
        assert bn.beta is bn.bias
        assert bn.bias.tolist() == [0.0] * 64  # bias_init is for normalised biases
        assert bn.gamma.norm().item() == pytest.approx(1, rel=1e-5)
        bn.beta[0].backward()
        assert bn.bias.grad[0] == 1  # not divided by a norm


def test_bias_only_leaves_the_weight_an_ordinary_one() -> None:
    for bn in normalized(network(20, normalize='bias', bias_init='ones')).values():
        assert bn.weight_scalar is None
        assert bn.gamma is bn.weight
        assert bn.beta.norm().item() == pytest.approx(1, rel=1e-5)


def test_bias_starts_as_asked() -> None:
    closing = [normalized(network(20, bias_init=how))['layer3.2.bn2'].bias for how in ('zeros', 'ones', 'normal')]
    assert closing[0].tolist() == [0.0] * 64
    assert closing[1].tolist() == [1.0] * 64
    assert closing[2].norm().item() == pytest.approx(1, rel=0.3)  # 64 draws of standard deviation 1/8


def test_every_option_changes_what_is_learned() -> None:
    """Each value of each option, everything else equal, leads to other features after three steps."""
    base = {'normalize': 'both', 'scope': 'last_stage', 'scalar': 'network', 'bias_init': 'ones'}
    values = {
        'normalize': ('weight', 'bias', 'both'),
        'scope': ('last_stage', 'all'),
        'scalar': ('network', 'layer', 'each'),
        'bias_init': ('zeros', 'ones', 'normal'),
    }
    settings = {tuple({**base, name: value}.items()) for name, choices in values.items() for value in choices}
    assert len(settings) == 1 + 2 + 1 + 2 + 2
    outcomes = set()
    for options in settings:
        net = network(14, **dict(options))  # two blocks in the last stage
        train(net, steps=3)
        outcomes.add(tuple(net(images()).flatten().tolist()))
    plain = CIFARResNet(14, in_channels=1)
    train(plain, steps=3)
    outcomes.add(tuple(plain(images()).flatten().tolist()))
    assert len(outcomes) == len(settings) + 1


# ------------------------------------------------------------------------------------------------ the zero-bias quirk


def images(batch: int = 32) -> Tensor:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def train(net: CIFARResNet, steps: int) -> list[dict[str, Tensor]]:
    """SGD as in the official configs; returns the normalised biases after every step."""
    random = torch.Generator().manual_seed(2)
    head = nn.Linear(64, 5)
    nn.init.normal_(head.weight, std=0.2, generator=random)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1, momentum=0.9, weight_decay=5e-4)
    history = []
    net.train()
    for _ in range(steps):
        x = torch.randn(32, 1, 8, 8, generator=random)
        labels = torch.randint(0, 5, (32,), generator=random)
        optimizer.zero_grad()
        functional.cross_entropy(head(net(x)), labels).backward()
        optimizer.step()
        history.append({name: bn.bias.detach().clone() for name, bn in normalized(net).items()})
    return history


def angle(first: Tensor, second: Tensor) -> float:
    """Radians (of small angles), in float64 because cosines of small angles round to 1."""
    return (functional.normalize(first.double(), dim=0) - functional.normalize(second.double(), dim=0)).norm().item()


def test_a_bias_from_zero_jumps_and_freezes() -> None:
    """At zero its gradient is 1 / 1e-6 times too large; from far away its direction cannot move any more."""
    history = train(network(8, bias_init='zeros'), steps=25)
    first, last = history[0]['layer3.0.bn2'], history[-1]['layer3.0.bn2']
    assert first.norm() > 1e3
    assert angle(first, last) < 1e-5


@pytest.mark.parametrize('bias_init', ['ones', 'normal'])
def test_a_bias_from_elsewhere_stays_near_and_turns(bias_init: str) -> None:
    history = train(network(8, bias_init=bias_init), steps=25)
    first, last = history[0]['layer3.0.bn2'], history[-1]['layer3.0.bn2']
    assert last.norm() < 100
    assert angle(first, last) > 1e-3  # measured: 0.008 for ones, whose norm is 8, and 0.4 for normal

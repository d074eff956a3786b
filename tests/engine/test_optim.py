"""Learning rates against published tables; parameter groups and rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ltbench.engine.optim import build_optimizer, learning_rate, set_learning_rate
from ltbench.errors import UsageError
from ltbench.models.normalization import NormalizedBN
from ltbench.models.resnet_cifar import CIFARResNet

LDAM = {'type': 'step', 'warmup_epochs': 5, 'at': [0.8, 0.9], 'gamma': 0.01}
SGD = {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4}


def rates(schedule: dict[str, Any], epochs: int, lr: float = 0.1) -> list[float]:
    return [learning_rate(schedule, lr, epoch, epochs) for epoch in range(epochs)]


# ------------------------------------------------------------------------------------------------ schedules


def test_schedule_of_cao_et_al() -> None:
    """kaidic/LDAM-DRW, adjust_learning_rate, with epochs counted from 0: 5 of warm-up, x 0.01 at 160 and at 180."""
    expected = [0.02, 0.04, 0.06, 0.08, 0.1] + [0.1] * 155 + [1e-3] * 20 + [1e-5] * 20
    assert rates(LDAM, 200) == pytest.approx(expected, rel=1e-9)


def test_steps_are_shares_of_the_epochs() -> None:
    """So that a preset of 30 epochs keeps the shape: drops at 24 and 27."""
    expected = [0.1] * 24 + [0.01] * 3 + [0.001] * 3
    assert rates({'type': 'step', 'at': [0.8, 0.9], 'gamma': 0.1}, 30) == pytest.approx(expected)


def test_each_step_may_have_a_factor_of_its_own_and_a_warm_up_may_begin_at_zero() -> None:
    """yuxiangbao/NBN@7365e21, CIFARWarmStepLR: epochs to 5 at e / 5, those after 160 at 0.01, after 180 at 0.001."""
    schedule = {
        'type': 'step', 'warmup_epochs': 5, 'warmup_from_zero': True, 'at': [0.805, 0.905], 'gamma': [0.01, 0.1],
    }  # fmt: skip
    expected = [0, 0.02, 0.04, 0.06, 0.08, 0.1] + [0.1] * 155 + [1e-3] * 20 + [1e-4] * 19
    assert rates(schedule, 200) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('epochs', [5, 10, 90])
def test_a_cosine_that_is_one_epoch_ahead(epochs: int) -> None:
    """torch's scheduler, stepped before each epoch as in Kang et al.'s code."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    expected = []
    for _ in range(epochs):
        optimizer.step()
        scheduler.step()
        expected.append(optimizer.param_groups[0]['lr'])
    assert rates({'type': 'cosine', 'one_ahead': True}, epochs, lr=0.2) == pytest.approx(expected, abs=1e-12)
    assert expected[-1] == pytest.approx(0, abs=1e-12)


def test_cosine() -> None:
    table = rates({'type': 'cosine', 'warmup_epochs': 0}, 60)
    assert table[0] == 0.1  # the first epoch has the whole rate
    assert table[30] == pytest.approx(0.05)  # half of it half-way
    assert table[-1] == pytest.approx(0.1 * 0.000685, rel=1e-2)  # (1 - cos(pi / 60)) / 2: one epoch before 0
    assert learning_rate({'type': 'cosine'}, 0.1, 60, 60) == pytest.approx(0, abs=1e-12)


def test_cosine_begins_where_the_warm_up_ends() -> None:
    table = rates({'type': 'cosine', 'warmup_epochs': 4}, 20)
    assert table[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert table[12] == pytest.approx(0.05)  # half-way from 4 to 20


def test_constant() -> None:
    assert rates({'type': 'constant', 'warmup_epochs': 2}, 5) == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.1])


@given(st.integers(1, 300), st.integers(0, 10), st.sampled_from(['cosine', 'step', 'constant']))
def test_rates_rise_then_fall_and_stay_between_zero_and_the_base(epochs: int, warmup: int, kind: str) -> None:
    table = rates({'type': kind, 'warmup_epochs': warmup, 'at': [0.8, 0.9], 'gamma': 0.1}, epochs)
    assert all(0 < rate <= 0.1 * (1 + 1e-12) for rate in table)
    assert table[:warmup] == sorted(table[:warmup])
    assert table[warmup:] == sorted(table[warmup:], reverse=True)


def test_unknown_schedule_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"unknown schedule 'cosin': did you mean cosine\?"):
        learning_rate({'type': 'cosin'}, 0.1, 0, 10)


# ------------------------------------------------------------------------------------------------ optimizers


def model(**normalization: str) -> nn.ModuleDict:
    """ResNet-8 with a head; normalised if asked."""
    backbone = CIFARResNet(8)
    if normalization:
        NormalizedBN(**normalization)(backbone)
    return nn.ModuleDict({'backbone': backbone, 'head': nn.Linear(64, 10)})


def groups(net: nn.Module, **config: Any) -> list[tuple[set[str], float, float]]:
    """(names, weight decay, learning rate) of each parameter group."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return [
        ({names[id(parameter)] for parameter in group['params']}, group['weight_decay'], group['lr'])
        for group in build_optimizer(net, {**SGD, **config}).param_groups
    ]


def test_without_rules_there_is_one_group_of_everything() -> None:
    """Weight decay acts on BN and biases too, as in the reference code."""
    net = model()
    everything = {name for name, _ in net.named_parameters()}
    assert groups(net) == [(everything, 2e-4, 0.1)]


def test_the_arguments_reach_torch() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), {**SGD, 'nesterov': True})
    assert type(optimizer) is torch.optim.SGD
    assert {key: optimizer.param_groups[0][key] for key in ('lr', 'momentum', 'weight_decay', 'nesterov')} == {
        'lr': 0.1,
        'momentum': 0.9,
        'weight_decay': 2e-4,
        'nesterov': True,
    }


def test_frozen_parameters_are_left_out() -> None:
    net = model()
    net['backbone'].requires_grad_(False)
    assert groups(net) == [({'head.weight', 'head.bias'}, 2e-4, 0.1)]


def test_norm_rule_means_the_affine_parameters_of_bn() -> None:
    net = model()
    norm, rest = sorted(groups(net, paramwise={'norm': {'weight_decay': 5e-3}}), key=lambda group: -group[1])
    # ResNet-8: the stem's BN and two in each of three blocks; shortcuts have none
    layers = ['bn1', *(f'layer{stage}.0.bn{number}' for stage in (1, 2, 3) for number in (1, 2))]
    assert norm == ({f'backbone.{layer}.{part}' for layer in layers for part in ('weight', 'bias')}, 5e-3, 0.1)
    assert rest[1:] == (2e-4, 0.1)
    assert len(norm[0]) + len(rest[0]) == len(list(net.parameters()))


def test_rules_by_part_of_the_name() -> None:
    net = model(scalar='network')
    scalar, rest = sorted(groups(net, paramwise={'scalar': {'weight_decay': 0.0, 'lr_mult': 0.1}}), key=lambda g: g[1])
    assert scalar == ({'backbone.layer3.0.bn2.weight_scalar'}, 0.0, pytest.approx(0.01))
    assert rest[1:] == (2e-4, 0.1)
    # the scalar belongs to a BN layer but is none of its affine vectors
    assert 'backbone.layer3.0.bn2.weight_scalar' not in groups(net, paramwise={'norm': {'weight_decay': 0.0}})[1][0]


def test_the_last_rule_that_fits_wins_entry_by_entry() -> None:
    rules = {'head': {'weight_decay': 0.1, 'lr_mult': 2.0}, 'bias': {'weight_decay': 0.0}}
    found = {name: (decay, rate) for names, decay, rate in groups(model(), paramwise=rules) for name in names}
    assert found['head.weight'] == (0.1, 0.2)
    assert found['head.bias'] == (0.0, 0.2)
    assert found['backbone.bn1.bias'] == (0.0, 0.1)
    assert found['backbone.conv1.weight'] == (2e-4, 0.1)


def test_parameters_with_equal_settings_share_a_group() -> None:
    """Each rule would otherwise add a group, and small groups make the fused update slow."""
    rules = {'norm': {'weight_decay': 0.0}, 'head.bias': {'weight_decay': 0.0}, 'conv': {'lr_mult': 1.0}}
    assert len(groups(model(), paramwise=rules)) == 2


def test_a_shared_parameter_is_updated_once() -> None:
    net = model(scope='all', scalar='network')
    optimizer = build_optimizer(net, SGD)
    updated = [id(parameter) for group in optimizer.param_groups for parameter in group['params']]
    assert len(updated) == len(set(updated)) == len(list(model().parameters())) + 1


def test_set_learning_rate_keeps_the_multipliers() -> None:
    optimizer = build_optimizer(model(), {**SGD, 'paramwise': {'head': {'lr_mult': 10.0}}})
    set_learning_rate(optimizer, 0.02)
    assert sorted(group['lr'] for group in optimizer.param_groups) == pytest.approx([0.02, 0.2])
    set_learning_rate(optimizer, 0.05)  # of the base rate, not of the last one
    assert sorted(group['lr'] for group in optimizer.param_groups) == pytest.approx([0.05, 0.5])


def test_rules_act_in_a_step() -> None:
    """Without gradients only weight decay moves anything."""
    net = nn.ModuleDict({'free': nn.Linear(1, 1, bias=False), 'decayed': nn.Linear(1, 1, bias=False)})
    nn.init.ones_(net['free'].weight)
    nn.init.ones_(net['decayed'].weight)
    optimizer = build_optimizer(net, {**SGD, 'weight_decay': 0.5, 'paramwise': {'free': {'weight_decay': 0.0}}})
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert (net['free'].weight.item(), net['decayed'].weight.item()) == (1.0, pytest.approx(1 - 0.1 * 0.5))


def test_a_rule_that_fits_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match='rule fits no parameter: scalar'):  # a plain net has no NBN scalar
        build_optimizer(model(), {**SGD, 'paramwise': {'norm': {'weight_decay': 0.0}, 'scalar': {'lr_mult': 0.1}}})


def test_a_misspelt_entry_of_a_rule_is_an_error() -> None:
    """It would otherwise do nothing, in silence."""
    with pytest.raises(UsageError, match='weight_decya'):
        build_optimizer(model(), {**SGD, 'paramwise': {'norm': {'weight_decya': 0.0}}})


@pytest.mark.parametrize(('name', 'near'), [('Sgd', 'SGD'), ('lr_scheduler', 'known: '), ('AdmaW', 'AdamW')])
def test_unknown_optimizer_is_an_error(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"unknown optimizer '{name}'.*{near}"):
        build_optimizer(nn.Linear(1, 1), {'type': name, 'lr': 0.1})

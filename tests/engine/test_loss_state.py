"""A loss with parameters: trained and resumed with the network, kept apart from it, dropped where a cut replaces it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine import hooks
from ltbench.engine.job import Job, Runtime
from ltbench.engine.optim import build_optimizer
from ltbench.engine.worker import carry_out
from ltbench.errors import UsageError
from ltbench.grid.graph import Graph, Run
from ltbench.models.losses import CrossEntropyLoss
from ltbench.plan import Plan
from ltbench.registry import MODELS
from ltbench.spec import parse_specs
from ltbench.store import Store
from ltbench.verbs.contract import SMALL

LR, STEPS = 0.05, 4  # of an epoch: 122 images in batches of 32
OPTIMIZERS = {
    'sgd': dict(type='SGD', lr=LR, momentum=0.9, weight_decay=5e-4),
    'two groups': dict(type='SGD', lr=LR, momentum=0.9, weight_decay=5e-4, paramwise={'norm': dict(weight_decay=0.0)}),
    'a group of its own': dict(
        type='SGD', lr=LR, momentum=0.9, weight_decay=5e-4, paramwise={'loss.': dict(weight_decay=0.0)}
    ),
    'adamw': dict(type='AdamW', lr=1e-3, weight_decay=0.01),
}
CE = dict(type='CrossEntropyLoss')


class IdleLoss(CrossEntropyLoss):
    """Cross-entropy, beside parameters that never move the network."""

    def __init__(self, class_counts, size=3):
        super().__init__(class_counts)
        self.idle = nn.Parameter(torch.ones(size))

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().per_sample(logits, labels) + 0.0 * self.idle.sum()


class DriftingLoss(CrossEntropyLoss):
    """Cross-entropy plus a parameter: its gradient is 1 at every step, so where it ends is known."""

    def __init__(self, class_counts, start=0.0):
        super().__init__(class_counts)
        self.drift = nn.Parameter(torch.tensor(start))
        self.register_buffer('steps', torch.zeros((), dtype=torch.int64))

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.steps += 1
        return super().per_sample(logits, labels) + self.drift


class LearnedScaleLoss(CrossEntropyLoss):
    """Cross-entropy on logits times a learned factor that begins at 1."""

    def __init__(self, class_counts):
        super().__init__(class_counts)
        self.factor = nn.Parameter(torch.ones(()))

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().per_sample(self.factor * logits, labels)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    losses = (IdleLoss, DriftingLoss, LearnedScaleLoss)
    for loss in losses:
        MODELS.register_module(module=loss)
    yield
    for loss in losses:
        del MODELS.module_dict[loss.__name__]


def plain(epochs: int = 2, optimizer: str = 'sgd') -> Plan:
    benchmark = load_benchmark('digits_lt', overrides={**SMALL, 'epochs': epochs})
    recipe = {**benchmark.recipe, 'optimizer': OPTIMIZERS[optimizer], 'schedule': dict(type='constant')}
    plan = Plan.plain(benchmark, load_data(benchmark.data).fingerprint, 0)
    return Plan(benchmark, 0, {**plan.settings, 'recipe': recipe}, author='test')


def carry_out_all(store: Store, *plans: Plan) -> list[Run]:
    runs = [Run(plan.benchmark, f'plan {number}', 0, plan) for number, plan in enumerate(plans)]
    for stage in Graph(runs).stages.values():
        code = carry_out(Job(stage, str(store.root), Runtime(device='cpu')))
        assert code == 0, store.read(stage.fingerprint, 'failure')
    return runs


def logits_of(store: Store, run: Run) -> np.ndarray:
    with np.load(store.find(run.fingerprint).path('test.npz')) as outputs:
        return outputs['logits']


def state_of(store: Store, run: Run, stage: int = -1) -> dict[str, Any]:
    return torch.load(store.find(run.stages[stage].fingerprint).path('state.pt'), weights_only=True)


def test_the_loss_is_kept_beside_the_network_and_not_counted_with_it(tmp_path):
    store = Store(tmp_path)
    erm, run = carry_out_all(store, plain(), plain().replace(loss=dict(type='DriftingLoss')))
    state = state_of(store, run)
    assert state['model'].keys() == state_of(store, erm)['model'].keys()
    assert state['loss'].keys() == {'drift', 'steps'}
    assert state['loss']['steps'] == 2 * STEPS
    assert state_of(store, erm)['loss'] == {}
    parameters = [store.find(each.fingerprint).meta['model']['parameters'] for each in (erm, run)]
    assert parameters[0] == parameters[1]


def test_a_head_is_retrained_after_a_loss_with_parameters(tmp_path):
    store, loss = Store(tmp_path), dict(type='DriftingLoss')
    again = dict(epochs=2, optimizer=OPTIMIZERS['sgd'], schedule=dict(type='constant'), sampler=dict(type='ClassAware'))
    (run,) = carry_out_all(store, plain().replace(loss=loss).retrain_head(dict(type='LinearHead'), **again))
    assert [stage.kind for stage in run.stages] == ['train', 'features', 'head']
    head = torch.load(store.find(run.fingerprint).path('head.pt'), weights_only=True)
    assert head.keys() == {'weight', 'bias'}


def test_the_loss_of_a_head_stage_is_trained_with_the_head(tmp_path):
    store = Store(tmp_path)
    again = dict(epochs=2, optimizer=OPTIMIZERS['sgd'], schedule=dict(type='constant'), sampler=dict(type='ClassAware'))
    losses = (CE, dict(type='IdleLoss'), dict(type='LearnedScaleLoss'))
    runs = carry_out_all(store, *(plain().retrain_head(dict(type='LinearHead'), loss=loss, **again) for loss in losses))
    plain_head, idle, scaled = (logits_of(store, run) for run in runs)
    assert np.array_equal(plain_head, idle)
    assert not np.array_equal(plain_head, scaled)  # a factor that stays at 1 would change no bit


def test_a_stage_that_dies_after_each_epoch_ends_with_the_same_bits(tmp_path, monkeypatch):
    plan = plain(epochs=4).replace(loss=dict(type='DriftingLoss', start=1.0))
    whole, cut = Store(tmp_path / 'whole'), Store(tmp_path / 'cut')
    (run,) = carry_out_all(whole, plan)
    saved = hooks.Checkpoints.after_train_epoch

    def save_then_die(self, runner):
        saved(self, runner)
        raise KeyboardInterrupt

    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', save_then_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            carry_out(Job(run.stages[0], str(cut.root), Runtime(device='cpu', checkpoint_seconds=0)))
    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', saved)
    carry_out_all(cut, plan)
    assert np.array_equal(logits_of(whole, run), logits_of(cut, run))
    assert state_of(whole, run)['loss'] == state_of(cut, run)['loss']


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_the_same_loss_goes_on_across_a_cut(tmp_path, optimizer):
    """The cut changes how a sampler is written and nothing that it does: the bits must be those without a cut."""
    store, plan = Store(tmp_path), plain(2, optimizer).replace(loss=dict(type='LearnedScaleLoss'))
    same = plan.cut(at=0.5).after(sampler=dict(type='InstanceBalanced', length=None))
    whole, cut = carry_out_all(store, plan, same)
    assert [(stage.begin, stage.end) for stage in cut.stages] == [(0, 1), (1, 2)]
    assert np.array_equal(logits_of(store, whole), logits_of(store, cut))
    assert state_of(store, whole)['loss'] == state_of(store, cut)['loss']
    assert state_of(store, cut)['loss']['factor'] != state_of(store, cut, 0)['loss']['factor'] != 1


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize(
    ('before', 'after'),
    [
        (dict(type='IdleLoss'), CE),
        (CE, dict(type='IdleLoss')),
        (dict(type='IdleLoss', size=3), dict(type='IdleLoss', size=7)),
        (dict(type='DriftingLoss'), dict(type='IdleLoss', size=1)),
    ],
    ids=['parameters go', 'parameters come', 'other number', 'other kind'],
)
def test_the_network_and_its_momentum_go_on_where_a_cut_brings_another_loss(tmp_path, optimizer, before, after):
    """None of these losses' parameters moves the network, so the bits must be those of plain cross-entropy."""
    store = Store(tmp_path)
    changed = plain(2, optimizer).replace(loss=before).cut(at=0.5).after(loss=after)
    plans = [plain(2, optimizer), changed]
    if optimizer == 'a group of its own':
        plans[0] = plain(2)  # the same for the network
    erm, run = carry_out_all(store, *plans)
    assert np.array_equal(logits_of(store, erm), logits_of(store, run))


def test_another_loss_of_the_same_shape_begins_with_its_own_values_and_no_momentum(tmp_path):
    def drifted(start: float, steps: int) -> float:
        return start - LR * sum(sum(0.9**k for k in range(step + 1)) for step in range(steps))

    store = Store(tmp_path)
    plan = plain(4, 'a group of its own').replace(loss=dict(type='DriftingLoss', start=0.0))
    (run,) = carry_out_all(store, plan.cut(at=0.5).after(loss=dict(type='DriftingLoss', start=5.0)))
    first, last = state_of(store, run, 0)['loss'], state_of(store, run)['loss']
    assert first['drift'].item() == pytest.approx(drifted(0.0, 2 * STEPS), abs=1e-5)
    assert last['drift'].item() == pytest.approx(drifted(5.0, 2 * STEPS), abs=1e-5)
    assert last['steps'] == 2 * STEPS


def test_a_stage_with_another_loss_resumes_with_its_own_state(tmp_path, monkeypatch):
    """Its checkpoints are of the new loss, the state it began from is of the old one."""
    plan = plain(6).replace(loss=dict(type='IdleLoss')).cut(at=1 / 3).after(loss=dict(type='DriftingLoss'))
    whole, cut = Store(tmp_path / 'whole'), Store(tmp_path / 'cut')
    (run,) = carry_out_all(whole, plan)
    saved = hooks.Checkpoints.after_train_epoch

    def die_in_the_middle(self, runner):
        saved(self, runner)
        if runner.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', die_in_the_middle)
    runtime = Runtime(device='cpu', checkpoint_seconds=0)
    assert carry_out(Job(run.stages[0], str(cut.root), runtime)) == 0
    with pytest.raises(KeyboardInterrupt):
        carry_out(Job(run.stages[1], str(cut.root), runtime))
    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', saved)
    carry_out_all(cut, plan)
    assert state_of(whole, run)['loss'] == state_of(cut, run)['loss']
    assert np.array_equal(logits_of(whole, run), logits_of(cut, run))


@pytest.fixture
def old_states(monkeypatch) -> None:
    """States look as they did before losses were kept apart."""
    state = hooks.Checkpoints.state

    def without_loss(*arguments) -> dict[str, Any]:
        return {key: value for key, value in state(*arguments).items() if key != 'loss'}

    monkeypatch.setattr(hooks.Checkpoints, 'state', without_loss)


def test_states_saved_before_losses_were_kept_apart_are_gone_on_from(tmp_path, old_states, monkeypatch):
    plan = plain(4).cut(at=0.5).after(class_weights=dict(type='EffectiveNumber'))
    whole, old = Store(tmp_path / 'whole'), Store(tmp_path / 'old')
    (run,) = carry_out_all(old, plan)
    monkeypatch.undo()
    carry_out_all(whole, plan)
    assert 'loss' not in state_of(old, run)
    assert np.array_equal(logits_of(whole, run), logits_of(old, run))


def test_a_state_without_what_the_loss_has_learned_is_refused(tmp_path, old_states):
    weights = dict(type='EffectiveNumber')
    plan = plain(4).replace(loss=dict(type='DriftingLoss')).cut(at=0.5).after(class_weights=weights)
    store, run = Store(tmp_path), Run(plan.benchmark, parse_specs('plan'), 0, plan)
    assert carry_out(Job(run.stages[0], str(store.root), Runtime(device='cpu'))) == 0
    assert carry_out(Job(run.stages[1], str(store.root), Runtime(device='cpu'))) == 1
    assert '"drift"' in store.read(run.fingerprint, 'failure')['reason']


def test_a_rule_for_the_loss_may_wait_for_a_loss_with_parameters():
    """A loss may come or go at a cut, and the rule is the same for all of training; any other must fit at once."""
    network = nn.ModuleDict({'head': nn.Linear(2, 2)})
    build_optimizer(network, dict(type='SGD', lr=0.1, paramwise={'loss.': dict(weight_decay=0.0)}))
    with pytest.raises(UsageError, match='optimizer rule fits no parameter: scalar'):
        build_optimizer(network, dict(type='SGD', lr=0.1, paramwise={'scalar': dict(weight_decay=0.0)}))

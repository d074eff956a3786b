"""Slots beside loss and sampler: views, objectives, partners, updates, averages, teachers; whole and interrupted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine import hooks
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out
from ltbench.errors import UsageError
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.models.mixing import BatchMixing
from ltbench.models.objective import Average, Batch, Objective, Update, still_statistics
from ltbench.plan import Plan
from ltbench.registry import MODELS
from ltbench.spec import parse_specs
from ltbench.store import Store

BENCHMARK = load_benchmark('digits_lt', overrides={'epochs': 4, 'depth': 8})
PARTNERS = dict(type='ClassAware')


@MODELS.register_module()
class Agreement(Objective):
    """A loss on the first view, and that projections of the second lie near a running mean of those of their class."""

    views = 2

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(in_features, 4)
        self.register_buffer('means', torch.zeros(num_classes, 4))

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        features = model.backbone(torch.cat(batch.views))
        first, second = features.chunk(2)
        logits, projected = model.classify(first), self.project(second)
        loss = model.loss(logits, batch.labels) + 0.1 * functional.mse_loss(projected, self.means[batch.labels])
        self.means[batch.labels] += 0.1 * (projected.detach() - self.means[batch.labels])
        return loss, logits


@MODELS.register_module()
class Paste(BatchMixing):
    """Half of each image is that of its partner."""

    def __init__(self, class_counts: list[int], seed: int, epochs: int) -> None:
        super().__init__(class_counts, seed)
        self.epochs = epochs

    def __call__(self, images: Tensor, labels: Tensor, partners: Tensor, partner_labels: Tensor) -> Any:
        side = images.shape[-1] // 2
        mixed = torch.cat([images[..., :side], partners[..., side:]], dim=-1)
        return mixed, partner_labels, torch.full(labels.shape, 0.5)


@MODELS.register_module()
class Twice(Update):
    """The mean gradient of both halves of a batch, one after the other."""

    def __call__(self, loss_of: Callable[[Batch], Any], batch: Batch, model: nn.Module, optimizer: Any) -> Any:
        whole = loss_of(batch)
        optimizer.backward(whole['loss'] * 0.5)
        with still_statistics(model):
            optimizer.backward(loss_of(batch)['loss'] * 0.5)
        optimizer.step()
        optimizer.zero_grad()
        return {name: value.detach() for name, value in whole.items()}


@MODELS.register_module()
class EveryStep(Average):
    """An exponential average over steps."""

    def weight(self, count: int) -> float:
        return 0.1

    def after_step(self, values: Any) -> None:
        self.add(values)


@MODELS.register_module()
class Soften(Objective):
    """Half of the loss is to be as the teacher is."""

    separable = True

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model.logits(batch.images)
        theirs = model.teacher(batch.images).softmax(dim=1)
        return 0.5 * (model.loss(logits, batch.labels) + functional.cross_entropy(logits, theirs)), logits


def plain() -> Plan:
    return make_plan('erm', BENCHMARK, load_data(BENCHMARK.data).fingerprint, 0)


def named(method: str) -> Plan:
    return make_plan(method, BENCHMARK, load_data(BENCHMARK.data).fingerprint, 0)


PLANS: dict[str, Callable[[], Plan]] = {
    'views and objective': lambda: plain().replace(views=['plain', 'contrastive'], objective=dict(type='Agreement')),
    'objective across a cut': lambda: (
        plain().replace(views=['plain', 'plain'], objective=dict(type='Agreement'))
        .cut(at=0.5).after(class_weights=dict(type='EffectiveNumber', beta=0.999))
    ),
    'partners': lambda: plain().replace(partner_sampler=PARTNERS, mixing=dict(type='Paste')),
    'update': lambda: plain().replace(update=dict(type='Twice')),
    'update of mixed images': lambda: plain().replace(update=dict(type='Twice'), mixing=dict(type='Mixup', alpha=1.0)),
    'average': lambda: plain().replace(average=dict(type='EveryStep')),
    'average across a cut': lambda: (
        plain().replace(average=dict(type='EveryStep')).cut(at=0.5).after(loss=dict(type='LDAMLoss'))
    ),
    'teacher': lambda: plain().replace(objective=dict(type='Soften')).teach(
        make_plan('crt(epochs=2)', BENCHMARK, load_data(BENCHMARK.data).fingerprint, 1)
    ),
    'queue and momentum encoder across a cut': lambda: named('paco(queue=40)+drw'),
    'queue': lambda: named('gpaco(queue=100)'),
    'statistics of classes': lambda: named('proco(features=32)'),
    'partners mixed by an objective that hears the epoch': lambda: named('glmc'),
    'whole networks': lambda: named('ncl(experts=2)'),
    'two branches, and partners': lambda: named('bbn'),
    'two views and experts': lambda: named('mdcs'),
    'sharp steps for the tail': lambda: named('sam(eta=20)'),
    'strong augmentation': lambda: plain().tune(augmentation=dict(policies=[dict(type='TrivialAugmentWide')])),
}  # fmt: skip


def run_of(plan: Plan) -> Run:
    return Run(BENCHMARK, parse_specs('erm'), 0, plan)


def carry_out_all(store: Store, run: Run) -> dict[str, np.ndarray]:
    for stage in Graph([run]).stages.values():
        assert carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) == 0, store.read(
            stage.fingerprint, 'failure'
        )
    with np.load(store.find(run.fingerprint).path('test.npz')) as outputs:
        return dict(outputs)


@pytest.fixture(scope='module')
def erm(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return carry_out_all(Store(tmp_path_factory.mktemp('erm')), run_of(plain()))['logits']


@pytest.mark.parametrize('name', PLANS)
def test_a_stage_that_dies_after_each_epoch_ends_with_the_same_bits(name, tmp_path, monkeypatch, erm) -> None:
    run = run_of(PLANS[name]())
    whole = carry_out_all(Store(tmp_path / 'whole'), run)
    # both passes of the plain update see the same images: its step is the plain one, bit by bit
    assert np.array_equal(whole['logits'], erm) == (name == 'update')
    assert np.isfinite(whole['logits']).all()

    cut, saved = Store(tmp_path / 'cut'), hooks.Checkpoints.after_train_epoch

    def save_then_die(self: Any, runner: Any) -> None:
        saved(self, runner)
        raise KeyboardInterrupt

    for stage in Graph([run]).stages.values():
        monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', save_then_die)
        for _ in range(stage.end - stage.begin - 1 if stage.kind == 'train' else 0):
            with pytest.raises(KeyboardInterrupt):
                carry_out(Job(stage, str(cut.root), Runtime(device='cpu', checkpoint_seconds=0)))
        monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', saved)
        assert carry_out(Job(stage, str(cut.root), Runtime(device='cpu'))) == 0
    assert np.array_equal(carry_out_all(cut, run)['logits'], whole['logits'])


def test_what_trains_a_network_is_left_behind_and_not_counted(tmp_path) -> None:
    store = Store(tmp_path)
    runs = [run_of(plain()), run_of(PLANS['views and objective']())]
    for run in runs:
        carry_out_all(store, run)
    metas = [store.find(run.fingerprint).meta['model'] for run in runs]
    assert metas[0]['parameters'] == metas[1]['parameters']
    states = [torch.load(store.find(run.fingerprint).path('state.pt'), weights_only=True) for run in runs]
    assert states[0]['model'].keys() == states[1]['model'].keys()
    assert not {'objective', 'optimizer', 'average'} & states[1].keys()


def test_an_average_changes_no_step_and_predicts(tmp_path) -> None:
    """By hand: the weights of every step of plain training, averaged."""
    store, values = Store(tmp_path), []

    class Kept(EveryStep):
        def after_step(self, now: Any) -> None:
            values.append({name: value.clone() for name, value in now})
            super().after_step(now)

    MODELS.register_module(name='EveryStep', module=Kept, force=True)
    try:
        run = run_of(plain().replace(average=dict(type='EveryStep')))
        carry_out_all(store, run)
    finally:
        MODELS.register_module(name='EveryStep', module=EveryStep, force=True)
    erm = run_of(plain())
    carry_out_all(store, erm)
    states = [torch.load(store.find(each.fingerprint).path('state.pt'), weights_only=True) for each in (erm, run)]
    for name, last in states[0]['model'].items():
        assert torch.equal(values[-1][name], last), name
        if last.is_floating_point():
            expected = values[0][name].double()
            for step in values[1:]:
                expected = 0.9 * expected + 0.1 * step[name].double()
            assert torch.allclose(states[1]['model'][name].double(), expected, rtol=1e-5, atol=1e-6), name


def test_statistics_move_once_a_step(tmp_path) -> None:
    """Both halves of ``Twice`` are the whole batch: plain training, but for rounding."""
    store = Store(tmp_path)
    runs = [run_of(plain()), run_of(plain().replace(update=dict(type='Twice')))]
    logits = [carry_out_all(store, run)['logits'] for run in runs]
    assert np.allclose(*logits, rtol=1e-3, atol=2e-2)
    states = [torch.load(store.find(run.fingerprint).path('state.pt'), weights_only=True)['model'] for run in runs]
    counted = [name for name in states[0] if name.endswith('num_batches_tracked')]
    assert counted
    assert all(torch.equal(states[0][name], states[1][name]) for name in counted)


def test_what_needs_a_whole_batch_is_refused_on_several_devices() -> None:
    for name in ('views and objective', 'update'):
        with pytest.raises(UsageError, match='erm works on a whole batch at once.*2 devices; use devices=1'):
            PLANS[name]().tune(devices=2).stages()
    assert PLANS['teacher']().tune(devices=2).stages()
    weights = dict(class_weights=dict(type='EffectiveNumber', beta=0.999))
    with pytest.raises(UsageError, match='works on a whole batch at once'):
        PLANS['teacher']().cut(at=0.5).after(**weights).tune(devices=2).stages()


def test_too_few_views_and_a_teacher_without_network_are_refused(tmp_path) -> None:
    run = run_of(plain().replace(objective=dict(type='Agreement')))
    store = Store(tmp_path)
    assert carry_out(Job(run.stages[0], str(store.root), Runtime(device='cpu'))) == 1
    assert 'Agreement needs 2 views of an image; the plan has one' in str(store.read(run.fingerprint, 'failure'))
    posthoc = make_plan('la_posthoc', BENCHMARK, 'f' * 64, 0)
    with pytest.raises(UsageError, match='a teacher is a trained network; its method ends with a post-hoc step'):
        plain().teach(posthoc)


def test_a_teacher_is_part_of_what_its_student_computes() -> None:
    student = plain().replace(objective=dict(type='Soften'))
    data = load_data(BENCHMARK.data).fingerprint
    plans = [
        student.teach(make_plan(method, BENCHMARK, data, seed))
        for method, seed in (('erm', 0), ('erm', 1), ('ldam', 0))
    ]
    assert len({plan.stages()[-1].fingerprint for plan in plans}) == 3
    graph = Graph([run_of(plan) for plan in plans])
    assert [stage.kind for stage in graph.stages.values()] == ['train'] * 6

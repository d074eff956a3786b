"""SADE, MDCS, BBN and ImbSAM: values and gradients against slow computations of the formulas, in float64.

The same parts were compared with the official codes at the commits that the methods name, outside of the repository:
equal to 1e-9, which those add inside of logarithms, or to the last bits (BBN and its ResNet-32 with 537,488 parameters
before the classifier, ImbSAM).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from slow_values import COUNTS, drawn, loss_of, must_agree, softmax
from torch import Tensor, nn

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.data.views import resolve
from ltbench.engine.job import Job, Runtime, StageContext
from ltbench.engine.networks import load_trained
from ltbench.engine.posthoc import _outputs_on_views
from ltbench.engine.worker import carry_out
from ltbench.errors import UsageError
from ltbench.grid.graph import Graph, Run
from ltbench.grid.recording import record_run
from ltbench.method import make_plan
from ltbench.models.objective import Batch
from ltbench.models.posthoc import Outputs
from ltbench.models.resnet_cifar import CIFARResNet
from ltbench.registry import MODELS, SAMPLERS, build
from ltbench.spec import parse_specs
from ltbench.store import Store

plugins.load()
DIGITS = load_benchmark('digits_lt', overrides={'epochs': 2})


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let losses compute in float64, too."""
    monkeypatch.setattr(Tensor, 'float', Tensor.double)


def planned(method: str, benchmark: Any = DIGITS) -> Any:
    return make_plan(method, benchmark, load_data(DIGITS.data).fingerprint, 0)


# ------------------------------------------------------------------------------------------------ losses of experts


def adjustments(name: str, counts: list[int], factor: float) -> list[list[float]]:
    prior = [count / sum(counts) for count in counts]
    if name == 'PoweredPriorsLoss':
        return [[power * math.log(count) for count in counts] for power in (1 - factor, 1, 1 + factor)]
    rarest_first = sorted(prior)
    mirrored = [rarest_first[len(prior) - 1 - rarest_first.index(share)] for share in prior]
    third = [math.log(share) - factor * math.log(other) for share, other in zip(prior, mirrored, strict=True)]
    return [[0.0] * len(prior), [math.log(share) for share in prior], third]


@pytest.mark.parametrize(('name', 'option'), [('DiverseExpertsLoss', 'tau'), ('PoweredPriorsLoss', 'spread')])
@pytest.mark.parametrize('factor', [0.5, 2.0])
@pytest.mark.parametrize(('classes', 'images'), [(3, 1), (4, 5), (6, 3)])
def test_each_expert_has_a_prior_of_its_own(name, option, factor, classes, images, in_float64):
    counts = COUNTS[classes][::-1] if images == 3 else COUNTS[classes]  # in any order of the classes
    labels, added = np.arange(images) % classes, adjustments(name, counts, factor)

    def slow(z: np.ndarray) -> float:
        return sum(
            -math.log(softmax(expert + mine)[label])
            for row, label in zip(z, labels, strict=True) for expert, mine in zip(row, added, strict=True)
        ) / images  # fmt: skip

    loss = loss_of(name, counts, **{option: factor})
    must_agree(lambda z: loss(z, torch.tensor(labels)), slow, 2 * drawn(classes, images, 3, classes))


@pytest.mark.parametrize('name', ['DiverseExpertsLoss', 'PoweredPriorsLoss'])
def test_experts_of_balanced_classes_are_alike(name, in_float64):
    logits, labels = torch.tensor(drawn(1, 4, 3, 5)), torch.tensor([0, 1, 2, 4])
    plain = sum(nn.functional.cross_entropy(logits[:, expert], labels) for expert in range(3))
    assert loss_of(name, [7] * 5)(logits, labels).item() == pytest.approx(plain.item())


# ------------------------------------------------------------------------------------------------ MDCS


@pytest.mark.parametrize('epoch', [0, 2, 19])
@pytest.mark.parametrize(('classes', 'images'), [(3, 4), (6, 7)])
def test_experts_learn_on_the_second_view_what_they_rightly_say_of_the_first(classes, images, epoch, in_float64):
    """10 of 40 epochs raise the weight; an expert that is never right learns nothing."""
    counts, start = COUNTS[classes], drawn(5, 3 * classes, 4)
    start[:classes] *= 0.1
    loss, labels = loss_of('PoweredPriorsLoss', counts), np.arange(images) % classes
    labels[1:] = 0  # so that some are right
    views, added = [drawn(seed, images, 4) for seed in (6, 7)], adjustments('PoweredPriorsLoss', counts, 1.5)
    objective = build(MODELS, dict(type='ConsistentExperts', weight=0.6, warmup=0.25))
    objective.set_epoch(epoch, 40)
    frozen: dict[tuple[int, int], np.ndarray] = {}

    def slow(w: np.ndarray) -> float:
        total = 0.0
        for k in range(3):
            mine = w.reshape(3, classes, 4)[k]
            first, second = ([softmax(mine @ x + added[k]) for x in view] for view in views)
            total -= sum(math.log(p[label]) for view in (first, second) for p, label in zip(view, labels, strict=True))
        total /= 2 * images
        for k in range(3):
            mine, divergences = w.reshape(3, classes, 4)[k], []
            for n, label in enumerate(labels):
                p = frozen.setdefault((k, n), softmax(mine @ views[0][n] + added[k]))  # without a gradient
                if p.argmax() == label:
                    q = softmax(mine @ views[1][n] + added[k])
                    divergences.append(sum(p[c] * math.log(p[c] / q[c]) for c in range(classes)))
            if divergences:
                total += 0.6 * min((epoch + 1) / 10, 1) * np.mean(divergences)
        return total

    slow(start)
    right = [sum(frozen[k, n].argmax() == label for n, label in enumerate(labels)) for k in range(3)]
    assert 0 < sum(right) < 3 * images

    class Network:
        def __init__(self, w: Tensor) -> None:
            self.w, self.loss = w, loss

        def logits(self, images: Tensor) -> Tensor:
            return (images @ self.w.T).view(-1, 3, classes)

    batch = Batch(tuple(map(torch.tensor, views)), torch.tensor(labels))
    must_agree(lambda w: objective(Network(w), batch)[0], slow, start)
    assert objective(Network(torch.tensor(start)), batch)[1].shape == (images, 3, classes)


# ------------------------------------------------------------------------------------------------ BBN


class Branches(nn.Module):
    """Images ``[B, 5]``, two linear branches of 4 features and one classifier on both."""

    def __init__(self, weights: Tensor, loss: nn.Module) -> None:
        super().__init__()
        self.weights, self.loss = weights, loss
        self.head = build(MODELS, dict(type='BilateralHead'), in_features=4, num_classes=len(loss.class_counts))
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(drawn(1, *self.head.weight.shape)))
            self.head.bias.copy_(torch.tensor(drawn(2, *self.head.bias.shape)))
        self.head.double()

    def backbone(self, images: Tensor, expert: int) -> Tensor:
        return images @ self.weights[expert].T

    def classify(self, features: Tensor) -> Tensor:
        return self.head(features)


@pytest.mark.parametrize('epoch', [0, 3, 7])
@pytest.mark.parametrize(('classes', 'images', 'power'), [(3, 2, 2.0), (6, 5, 1.0)])
def test_features_of_two_branches_are_mixed_and_so_are_the_losses(classes, images, power, epoch, in_float64):
    loss, start = loss_of('CrossEntropyLoss', COUNTS[classes]), drawn(3, 2, 4, 5)
    objective = build(MODELS, dict(type='CumulativeLearning', power=power))
    objective.set_epoch(epoch, 8)
    inputs = [drawn(seed, images, 5) for seed in (4, 5)]
    labels, others = np.arange(images) % classes, (np.arange(images) + 1) % classes
    head = Branches(torch.tensor(start), loss).head
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()

    def slow(w: np.ndarray) -> float:
        a, total = 1 - (epoch / 8) ** power, 0.0
        for x, y, label, other in zip(*inputs, labels, others, strict=True):
            p = softmax(weight @ np.concatenate([2 * a * (w[0] @ x), 2 * (1 - a) * (w[1] @ y)]) + bias)
            total -= a * math.log(p[label]) + (1 - a) * math.log(p[other])
        return total / images

    batch = Batch((torch.tensor(inputs[0]),), torch.tensor(labels), (torch.tensor(inputs[1]),), torch.tensor(others))
    must_agree(lambda w: objective(Branches(w, loss), batch)[0], slow, start)


def test_both_branches_count_alike_when_they_predict():
    network = Branches(torch.tensor(drawn(3, 2, 4, 5)), loss_of('CrossEntropyLoss', COUNTS[3]))
    features = torch.tensor(drawn(4, 6, 2, 4))
    of_each = [nn.functional.linear(features[:, k], network.head.weight[:, 4 * k : 4 * k + 4]) for k in range(2)]
    assert torch.allclose(network.classify(features), of_each[0] + of_each[1] + network.head.bias)


@pytest.mark.parametrize('reversal', [0.0, 0.5, 1.0])
def test_the_second_stream_is_reversed(reversal):
    config = planned(f'bbn(reversal={reversal})').settings['partner_sampler']
    counts = np.array([120, 40, 3])
    sampler = build(SAMPLERS, config, labels=np.repeat(np.arange(3), counts), seed=0, length=60_000)
    share = np.bincount(sampler.labels[list(sampler)], minlength=3) / 60_000
    assert share == pytest.approx(counts**-reversal / (counts**-reversal).sum(), abs=0.01)


def test_only_the_branch_that_is_asked_moves_its_statistics():
    """Each normalises by the images of its own stream."""
    network = CIFARResNet(14, in_channels=1, experts=2, experts_from='last_block').train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.rand(4, 1, 8, 8), expert=1)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith('branches.1.') for name in moved)
    assert not any(name.startswith('branches.0.') for name in moved)


# ------------------------------------------------------------------------------------------------ ImbSAM


class Linear(nn.Module):
    def __init__(self, weights: np.ndarray, loss: nn.Module) -> None:
        super().__init__()
        self.weights, self.loss = nn.Parameter(torch.tensor(weights)), loss

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        logits = batch.images @ self.weights.T
        return {'loss': self.loss(logits, batch.labels), 'logits': logits, 'correct': torch.zeros(())}


@pytest.mark.parametrize('eta', [1.0, 10.0, 1000.0])  # no class, some, all
@pytest.mark.parametrize(('classes', 'images'), [(3, 4), (6, 9)])
@pytest.mark.parametrize('weighted', [False, True])
def test_a_sharp_step_for_the_tail_and_a_plain_one_for_the_rest(eta, classes, images, weighted, in_float64):
    counts, start, x = COUNTS[classes], drawn(1, classes, 5), drawn(2, images, 5)
    labels, loss = np.arange(images) % classes, loss_of('CrossEntropyLoss', counts)
    weights = np.linspace(1, 2, classes) if weighted else np.ones(classes)
    if weighted:
        loss.reweight(torch.tensor(weights))
    network = Linear(start, loss)
    update = build(MODELS, dict(type='SharpnessAware', radius=0.5, eta=eta), class_counts=counts)
    optimizer = OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.1))
    told = update(network.outputs, Batch((torch.tensor(x),), torch.tensor(labels)), network, optimizer)

    def gradient(w: np.ndarray, of_tail: bool) -> np.ndarray:
        total = np.zeros_like(w)
        for row, label in zip(x, labels, strict=True):
            if (counts[label] < eta) == of_tail:
                wrong = softmax(w @ row) - np.eye(classes)[label]
                total += weights[label] * np.outer(wrong, row) / weights[labels].sum()
        return total

    tail = 2 * gradient(start, True)
    ahead = start + 0.5 * tail / (np.linalg.norm(tail) + 1e-12)
    step = gradient(start, False) + 2 * gradient(ahead, True)
    assert network.weights.detach().numpy() == pytest.approx(start - 0.1 * step, rel=1e-9, abs=1e-12)
    assert told['loss'].item() == pytest.approx(
        sum(-weights[y] * math.log(softmax(start @ row)[y]) for row, y in zip(x, labels, strict=True))
        / weights[labels].sum()
    )


# ------------------------------------------------------------------------------------------------ aggregation


def shares(free: np.ndarray) -> np.ndarray:
    return np.exp(free) / np.exp(free).sum()


def slow_weights(passes: list[list[np.ndarray]]) -> np.ndarray:
    """Gradients by central differences, Nesterov's momentum written out."""
    free, speed = np.full(3, 1 / 3), np.zeros(3)

    def unlike(free: np.ndarray, pair: np.ndarray) -> float:
        mixed = np.einsum('k,vbkc->vbc', shares(free), pair)
        total = 0.0
        for one, other in zip(*mixed, strict=True):
            p, q = softmax(one), softmax(other)
            total -= p @ q / np.linalg.norm(p) / np.linalg.norm(q)
        return total / pair.shape[1]

    for pairs in passes:
        for pair in pairs:
            steps = 1e-5 * np.eye(3)
            gradient = np.array([(unlike(free + step, pair) - unlike(free - step, pair)) / 2e-5 for step in steps])
            gradient += 5e-4 * free
            speed = 0.9 * speed + gradient
            free = free - 0.1 * (gradient + 0.9 * speed)
        if shares(free).min() < 0.045:
            break
    return shares(free)


@pytest.mark.parametrize(('size', 'batches'), [(1, 3), (4, 2), (40, 30)])
def test_weights_are_those_of_the_most_alike_predictions(size, batches):
    """The first expert contradicts itself; in the long case its weight falls, and learning ends with that pass."""
    passes = []
    for epoch in range(5):
        pairs = [drawn(10 * epoch + number, 2, size, 3, 4) for number in range(batches)]
        for pair in pairs:
            pair[1, :, 1:] = pair[0, :, 1:] + 0.3 * pair[1, :, 1:]
            pair[:, :, 0] *= 3
        passes.append(pairs)
    asked: list[int] = []

    def views(epoch: int) -> Iterator[Tensor]:
        asked.append(epoch)
        return map(torch.tensor, passes[epoch])

    experts = drawn(99, 6, 3, 4)
    step = build(MODELS, dict(type='StableAggregation'), class_counts=COUNTS[4])
    logits = step.logits(Outputs(torch.tensor(experts.mean(1)), None, experts=torch.tensor(experts), views=views))
    expected = slow_weights(passes)
    assert step.measured['expert_weights'] == pytest.approx(expected, abs=6e-5)  # rounded
    assert logits.numpy() == pytest.approx(np.einsum('k,nkc->nc', expected, experts), abs=1e-6)
    assert len(asked) == (1 if batches == 30 else 5)
    assert expected[0] < 1 / 3


def carried_out(method: str, store: Store) -> Run:
    run = Run(DIGITS, parse_specs(method), 0, planned(method))
    for stage in Graph([run]).stages.values():
        assert carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) == 0, store.read(
            stage.fingerprint, 'failure'
        )
    return run


def test_the_record_says_that_weights_were_learned_from_the_test_images(tmp_path):
    store = Store(tmp_path / 'store')
    mean, learned = (carried_out(method, store) for method in ('sade', 'sade(aggregate=test_images)'))
    records = [record_run(run, store, tmp_path / f'{number}.json') for number, run in enumerate((mean, learned))]
    assert [len(record['stages']) for record in records] == [1, 2]
    assert 'expert_weights' not in records[0]['analysis']
    assert not records[0]['warnings']
    assert records[1]['warnings'] == [
        'the post-hoc step learns from the test images, without their labels: it is transductive'
    ]
    weights = torch.tensor(records[1]['analysis']['expert_weights'])
    assert weights.sum().item() == pytest.approx(1, abs=2e-4)
    assert records[1]['analysis'].keys() - records[0]['analysis'].keys() == {'expert_weights'}

    context = StageContext(mean.stages[-1], store, Runtime(device='cpu'))
    network = load_trained(context, store.find(mean.fingerprint)).eval()
    test = context.data.test
    with torch.no_grad():
        pixels = torch.from_numpy(test.images)
        experts = network.logits(network.data_preprocessor({'images': pixels, 'labels': None})['images'])
    for run, share in ((mean, torch.full((3,), 1 / 3)), (learned, weights)):
        with np.load(store.find(run.fingerprint).path('test.npz')) as outputs:
            expected = (experts * share[:, None]).sum(dim=1).numpy()
            assert outputs['logits'] == pytest.approx(expected, abs=5e-3)


def test_a_step_on_views_sees_every_test_image_anew_in_each_pass_and_no_label(tmp_path):
    store = Store(tmp_path)
    run = carried_out('sade(aggregate=test_images)', store)
    context = StageContext(run.stages[-1], store, Runtime(device='cpu'))
    test = context.data.test
    seen, others = (
        _outputs_on_views(context, run.stages[0], split)
        for split in (test, replace(test, labels=test.labels[::-1].copy()))
    )
    assert torch.equal(torch.cat(list(seen['views'](1)), dim=1), torch.cat(list(others['views'](1)), dim=1))
    passes = [torch.cat(list(seen['views'](epoch)), dim=1) for epoch in (0, 1, 0)]
    assert seen['experts'].shape == (len(test), 3, 10)
    assert [part.shape for part in passes] == [(2, len(test), 3, 10)] * 3
    assert torch.equal(passes[0], passes[2])
    assert not torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0][0], passes[0][1])


# ------------------------------------------------------------------------------------------------ combinations


@pytest.mark.parametrize(('text', 'words'), [
    ('sade+crt', 'crt and sade cannot be combined: crt works on the features of one network, and the 3 experts'),
    ('mdcs+tau_norm', 'tau_norm and mdcs cannot be combined: tau_norm works on the features of one network'),
    ('bbn+ncm', 'ncm and bbn cannot be combined: ncm works on the features of one network, and the 2 experts of bbn'),
    ('bbn+ride', 'bbn and ride cannot be combined: both set the backbone'),
    ('bbn+cmo', 'bbn and cmo cannot be combined: both set the partner sampler'),
    ('mixup+bbn', 'mixup and bbn cannot be combined: both set the mixing'),
    ('mixup+mdcs', 'mixup and mdcs cannot be combined: both set the mixing'),
    ('sade+balanced_softmax', 'sade and balanced_softmax cannot be combined: both set the loss'),
    ('sade(aggregate=test_images)+la_posthoc', 'both set the post-hoc step'),
    ('sam(eta=20)+bcl', 'sam and bcl cannot be combined: both set the objective'),
    ('mixup+sam(eta=20)', 'mixup and sam cannot be combined: both set the mixing'),
])  # fmt: skip
def test_what_cannot_be_combined_is_refused_in_words(text, words):
    with pytest.raises(UsageError, match=words):
        planned(text)


def test_a_step_on_views_of_one_network_is_told(tmp_path):
    plan = planned('erm')
    plan = type(plan).posthoc(plan, views=['plain', 'plain'], type='StableAggregation')
    store = Store(tmp_path)
    for stage in plan.stages():
        code = carry_out(Job(stage, str(store.root), Runtime(device='cpu')))
    assert code == 1
    assert 'several experts, not on those of one network' in store.read(stage.fingerprint, 'failure')['reason']


@pytest.mark.parametrize(('benchmark', 'lr'), [('cifar100_lt', 0.1), ('imagenet_lt', 0.025), ('places_lt', 0.01)])
def test_weights_of_experts_are_learned_at_the_rate_of_the_official_files(benchmark, lr):
    plan = make_plan('sade(aggregate=test_images)', load_benchmark(benchmark), 'f' * 64, 0)
    assert plan.stages()[-1].config['step']['lr'] == lr


def test_the_weak_view_of_mdcs_is_weak_under_strong_augmentation_too():
    plan = make_plan('mdcs', load_benchmark('cifar100_lt', 'strong'), 'f' * 64, 0)
    weak, strong = (resolve(view, plan.settings['recipe']['augmentation']) for view in plan.settings['views'])
    assert not weak['policies'] and weak['flip'] and weak['crop_padding'] == 4
    assert [policy['type'] for policy in strong['policies']] == ['AutoAugment', 'Cutout']


def test_branches_part_where_those_of_bbn_do_whatever_else_is_combined(tmp_path):
    """`nbn` normalises the shared part of the last stage and both branches; one scalar for all."""
    deep = load_benchmark('digits_lt', overrides={'epochs': 2, 'depth': 14})
    store, kept = Store(tmp_path), []
    for method in ('bbn', 'nbn+bbn', 'nbn+sade', 'sade+la_posthoc', 'bbn+drw', 'sam(eta=20)+ldam_drw', 'ema+mdcs'):
        run = Run(deep, parse_specs(method), 0, make_plan(method, deep, load_data(deep.data).fingerprint, 0))
        for stage in Graph([run]).stages.values():
            assert carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) == 0, (
                method, store.read(stage.fingerprint, 'failure'),
            )  # fmt: skip
        kept.append(store.find(run.fingerprint).meta['model']['parameters'])
    assert kept[1] == kept[0] + 1


def test_a_scalar_for_each_branch_is_refused_where_branches_share_their_last_stage():
    with pytest.raises(UsageError, match='these share all but the last block'):
        build(MODELS, dict(type='NormalizedBN', scalar='expert'))(CIFARResNet(14, experts=2, experts_from='last_block'))

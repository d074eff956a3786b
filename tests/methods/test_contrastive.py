"""Contrastive and nested methods: values and gradients against slow computations of the formulas, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ive
from slow_values import COUNTS, drawn, loss_of, must_agree, softmax, unit
from torch import Tensor, nn

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.data.views import resolve
from ltbench.engine.probing import followed
from ltbench.errors import UsageError
from ltbench.method import make_plan
from ltbench.models.bessel import log_bessel
from ltbench.models.losses import Loss
from ltbench.models.normalization import NormalizedBN
from ltbench.models.objective import Batch, still_statistics
from ltbench.models.precision import compute_under_autocast
from ltbench.models.resnet_cifar import CIFARResNet
from ltbench.registry import MODELS, build
from methods.glmc import cut_and_paste
from methods.gpaco import parametric_contrastive_losses

plugins.load()


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let losses compute in float64, too."""
    monkeypatch.setattr(Tensor, 'float', Tensor.double)


# ------------------------------------------------------------------------------------------------ PaCo, GPaCo


def slow_parametric(
    centres: np.ndarray, similarity: np.ndarray, labels: list[int], others: list[int], weight: float
) -> list[float]:
    """Anchor by anchor, term by term."""
    losses = []
    for n, label in enumerate(labels):
        images = [m for m, other in enumerate(others) if m != n and other >= 0]
        everything = sum(math.exp(z) for z in centres[n]) + sum(math.exp(similarity[n, m]) for m in images)
        terms = [(1.0, centres[n, label])]
        terms += [(weight, similarity[n, m]) for m in images if others[m] == label]
        total = sum(w * -(z - math.log(everything)) for w, z in terms)
        losses.append(total / sum(w for w, _ in terms))
    return losses


@pytest.mark.parametrize(('classes', 'labels', 'queue'), [
    (3, [0, 0, 1], []), (4, [0, 1, 2, 3], [2, -1, -1]), (6, [5, 5, 5, 0, 2], [5, 1, 0, 0, -1]),
])  # fmt: skip
@pytest.mark.parametrize('weight', [0.01, 0.7])
def test_one_softmax_over_classes_and_images_written_out(classes, labels, queue, weight):
    others = [*labels, *labels, *queue]
    centres, similarity = drawn(1, len(labels), classes), drawn(2, len(labels), len(others))
    both = np.concatenate([centres, similarity], axis=1)

    def ours(z: Tensor) -> Tensor:
        split = z[:, :classes], z[:, classes:]
        return parametric_contrastive_losses(*split, torch.tensor(labels), torch.tensor(others), weight).sum()

    must_agree(ours, lambda z: sum(slow_parametric(z[:, :classes], z[:, classes:], labels, others, weight)), both)


class Network(nn.Module):
    """Images ``[B, 5]``, a linear backbone of 4 features and a linear head."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(5, 4)
        self.head = nn.Linear(4, len(loss.class_counts))
        self.loss = loss
        self.double()

    def classify(self, features: Tensor) -> Tensor:
        return self.head(features)


def linear(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    assert isinstance(layer, nn.Linear)
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def batch_normalised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def projected(project: nn.Sequential, x: np.ndarray) -> np.ndarray:
    for layer in project:
        if isinstance(layer, nn.Linear):
            x = linear(layer, x)
        else:
            x = np.maximum(x, 0) if isinstance(layer, nn.ReLU) else batch_normalised(x)
    return unit(x)


@pytest.mark.parametrize(('name', 'momentum'), [('ParametricContrast', None), ('MomentumContrast', 0.75)])
@pytest.mark.parametrize('places', [2, 7, 64])
def test_queue_and_momentum_encoder_over_three_steps(name, momentum, places):
    """Keys of earlier steps are compared with, the newest first, until they are pushed out."""
    counts, temperature, weight = COUNTS[4], 0.3, 0.2
    network = Network(loss_of('LogitAdjustedLoss', counts, tau=1.0))
    arguments = dict(weight=weight, temperature=temperature, features=3, queue=places)
    arguments |= {} if momentum is None else {'momentum': momentum}
    objective = build(MODELS, dict(type=name, **arguments), backbone=network.backbone, in_features=4).double()
    prior = np.log(np.array(counts) / sum(counts))
    slow = network.backbone.weight.detach().numpy().copy()
    keys, key_labels = np.zeros((0, 3)), []
    for step, labels in enumerate(([0, 1, 1], [3, 0, 0, 2], [1, 2])):
        views = [drawn(10 * step + view, len(labels), 5) for view in range(2)]
        batch = Batch(tuple(torch.tensor(view) for view in views), torch.tensor(labels))
        loss, logits = objective(network, batch)

        features = [linear(network.backbone, view) for view in views]
        images = [projected(objective.project, part) for part in features]
        if momentum is None:
            anchors, anchor_labels = np.concatenate(images), [*labels, *labels]
            # the layers have no statistics, so the views apart are the views together
            heads = np.concatenate([linear(network.head, part) for part in features])
        else:
            weights = network.backbone.weight.detach().numpy()
            slow = momentum * slow + (1 - momentum) * weights
            second = views[1] @ slow.T + network.backbone.bias.detach().numpy()
            images[1] = projected(objective.project, second)
            anchors, anchor_labels, heads = images[0], labels, linear(network.head, features[0])
        compared = np.concatenate([*images, keys])
        similarity = anchors @ compared.T / temperature
        others = [*labels, *labels, *key_labels]
        expected = slow_parametric(heads + prior, similarity, anchor_labels, others, weight)
        assert loss.item() == pytest.approx(np.mean(expected), rel=1e-6)
        assert logits.detach().numpy() == pytest.approx(linear(network.head, features[0]))
        keys, key_labels = np.concatenate([images[1], keys])[:places], [*labels, *key_labels][:places]
        with torch.no_grad():  # the network learns; its biases stay, and so does the projection
            network.backbone.weight += 0.5 * torch.tensor(drawn(100 + step, 4, 5))
    if momentum is not None:
        assert not any(part.requires_grad for part in objective.average.parameters())


def test_class_weights_after_a_cut_weigh_anchors():
    network = Network(loss_of('LogitAdjustedLoss', COUNTS[3], tau=1.0))
    arguments = dict(weight=0.2, temperature=0.3, features=3, queue=4)
    objective = build(MODELS, dict(type='ParametricContrast', **arguments), in_features=4).double()
    views = tuple(torch.tensor(drawn(seed, 3, 5)) for seed in (1, 2))
    network.loss.reweight(torch.tensor([0.0, 0.0, 5.0]))
    of_all, _ = objective(network, Batch(views, torch.tensor([0, 1, 2])))
    network.loss.reweight(torch.tensor([0.0, 0.0, 1.0]))
    objective.queue_labels.fill_(-1)
    assert objective(network, Batch(views, torch.tensor([0, 1, 2])))[0].item() == pytest.approx(of_all.item())


def test_a_second_pass_of_a_step_moves_neither_queue_nor_encoder_nor_statistics():
    network = Network(loss_of('LogitAdjustedLoss', COUNTS[3], tau=1.0))
    batch = Batch(tuple(torch.tensor(drawn(seed, 3, 5)) for seed in (1, 2, 3)), torch.tensor([0, 1, 2]))
    contrast = dict(type='MomentumContrast', weight=0.2, temperature=0.3, features=3, queue=4, momentum=0.5)
    estimated = dict(type='ProbabilisticContrast', weight=1.0, temperature=0.3, features=32)
    for config in (contrast, estimated):
        network.objective = build(MODELS, config, backbone=network.backbone, in_features=4, num_classes=3).double()
        before = {name: value.clone() for name, value in network.objective.state_dict().items()}
        network.objective(network, batch)
        once = {name: value.clone() for name, value in network.objective.state_dict().items()}
        assert any(not torch.equal(before[name], once[name]) for name in once)
        with torch.no_grad():
            network.backbone.weight += 1.0
        with still_statistics(network):
            network.objective(network, batch)
        assert all(torch.equal(value, once[name]) for name, value in network.objective.state_dict().items())


def test_a_copy_of_a_bf16_backbone_computes_by_its_own_weights():
    import copy

    backbone = CIFARResNet(8, in_channels=1)
    compute_under_autocast(backbone, torch.bfloat16)
    other, images = copy.deepcopy(backbone), torch.randn(2, 1, 8, 8)
    assert torch.equal(other.train()(images), backbone.train()(images))
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.01)
    assert not torch.allclose(other(images), backbone(images))


def test_the_scale_of_nbn_is_that_of_the_network_not_of_its_momentum_encoder():
    network = Network(loss_of('LogitAdjustedLoss', COUNTS[3], tau=1.0))
    network.backbone = CIFARResNet(8, in_channels=1)
    NormalizedBN()(network.backbone)
    config = dict(type='MomentumContrast', weight=0.2, temperature=0.3, features=3, queue=4, momentum=0.5)
    network.objective = build(MODELS, config, backbone=network.backbone, in_features=64)
    for name, parameter in network.named_parameters():
        if 'scalar' in name:
            nn.init.constant_(parameter, 0.0 if name.startswith('objective') else 3.0)
    assert followed(network) == {'bn_scale': 3.0}


# ------------------------------------------------------------------------------------------------ NCL


@pytest.mark.parametrize(('classes', 'images', 'experts'), [(3, 1, 2), (4, 5, 3), (6, 3, 4)])
@pytest.mark.parametrize(('share', 'mutual'), [(0.3, 0.6), (0.5, 2.0), (1.0, 0.6)])
def test_nested_collaboration_written_out(classes, images, experts, share, mutual):
    counts, kept = COUNTS[classes], max(round(share * classes), 1)
    logits, labels = 2 * drawn(classes, images, experts, classes), np.arange(images) % classes
    loss = loss_of('NestedCollaborativeLoss', counts, share=share, mutual=mutual)

    def slow(z: np.ndarray) -> float:
        total = 0.0
        for row, label in zip(z, labels, strict=True):
            hardest = sorted((c for c in range(classes) if c != label), key=lambda c: -row[0, c])[: kept - 1]
            for chosen in (range(classes), {label, *hardest}):
                p = [softmax(np.array([e[c] + math.log(counts[c]) if c in chosen else 0.0 for c in range(classes)]))
                     for e in row]  # fmt: skip
                total -= sum(math.log(each[label]) for each in p)
                divergences = [
                    sum(p[j][c] * math.log(p[j][c] / p[i][c]) for c in range(classes))
                    for i in range(experts) for j in range(experts) if i != j
                ]  # fmt: skip
                total += mutual * sum(divergences) / (experts - 1)
        return total / images

    must_agree(lambda z: loss.per_sample(z, torch.tensor(labels)).mean(), slow, logits)


# ------------------------------------------------------------------------------------------------ GLMC


def test_a_box_is_cut_as_the_official_code_cuts_it():
    """Sides ``ceil(side * sqrt(1 - share))``, half of it to either side of a uniform pixel, within the image."""
    images, partners = torch.zeros(2, 3, 9, 6), torch.ones(2, 3, 9, 6)
    seen = set()
    for seed in range(100):
        share = np.random.default_rng(seed).uniform()
        torch.manual_seed(seed)
        mixed = cut_and_paste(images, partners, share)
        torch.manual_seed(seed)
        spans = []
        for length in (9, 6):
            side, centre = math.ceil(length * math.sqrt(1 - share)), int(torch.randint(length, ()))
            spans.append(range(max(centre - side // 2, 0), min(centre + side // 2, length)))
            seen.add((length, centre))
        expected = [[float(row in spans[0] and column in spans[1]) for column in range(6)] for row in range(9)]
        assert mixed[1, 2].tolist() == expected
        assert torch.equal(mixed, mixed[:1, :1].expand_as(mixed))
    assert len(seen) == 15
    assert images.sum() == 0


@pytest.mark.parametrize('epoch', [0, 3, 7])
@pytest.mark.parametrize(('classes', 'images'), [(3, 2), (6, 4)])
def test_two_mixtures_two_heads_and_their_agreement(classes, images, epoch, in_float64):
    counts = COUNTS[classes]
    loss = loss_of('CrossEntropyLoss', counts)
    weights = np.array([1 / n**1.2 for n in counts])
    weights *= classes / weights.sum()
    loss.reweight(build(MODELS, dict(type='GeneralizedReweighting', rho=1.2), class_counts=counts))
    assert loss.class_weights.numpy() == pytest.approx(weights, rel=1e-6)
    loss.class_weights = torch.tensor(weights)

    network = Network(loss)
    start, bias = drawn(9, 4, 6), drawn(8, 4)
    shape = nn.Module()
    shape.out_features = 4
    config = dict(type='MixtureConsistency', weight=4.0)
    objective = build(MODELS, config, backbone=shape, in_features=4, num_classes=classes).double()
    objective.set_epoch(epoch, 10)
    views, partners = ([drawn(seed, images, 1, 2, 3) for seed in seeds] for seeds in ((1, 2), (3, 4)))
    labels, others = np.arange(images) % classes, (np.arange(images) + 1) % classes
    batch = Batch(
        tuple(map(torch.tensor, views)), torch.tensor(labels), tuple(map(torch.tensor, partners)), torch.tensor(others)
    )
    torch.manual_seed(3)
    share = float(torch.rand(()))
    pasted = cut_and_paste(batch.views[1], batch.partners[1], share).numpy()
    mixtures = [share * views[0] + (1 - share) * partners[0], pasted]
    frozen: list[np.ndarray] = []

    def slow(w: np.ndarray) -> float:
        features = [x.reshape(images, -1) @ w.T + bias for x in mixtures]
        hidden = [linear(objective.project, f) for f in features]
        if not frozen:
            frozen.extend(hidden)  # without a gradient: they stay where they were at the first call
        total, a = 0.0, 1 - (epoch / 10) ** 2
        for view in range(2):
            heads = linear(objective.plain_head, features[view]), linear(network.head, features[view])
            for n in range(images):
                for label, part in ((labels[n], share), (others[n], 1 - share)):
                    plain, own = (-math.log(softmax(head[n])[label]) for head in heads)
                    total += part * (a * plain + (1 - a) * weights[label] * own) / images
            guesses = linear(objective.predict, hidden[view])
            total -= 4.0 * (unit(guesses) * unit(frozen[1 - view])).sum(1).mean()
        return total

    slow(start)

    def ours(w: Tensor) -> Tensor:
        torch.manual_seed(3)
        network.backbone = lambda x: x.flatten(1) @ w.T + torch.tensor(bias)
        return objective(network, batch)[0]

    del network.backbone
    must_agree(ours, slow, start)


# ------------------------------------------------------------------------------------------------ LOS


@pytest.mark.parametrize('smoothing', [0.0, 0.5, 0.98])
@pytest.mark.parametrize(('classes', 'images'), [(3, 1), (4, 6)])
def test_labels_are_almost_uniform(classes, images, smoothing):
    labels = np.arange(images) % classes

    def slow(z: np.ndarray) -> float:
        total = 0.0
        for row, label in zip(z, labels, strict=True):
            wanted = [smoothing / classes + (1 - smoothing) * (c == label) for c in range(classes)]
            total -= sum(share * math.log(p) for share, p in zip(wanted, softmax(row), strict=True))
        return total / images

    loss = loss_of('SmoothedCrossEntropyLoss', COUNTS[classes], smoothing=smoothing)
    must_agree(lambda z: loss.per_sample(z, torch.tensor(labels)).mean(), slow, drawn(1, images, classes))


def test_the_classifier_goes_on_from_where_it_was():
    stage = make_plan('los', load_benchmark('digits_lt'), 'f' * 64, 0).stages()[-1]
    assert stage.config['head'] == dict(type='TrainedHead')
    assert stage.config['optimizer']['weight_decay'] == 0


# ------------------------------------------------------------------------------------------------ ProCo


@pytest.mark.parametrize(('size', 'error'), [(32, 1e-7), (64, 2e-9), (128, 1e-10)])
def test_bessel_functions_of_large_order(size, error):
    """Against scipy's, and the slope against the ratio of two orders; from 1 to 100,000, and finite at 0."""
    order, kappa = size / 2 - 1, np.logspace(0, 5, 60)
    place = torch.tensor(kappa, requires_grad=True)
    ours = log_bessel(place, size)
    (slope,) = torch.autograd.grad(ours.sum(), place)
    theirs = np.log(ive(order, kappa)) + kappa - order * np.log(kappa)
    difference = ours.detach().numpy() - theirs
    assert np.ptp(difference) < error
    assert slope.numpy() == pytest.approx(ive(order + 1, kappa) / ive(order, kappa), rel=error)
    assert torch.isfinite(log_bessel(torch.zeros(1), size)).all()


def estimated(classes: int, features: int = 32, temperature: float = 0.3) -> Any:
    torch.manual_seed(1)
    arguments = dict(weight=1.5, temperature=temperature, features=features)
    config = dict(type='ProbabilisticContrast', **arguments)
    return build(MODELS, config, in_features=4, num_classes=classes).double()


@pytest.mark.parametrize(('classes', 'images'), [(3, 1), (4, 5)])
def test_density_ratios_of_von_mises_fisher_distributions(classes, images, in_float64):
    """log of ``I(|kappa mu + z / t|) / |.|^v`` over ``I(kappa) / kappa^v`` by scipy, from the means alone."""
    objective, size, t = estimated(classes), 32, 0.3
    means = unit(drawn(3, classes, size)) * np.linspace(0.2, 0.9, classes)[:, None]
    objective.means[0] = torch.tensor(means)
    counts = COUNTS[classes]
    loss, labels = loss_of('LogitAdjustedLoss', counts, tau=1.0), np.arange(images) % classes

    def log_g(kappa: float) -> float:
        return math.log(ive(size / 2 - 1, kappa)) + kappa - (size / 2 - 1) * math.log(kappa)

    def slow(z: np.ndarray) -> float:
        total = 0.0
        for row, label in zip(unit(z), labels, strict=True):
            logits = []
            for mean, count in zip(means, counts, strict=True):
                length = np.linalg.norm(mean)
                kappa = size * length / (1 - length**2)
                logits.append(log_g(np.linalg.norm(kappa * mean / length + row / t)) - log_g(kappa) + math.log(count))
            total -= math.log(softmax(np.array(logits))[label])
        return total / images

    def ours(z: Tensor) -> Tensor:
        return loss(objective.contrast(nn.functional.normalize(z)), torch.tensor(labels))

    place = torch.tensor(unit(drawn(4, images, size)), requires_grad=True)
    value = ours(place)
    assert value.item() == pytest.approx(slow(place.detach().numpy()), rel=1e-7)
    (gradient,) = torch.autograd.grad(value, place)
    for index in ((0, 0), (images - 1, 7), (0, 31)):
        step = np.zeros((images, size))
        step[index] = 1e-5
        change = (slow(place.detach().numpy() + step) - slow(place.detach().numpy() - step)) / 2e-5
        assert gradient[index].item() == pytest.approx(change, rel=1e-4, abs=1e-7)


def test_statistics_are_those_of_this_epoch_and_the_one_before():
    objective = estimated(3)
    network = Network(loss_of('LogitAdjustedLoss', COUNTS[3], tau=1.0))
    kept: list[list[tuple[int, np.ndarray]]] = []
    begun = []
    for epoch in range(4):
        objective.set_epoch(epoch, 4)
        begun.append(objective.means[0].numpy().copy())
        kept.append([])
        for step in range(3):
            labels = [0, 0, 1] if epoch < 3 else [0, 2, 0]  # class 2 is absent at first
            views = tuple(torch.tensor(drawn(100 * epoch + 10 * step + view, 3, 5)) for view in range(3))
            objective(network, Batch(views, torch.tensor(labels)))
            features = np.concatenate([linear(network.backbone, view.numpy()) for view in views])
            vectors = projected(objective.project, features)[3:]
            kept[-1] += [(label, vector) for label, vector in zip(labels * 2, vectors, strict=True)]
        seen = [pair for part in kept[-2:] for pair in part]
        for label in {label for label, _ in seen}:
            mean = np.mean([vector for other, vector in seen if other == label], axis=0)
            assert objective.means[0][label].numpy() == pytest.approx(mean, abs=1e-6), (epoch, label)
        if epoch < 3:
            assert np.linalg.norm(begun[epoch][2]) == pytest.approx(0.9)  # anywhere
            assert objective.means[0][2].numpy() == pytest.approx(begun[epoch][2])
    assert objective.counts[0].tolist() == [2 * 3 * 2 * 2, 2 * 3, 2 * 3]


def test_the_logits_of_a_class_with_one_image_are_finite():
    objective = estimated(3)
    single = unit(drawn(0, 1, 32))
    objective.means[0, 1] = torch.tensor(single[0])  # length 1: kappa is at its limit
    objective.means[0, 2] = torch.tensor(single[0] * (1 + 1e-7))
    logits = objective.contrast(torch.tensor(unit(drawn(1, 4, 32)), requires_grad=True))
    assert torch.isfinite(logits).all()
    logits.sum().backward()


# ------------------------------------------------------------------------------------------------ all


@pytest.mark.parametrize('method', ['bcl', 'paco', 'gpaco', 'proco', 'glmc', 'distill'])
@pytest.mark.parametrize('mixing', ['mixup', 'cmo', 'remix'])
def test_images_of_two_labels_are_refused_where_one_is_read(method, mixing):
    for text in (f'{mixing}+{method}', f'{method}+{mixing}'):
        with pytest.raises(UsageError, match='cannot be combined: both set the'):
            make_plan(text, load_benchmark('digits_lt'), 'f' * 64, 0)


@pytest.mark.parametrize(('benchmark', 'text', 'expected'), [
    ('cifar100_lt', 'paco', dict(weight=0.01, temperature=0.05, features=32, queue=1024, momentum=0.999)),
    ('cifar10_lt', 'gpaco', dict(weight=0.01, temperature=0.05, features=32, queue=1024)),
    ('imagenet_lt', 'paco', dict(weight=0.05, temperature=0.2, features=128, queue=8192, momentum=0.999)),
    ('imagenet_lt', 'gpaco', dict(weight=0.045, temperature=0.2, features=128, queue=8192)),
    ('cifar100_lt', 'proco', dict(weight=1.0, temperature=0.1, features=128)),
    ('imagenet_lt', 'proco', dict(weight=1.0, temperature=0.07, features=1024)),
    ('cifar100_lt', 'glmc', dict(weight=4.0)),
    ('cifar10_lt', 'glmc', dict(weight=1.0)),
    ('imagenet_lt', 'glmc', dict(weight=10.0)),
])  # fmt: skip
def test_values_of_the_official_scripts(benchmark, text, expected):
    objective = dict(make_plan(text, load_benchmark(benchmark), 'f' * 64, 0).settings['objective'])
    del objective['type']
    assert objective == expected


@pytest.mark.parametrize(('method', 'least'), [('proco', 0.08), ('paco', 0.2), ('bcl', 0.2)])
def test_how_far_views_of_small_images_are_cropped_in_the_official_scripts(method, least):
    plan = make_plan(method, load_benchmark('cifar100_lt'), 'f' * 64, 0)
    views = [resolve(view, plan.settings['recipe']['augmentation']) for view in plan.settings['views'][1:]]
    assert {view['policies'][0]['least'] for view in views} == {least}
    assert {view['crop_padding'] for view in views} == {0}


def test_heads_and_networks_of_ncl():
    small, large = (
        make_plan('ncl', load_benchmark(name), 'f' * 64, 0).settings for name in ('cifar100_lt', 'imagenet_lt')
    )
    assert small['head']['head'] == dict(type='LinearHead')
    assert large['head']['head'] == dict(type='CosineHead', scale=16.0)
    largest = make_plan('ncl', load_benchmark('inat2018'), 'f' * 64, 0).settings
    assert largest['head']['head'] == dict(type='CosineHead', scale=32.0)
    assert (small['backbone']['experts'], small['backbone']['experts_from']) == (3, 0)

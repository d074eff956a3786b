"""Identities between methods: where one is a special case of another, they are equal, not merely alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.benchmark import Benchmark
from ltbench.data.samplers import ClassProbability, InstanceBalanced, PowerBalanced
from ltbench.errors import MethodWarning
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.models.classifier import build_loss
from ltbench.models.heads import CosineHead, LinearHead
from ltbench.models.losses import Loss
from ltbench.models.posthoc import Outputs
from ltbench.spec import parse_specs
from ltbench.stage import Stage
from methods import resample_repeat_factor
from methods.la_posthoc import PostHocLogitAdjustment
from methods.resample_progressive import ProgressivelyBalanced
from methods.resample_repeat_factor import RepeatFactor
from methods.tau_norm import TauNormalization

COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]  # CIFAR-10-LT, imbalance 100: 12,406 images
LABELS = np.repeat(np.arange(10), COUNTS)
LOSSES = [
    'CrossEntropyLoss', 'LogitAdjustedLoss', 'BalancedSoftmaxLoss', 'VSLoss', 'LabelAwareSmoothingLoss', 'FocalLoss',
    'LDAMLoss', 'ClassBalancedLoss',
]  # fmt: skip

Stages = Callable[[str], list[Stage]]


@pytest.fixture
def stages(benchmark: Benchmark) -> Stages:
    """The stages of a method on the toy benchmark: 200 epochs."""
    return lambda method: make_plan(method, benchmark, 'f' * 64, 0).stages()


def loss(name: str, **options: float) -> Loss:
    return build_loss({'type': name, **options}, None, COUNTS)


def random_batch(seed: int = 0, batch: int = 64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(batch, 10, generator=random), torch.randint(0, 10, (batch,), generator=random)


def assert_same_loss(one: Loss, other: Loss) -> None:
    """Equal for each image, in the (weighted) mean, with mixed labels, and in the gradient."""
    logits, labels = random_batch()
    share, others = torch.linspace(0, 1, len(labels)), labels.flip(0)
    gradients = []
    for each in (one, other):
        leaf = logits.clone().requires_grad_()
        each(leaf, labels).backward()
        gradients.append(leaf.grad)
    close = {'rtol': 1e-6, 'atol': 2e-6}  # losses up to 15 in float32
    torch.testing.assert_close(one.per_sample(logits, labels), other.per_sample(logits, labels), **close)
    torch.testing.assert_close(one(logits, labels), other(logits, labels), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.mixed(logits, labels, others, share), other.mixed(logits, labels, others, share))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------ losses


def test_balanced_softmax_is_logit_adjustment_at_tau_one() -> None:
    assert_same_loss(loss('BalancedSoftmaxLoss'), loss('LogitAdjustedLoss', tau=1.0))


def test_balanced_softmax_and_logit_adjustment_share_their_stage(stages: Stages) -> None:
    assert [s.fingerprint for s in stages('balanced_softmax')] == [s.fingerprint for s in stages('la_loss')]
    assert stages('balanced_softmax')[-1].fingerprint != stages('la_loss(tau=1.5)')[-1].fingerprint


@pytest.mark.parametrize('tau', [0.0, 1.0, 1.2])
def test_vector_scaling_without_factors_is_logit_adjustment(tau: float) -> None:
    assert_same_loss(loss('VSLoss', gamma=0.0, tau=tau), loss('LogitAdjustedLoss', tau=tau))


@pytest.mark.parametrize('gamma', [0.2, 1.0])
def test_vector_scaling_without_addends_is_cdt(gamma: float) -> None:
    """Class-dependent temperatures (Ye et al., 2020): the logit of class c is divided by (n_max / n_c) ^ gamma."""
    logits, labels = random_batch()
    temperatures = torch.tensor([(5000 / n) ** gamma for n in COUNTS])
    cdt = functional.cross_entropy(logits / temperatures, labels)
    torch.testing.assert_close(loss('VSLoss', gamma=gamma, tau=0.0)(logits, labels), cdt, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('LabelAwareSmoothingLoss', {'head': 0.0, 'tail': 0.0}),
        ('FocalLoss', {'gamma': 0.0}),
        ('ClassBalancedLoss', {'beta': 0.0}),
        ('VSLoss', {'gamma': 0.0, 'tau': 0.0}),
    ],
)
def test_neutral_options_leave_cross_entropy(name: str, options: dict[str, float]) -> None:
    assert_same_loss(loss(name, **options), loss('CrossEntropyLoss'))
    logits, labels = random_batch()
    assert not torch.allclose(loss(name)(logits, labels), loss(name, **options)(logits, labels), rtol=0.01)


def test_equal_smoothing_is_torchs_label_smoothing() -> None:
    """The mass is spread over all classes, the image's own among them, as in the official code."""
    logits, labels = random_batch()
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.3)
    smoothed = loss('LabelAwareSmoothingLoss', head=0.3, tail=0.3)(logits, labels)
    torch.testing.assert_close(smoothed, expected, rtol=1e-6, atol=1e-6)


def test_ldam_without_margin_is_cross_entropy_of_scaled_cosines() -> None:
    """Head and loss together: the scale acts once."""
    torch.manual_seed(0)
    features, labels = torch.randn(32, 6), random_batch(batch=32)[1]
    head = CosineHead(6, 10, scale=30.0)
    cosines = functional.cosine_similarity(features[:, None], head.weight[None], dim=2)
    value = loss('LDAMLoss', max_margin=0.0, scale=30.0)(head(features), labels)
    torch.testing.assert_close(value, functional.cross_entropy(30 * cosines, labels), rtol=1e-6, atol=2e-6)


def test_cosine_head_sees_directions_alone() -> None:
    torch.manual_seed(0)
    head, features = CosineHead(6, 10, scale=30.0), torch.randn(32, 6)
    before = head(features)
    with torch.no_grad():
        head.weight.mul_(torch.linspace(0.5, 4, 10)[:, None])
    torch.testing.assert_close(head(7 * features), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('beta', [0.0, 0.99, 0.9999])
def test_the_class_balanced_method_trains_with_the_class_balanced_loss(stages: Stages, beta: float) -> None:
    (segment,) = stages(f'class_balanced(beta={beta})')[-1].config['history']
    assert_same_loss(
        build_loss(segment['loss'], segment['class_weights'], COUNTS), loss('ClassBalancedLoss', beta=beta)
    )


def test_focal_with_class_weights_weights_the_focal_losses(stages: Stages) -> None:
    """CB-focal: p is that of the unweighted loss, and the weights act on the mean."""
    (segment,) = stages('focal(gamma=2.0)+class_balanced')[-1].config['history']
    both = build_loss(segment['loss'], segment['class_weights'], COUNTS)
    logits, labels = random_batch()
    p = functional.softmax(logits, dim=1)[torch.arange(len(labels)), labels]
    weights = loss('ClassBalancedLoss').class_weights[labels]
    expected = (weights * -((1 - p) ** 2) * p.log()).sum() / weights.sum()
    torch.testing.assert_close(both(logits, labels), expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize('name', LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    logits, labels = random_batch(batch=5)
    double = loss(name).double()
    for label in (labels, torch.arange(5, 10)):
        leaf = logits.double().requires_grad_()
        assert torch.autograd.gradcheck(double.per_sample, (leaf, label))


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize('gap', [-300.0, -30.0, 0.0, 8.0, 30.0, 300.0])
def test_focal_gradient_is_finite_however_sure_the_network_is(gamma: float, gap: float) -> None:
    """From p_y of exp(-300) up to one that float32 rounds to 1, where cross-entropy is exactly 0."""
    logits = torch.zeros(1, 10)
    logits[0, 3] = gap
    logits.requires_grad_()
    value = loss('FocalLoss', gamma=gamma)(logits, torch.tensor([3]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all(), logits.grad
    if gap < 0:  # (1 - p) ^ gamma is 1 there: the gradient is that of cross-entropy, -1 on the image's own class
        assert logits.grad[0, 3].item() == pytest.approx(-1, abs=1e-4)
    if gap >= 30:
        assert logits.grad.abs().max().item() < 1e-5


# ------------------------------------------------------------------------------------------------ after training


def trained_outputs() -> tuple[nn.Linear, Outputs]:
    torch.manual_seed(0)
    head, features = LinearHead(6, 10), torch.randn(32, 6)
    with torch.no_grad():
        head.weight.mul_(torch.linspace(3, 0.2, 10)[:, None])  # large classes have large weights
        return head, Outputs(head(features), torch.zeros(32).long(), features, head)


def test_tau_zero_gives_the_logits_without_bias() -> None:
    head, outputs = trained_outputs()
    expected = outputs.logits - head.bias.detach()
    torch.testing.assert_close(TauNormalization(tau=0.0).logits(outputs), expected, rtol=1e-6, atol=1e-6)


def test_tau_one_gives_unit_rows() -> None:
    """Unit features read the rows of the classifier off; their directions stay."""
    head, outputs = trained_outputs()
    probe = Outputs(outputs.logits, outputs.labels, torch.eye(6), head)
    rows = TauNormalization(tau=1.0).logits(probe).T
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(10), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rows, functional.normalize(head.weight.detach()), rtol=1e-6, atol=1e-6)


def test_tau_norm_and_the_cosine_head_rank_alike() -> None:
    """At tau 1 only the length of the features differs from a cosine."""
    head, outputs = trained_outputs()
    cosine = CosineHead(6, 10, scale=1.0)
    cosine.weight.data.copy_(head.weight.data)
    lengths = outputs.features.norm(dim=1, keepdim=True)
    expected = lengths * cosine(outputs.features).detach()
    torch.testing.assert_close(TauNormalization(tau=1.0).logits(outputs), expected, rtol=1e-5, atol=1e-6)


def test_post_hoc_adjustment_at_tau_zero_is_erm() -> None:
    _, outputs = trained_outputs()
    assert torch.equal(PostHocLogitAdjustment(COUNTS, tau=0.0).logits(outputs), outputs.logits)


@pytest.mark.parametrize('tau', [0.5, 1.0, 2.0])
def test_post_hoc_adjustment_takes_away_what_the_loss_adds(tau: float) -> None:
    _, outputs = trained_outputs()
    added = Outputs(outputs.logits + loss('LogitAdjustedLoss', tau=tau).adjustment, outputs.labels)
    again = PostHocLogitAdjustment(COUNTS, tau=tau).logits(added)
    torch.testing.assert_close(again, outputs.logits, rtol=1e-6, atol=2e-6)


# ------------------------------------------------------------------------------------------------ samplers


def class_share(sampler: ClassProbability, epoch: int = 0) -> np.ndarray:
    sampler.set_epoch(epoch)
    return sampler.class_probability(np.array(COUNTS))


def test_progressive_sampling_goes_from_instance_to_class_balanced() -> None:
    sampler = ProgressivelyBalanced(LABELS, epochs=200)
    instance, balanced = np.array(COUNTS) / 12406, np.full(10, 0.1)
    assert class_share(sampler, 0) == pytest.approx(instance, abs=1e-12)
    assert class_share(sampler, 199) == pytest.approx(balanced, abs=1e-12)
    # epoch 60 of 0 ... 199: l = 60 / 199 (Kang's code counts from 1: (61 - 1) / (200 - 1))
    assert class_share(sampler, 60) == pytest.approx(139 / 199 * instance + 60 / 199 * balanced, abs=1e-12)


def test_powers_one_and_zero_are_the_ends_of_progressive_sampling() -> None:
    sampler = ProgressivelyBalanced(LABELS, epochs=30)
    assert class_share(PowerBalanced(LABELS, power=1.0)) == pytest.approx(class_share(sampler, 0), abs=1e-12)
    assert class_share(PowerBalanced(LABELS, power=0.0)) == pytest.approx(class_share(sampler, 29), abs=1e-12)


def test_equal_probabilities_draw_equal_images() -> None:
    """The draws come from the same stream, so the ends are the same sampler and not only the same distribution."""
    progressive, balanced = ProgressivelyBalanced(LABELS, epochs=30, seed=4), PowerBalanced(LABELS, seed=4, power=0.0)
    for sampler in (progressive, balanced):
        sampler.set_epoch(29)
    assert list(progressive) == list(balanced)


def test_repeat_factor_is_one_where_a_class_is_frequent_enough() -> None:
    factor = RepeatFactor(LABELS, threshold=0.1).class_factor
    frequent = np.array(COUNTS) / 12406 >= 0.1
    assert frequent.tolist() == [True] * 3 + [False] * 7
    assert (factor[frequent] == 1).all()
    assert (factor[~frequent] > 1).all()
    # a share of exactly the threshold is frequent enough
    assert RepeatFactor(np.repeat([0, 1, 2], [5, 2, 1]), threshold=0.25).class_factor.tolist()[:2] == [1, 1]


def test_expected_copies_are_the_repeat_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen before they are shuffled and cut to the length of an epoch."""
    monkeypatch.setattr(resample_repeat_factor, 'cycle', lambda items, length, random: items)
    labels = np.repeat(np.arange(4), [60, 25, 10, 5])
    sampler = RepeatFactor(labels, threshold=0.25)  # factors 1, 1, sqrt 2.5 = 1.58, sqrt 5 = 2.24
    random, draws = np.random.default_rng(0), 4000
    copies = np.stack([np.bincount(sampler.draw(random), minlength=100) for _ in range(draws)])
    expected = sampler.class_factor[labels]
    assert ((copies == np.floor(expected)) | (copies == np.floor(expected) + 1)).all()
    # the standard deviation of a mean of 4000 is at most .5 / sqrt(4000) = .008
    assert copies.mean(axis=0) == pytest.approx(expected, abs=0.035)
    assert (copies[:, :85] == 1).all()


def test_repeat_factor_says_so_where_it_changes_nothing() -> None:
    with pytest.warns(MethodWarning, match='no class has less than 0.001 of the images .the rarest has 0.004'):
        idle = RepeatFactor(LABELS, threshold=1e-3)
    assert sorted(idle) == sorted(InstanceBalanced(LABELS)) == list(range(12406))
    with warnings.catch_warnings():
        warnings.simplefilter('error', MethodWarning)
        assert np.bincount(LABELS[list(RepeatFactor(LABELS, threshold=0.1))])[9] > 100  # of 50 images


# ------------------------------------------------------------------------------------------------ deferred re-weighting


@pytest.mark.parametrize(('plain', 'deferred'), [('erm', 'ce_drw'), ('erm', 'erm+drw'), ('ldam', 'ldam_drw')])
def test_before_its_start_deferred_reweighting_is_the_plain_loss(
    benchmark: Benchmark, plain: str, deferred: str
) -> None:
    runs = [
        Run(benchmark, parse_specs(method), 0, make_plan(method, benchmark, 'f' * 64, 0))
        for method in (plain, deferred)
    ]
    (whole,), (prefix, rest) = (run.stages for run in runs)
    (plain_segment,) = whole.config['history']
    first, second = rest.config['history']
    assert first == {**plain_segment, 'until': 160}
    assert second == {**plain_segment, 'class_weights': {'type': 'EffectiveNumber', 'beta': 0.9999}}
    at_once, before, after = (
        build_loss(segment['loss'], segment['class_weights'], COUNTS) for segment in (plain_segment, first, second)
    )
    logits, labels = random_batch()
    assert torch.equal(before(logits, labels), at_once(logits, labels))
    assert not torch.allclose(before(logits, labels), after(logits, labels), rtol=0.01)

    # the plain run begins from the deferred one's first 160 epochs: three stages in all, not four
    graph = Graph(runs)
    assert set(graph.stages) == {prefix.fingerprint, rest.fingerprint, whole.fingerprint}
    assert graph.stages[whole.fingerprint].starts_from.fingerprint == prefix.fingerprint
    assert graph.stages[rest.fingerprint].starts_from.fingerprint == prefix.fingerprint
    assert [(s.begin, s.end) for s in graph.stages.values()] == [(0, 160), (160, 200), (160, 200)]


def test_deferred_reweighting_from_the_start_is_class_balanced(stages: Stages) -> None:
    assert stages('drw(start=0.0)')[-1].fingerprint == stages('class_balanced')[-1].fingerprint

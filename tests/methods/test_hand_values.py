"""Values worked by hand, for the parts that methods bring along."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltbench.errors import UsageError
from ltbench.models.classifier import build_loss
from ltbench.models.experts import DiverseExperts
from ltbench.models.heads import LinearHead, joint
from ltbench.models.losses import Loss
from ltbench.models.mixing import BatchMixing
from ltbench.models.normalization import LogitBatchNorm, NoAffineBN, UniformBN, batch_norms
from ltbench.models.objective import Batch
from ltbench.models.posthoc import Outputs
from ltbench.models.resnet_cifar import CIFARResNet
from methods.disalign import AlignedHead, generalized_weights
from methods.la_loss import LogitAdjustedLoss
from methods.lws import ScaledHead
from methods.ncm import NearestClassMean
from methods.remix import RemixMixing
from methods.resample_repeat_factor import RepeatFactor
from methods.ride import RIDELoss
from methods.weight_balancing import MaxNorm, SoftmaxBinaryLoss

COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]  # CIFAR-10-LT, imbalance 100: 12,406 images
SIX_THREE_ONE = torch.tensor([[math.log(6), math.log(3), 0.0]])  # softmax: .6 .3 .1; -ln: .510826 1.203973 2.302585


def loss(name: str, counts: list[int] = COUNTS, **options: float) -> Loss:
    return build_loss({'type': name, **options}, None, counts)


# ------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize(
    ('gamma', 'label', 'value'),
    [
        (1.0, 0, 0.204330),  # (1 - .6) * .510826
        (2.0, 0, 0.081732),  # .16 * .510826
        (2.0, 2, 1.865094),  # .81 * 2.302585
        (0.5, 1, 1.007319),  # sqrt .7 = .836660, * 1.203973
    ],
)
def test_focal(gamma: float, label: int, value: float) -> None:
    focal = loss('FocalLoss', [5, 5, 5], gamma=gamma)
    assert focal(SIX_THREE_ONE, torch.tensor([label])).item() == pytest.approx(value, abs=1e-5)


def test_vector_scaling_of_a_toy() -> None:
    # counts 16, 4, 1: (n / n_max) ^ .5 = 1, .5, .25; 2 ln prior = 2 ln(16 / 21), 2 ln(4 / 21), 2 ln(1 / 21)
    vs = loss('VSLoss', [16, 4, 1], gamma=0.5, tau=2.0)
    assert vs.factor.tolist() == pytest.approx([1, 0.5, 0.25])
    assert vs.addend.tolist() == pytest.approx([-0.543867, -3.316456, -6.089045], abs=1e-5)
    # logits (0, 2 ln 4, 4 ln 16) scaled: (0, ln 4, ln 16); weights 16^2 * 1, 4^2 * 4, 1 * 16 of 336
    logits = torch.tensor([[0.0, 2 * math.log(4), 4 * math.log(16)]])
    assert vs(logits, torch.tensor([0])).item() == pytest.approx(math.log(336 / 256), abs=1e-5)
    assert vs(logits, torch.tensor([2])).item() == pytest.approx(math.log(336 / 16), abs=1e-5)


def test_vector_scaling_on_cifar_counts() -> None:
    # (n / 5000) ^ .2; the rarest: .01 ^ .2 = 10 ^ -.4; 1.2 ln(5000 / 12406) and 1.2 ln(50 / 12406)
    vs = loss('VSLoss', gamma=0.2, tau=1.2)
    expected = [1.0, 0.902700, 0.814830, 0.735613, 0.663923, 0.599443, 0.541132, 0.488437, 0.440577, 0.398107]
    assert vs.factor.tolist() == pytest.approx(expected, abs=1e-5)
    assert vs.addend[[0, 9]].tolist() == pytest.approx([-1.090490, -6.616695], abs=1e-5)


def test_smoothing_of_the_largest_a_middle_and_the_smallest_class() -> None:
    # counts 100, 40, 10: ranks 1, 30 / 90, 0; sin(pi / 2 * rank) = 1, sin 30 deg = .5, 0; .1 + .3 * (1, .5, 0)
    smoothing = loss('LabelAwareSmoothingLoss', [100, 40, 10], head=0.4, tail=0.1).smoothing
    assert smoothing.tolist() == pytest.approx([0.4, 0.25, 0.1], abs=1e-6)
    # CIFAR counts, class 3: rank 1027 / 4950 = .207475, sin .325901 = .320164: .1 + .3 * .320164
    smoothing = loss('LabelAwareSmoothingLoss', head=0.4, tail=0.1).smoothing
    assert smoothing[[0, 3, 9]].tolist() == pytest.approx([0.4, 0.196049, 0.1], abs=1e-5)


def test_label_aware_smoothing() -> None:
    # mean over all classes of -ln p: (.510826 + 1.203973 + 2.302585) / 3 = 1.339128
    smoothed = loss('LabelAwareSmoothingLoss', [100, 40, 10], head=0.4, tail=0.1)
    each = smoothed.per_sample(SIX_THREE_ONE.expand(3, 3), torch.arange(3))
    # .6 * .510826 + .4 * 1.339128;  .75 * 1.203973 + .25 * 1.339128;  .9 * 2.302585 + .1 * 1.339128
    assert each.tolist() == pytest.approx([0.842147, 1.237762, 2.206239], abs=1e-5)


def test_equal_counts_are_all_smallest_classes() -> None:
    """0 / 0 in the formula; taken as rank 0."""
    assert loss('LabelAwareSmoothingLoss', [7, 7, 7], head=0.4, tail=0.1).smoothing.tolist() == pytest.approx([0.1] * 3)


def test_class_balanced() -> None:
    # beta .5, counts 3 and 1: E = 1.75 and 1, weights 8/11 and 14/11; losses ln 2 (label 0) and ln 4 (label 1):
    # (8 ln 2 + 14 * 2 ln 2) / 22 = 18/11 ln 2
    balanced = loss('ClassBalancedLoss', [3, 1], beta=0.5)
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    assert balanced(logits, torch.tensor([0, 1])).item() == pytest.approx(18 / 11 * math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ('counts', 'rho', 'weights'),
    [
        ([4, 1], 0.5, [2 / 3, 4 / 3]),  # 1 : sqrt 4, scaled to sum 2
        ([4, 1], 2.0, [2 / 17, 32 / 17]),  # 1 : 16
        ([32, 1], 1.2, [2 / 65, 128 / 65]),  # 1 : 32 ^ 1.2 = 2 ^ 6
        ([9, 9, 9], 1.2, [1, 1, 1]),
        ([9, 4, 1], 0.0, [1, 1, 1]),
    ],
)
def test_generalized_reweighting(counts: list[int], rho: float, weights: list[float]) -> None:
    assert generalized_weights(counts, rho).tolist() == pytest.approx(weights, abs=1e-6)


# ------------------------------------------------------------------------------------------------ mixing


def test_mixed_labels() -> None:
    # losses of label 0, 1, 2: .510826 1.203973 2.302585
    # first image: .75 * .510826 + .25 * 2.302585 = .958765; second: 0 * ... + 1 * 1.203973; their mean
    mixed = loss('CrossEntropyLoss', [5, 5, 5]).mixed(
        SIX_THREE_ONE.expand(2, 3), torch.tensor([0, 2]), torch.tensor([2, 1]), torch.tensor([0.75, 0.0])
    )
    assert mixed.item() == pytest.approx((0.958765 + 1.203973) / 2, abs=1e-5)


def test_mixed_labels_with_class_weights() -> None:
    # weights 1, 2, 3; first labels 0, 2: (1 * .75 * .510826 + 3 * 0 * 2.302585) / (1 + 3) = .095780
    # second labels 2, 1: (3 * .25 * 2.302585 + 2 * 1 * 1.203973) / (3 + 2) = .826977
    weighted = loss('CrossEntropyLoss', [5, 5, 5])
    weighted.reweight(torch.tensor([1.0, 2.0, 3.0]))
    mixed = weighted.mixed(
        SIX_THREE_ONE.expand(2, 3), torch.tensor([0, 2]), torch.tensor([2, 1]), torch.tensor([0.75, 0.0])
    )
    assert mixed.item() == pytest.approx(0.095780 + 0.826977, abs=1e-5)


def test_mixed_images_and_their_shares() -> None:
    mixing = BatchMixing([5, 5], seed=0, alpha=1.0)
    images, labels = torch.eye(8), torch.arange(8) % 2
    mixed, others, share = mixing(images, labels)
    assert share.unique().numel() == 1  # one lambda a batch
    partners = (mixed - share[0] * images).argmax(dim=1)
    assert torch.allclose(mixed, share[0] * images + (1 - share[0]) * images[partners])
    assert sorted(partners.tolist()) == list(range(8))
    assert torch.equal(others, labels[partners])


@pytest.mark.parametrize(
    ('label', 'other', 'share', 'expected'),
    [
        (0, 9, 0.4, 0.0),  # 5000 / 50 >= 3 and .4 < .5: the rare second label takes all
        (0, 9, 0.5, 0.5),  # ... but .5 is not < .5
        (0, 9, 0.9, 0.9),  # nine tenths of the pixels are the frequent class's: as mixup
        (9, 0, 0.6, 1.0),  # 50 / 5000 <= 1/3 and 1 - .6 < .5: the rare first label takes all
        (9, 0, 0.4, 0.4),  # 1 - .4 is not < .5: as mixup
        (0, 1, 0.2, 0.2),  # 5000 / 2997 = 1.67 lies between 1/3 and 3: as mixup
        (4, 4, 0.2, 0.2),
        (2, 4, 0.2, 0.2),  # 1796 / 645 = 2.78
        (2, 5, 0.2, 0.0),  # 1796 / 387 = 4.64
    ],
)
def test_remix_label_shares(label: int, other: int, share: float, expected: float) -> None:
    remix = RemixMixing(COUNTS, seed=0)
    result = remix.label_share(torch.tensor([label]), torch.tensor([other]), share)
    assert result.tolist() == pytest.approx([expected])


def test_remix_bounds_belong_to_the_rule() -> None:
    """``>=`` and ``<=`` in equation 5; and kappa and tau act."""
    exact = RemixMixing([30, 10], seed=0)
    pair = torch.tensor([0, 1])
    assert exact.label_share(pair, pair.flip(0), 0.4).tolist() == pytest.approx([0.0, 0.4])
    assert exact.label_share(pair, pair.flip(0), 0.6).tolist() == pytest.approx([0.6, 1.0])
    wider = RemixMixing([30, 10], seed=0, kappa=3.1)
    assert wider.label_share(pair, pair.flip(0), 0.4).tolist() == pytest.approx([0.4, 0.4])
    narrow = RemixMixing([30, 10], seed=0, tau=0.3)
    assert narrow.label_share(pair, pair.flip(0), 0.4).tolist() == pytest.approx([0.4, 0.4])


# ------------------------------------------------------------------------------------------------ heads


def linear(weight: list[list[float]], bias: list[float] | None = None) -> LinearHead:
    head = LinearHead(len(weight[0]), len(weight))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(weight))
        head.bias.copy_(torch.tensor(bias or [0.0] * len(weight)))
    return head


def test_aligned_head_begins_as_the_base_head() -> None:
    """Whatever the confidence: with scale 1 and shift 0 both terms are the base logits."""
    torch.manual_seed(0)
    base, features = LinearHead(6, 10), torch.randn(32, 6)
    aligned = AlignedHead(copy.deepcopy(base), 6, 10)
    torch.testing.assert_close(aligned(features), base(features), rtol=1e-6, atol=1e-6)


def test_aligned_head() -> None:
    # features (1, 2); base logits (1 + 1, 2 + 0) = (2, 2); confidence sigmoid(ln 3) = .75
    # class 0: .75 * (2 * 2 + 1) + .25 * 2 = 4.25; class 1: .75 * (.5 * 2 - 1) + .25 * 2 = .5
    aligned = AlignedHead(linear([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]), 2, 2)
    with torch.no_grad():
        aligned.confidence.weight.zero_()
        aligned.confidence.bias.fill_(math.log(3))
        aligned.scale.copy_(torch.tensor([2.0, 0.5]))
        aligned.shift.copy_(torch.tensor([1.0, -1.0]))
    assert aligned(torch.tensor([[1.0, 2.0]])).tolist()[0] == pytest.approx([4.25, 0.5], abs=1e-6)


def test_aligned_head_as_in_the_official_code() -> None:
    # features (1, 2), weights .1: confidence sigmoid(.3 + ln 3 - .3) = .75; base logits (2, 2) as above;
    # a = 1: (1 + .75) * 2 = 3.5; then a = .5, b = -1: (1 + .75 * .5) * 2 - .75 = 2. The paper's a is one more
    aligned = AlignedHead(linear([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]), 2, 2, start='code')
    assert aligned.confidence.weight.tolist()[0] == pytest.approx([0.1, 0.1])
    paper = AlignedHead(aligned.base, 2, 2)
    features = torch.tensor([[1.0, 2.0]])
    with torch.no_grad():
        aligned.confidence.bias.fill_(math.log(3) - 0.3)
        assert aligned(features).tolist()[0] == pytest.approx([3.5, 3.5], abs=1e-6)
        aligned.scale[1], aligned.shift[1] = 0.5, -1.0
        paper.confidence.load_state_dict(aligned.confidence.state_dict())
        paper.scale.copy_(1 + aligned.scale)
        paper.shift.copy_(aligned.shift)
    assert aligned(features).tolist()[0] == pytest.approx([3.5, 2.0], abs=1e-6)
    torch.testing.assert_close(paper(features), aligned(features))
    with pytest.raises(UsageError, match="unknown start of AlignedHead 'papper': did you mean paper"):
        AlignedHead(aligned.base, 2, 2, start='papper')


def test_scaled_head_scales_the_bias_too() -> None:
    # 3 * (2 * 1 + 5) = 21, not 3 * 2 * 1 + 5 = 11; the second class: .5 * (4 - 1)
    scaled = ScaledHead(linear([[2.0], [4.0]], [5.0, -1.0]), 2)
    assert scaled(torch.ones(1, 1)).tolist()[0] == [7.0, 3.0]
    with torch.no_grad():
        scaled.scale.copy_(torch.tensor([3.0, 0.5]))
    assert scaled(torch.ones(1, 1)).tolist()[0] == [21.0, 1.5]
    assert scaled.weight.tolist() == [[6.0], [2.0]]


def test_binary_cross_entropy_on_softmax_probabilities() -> None:
    # probabilities (.5, .25, .25), label 0: -ln .5 - 2 ln .75, over 3 classes; label 1: -ln .5 - ln .25 - ln .75
    # (1 - .5, .25, 1 - .25). Weights 1 and 3, over the batch size of 2
    logits = torch.tensor([[math.log(2), 0.0, 0.0]] * 2)
    first, second = (math.log(2) - 2 * math.log(0.75)) / 3, (math.log(2) + math.log(4) - math.log(0.75)) / 3
    loss = SoftmaxBinaryLoss([5, 5, 5])
    assert loss.per_sample(logits, torch.tensor([0, 1])).tolist() == pytest.approx([first, second], abs=1e-6)
    loss.reweight(torch.tensor([1.0, 3.0, 1.0]), divide_by='batch')
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx((first + 3 * second) / 2, abs=1e-6)
    certain = loss.per_sample(torch.tensor([[0.0, 500.0, 0.0]]), torch.tensor([0]))
    assert certain.item() == pytest.approx(200 / 3, rel=1e-5)  # two logarithms of 0, held at -100


def test_max_norm() -> None:
    # norms 5, 1, 3: limit 1 + .5 * (5 - 1) = 3; only the first row is longer: (3, 4) * 3 / 5
    head = linear([[3.0, 4.0], [1.0, 0.0], [0.0, 3.0]], [9.0, 9.0, 9.0])
    project = MaxNorm(head, share=0.5)
    assert project.limit.item() == pytest.approx(3)
    project()
    assert head.weight.flatten().tolist() == pytest.approx([1.8, 2.4, 1, 0, 0, 3], abs=1e-6)
    assert head.bias.tolist() == [9.0, 9.0, 9.0]
    # the limit is that of the start: rows that have grown go back to 3, rows that have shrunk stay
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[6.0, 8.0], [0.0, 0.5], [0.0, 6.0]]))
    project()
    assert head.weight.flatten().tolist() == pytest.approx([1.8, 2.4, 0, 0.5, 0, 3], abs=1e-6)


@pytest.mark.parametrize(('share', 'norms'), [(0.0, [1, 1, 1]), (0.1, [1.4, 1, 1.4]), (1.0, [5, 1, 3])])
def test_max_norm_share(share: float, norms: list[float]) -> None:
    head = linear([[3.0, 4.0], [1.0, 0.0], [0.0, 3.0]])
    MaxNorm(head, share)()
    assert head.weight.norm(dim=1).tolist() == pytest.approx(norms, abs=1e-6)


# ------------------------------------------------------------------------------------------------ nearest class mean


@pytest.mark.parametrize(
    ('distance', 'offset', 'expected'),
    [
        # unit training features (1, 0) (0, 1) | (-1, 0) (0, -1): means (.5, .5) and (-.5, -.5)
        # unit test feature (.6, .8): .1^2 + .3^2 = .1 and 1.1^2 + 1.3^2 = 2.9
        ('l2n', 0.0, [-0.1, -2.9]),
        # unit means (.7071, .7071) and its opposite: (.6 + .8) / sqrt 2
        ('cosine', 0.0, [0.989949, -0.989949]),
        # the same plane moved by (1, 1), which is then the mean of all training features: centred, all is as above
        ('cl2n', 1.0, [-0.1, -2.9]),
        ('cl2n', 0.0, [-0.1, -2.9]),
    ],
)
def test_nearest_class_mean(distance: str, offset: float, expected: list[float]) -> None:
    features = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-3.0, 0.0], [0.0, -5.0]]) + offset
    train = Outputs(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]), features)
    test = Outputs(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[3.0, 4.0]]) + offset, None, train)
    assert NearestClassMean(2, distance).logits(test).tolist()[0] == pytest.approx(expected, abs=1e-5)


def test_only_cl2n_centres() -> None:
    # moved by (1, 1), 'l2n' sees unit features of (4, 1) (1, 6) | (-2, 1) (1, -4) and (4, 5):
    # means (.567345, .614563) and (-.325946, -.261464); test (.624695, .780869)
    # .057350^2 + .166306^2 = .030947 and .950641^2 + 1.042333^2 = 1.990176
    features = torch.tensor([[4.0, 1.0], [1.0, 6.0], [-2.0, 1.0], [1.0, -4.0]])
    train = Outputs(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]), features)
    test = Outputs(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[4.0, 5.0]]), None, train)
    assert NearestClassMean(2, 'l2n').logits(test).tolist()[0] == pytest.approx([-0.030947, -1.990176], abs=1e-4)


def test_means_are_those_of_the_classes_not_of_the_images() -> None:
    """Nine images on one side and one on the other: the border stays in the middle."""
    features = torch.tensor([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    train = Outputs(torch.zeros(10, 2), torch.tensor([0] * 9 + [1]), features)
    test = Outputs(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[2.0, 2.0]]), None, train)
    # (.7071, .7071) to (1, 0): .085786 + .5
    assert NearestClassMean(2, 'l2n').logits(test).tolist()[0] == pytest.approx([-0.585786] * 2, abs=1e-5)


# ------------------------------------------------------------------------------------------------ RIDE


def expert_logits(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(16, 3, 10, generator=random), torch.randint(0, 10, (16,), generator=random)


@pytest.mark.parametrize('balance', [0.0, 0.05])
def test_ride_without_diversity_is_the_sum_of_the_experts_ldam(balance: float) -> None:
    """The sum and not the mean; and the temperatures act on the divergence alone."""
    logits, labels = expert_logits()
    ldam = loss('LDAMLoss')
    expected = sum(ldam(expert, labels) for expert in logits.unbind(1))
    value = loss('RIDELoss', diversity=0.0, balance=balance)(logits, labels)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('balance', [0.0, 0.05])
def test_identical_experts_do_not_diverge(balance: float) -> None:
    logits, labels = expert_logits()
    same = logits[:, :1].expand(-1, 3, -1)
    value = loss('RIDELoss', diversity=-0.45, balance=balance)(same, labels)
    torch.testing.assert_close(value, 3 * loss('LDAMLoss')(logits[:, 0], labels), rtol=1e-5, atol=1e-5)


def test_ride_divergence() -> None:
    # two classes of equal size, no margin: temperature 1. Experts (ln 9, 0) and (0, 0), mean (ln 3, 0):
    # q = (.75, .25); KL(q || (.9, .1)) = .75 ln(.75 / .9) + .25 ln(.25 / .1) = .092332
    # KL(q || (.5, .5)) = .75 ln 1.5 + .25 ln .5 = .130812; cross-entropy of label 0: -ln .9 - ln .5 = .798508
    ride = RIDELoss([5, 5], max_margin=0.0, diversity=-2.0)
    logits = torch.tensor([[[math.log(9), 0.0], [0.0, 0.0]]])
    value = ride(logits, torch.tensor([0])).item()
    assert value == pytest.approx(0.798508 - 2 * (0.092332 + 0.130812), abs=1e-5)


def test_ride_divergence_is_scaled_by_the_squared_mean_temperature() -> None:
    # counts 3, 1, balance 1: temperatures 1, 1/3. Class 1 with logits ln(9) / 3 and 0 has ln 9 and 0 at its
    # temperature, the mean ln 3: the divergences above, times (2/3)^2. Cross-entropy takes the logits as they are
    ride = RIDELoss([3, 1], max_margin=0.0, diversity=-2.0, balance=1.0)
    assert ride.temperature.tolist() == pytest.approx([1, 1 / 3])
    logits = torch.tensor([[[0.0, math.log(9) / 3], [0.0, 0.0]]])
    cross_entropy = math.log(1 + 9 ** (-1 / 3)) + math.log(2)
    value = ride(logits, torch.tensor([1])).item()
    assert value == pytest.approx(cross_entropy - 2 * 4 / 9 * (0.092332 + 0.130812), abs=1e-5)


def test_experts_with_balanced_softmax() -> None:
    # The experts of test_ride_divergence with counts 3 and 1: cross-entropy of label 1 on (ln 9 + ln 3, 0) and
    # (ln 3, 0) is ln 28 + ln 4; the divergences see the logits without the prior
    class Model:
        loss = LogitAdjustedLoss([3, 1])

        def logits(self, images: Tensor) -> Tensor:
            return images

    logits = torch.tensor([[[math.log(9), 0.0], [0.0, 0.0]]]).repeat(4, 1, 1)
    diverse = DiverseExperts(diversity=-2.0)
    value, returned = diverse(Model(), Batch((logits,), torch.ones(4, dtype=torch.int64)))
    assert value.item() == pytest.approx(math.log(28) + math.log(4) - 2 * (0.092332 + 0.130812), abs=1e-5)
    assert returned is logits
    # half of each label: the mean of this and of label 0, ln(28 / 27) + ln(4 / 3)
    ones, halves = torch.ones(4, dtype=torch.int64), torch.full((4,), 0.5)
    mixed, _ = diverse(Model(), Batch((logits,), ones, second_labels=1 - ones, share=halves))
    other = math.log(28 / 27) + math.log(4 / 3)
    expected = (math.log(28) + math.log(4) + other) / 2 - 2 * (0.092332 + 0.130812)
    assert mixed.item() == pytest.approx(expected, abs=1e-5)


def test_ride_temperatures() -> None:
    # .95 + .05 * n / 1240.6, over the largest of them: class 0 .95 + .05 * 4.030308 = 1.151515;
    # class 3: .993407 / 1.151515; class 9: .95 + .05 * .040303 = .952015
    temperature = loss('RIDELoss', balance=0.05).temperature
    assert temperature[[0, 3, 9]].tolist() == pytest.approx([1.0, 0.862695, 0.826750], abs=1e-5)
    assert (temperature.diff() < 0).all()  # the rarer, the sharper
    assert loss('RIDELoss', balance=0.0).temperature.tolist() == [1.0] * 10


def test_the_prediction_of_experts_is_their_mean() -> None:
    logits = torch.tensor([[[1.0, 5.0], [3.0, -1.0]]])
    assert joint(logits).tolist() == [[2.0, 2.0]]
    assert torch.equal(joint(logits[:, 0]), logits[:, 0])


# ------------------------------------------------------------------------------------------------ normalisation


def test_logit_batch_norm_standardises_each_class() -> None:
    torch.manual_seed(0)
    logits = 4 * torch.randn(64, 10) + torch.arange(10)
    out = LogitBatchNorm(10).train()(logits)
    assert out.mean(dim=0).tolist() == pytest.approx([0] * 10, abs=1e-5)
    assert out.var(dim=0, unbiased=False).tolist() == pytest.approx([1] * 10, abs=1e-4)


def test_logit_batch_norm_evaluates_with_running_statistics() -> None:
    # logits 1, 3 and 10, 14: means 2 and 12, unbiased variances 2 and 8.
    # Running: .1 * 2 = .2 and 1.2; .9 * 1 + .1 * 2 = 1.1 and 1.7. Evaluated on (1.25, 2.5), one image alone:
    # 1.05 / sqrt 1.1 = 1.001136; 1.3 / sqrt 1.7 = .997054
    norm = LogitBatchNorm(2).train()
    norm(torch.tensor([[1.0, 10.0], [3.0, 14.0]]))
    out = norm.eval()(torch.tensor([[1.25, 2.5]]))
    assert out.tolist()[0] == pytest.approx([1.001136, 0.997054], abs=1e-4)
    assert not list(norm.parameters())


def test_logit_batch_norm_of_experts() -> None:
    """Each expert's logits of a class are a population of their own, as in the three heads of the official code."""
    torch.manual_seed(0)
    logits = torch.randn(32, 3, 10)
    logits[:, 1] += 5
    joined = LogitBatchNorm(10, experts=3).train()
    out = joined(logits)
    apart = [nn.BatchNorm1d(10, affine=False).train() for _ in range(3)]
    expected = torch.stack([norm(logits[:, k]) for k, norm in enumerate(apart)], dim=1)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(joined.running_mean.view(3, 10), torch.stack([norm.running_mean for norm in apart]))


def test_affine_logit_batch_norm_has_a_weight_and_a_bias_for_each_class_of_each_expert() -> None:
    # logits 1 and 3 of one class: -1 and 1 standardised; weight 2, bias .5: -1.5 and 2.5
    norm = LogitBatchNorm(4, experts=3, affine=True).train()
    assert sum(p.numel() for p in norm.parameters()) == 2 * 3 * 4
    with torch.no_grad():
        norm.weight.view(3, 4)[1, 2], norm.bias.view(3, 4)[1, 2] = 2.0, 0.5
    logits = torch.zeros(2, 3, 4)
    logits[:, 1, 2] = torch.tensor([1.0, 3.0])
    assert norm(logits)[:, 1, 2].tolist() == pytest.approx([-1.5, 2.5], abs=1e-4)


@pytest.mark.parametrize('scope', ['last_stage', 'all'])
def test_uniform_bn(scope: str) -> None:
    """Every channel of every layer has s / sqrt(C), with one s; nothing else of the layers is trained."""
    torch.manual_seed(0)
    net = CIFARResNet(depth=8)
    UniformBN(scope)(net)
    layers = [bn for _, _, bn in batch_norms(net, scope)]
    scalar = layers[0].weight_scalar
    with torch.no_grad():
        scalar.fill_(2.4)
    for bn in layers:
        assert bn.weight_scalar is scalar
        assert bn.gamma.tolist() == pytest.approx([2.4 / math.sqrt(bn.num_features)] * bn.num_features, abs=1e-6)
        assert bn.beta.tolist() == [0.0] * bn.num_features
        assert [name for name, parameter in bn.named_parameters() if parameter.requires_grad] == ['weight_scalar']


@pytest.mark.parametrize('scope', ['last_stage', 'all'])
def test_no_affine_bn(scope: str) -> None:
    net = CIFARResNet(depth=8)
    before = sum(bn.num_features for _, _, bn in batch_norms(net, scope))
    parameters = sum(p.numel() for p in net.parameters())
    NoAffineBN(scope)(net)
    layers = [bn for _, _, bn in batch_norms(net, scope)]
    assert not [p for bn in layers for p in bn.parameters()]
    assert parameters - sum(p.numel() for p in net.parameters()) == 2 * before
    x = 3 * torch.randn(16, layers[0].num_features, 4, 4) + 2
    out = layers[0].train()(x)
    plain = nn.BatchNorm2d(layers[0].num_features).train()(x)  # at init: weight 1, bias 0
    torch.testing.assert_close(out, plain.detach())


# ------------------------------------------------------------------------------------------------ repeat factors


def test_repeat_factors_of_cifar_counts() -> None:
    # sqrt(.1 * 12406 / n) = sqrt(1240.6 / n) where n < 1240.6: 1.151904 1.923411 3.205685 5.347414 8.925180 14.946988
    # 24.812
    factor = RepeatFactor(np.repeat(np.arange(10), COUNTS), threshold=0.1).class_factor
    expected = [1, 1, 1, 1.073268, 1.386871, 1.790443, 2.312448, 2.987504, 3.866133, 4.981165]
    assert factor.tolist() == pytest.approx(expected, abs=1e-5)


def test_repeat_factors_follow_the_threshold() -> None:
    # shares .8, .16, .04 and t = .36: 1, sqrt(.36 / .16) = 1.5, sqrt(.36 / .04) = 3
    factor = RepeatFactor(np.repeat([0, 1, 2], [20, 4, 1]), threshold=0.36).class_factor
    assert factor.tolist() == pytest.approx([1, 1.5, 3])

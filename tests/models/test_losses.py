"""Losses by hand and by identity, on the class counts of CIFAR-10-LT with imbalance 100."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import DataError, UsageError
from ltbench.models.classifier import build_loss
from ltbench.models.losses import CrossEntropyLoss, Loss, effective_number_weights
from ltbench.registry import MODELS

COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]  # 12,406 images


def loss(name: str, counts: list[int] = COUNTS, **options: float) -> Loss:
    return build_loss({'type': name, **options}, None, counts)


def random_batch(seed: int = 0, batch: int = 64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(batch, 10, generator=random), torch.randint(0, 10, (batch,), generator=random)


def zeros(label: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(1, 10), torch.tensor([label])


# ------------------------------------------------------------------------------------------------ cross-entropy


def test_cross_entropy_by_hand() -> None:
    # logits (ln 6, ln 3, 0): probabilities .6 .3 .1; the mean of -ln .3 and -ln .6
    logits = torch.tensor([[math.log(6), math.log(3), 0.0]] * 2)
    value = CrossEntropyLoss([5, 5, 5])(logits, torch.tensor([1, 0]))
    assert value.item() == pytest.approx((1.2039728 + 0.5108256) / 2)


def test_loss_is_computed_in_float32() -> None:
    """Half-precision logits are read as they are; the sum over classes and the mean must not be in 16 bits."""
    logits, labels = random_batch()
    for name in ('CrossEntropyLoss', 'LogitAdjustedLoss', 'LDAMLoss'):
        half = loss(name)(logits.bfloat16(), labels)
        assert half.dtype == torch.float32
        assert torch.equal(half, loss(name)(logits.bfloat16().float(), labels))


# ------------------------------------------------------------------------------------------------ class weights


def test_effective_numbers_by_hand() -> None:
    # E_c = (1 - .9999^n) / .0001 = 3934.85 2589.71 1644.03 1021.08 624.67 379.63 229.34 138.05 82.66 49.88;
    # 1 / E_c times 10 / sum of 1 / E_c
    expected = [0.050611, 0.076900, 0.121134, 0.195037, 0.318805, 0.524590, 0.868349, 1.442627, 2.409223, 3.992724]
    assert effective_number_weights(COUNTS, beta=0.9999).tolist() == pytest.approx(expected, abs=1e-6)


def test_effective_number_of_two_classes_by_hand() -> None:
    # beta = .5: E = (1 - 1/8) / .5 = 1.75 for 3 images, 1 for one; weights 4/7 and 1, times 2 / (11/7)
    assert effective_number_weights([3, 1], beta=0.5).tolist() == pytest.approx([8 / 11, 14 / 11])


def test_beta_zero_gives_ones() -> None:
    assert effective_number_weights(COUNTS, beta=0.0).tolist() == [1.0] * 10


def test_beta_towards_one_gives_inverse_counts() -> None:
    inverse = torch.tensor([1 / n for n in COUNTS])
    expected = 10 * inverse / inverse.sum()
    assert effective_number_weights(COUNTS, beta=1 - 1e-10).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=20), st.floats(0, 0.99999))
def test_weights_sum_to_the_number_of_classes_and_favour_the_rare(counts: list[int], beta: float) -> None:
    weights = effective_number_weights(counts, beta)
    assert weights.sum().item() == pytest.approx(len(counts), rel=1e-5)
    by_count = [weight for _, weight in sorted(zip(counts, weights.tolist(), strict=True))]
    assert all(rarer >= other * (1 - 1e-6) for rarer, other in pairwise(by_count))


def test_weighted_mean_by_hand() -> None:
    # class weights 1 and 3; losses ln 2 (label 0) and ln 4 (label 1): (1 ln 2 + 3 ln 4) / (1 + 3) = 7/4 ln 2.
    # Dividing by the batch size, as some ports do, would give 7/2 ln 2
    weighted = CrossEntropyLoss([5, 5])
    weighted.reweight(torch.tensor([1.0, 3.0]))
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    assert weighted(logits, torch.tensor([0, 1])).item() == pytest.approx(1.75 * math.log(2))


def test_weighted_sums_may_be_divided_by_the_batch_size() -> None:
    # as above, over 2: (1 ln 2 + 3 ln 4) / 2 = 7/2 ln 2. Mixed, half of each label, the second ones 1 and 0 with losses
    # ln 2 and ln 4/3: (.5 * 1 ln 2 + .5 * 3 ln 4 + .5 * 3 ln 2 + .5 * 1 ln 4/3) / 2
    weighted = CrossEntropyLoss([5, 5])
    weighted.reweight(torch.tensor([1.0, 3.0]), divide_by='batch')
    logits, labels = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.tensor([0, 1])
    assert weighted(logits, labels).item() == pytest.approx(3.5 * math.log(2))
    mixed = weighted.mixed(logits, labels, 1 - labels, torch.tensor([0.5, 0.5]))
    expected = (math.log(2) + 3 * math.log(4) + 3 * math.log(2) + math.log(4 / 3)) / 4
    assert mixed.item() == pytest.approx(expected)
    assert weighted.weight(labels).item() == 2  # what parts of a batch on several devices are added up by
    with pytest.raises(UsageError, match="unknown divide_by of class weights 'batches': did you mean batch"):
        weighted.reweight(torch.ones(2), divide_by='batches')


def test_the_config_of_class_weights_says_what_they_are_divided_by() -> None:
    logits, labels = random_batch()
    each = functional.cross_entropy(logits, labels, reduction='none')
    weights = effective_number_weights(COUNTS, 0.9)
    config = {'type': 'EffectiveNumber', 'beta': 0.9, 'divide_by': 'batch'}
    built = build_loss({'type': 'CrossEntropyLoss'}, config, COUNTS)
    assert torch.allclose(built(logits, labels), (weights[labels] * each).sum() / len(labels))


@pytest.mark.parametrize('name', ['CrossEntropyLoss', 'LogitAdjustedLoss', 'LDAMLoss'])
def test_every_loss_takes_class_weights(name: str) -> None:
    logits, labels = random_batch()
    weights = effective_number_weights(COUNTS)
    weighted = build_loss({'type': name}, {'type': 'EffectiveNumber', 'beta': 0.9999}, COUNTS)
    each = loss(name).per_sample(logits, labels)
    expected = (weights[labels] * each).sum() / weights[labels].sum()
    assert torch.allclose(weighted(logits, labels), expected)
    assert not torch.allclose(weighted(logits, labels), each.mean(), rtol=0.01)
    of_ones = build_loss({'type': name}, {'type': 'EffectiveNumber', 'beta': 0.0}, COUNTS)
    assert torch.allclose(of_ones(logits, labels), each.mean())


def test_weighted_mean_is_torchs() -> None:
    logits, labels = random_batch(1)
    weighted = build_loss({'type': 'CrossEntropyLoss'}, {'type': 'EffectiveNumber'}, COUNTS)
    expected = functional.cross_entropy(logits, labels, weight=effective_number_weights(COUNTS, 0.9999))
    assert torch.allclose(weighted(logits, labels), expected)


def test_weights_must_be_one_a_class() -> None:
    with pytest.raises(UsageError, match='9 class weights for 10 classes'):
        loss('CrossEntropyLoss').reweight(torch.ones(9))


def test_a_foreign_loss_cannot_be_reweighted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would silently train without the weights."""
    monkeypatch.setitem(MODELS.module_dict, 'ForeignLoss', nn.CrossEntropyLoss)
    assert isinstance(build_loss({'type': 'ForeignLoss'}, None, COUNTS), nn.CrossEntropyLoss)
    with pytest.raises(UsageError, match='ForeignLoss cannot be re-weighted'):
        build_loss({'type': 'ForeignLoss'}, {'type': 'EffectiveNumber'}, COUNTS)


# ------------------------------------------------------------------------------------------------ LDAM


def test_ldam_margins_by_hand() -> None:
    # .5 * (50 / n) ^ (1/4); the rarest class has the whole .5, a class 16 times larger half of it
    expected = [0.158114, 0.179697, 0.204238, 0.232091, 0.263829, 0.299768, 0.340675, 0.387221, 0.440497, 0.5]
    assert loss('LDAMLoss').margins.tolist() == pytest.approx(expected, abs=1e-6)
    assert loss('LDAMLoss', [16, 1], max_margin=0.3).margins.tolist() == pytest.approx([0.15, 0.3])


def test_ldam_by_hand() -> None:
    # margins (.25, .5), scale 2, cosines (.5, 0), so the head puts out (1, 0).
    # label 0: (1 - 2 * .25, 0) = (.5, 0): ln(1 + e^-.5) = .474077; label 1: (1, 0 - 2 * .5): ln(1 + e^2) = 2.126928
    two = loss('LDAMLoss', [16, 1], scale=2.0)
    each = two.per_sample(torch.tensor([[1.0, 0.0]] * 2), torch.tensor([0, 1]))
    assert each.tolist() == pytest.approx([0.474077, 2.126928], abs=1e-5)


def test_ldam_of_equal_cosines() -> None:
    # label 9: margin 30 * .5 = 15: ln(9 + e^-15) + 15; label 0: margin 30 * .158114 = 4.743416
    assert loss('LDAMLoss')(*zeros(9)).item() == pytest.approx(17.197225, abs=1e-4)
    assert loss('LDAMLoss')(*zeros(0)).item() == pytest.approx(6.941608, abs=1e-4)


def test_ldam_without_margin_is_cross_entropy_of_the_scaled_logits() -> None:
    """Whatever the scale: the head has applied it already, so it must not be applied again."""
    logits, labels = random_batch()
    for scale in (1.0, 30.0):
        none = loss('LDAMLoss', max_margin=0.0, scale=scale)
        assert torch.allclose(none(logits, labels), loss('CrossEntropyLoss')(logits, labels))


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=20))
def test_ldam_margins_grow_as_classes_get_rarer(counts: list[int]) -> None:
    margins = loss('LDAMLoss', counts).margins.tolist()
    assert max(margins) == margins[counts.index(min(counts))] == 0.5
    by_count = [margin for _, margin in sorted(zip(counts, margins, strict=True))]
    assert by_count == sorted(by_count, reverse=True)


# ------------------------------------------------------------------------------------------------ logit adjustment


def test_logit_adjustment_of_equal_logits_is_the_prior() -> None:
    # softmax(log prior) is the prior: -ln(5000 / 12406) and -ln(50 / 12406)
    assert loss('LogitAdjustedLoss')(*zeros(0)).item() == pytest.approx(0.908742, abs=1e-5)
    assert loss('LogitAdjustedLoss')(*zeros(9)).item() == pytest.approx(5.513913, abs=1e-5)
    # tau 2: prior^2, normalised: 2,500 / 39,015,882
    squared = loss('LogitAdjustedLoss', tau=2.0)(*zeros(9)).item()
    assert squared == pytest.approx(math.log(39_015_882 / 2500), abs=1e-4)


def test_logit_adjustment_undoes_the_prior() -> None:
    """Logits that carry nothing but -log n look balanced to the loss: ln 10 for every class."""
    logits = -torch.log(torch.tensor(COUNTS, dtype=torch.float32)).expand(10, 10)
    assert loss('LogitAdjustedLoss').per_sample(logits, torch.arange(10)).tolist() == pytest.approx([math.log(10)] * 10)


def test_tau_zero_is_cross_entropy() -> None:
    logits, labels = random_batch()
    assert torch.equal(loss('LogitAdjustedLoss', tau=0.0)(logits, labels), loss('CrossEntropyLoss')(logits, labels))


def test_tau_one_is_balanced_softmax() -> None:
    """CE(z + log n): the log of the total is a constant that cancels."""
    logits, labels = random_batch()
    balanced = functional.cross_entropy(logits + torch.log(torch.tensor(COUNTS, dtype=torch.float32)), labels)
    assert torch.allclose(loss('LogitAdjustedLoss')(logits, labels), balanced, atol=1e-5)


@given(st.integers(0, 20), st.floats(-30, 30))
def test_logit_adjustment_ignores_a_constant(seed: int, constant: float) -> None:
    logits, labels = random_batch(seed, batch=4)
    adjusted = loss('LogitAdjustedLoss')
    assert torch.allclose(adjusted(logits + constant, labels), adjusted(logits, labels), atol=1e-4)


def test_equal_counts_leave_cross_entropy() -> None:
    logits, labels = random_batch()
    flat = loss('LogitAdjustedLoss', [7] * 10, tau=1.5)
    assert torch.allclose(flat(logits, labels), loss('CrossEntropyLoss')(logits, labels), atol=1e-5)


# ------------------------------------------------------------------------------------------------ empty classes


@pytest.mark.parametrize('name', ['CrossEntropyLoss', 'LogitAdjustedLoss', 'LDAMLoss'])
def test_a_class_without_images_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match=f'{name}: no training image in class 1, 3'):
        loss(name, [10, 0, 3, 0])

"""What an epoch sees: exact balance, no early repeats, and draws that depend on (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.data.samplers import ClassAware, EpochSampler, InstanceBalanced, PowerBalanced
from ltbench.registry import SAMPLERS, build
from methods.resample_progressive import ProgressivelyBalanced

COUNTS = [40, 17, 6, 3, 1]  # class 3 has fewer images than one turn takes, class 4 a single one
LABELS = np.random.default_rng(3).permutation(np.repeat(np.arange(5), COUNTS))

long_tails = st.lists(st.integers(1, 15), min_size=1, max_size=6)


def epoch(sampler: EpochSampler, number: int) -> list[int]:
    sampler.set_epoch(number)
    return list(sampler)


# ------------------------------------------------------------------------------------------------ instance-balanced


@given(st.integers(1, 60), st.integers(0, 3), st.integers(0, 200))
def test_instance_balanced_is_a_permutation(images: int, seed: int, number: int) -> None:
    assert sorted(epoch(InstanceBalanced(np.zeros(images), seed), number)) == list(range(images))


@given(st.integers(1, 20), st.integers(0, 70))
def test_a_longer_epoch_is_whole_permutations_first(images: int, length: int) -> None:
    drawn = epoch(InstanceBalanced(np.zeros(images), length=length), 0)
    assert len(drawn) == length
    for start in range(0, length, images):
        round_ = drawn[start : start + images]
        assert len(set(round_)) == len(round_)


def test_the_order_is_pinned() -> None:
    """If this changes, every trained number changes: raise PROTOCOL_VERSION with it."""
    assert epoch(InstanceBalanced(np.zeros(8), seed=0), 0) == [5, 1, 6, 7, 3, 4, 2, 0]


# ------------------------------------------------------------------------------------------------ class-aware


@given(long_tails, st.integers(1, 5), st.integers(1, 4), st.integers(0, 50))
def test_class_aware_is_exactly_balanced(counts: list[int], turn: int, rounds: int, number: int) -> None:
    """Every stretch of C * images_per_turn draws holds each class images_per_turn times, in one turn."""
    labels = np.repeat(np.arange(len(counts)), counts)
    stretch = len(counts) * turn
    drawn = epoch(ClassAware(labels, length=rounds * stretch, images_per_turn=turn), number)
    classes = labels[drawn].reshape(rounds, len(counts), turn)
    assert (classes == classes[:, :, :1]).all()
    assert (np.sort(classes[:, :, 0], axis=1) == np.arange(len(counts))).all()


@given(long_tails, st.integers(1, 5), st.integers(0, 120))
def test_class_aware_uses_a_class_up_before_repeating(counts: list[int], turn: int, length: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = np.array(epoch(ClassAware(labels, length=length, images_per_turn=turn), 0), dtype=int)
    for label, count in enumerate(counts):
        mine = drawn[labels[drawn] == label].tolist()
        for start in range(0, len(mine), count):
            round_ = mine[start : start + count]
            assert len(set(round_)) == len(round_)


def test_class_aware_histogram_of_a_long_epoch() -> None:
    """Instance-balanced sampling would give the counts themselves, a ratio of 40."""
    histogram = np.bincount(LABELS[epoch(ClassAware(LABELS, length=5 * 4 * 10), 0)])
    assert histogram.tolist() == [40] * 5


def test_class_aware_shuffles_classes_and_images() -> None:
    drawn = epoch(ClassAware(LABELS, length=5 * 4 * 50), 0)
    turns = LABELS[drawn].reshape(50, 5, 4)[:, :, 0]
    assert len({tuple(turn) for turn in turns}) > 20  # not one fixed class order
    head = [index for index in drawn if LABELS[index] == 0]
    assert head[:40] != sorted(head[:40])
    assert head[:40] != head[40:80]  # and reshuffled each time the class is used up


def test_classes_without_images_get_no_turn() -> None:
    labels = np.array([0, 0, 2])
    assert np.bincount(labels[epoch(ClassAware(labels, length=16), 0)]).tolist() == [8, 0, 8]


@given(long_tails, st.integers(1, 5), st.integers(1, 60), st.integers(1, 6))
def test_class_aware_may_go_on_across_epochs(counts: list[int], turn: int, length: int, epochs: int) -> None:
    """As endless iterators do: over all epochs each class and each image has its turn before any has another."""
    labels = np.repeat(np.arange(len(counts)), counts)
    turns = -(-length // turn)
    sampler = ClassAware(labels, length=turns * turn, images_per_turn=turn, across_epochs=True)
    drawn = np.concatenate([epoch(sampler, number) for number in range(epochs)])
    classes = labels[drawn].reshape(-1, turn)
    assert (classes == classes[:, :1]).all()
    streams = [(classes[:, 0], len(counts))]
    streams += [(drawn[labels[drawn] == label], count) for label, count in enumerate(counts)]
    for stream, size in streams:
        for start in range(0, len(stream), size):
            round_ = stream[start : start + size].tolist()
            assert len(set(round_)) == len(round_)
    last = ClassAware(labels, length=turns * turn, images_per_turn=turn, across_epochs=True)
    assert epoch(last, epochs - 1) == drawn[-turns * turn :].tolist()  # without those before it


def test_all_images_have_their_turn_where_epochs_go_on() -> None:
    """Of 400 images each of four epochs shows 100: all of them, or 1 - .75 ** 4 = 68 % where each begins anew."""
    labels = np.repeat(np.arange(5), [400, 40, 30, 20, 10])
    seen = {
        across: np.concatenate([epoch(ClassAware(labels, across_epochs=across), number) for number in range(4)])
        for across in (True, False)
    }
    share = {across: len(set(drawn[labels[drawn] == 0].tolist())) / 400 for across, drawn in seen.items()}
    assert share[True] == 1
    assert share[False] == pytest.approx(1 - 0.75**4, abs=0.06)


def test_progressive_sampling_may_use_a_class_up_before_repeating() -> None:
    """Over all epochs no image a second time before all of its class had their turn; classes as without."""
    shape = dict(labels=LABELS, seed=1, epochs=6, across_epochs=True)
    across = ProgressivelyBalanced(**shape)
    drawn = [epoch(across, number) for number in range(6)]
    stream = np.concatenate(drawn)
    for label, count in enumerate(COUNTS):
        mine = stream[LABELS[stream] == label]
        for start in range(0, len(mine), count):
            assert len(set(mine[start : start + count].tolist())) == len(mine[start : start + count])
    fresh = ProgressivelyBalanced(**shape)
    assert epoch(fresh, 4) == drawn[4]  # as after a resumption
    assert epoch(fresh, 2) == drawn[2]
    assert epoch(across, 0) == drawn[0]
    # epoch 2 of 6: 3/5 instance-balanced, 2/5 class-balanced
    histogram = np.bincount(LABELS[epoch(ProgressivelyBalanced(**shape, length=20_000), 2)]) / 20_000
    assert histogram == pytest.approx(0.6 * np.array(COUNTS) / 67 + 0.4 / 5, abs=0.015)


# ------------------------------------------------------------------------------------------------ independent draws


@pytest.mark.parametrize(
    ('power', 'share'), [(1.0, [16 / 21, 4 / 21, 1 / 21]), (0.5, [4 / 7, 2 / 7, 1 / 7]), (0.0, [1 / 3] * 3)]
)
def test_power_of_the_counts(power: float, share: list[float]) -> None:
    """16, 4 and 1 images: their square roots are 4, 2 and 1."""
    labels = np.repeat(np.arange(3), [16, 4, 1])
    sampler = PowerBalanced(labels, length=20_000, power=power)
    assert sampler.class_probability(np.array([16, 4, 1])).tolist() == pytest.approx(share)
    drawn = epoch(sampler, 0)
    assert np.bincount(labels[drawn]) / 20_000 == pytest.approx(np.array(share), abs=0.015)  # four deviations
    head = np.bincount(drawn, minlength=21)[:16]
    assert head.max() < 1.5 * head.min()  # images of a class alike


# ------------------------------------------------------------------------------------------------ all


@pytest.mark.parametrize('kind', [InstanceBalanced, ClassAware, PowerBalanced])
def test_an_epoch_has_the_length_of_the_training_set(kind: type[EpochSampler]) -> None:
    """Every sampler takes as many steps as plain training, so that schedules stay equal."""
    assert len(kind(LABELS)) == len(epoch(kind(LABELS), 0)) == len(LABELS)
    assert len(kind(LABELS, length=33)) == len(epoch(kind(LABELS, length=33), 2)) == 33


@pytest.mark.parametrize('kind', [InstanceBalanced, ClassAware, PowerBalanced])
def test_order_depends_on_seed_and_epoch_alone(kind: type[EpochSampler]) -> None:
    used = kind(LABELS, seed=1)
    orders = [epoch(used, number) for number in range(4)]
    assert len({tuple(order) for order in orders}) == 4
    np.random.seed(0)  # nothing global has a say, nor does what was drawn before: resuming begins at epoch 2
    assert epoch(kind(LABELS, seed=1), 2) == orders[2]
    assert epoch(used, 0) == orders[0]
    assert list(used) == orders[0]  # asking again does not move on
    assert epoch(kind(LABELS, seed=2), 2) != orders[2]


def test_samplers_are_built_from_configs_with_the_run_seed() -> None:
    sampler = build(SAMPLERS, {'type': 'ClassAware', 'images_per_turn': 2}, labels=LABELS, seed=9, epochs=60)
    assert epoch(sampler, 1) == epoch(ClassAware(LABELS, seed=9, images_per_turn=2), 1)
    assert epoch(sampler, 1) != epoch(ClassAware(LABELS, seed=9), 1)  # images_per_turn acts

"""Counts and images of the published CIFAR-LT sets, and what the selection promises."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ltbench.data.profiles import class_counts, largest_fit, select
from ltbench.errors import UsageError

GOLDEN = json.loads((Path(__file__).parent / 'cifar_lt_golden.json').read_text(encoding='utf-8'))

# (classes, images of class 0, imbalance factor): (exp total, exp minimum, step total). Rounding instead of truncating
# would give 12,408 and 10,899 at imbalance 100; classes of CIFAR-100 at 200 end at 2, not at 500 / 200.
PUBLISHED = {
    (10, 5000, 10): (20431, 500, 27500),
    (10, 5000, 20): (17023, 250, 26250),
    (10, 5000, 50): (13996, 100, 25500),
    (10, 5000, 100): (12406, 50, 25250),
    (10, 5000, 200): (11203, 25, 25125),
    (10, 5000, 256): (10844, 19, 25095),
    (100, 500, 10): (19573, 50, 27500),
    (100, 500, 20): (15907, 25, 26250),
    (100, 500, 50): (12608, 10, 25500),
    (100, 500, 100): (10847, 5, 25250),
    (100, 500, 200): (9502, 2, 25100),
    (100, 500, 256): (9098, 1, 25050),
}

# the lists that papers print for CIFAR-10-LT
CIFAR10 = {
    10: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
    50: [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100],
    100: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
    200: [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25],
}


@pytest.mark.parametrize(('classes', 'n_max', 'factor'), PUBLISHED)
def test_totals_and_minima_are_the_published_ones(classes: int, n_max: int, factor: int) -> None:
    total, minimum, step_total = PUBLISHED[classes, n_max, factor]
    exp = class_counts('exp', n_max, factor, classes)
    assert (sum(exp), min(exp), max(exp)) == (total, minimum, n_max)
    assert sum(class_counts('step', n_max, factor, classes)) == step_total


@pytest.mark.parametrize('factor', CIFAR10)
def test_cifar10_lists_are_the_published_ones(factor: int) -> None:
    assert class_counts('exp', 5000, factor, 10) == CIFAR10[factor]


def test_step_profile_keeps_the_first_half_whole() -> None:
    assert class_counts('step', 500, 200, 10) == [500] * 5 + [2] * 5
    assert class_counts('step', 500, 10, 3) == [500, 50, 50]  # of an odd number the smaller half is whole


@pytest.mark.parametrize('factor', [10, 50, 100])
def test_fashion_mnist_counts(factor: int) -> None:
    assert class_counts('exp', 6000, factor, 10) == [int(6000 * factor ** (-i / 9)) for i in range(10)]


def test_fashion_mnist_total() -> None:
    counts = class_counts('exp', 6000, 100, 10)
    assert (sum(counts), counts[-1]) == (14886, 60)


@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 300))
def test_counts_never_grow_along_the_tail(n_max: int, classes: int, factor: int) -> None:
    for profile in ('exp', 'step'):
        try:
            counts = class_counts(profile, n_max, factor, classes)
        except UsageError:
            assert n_max <= factor  # the only reason to refuse: a class would be empty; 103 * (1 / 103) is below 1
            continue
        assert counts == sorted(counts, reverse=True)
        assert min(counts) >= 1
        if profile == 'exp':
            assert counts[0] == n_max
        if factor == 1:
            assert counts == [n_max] * classes


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('exponential', 500, 100, 10), ("unknown profile 'exponential'", 'known: exp, step')),
        (('exp', 500, 0.01, 10), ('at least 1', '0.01', 'write 100')),  # the factor of LDAM's script, upside down
        (('exp', 500, None, 10), ('imbalance_factor is a number', 'None')),
        (('exp', 500, float('nan'), 10), ('at least 1', 'nan')),
        (('exp', 0, 10, 10), ('n_max is a whole number', '0')),
        (('exp', 50.5, 10, 10), ('n_max is a whole number', '50.5')),
        (('exp', 500, 501, 10), ('501', '500')),
        (('step', 500, 501, 10), ('501', '500')),
    ],
)
def test_impossible_profiles_are_refused(arguments: tuple[str, int, float, int], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as error:
        class_counts(*arguments)
    assert all(word in str(error.value) for word in words)


@given(
    st.sampled_from(['exp', 'step']),
    st.floats(1, 300),
    st.lists(st.integers(1, 400), min_size=2, max_size=12).map(lambda sizes: sorted(sizes, reverse=True)),
)
def test_the_largest_fit_fits_and_one_more_does_not(profile: str, factor: float, sizes: list[int]) -> None:
    def fits(n_max: int) -> bool:
        return all(n <= size for n, size in zip(class_counts(profile, n_max, factor, len(sizes)), sizes, strict=True))

    n_max = largest_fit(profile, factor, sizes)
    assume(n_max / factor >= 2)  # else the rarest class may be left empty, which is an error of its own
    assert fits(n_max)
    assert not fits(n_max + 1)


# ------------------------------------------------------------------------------------------------ selection


def labels_of(classes: int, images: int, order: str) -> np.ndarray:
    labels = np.repeat(np.arange(classes), images)
    return labels if order == 'sorted' else np.random.default_rng(7).permutation(labels)


def ranks(labels: np.ndarray, positions: np.ndarray) -> list[np.ndarray]:
    """Positions inside each class, class by class in ascending label."""
    inside = np.empty(len(labels), dtype='<i8')
    for label in np.unique(labels):
        members = labels == label
        inside[members] = np.arange(members.sum())
    return [inside[positions[labels[positions] == label]] for label in np.unique(labels)]


@pytest.mark.parametrize('order', ['sorted', 'shuffled'])
@pytest.mark.parametrize('key', GOLDEN)
def test_images_are_those_of_cao_et_al(key: str, order: str) -> None:
    """Ranks inside a class do not depend on how the labels lie in the file, so no CIFAR file is needed."""
    data, _, factor = key.split('_')
    classes, n_max = {'cifar10': (10, 5000), 'cifar100': (100, 500)}[data]
    golden, counts = GOLDEN[key], class_counts('exp', n_max, int(factor.removeprefix('IF')), classes)
    labels = labels_of(classes, n_max, order)
    positions = select(labels, counts)
    chosen = ranks(labels, positions)
    assert counts == golden['counts']
    assert len(positions) == golden['total']
    assert chosen[0][:5].tolist() == golden['first5_class0']
    assert chosen[-1][:5].tolist() == golden['first5_last']
    assert hashlib.sha256(np.concatenate(chosen).tobytes()).hexdigest() == golden['rank_sha256']
    assert (np.diff(labels[positions]) >= 0).all()  # class by class


def test_subsets_of_different_imbalance_nest() -> None:
    labels = labels_of(10, 500, 'shuffled')
    subsets = [set(select(labels, class_counts('exp', 500, factor, 10)).tolist()) for factor in (10, 50, 100, 200)]
    for larger, smaller in pairwise(subsets):
        assert smaller < larger


def test_split_seed_chooses_other_images() -> None:
    labels, counts = labels_of(4, 100, 'sorted'), [100, 50, 25, 10]
    first, same, other = (select(labels, counts, split_seed=seed) for seed in (0, 0, 1))
    assert first.tolist() == same.tolist()
    assert set(first.tolist()) != set(other.tolist())
    assert np.bincount(labels[other]).tolist() == counts


def test_selection_ignores_and_leaves_the_global_generator() -> None:
    """LDAM's own code seeds numpy's global generator as a side effect; ours must not."""
    labels = labels_of(3, 50, 'sorted')
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first = select(labels, [10, 5, 2])
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(6)
    assert select(labels, [10, 5, 2]).tolist() == first.tolist()


@given(st.integers(0, 30), st.integers(0, 70), st.integers(0, 5))
def test_a_skipped_part_is_disjoint(skip: int, count: int, seed: int) -> None:
    labels = labels_of(3, 100, 'shuffled')
    held_out, rest = select(labels, [skip] * 3, seed), select(labels, [count] * 3, seed, skip=skip)
    both = np.concatenate([held_out, rest])
    assert len(set(both.tolist())) == len(both) == 3 * (skip + count)
    assert sorted(both.tolist()) == sorted(select(labels, [skip + count] * 3, seed).tolist())


def test_each_class_may_have_a_held_out_part_of_its_own_size() -> None:
    labels = labels_of(3, 10, 'shuffled')
    held_out, rest = select(labels, [3, 0, 1], 4), select(labels, [7, 10, 2], 4, skip=[3, 0, 1])
    assert np.bincount(labels[rest]).tolist() == [7, 10, 2]
    assert not set(held_out.tolist()) & set(rest.tolist())
    assert set(select(labels, [10, 10, 3], 4).tolist()) == {*held_out.tolist(), *rest.tolist()}


def test_more_images_than_there_are_is_an_error() -> None:
    with pytest.raises(UsageError, match='class 1 has 20 images, but 21 are needed'):
        select(labels_of(2, 20, 'sorted'), [15, 16], skip=5)

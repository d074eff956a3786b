"""The embedded benchmark's data."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ltbench.data import digits as digits_module
from ltbench.data import load_data
from ltbench.data.base import Split
from ltbench.data.digits import DigitsLT, read_digits
from ltbench.errors import DataError, UsageError


@pytest.fixture(scope='module')
def digits() -> DigitsLT:
    return DigitsLT()


def pictures(split: Split) -> set[bytes]:
    """All 1,797 digits differ, so their pixels name them."""
    return {image.tobytes() + bytes([label]) for image, label in zip(split.images, split.labels, strict=True)}


def test_they_are_those_of_scikit_learn() -> None:
    theirs = load_digits()
    pixels, labels = read_digits()
    assert np.array_equal(pixels, theirs.data)
    assert np.array_equal(labels, theirs.target)


@pytest.mark.parametrize(
    ('package', 'said'),
    [
        (None, 'scikit-learn, which is not installed'),
        (SimpleNamespace(origin='/gone/__init__.py'), r'digits.csv.gz is missing'),
    ],
)
def test_without_the_file_of_scikit_learn_it_is_said_what_to_do(monkeypatch, package, said) -> None:
    monkeypatch.setattr(digits_module, 'find_spec', lambda name: package)
    with pytest.raises(DataError, match=said):
        DigitsLT()


def test_counts(digits: DigitsLT) -> None:
    assert digits.class_counts == [120, 79, 52, 35, 23, 15, 10, 6, 4, 3]
    assert len(digits.train) == 347
    assert DigitsLT(imbalance_factor=20).class_counts == [120, 86, 61, 44, 31, 22, 16, 11, 8, 6]


def test_test_part_is_balanced(digits: DigitsLT) -> None:
    assert np.bincount(digits.test.labels).tolist() == [50] * 10


def test_train_and_test_are_disjoint(digits: DigitsLT) -> None:
    train, test = pictures(digits.train), pictures(digits.test)
    assert (len(train), len(test)) == (347, 500)
    assert not train & test


def test_test_part_does_not_depend_on_the_imbalance(digits: DigitsLT) -> None:
    other = DigitsLT(imbalance_factor=20)
    assert np.array_equal(other.test.images, digits.test.images)
    assert pictures(digits.train) < pictures(other.train)


def test_every_option_of_the_split_changes_the_fingerprint(digits: DigitsLT) -> None:
    """The fingerprint is over pixels and labels, so it follows whatever changes them."""
    others = [
        DigitsLT(split_seed=1),
        DigitsLT(imbalance_factor=20),
        DigitsLT(profile='step'),
        DigitsLT(n_max=100),
        DigitsLT(test_per_class=40),
    ]
    assert len({data.fingerprint for data in [digits, *others]}) == 6
    assert DigitsLT(imbalance_factor=40.0).fingerprint == digits.fingerprint


def test_fingerprint_sees_order_and_labels(digits: DigitsLT) -> None:
    copy = DigitsLT()
    copy.train = digits.train.take(np.arange(347)[::-1])
    swapped = DigitsLT()
    swapped.test = Split(digits.test.images, (digits.test.labels + 1) % 10)
    assert len({digits.fingerprint, copy.fingerprint, swapped.fingerprint}) == 3


def test_pixels_are_scaled_to_bytes_and_normalised_with_their_own_statistics(digits: DigitsLT) -> None:
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.shape == (347, 8, 8, 1)
    assert set(np.unique(digits.train.images)) == set(range(0, 241, 15))  # 0..16, times 15
    everything = np.concatenate([digits.train.images, digits.test.images]) / 255
    assert everything.mean() == pytest.approx(digits.mean[0], abs=0.005)
    assert everything.std() == pytest.approx(digits.std[0], abs=0.005)


def test_more_images_than_there_are_is_an_error() -> None:
    with pytest.raises(UsageError, match='class 0 has 178 images, but 179 are needed'):
        DigitsLT(n_max=129)


def test_a_recorded_fingerprint_does_not_choose_the_data(digits: DigitsLT) -> None:
    assert load_data({'type': 'DigitsLT', 'fingerprint': 'f' * 64}).fingerprint == digits.fingerprint


def test_a_misspelt_option_is_an_error() -> None:
    with pytest.raises(UsageError, match=r'imbalance_facto.*did you mean imbalance_factor'):
        load_data({'type': 'DigitsLT', 'imbalance_facto': 10})


def test_a_holdout_takes_its_share_of_every_class_from_training(digits: DigitsLT) -> None:
    # int(.2 * n), but one image at least: of 120 79 52 35 23 15 10 6 4 3
    data = load_data({'type': 'DigitsLT', 'holdout': 0.2})
    taken = [24, 15, 10, 7, 4, 3, 2, 1, 1, 1]
    assert np.bincount(data.validation.labels).tolist() == taken
    assert data.class_counts == [n - k for n, k in zip(digits.class_counts, taken, strict=True)]
    assert pictures(data.train) | pictures(data.validation) == pictures(digits.train)
    assert np.array_equal(data.test.images, digits.test.images)
    assert digits.validation is load_data({'type': 'DigitsLT'}).validation is None  # the whole set is left whole

"""The name of data: what they hold and how it is normalised, nothing else."""

from __future__ import annotations

import copy
import hashlib

import numpy as np
import pytest

from ltbench.data import load_data
from ltbench.data.base import LongTailData, Split


class Made(LongTailData):
    """Six training and three test images of two grey pixels."""

    mean, std = (0.5,), (0.25,)
    class_names = ('ant', 'bee')

    def __init__(self, **changed):
        pixels = np.arange(18, dtype=np.uint8).reshape(9, 1, 2, 1)
        self.train = Split(pixels[:6], np.array([0, 0, 0, 0, 1, 1]))
        self.test = Split(pixels[6:], np.array([0, 1, 1]))
        for name, value in changed.items():
            setattr(self, name, value)


def test_the_fingerprint_is_a_hash_of_pixels_labels_mean_and_deviation():
    digest = hashlib.sha256()
    for array, shape in (
        (bytes(range(12)), "((6, 1, 2, 1), 'uint8')"),
        (np.array([0, 0, 0, 0, 1, 1]).tobytes(), "((6,), 'int64')"),
        (bytes(range(12, 18)), "((3, 1, 2, 1), 'uint8')"),
        (np.array([0, 1, 1]).tobytes(), "((3,), 'int64')"),
    ):
        digest.update(shape.encode() + array)
    assert Made().contents == digest.hexdigest()
    expected = hashlib.sha256(f'{digest.hexdigest()} [[0.5], [0.25]]'.encode()).hexdigest()
    assert Made().fingerprint == Made(mean=np.array([0.5], np.float32)).fingerprint == expected


def test_a_class_without_any_image_is_part_of_the_name():
    """The network has one more output."""
    assert Made(class_names=('ant', 'bee', 'cat')).fingerprint != Made().fingerprint
    assert Made(class_names=('ant', 'wasp')).fingerprint == Made().fingerprint


def changes():
    train, test = Made().train, Made().test
    pixels, labels = train.images.copy(), train.labels.copy()
    pixels[3, 0, 1, 0] ^= 1
    labels[3] = 1
    yield 'a pixel', {'train': Split(pixels, train.labels)}
    yield 'a label', {'train': Split(train.images, labels)}
    yield 'the order', {'train': train.take(np.array([1, 0, 2, 3, 4, 5]))}
    yield 'the shape', {'train': Split(train.images.reshape(6, 2, 1, 1), train.labels)}
    yield 'the part', {'train': train.take(np.arange(5)), 'validation': train.take(np.arange(5, 6))}
    yield 'the parts', {'train': test, 'test': train}
    yield 'the mean', {'mean': (0.4,)}
    yield 'the deviation', {'std': (0.26,)}


CHANGES = dict(changes())


@pytest.mark.parametrize('changed', CHANGES.values(), ids=list(CHANGES))
def test_whatever_a_network_sees_changes_it(changed):
    assert Made(**changed).fingerprint != Made().fingerprint


def test_names_of_classes_do_not_change_it():
    assert Made(class_names=('cat', 'dog')).fingerprint == Made().fingerprint


def test_data_normalised_otherwise_are_others_whichever_was_asked_first():
    first, second = Made(), Made()
    assert first.fingerprint == second.fingerprint  # asked of both
    for data in (first, Made()):
        changed = copy.copy(data)
        changed.mean = (0.1,)
        assert changed.fingerprint == Made(mean=(0.1,)).fingerprint != data.fingerprint
        assert changed.contents == data.contents


def test_a_part_held_out_changes_no_name():
    config = {'type': 'DigitsLT', 'imbalance_factor': 10}
    held_out = load_data({**config, 'holdout': 0.1})
    assert held_out.validation is not None
    assert held_out.fingerprint == load_data(config).fingerprint

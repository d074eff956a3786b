"""Logits are one finite number for each image and class before anything is made of them; labels are the data set's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltbench.data.base import Split
from ltbench.engine.outputs import NonFiniteError, load_outputs, save_outputs
from ltbench.errors import UsageError

SPLIT = Split(np.zeros((6, 2, 2, 1), np.uint8), np.array([0, 1, 2, 0, 1, 2]))
GOOD = torch.arange(18.0).view(6, 3)


@pytest.mark.parametrize(
    ('logits', 'said'),
    [
        (GOOD[:, :-1], r'shape \[6, 2\], for 6 images and 3 classes'),
        (GOOD[:3], r'shape \[3, 3\]'),
        (GOOD[:, 0], r'shape \[6\]'),
        (torch.cat([GOOD, GOOD[:, :1]], dim=1), r'shape \[6, 4\]'),
        (GOOD[None], r'shape \[1, 6, 3\]'),
        (GOOD > 3, 'are bool'),
        (GOOD.long(), 'are int64'),
        (GOOD.to(torch.complex64), 'are complex64'),
        (GOOD.numpy(), 'are a ndarray'),
        (None, 'are a NoneType'),
    ],
)
def test_logits_of_another_shape_or_kind_are_refused_in_words(tmp_path, logits, said):
    with pytest.raises(UsageError, match=said):
        save_outputs(tmp_path / 'test.npz', logits, SPLIT, 3)
    assert not (tmp_path / 'test.npz').exists()


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_logits_that_are_no_numbers_are_refused(tmp_path, value):
    logits = GOOD.clone()
    logits[5, 2] = value
    with pytest.raises(NonFiniteError):
        save_outputs(tmp_path / 'test.npz', logits, SPLIT, 3)


def test_labels_are_those_of_the_data_set(tmp_path):
    save_outputs(tmp_path / 'test.npz', GOOD, SPLIT, 3)
    stored = load_outputs(tmp_path / 'test.npz')
    assert torch.equal(stored.logits, GOOD)
    assert stored.labels.tolist() == [0, 1, 2, 0, 1, 2]

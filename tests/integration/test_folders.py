"""People's own images through the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def birds(sandbox):
    """A natural long tail of 12, 6 and 1 images, and a file that is none."""
    random = np.random.default_rng(0)
    for name, count in {'crow': 6, 'gull [white]': 12, 'owl': 1}.items():
        (sandbox / 'birds' / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                sandbox / 'birds' / name / f'{number}.png'
            )
    (sandbox / 'birds' / 'gull [white]' / 'list[1].txt').touch()
    return sandbox / 'birds'


@pytest.mark.slow
def test_what_was_held_out_and_left_out_is_shown_and_stands_in_every_record(birds, sandbox, ltbench):
    run = ['run', '-b', 'folder_lt(root=birds, image_size=8, depth=8, epochs=1)']
    held_out = (
        'folder birds: 6 of 19 images are held out as test images, chosen by split_seed 0: 100 of each class, but at '
        'most a third of it and at least one if it has two; 3 of 3 classes give fewer: owl 0 of 1; '
        'classes with one image are not tested: owl'
    )
    unused = 'folder birds: not used, files without an image suffix: 1 (gull [white]/list[1].txt)'
    printed = ltbench(*run)
    assert printed.count(held_out) == printed.count(unused) == 1
    (path,) = sandbox.glob('results/*/records/*.json')
    record = json.loads(path.read_text())
    assert {held_out, unused} <= set(record['warnings'])
    assert record['class_names'] == ['gull [white]', 'crow', 'owl']
    assert record['class_counts'] == [8, 4, 1]
    metrics = record['metrics']
    assert metrics['test_images'] == [4, 2, 0]
    assert metrics['per_class'][2] is None
    assert metrics['macro'] == pytest.approx((metrics['per_class'][0] + metrics['per_class'][1]) / 2)
    assert metrics['top1'] == pytest.approx((4 * metrics['per_class'][0] + 2 * metrics['per_class'][1]) / 6)
    path.unlink()
    again = ltbench(*run)  # nothing is trained, and the decoded images come from the cache
    assert 'Everything is found' in again
    assert held_out in again
    assert {held_out, unused} <= set(json.loads(path.read_text())['warnings'])
    assert held_out in ltbench(*run, '--dry-run')


def test_impossible_options_are_refused_in_a_line(birds, ltbench):
    printed = ltbench('run', '-b', 'folder_lt(root=birds, imbalance_factor=0.01)', code=2)
    assert 'imbalance_factor is largest over smallest class, at least 1, got 0.01: write 100' in printed

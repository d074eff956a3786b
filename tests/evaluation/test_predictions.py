"""What a run took each test image for, beside its record: compact, sealed with it, and named where it is not right."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from ltbench.errors import StoreError
from ltbench.evaluation.predictions import Predictions, predictions_of, write_with_predictions
from ltbench.record import predictions_path, read_record, set_superseded_aside, write_record


def test_probabilities_are_those_of_the_softmax():
    """By hand: e / (1 + 1 + e), and 1 / (1 + 1 + e), to three digits."""
    found = Predictions.of_logits(np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]], np.float32), [1, 2])
    assert found.predicted.tolist() == [1, 1]
    assert found.right.tolist() == [True, False]
    assert found.p_predicted == pytest.approx([0.5761, 0.5761], abs=5e-4)
    assert found.p_right == pytest.approx([0.5761, 0.2119], abs=5e-4)
    assert Predictions.of_logits(np.array([[1e4, 0.0]]), [1]).p_right.tolist() == [0.0]


@pytest.mark.parametrize('known', ['logits', 'classes'])
def test_what_is_kept_is_read(recorded, known):
    path = recorded(kept=False)
    random = np.random.default_rng(1)
    labels, logits = np.arange(200) % 10, random.normal(size=(200, 10)).astype(np.float32)
    record = read_record(path)
    record['metrics']['predicted'] = np.bincount(logits.argmax(axis=1), minlength=10).tolist()
    written = Predictions.of_logits(logits, labels)
    if known == 'classes':
        written = Predictions.of_classes(logits.argmax(axis=1), labels)
    write_with_predictions(path, record, written)
    read = predictions_of(path)
    for name in ('labels', 'predicted', 'p_right', 'p_predicted'):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), strict=True)
    before = predictions_path(path).read_bytes()
    write_with_predictions(path, read_record(path), written)
    assert predictions_path(path).read_bytes() == before


@pytest.mark.parametrize(('classes', 'signal'), [(10, 6), (100, 6), (1000, 8)])
def test_ten_thousand_images_take_60_kilobytes_at_most(recorded, tmp_path, classes, signal):
    """At 91, 69 and 76 % right, of test images in no order."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 10_000)
    logits = 2 * random.normal(size=(10_000, classes)).astype(np.float32)
    logits[np.arange(10_000), labels] += signal
    path = tmp_path / 'x.json'
    write_with_predictions(path, read_record(recorded()), Predictions.of_logits(logits, labels))
    assert predictions_path(path).stat().st_size <= 60_000


def test_a_record_of_before_has_none_and_stays_valid(recorded):
    path = recorded(kept=False)
    assert 'predictions' not in read_record(path)
    assert predictions_of(path) is None


def _cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def _change(file):
    file.write_bytes(file.read_bytes()[:-1] + b'x')


def _exchange(file):
    other = next(path for path in file.parent.glob('*.npz') if path != file)
    shutil.copy(other, file)


def _folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (lambda file: file.unlink(), 'of {name} is missing; `ltbench eval --all` rebuilds it'),
        (_cut, 'does not match {name}: it was truncated or changed, or belongs to another record'),
        (_change, 'does not match {name}'),
        (_exchange, 'does not match {name}'),
        (_folder, 'cannot be read: it is a folder'),
    ],
)
def test_what_is_not_right_is_named_and_not_used(recorded, damage, said):
    path = recorded('erm')
    recorded('nbn', seed=1)
    damage(predictions_path(path))
    read_record(path)  # which is as good as before
    with pytest.raises(StoreError) as error:
        predictions_of(path)
    assert str(error.value).startswith(f'{predictions_path(path)} {said.format(name=path.name)}')


def test_a_hash_that_is_edited_in_the_record_breaks_its_seal(recorded):
    path, other = recorded('erm'), recorded('nbn', seed=1)
    mine, theirs = (read_record(each)['predictions'] for each in (path, other))
    path.write_text(path.read_text().replace(mine, theirs))
    shutil.copy(predictions_path(other), predictions_path(path))
    with pytest.raises(StoreError, match='changed after it was written'):
        predictions_of(path)


def test_sealed_by_hand_it_must_still_be_what_the_record_counts(recorded):
    path, other = recorded('erm'), recorded('nbn', seed=1)
    write_record(path, {**read_record(path), 'predictions': read_record(other)['predictions']})
    shutil.copy(predictions_path(other), predictions_path(path))
    with pytest.raises(StoreError, match='does not have the images that .* counts'):
        predictions_of(path)


def test_predictions_are_set_aside_with_their_record(recorded):
    old = recorded('erm', key='a' * 64, computation='a' * 64)
    new = recorded('erm', key='b' * 64, computation='b' * 64)
    (moved,) = set_superseded_aside(new, read_record(new))
    assert moved.name == old.name
    assert len(predictions_of(moved)) == 200
    assert not predictions_path(old).exists()

"""`ltbench compare`: what two records differ in, and what must not be compared."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ltbench.errors import StoreError, UsageError
from ltbench.record import predictions_path
from ltbench.verbs.compare import _metric_table, differences, remarks, show_comparison
from ltbench.verbs.find import find_run

LABELS = np.arange(200) % 10


def right_on(images):
    """Logits that are right on the given images alone."""
    logits = np.zeros((200, 10), dtype=np.float32)
    wanted = np.where(np.isin(np.arange(200), images), LABELS, (LABELS + 1) % 10)
    logits[np.arange(200), wanted] = 5
    return logits


@pytest.fixture
def shown(capsys):
    def show(*arguments, **options):
        """What is printed, each line with single spaces."""
        show_comparison(*arguments, **options)
        return [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return show


def test_two_runs_side_by_side(recorded, shown):
    a = recorded('erm', logits=right_on(range(100)), labels=LABELS)
    b = recorded('drw', logits=right_on(range(4, 110)), labels=LABELS)
    printed = shown(a.stem, b.stem)
    assert printed[0] == f'a: digits_lt IF 40 (paper) / erm / seed 0 [digits/{a.stem}]'
    assert 'method erm drw' in printed
    assert 'top1 50.00 53.00 +3.00' in printed
    assert 'many (1 class) 50.00 50.00 0.00' in printed  # class 0: images 0, 10, ..., one lost and one won
    assert 'few (5 classes) 50.00 55.00 +5.00' in printed
    assert 'parameters 75,003 75,003 0' in printed
    assert '0 120 50.0 50.0 0.0' in printed
    assert '9 3 50.0 55.0 +5.0' in printed
    assert 'b is better on 6 classes, worse on 0, equal on 4.' in printed
    assert 'Paired by test image: only b is right on 10 of 200 test images, only a on 4.' in printed
    # 14 coins, 4 or fewer heads or tails: 2 * (1 + 14 + 91 + 364 + 1001) / 2 ** 14
    assert "McNemar's exact test: p = 0.18 (not significant at 0.05)" in printed
    assert not any(line.startswith('note:') for line in printed)


def test_costs_that_nobody_knows_are_not_zero(recorded):
    record = find_run(recorded('erm').stem).record
    submitted = {**record, 'config': {**record['config'], 'submitted': {}}}
    cells = {
        name: list(column.cells) for name, column in zip('nab-', _metric_table(record, submitted).columns, strict=True)
    }
    place = cells['n'].index('parameters')
    assert (cells['a'][place], cells['b'][place], cells['-'][place]) == ('75,003', '', '')


def test_without_predictions_it_is_from_the_records_alone(recorded, shown):
    a, b = recorded('erm'), recorded('nbn', stored=False, kept=False)
    printed = '\n'.join(shown(a.stem, b.stem))
    assert 'No paired test: it needs the predictions of both runs. Neither the record nor' in printed
    assert f'digits/{b.stem}; to get them: ltbench run digits -b' in printed
    assert f'digits/{a.stem}; ' not in printed
    assert 'McNemar' not in printed


def test_other_settings_and_seeds_are_said(recorded, shown):
    a, b = recorded('erm', 0), recorded('erm', 1, setting='paper, epochs=5')
    printed = shown(a.stem, b.stem)
    assert 'note: the settings differ (paper and paper, epochs=5): not only the methods cause the difference' in printed
    assert 'note: the seeds differ (0 and 1): part of the difference is random variation' in printed


def test_one_computation_under_two_names(recorded, shown):
    a, b = recorded('la_loss', key='ab' * 32), recorded('balanced_softmax', key='ab' * 32)
    printed = shown(a.stem, b.stem)
    assert 'note: both are the same computation: one fingerprint, one set of logits' in printed
    assert any(line.endswith('on each of the 200 images both runs are right, or both are wrong.') for line in printed)


def test_an_empty_group_has_no_difference(recorded, shown):
    counts = [50] * 10
    a, b = (recorded(method, class_counts=counts, groups={'many': 0, 'medium': 10, 'few': 0}) for method in ('a', 'b'))
    assert 'few (0 classes)' in shown(a.stem, b.stem)


def test_many_classes_are_cut_to_those_that_differ_most(recorded, shown):
    counts = list(range(130, 100, -1))
    labels = np.arange(300) % 30
    both = np.zeros((2, 300, 30), dtype=np.float32)
    both[:, np.arange(300), labels] = 1
    both[1, 7::30] = np.eye(30)[8]  # class 7 is lost
    many = {'class_counts': counts, 'class_names': [f'class {i}' for i in range(30)], 'labels': labels}
    many['groups'] = {'many': 30, 'medium': 0, 'few': 0}
    a, b = (recorded(m, logits=logits, **many) for m, logits in zip(('erm', 'nbn'), both, strict=True))
    short, whole = shown(a.stem, b.stem), shown(a.stem, b.stem, all_classes=True)
    title = 'The 20 of 30 classes that differ most, by training images (accuracy in %); --all shows every class'
    assert title in short
    assert 'class 7 123 100.0 0.0 -100.0' in short
    assert sum(line.startswith('class ') for line in short) == 21  # with the header
    assert [line.split()[1] for line in whole if line.startswith('class ')][1:] == [str(i) for i in range(30)]


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'benchmark': 'other_lt'}, 'have different benchmarks: digits_lt and other_lt'),
        ({'imbalance_factor': 10}, 'were trained on different images: imbalance factor 40 and 10'),
        ({'class_counts': [120] * 10}, 'have different numbers of training images a class'),
        ({'class_names': list('abcdefghij')}, 'have different classes'),
        ({'labels': np.arange(100) % 10}, 'have different numbers of test images a class'),
        ({'labels': np.arange(200)[::-1] % 10}, 'were tested on different images: their labels differ'),
    ],
)
def test_what_cannot_be_compared_is_refused(recorded, changed, message):
    a, b = recorded('erm'), recorded('nbn', **changed)
    with pytest.raises(UsageError) as error:
        show_comparison(a.stem, b.stem)
    assert str(error.value).startswith(f'digits/{a.stem} and digits/{b.stem} {message}')


def test_another_recipe_under_one_setting_is_said(recorded):
    a = recorded('erm')
    assert remarks(find_run(a.stem), find_run(recorded('nbn').stem)) == []
    config = json.loads(a.read_text())['config']
    config['benchmark']['recipe']['batch_size'] = 7
    b = recorded('crt', config=config, table='0' * 16)
    (said,) = remarks(find_run(a.stem), find_run(b.stem))
    assert said.startswith('backbone or recipe differ under one setting, see below')


def test_other_images_of_the_same_kind_are_refused(recorded):
    a = recorded('erm')
    b = recorded('nbn', data='0' * 64)
    with pytest.raises(UsageError, match='have different data: fingerprints'):
        show_comparison(a.stem, b.stem)
    with pytest.raises(UsageError, match='was given twice: give two different runs'):
        show_comparison(a.stem, f'digits/{a.stem}')


def test_differences_of_configs():
    loss = {'type': 'CrossEntropyLoss'}
    first = {'same': 1, 'recipe': {'epochs': 10, 'at': [1, 2]}, 'history': [{'until': 8}], 'norm': None}
    second = {'same': 1, 'recipe': {'epochs': 5, 'at': [1, 3]}, 'history': [{'until': 8}, {'loss': loss}], 'norm': loss}
    assert differences(first, second) == [
        ('recipe.epochs', 10, 5),
        ('recipe.at', [1, 2], [1, 3]),
        ('history.1.loss', 'absent', loss),
        ('norm', None, loss),
    ]
    assert differences(first, first) == []


def test_without_the_store_it_is_by_the_predictions_that_were_kept(recorded, shown):
    a = recorded('erm', logits=right_on(range(100)), labels=LABELS)
    b = recorded('drw', logits=right_on(range(4, 110)), labels=LABELS, stored=False)
    printed = shown(a.stem, b.stem)
    assert 'Paired by test image: only b is right on 10 of 200 test images, only a on 4.' in printed
    predictions_path(b).unlink()
    with pytest.raises(StoreError, match='predictions.npz of .* is missing'):
        show_comparison(a.stem, b.stem)

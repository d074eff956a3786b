"""`ltbench score`: predictions that others made become records; what does not fit is refused in words."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.data.base import FileSplit
from ltbench.errors import UsageError
from ltbench.evaluation import evaluate
from ltbench.evaluation.predictions import predictions_of
from ltbench.record import read_record
from ltbench.verbs.report import report
from ltbench.verbs.score import Submission, in_test_order, read_submission
from ltbench.verbs.score import score as score_file

BENCHMARK = load_benchmark('digits_lt')
DATA = load_data(BENCHMARK.data)
LABELS = np.asarray(DATA.test.labels)
LOGITS = np.random.default_rng(0).normal(size=(len(LABELS), 10)) + 2 * np.eye(10)[LABELS]
CLASSES = LOGITS.argmax(axis=1)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


@pytest.fixture
def results(sandbox):
    return sandbox / 'results'


def as_npy(path, values):
    np.save(path.with_suffix('.npy'), values)
    return path.with_suffix('.npy')


def as_npz(path, **entries):
    np.savez(path.with_suffix('.npz'), **entries)
    return path.with_suffix('.npz')


def as_text(path, text):
    path.write_text(text)
    return path


def as_folder(path):
    path.mkdir()
    return path


def as_csv(path, values, **columns):
    titles = ['prediction'] if values.ndim == 1 else [str(c) for c in range(values.shape[1])]
    frame = pd.DataFrame(values if values.ndim == 2 else values[:, None], columns=titles).assign(**columns)
    frame.to_csv(path.with_suffix('.csv'), index=False)
    return path.with_suffix('.csv')


MADE = {
    'logits in npy': lambda path: as_npy(path, LOGITS),
    'logits in npz, with labels': lambda path: as_npz(path, logits=LOGITS, labels=LABELS),
    'logits in csv': lambda path: as_csv(path, LOGITS),
    'classes in npy': lambda path: as_npy(path, CLASSES),
    'classes in npz': lambda path: as_npz(path, predictions=CLASSES),
    'classes in csv, with labels': lambda path: as_csv(path, CLASSES, label=LABELS),
}


@pytest.mark.parametrize('made', MADE)
def test_a_file_becomes_a_record(results, tmp_path, made, capsys):
    path = score_file(MADE[made](tmp_path / 'mine'), BENCHMARK, 'My method', 3, {'epochs': 200})
    record, kept = read_record(path), predictions_of(path)
    expected = evaluate(LOGITS, LABELS, DATA.class_counts)
    assert (record['method'], record['setting'], record['run_seed']) == ('submitted:My method', 'submitted, paper', 3)
    assert record['config']['submitted']['claims'] == {'epochs': 200}
    for metric in ('top1', 'many', 'few', 'macro', 'confusion', 'predicted', 'worst_class'):
        assert record['metrics'][metric] == expected[metric], metric
    assert (kept.predicted.tolist(), kept.labels.tolist()) == (CLASSES.tolist(), LABELS.tolist())
    assert (kept.p_right is not None) == ('logits' in made)
    if 'logits' in made:
        assert record['metrics'] == expected
    else:
        assert (record['metrics']['nll'], record['metrics']['ece'], record['metrics']['auroc']) == (None, None, None)
    assert 'the training is not verified' in capsys.readouterr().out


def test_it_stands_in_a_table_of_its_own_and_has_no_costs(results, tmp_path):
    for number, made in enumerate(('logits in npy', 'classes in csv, with labels')):
        score_file(MADE[made](tmp_path / 'mine'), BENCHMARK, f'Method {number}', suite='mine')
    report('mine', figures=True)
    board = pd.read_csv(results / 'mine/leaderboard.csv')
    assert board.method.tolist() == ['submitted:Method 0', 'submitted:Method 1']
    assert set(board.setting) == {'submitted, paper'}
    assert board[['parameters', 'flops', 'cpu_seconds']].isna().all(axis=None)
    assert board.nll_mean.isna().tolist() == [False, True]
    text = (results / 'mine/leaderboard.md').read_text()
    assert 'whatever the authors of submitted predictions chose' in text


@pytest.mark.parametrize('claims', [{}, {'epochs': 90}])
def test_a_second_file_of_a_name_and_seed_takes_the_place_of_the_first(results, tmp_path, capsys, claims):
    first = score_file(as_npy(tmp_path / 'mine', LOGITS), BENCHMARK, 'mine', suite='mine')
    other = score_file(as_npy(tmp_path / 'other', LOGITS), BENCHMARK, 'other', suite='mine')
    seed = score_file(as_npy(tmp_path / 'seed', -LOGITS), BENCHMARK, 'mine', 1, claims, suite='mine')
    assert f'{first.name}, with the same name and seed or with other claims' in capsys.readouterr().out or not claims
    second = score_file(as_npy(tmp_path / 'mine', 2 * LOGITS), BENCHMARK, 'mine', 0, claims, suite='mine')
    assert sorted((results / 'mine/records').glob('*.json')) == sorted([other, seed, second])
    assert sorted(path.name for path in (results / 'mine/superseded').glob('*.json')) == [first.name]
    report('mine', figures=False)


def test_one_file_is_not_scored_as_two_seeds(results, tmp_path):
    """Without variance the row would look sure."""
    file = as_npy(tmp_path / 'mine', LOGITS)
    first = score_file(file, BENCHMARK, 'Same', 0)
    copied = as_npy(tmp_path / 'copied', LOGITS)
    for claims in ({}, {'epochs': 90}):
        with pytest.raises(UsageError, match=r'copied\.npy: the same file was scored as seed 0: .* or remove .*\.json'):
            score_file(copied, BENCHMARK, 'Same', 1, claims)
    assert [first] == list((results / 'submitted/records').glob('*.json'))
    again = score_file(copied, BENCHMARK, 'Same', 0)
    score_file(copied, BENCHMARK, 'Other', 1)
    score_file(copied, BENCHMARK, 'Same', 1, suite='elsewhere')
    again.unlink()
    score_file(copied, BENCHMARK, 'Same', 1)


def test_claims_are_kept_as_they_are_typed(results, tmp_path, main):
    file = as_npy(tmp_path / 'mine', CLASSES)
    claims = ['url=...', 'of={1, 2}', 'by={1: 2}', "raw=b'abc'", 'factor=1j', 'lr=[1e999]', 'epochs=200']
    words = [word for claim in claims for word in ('--claim', claim)]
    assert main('score', file, '-b', 'digits_lt', '--name', 'mine', *words) == 0
    (path,) = (results / 'submitted/records').glob('*.json')
    found = read_record(path)['config']['submitted']['claims']
    assert found == {'epochs': 200} | dict(claim.split('=') for claim in claims[:-1])


@pytest.mark.parametrize('suite', ['../theirs', '', '.', 'a/b', '/tmp/x'])
def test_a_record_goes_nowhere_but_into_the_results(results, tmp_path, suite):
    with pytest.raises(UsageError, match='a suite has the name of its folder in'):
        score_file(as_npy(tmp_path / 'mine', LOGITS), BENCHMARK, 'mine', suite=suite)
    assert not list(tmp_path.rglob('*.json'))


def shifted(values, row, new):
    values = values.copy()
    values[row] = new
    return values


BAD = {
    'too short': (lambda p: as_npy(p, LOGITS[:-1]), 'has 499 rows, .* has 500 test images'),
    'other classes': (lambda p: as_npy(p, LOGITS[:, :9]), r'logits are numbers \[N, 10\], got float64 \[500, 9\]'),
    'not finite in half precision': (
        lambda p: as_npy(p, shifted(LOGITS, 8, np.inf).astype(np.float16)), 'row 8 has a logit that is not finite',
    ),
    'not finite': (lambda p: as_npy(p, shifted(LOGITS, 7, np.nan)), 'row 7 has a logit that is not finite'),
    'class too large': (lambda p: as_csv(p, shifted(CLASSES, 4, 10)), 'line 6 has prediction 10; classes are 0 to 9'),
    'another order': (
        lambda p: as_npz(p, logits=LOGITS, labels=np.roll(LABELS, 1)), 'row .* has label .* in the test list it is',
    ),
    'both kinds': (lambda p: as_npz(p, logits=LOGITS, predictions=CLASSES), 'needs either logits or predictions'),
    'a typo': (lambda p: as_npz(p, logit=LOGITS), "unknown entry of .* 'logit': did you mean logits"),
    'lengths differ': (lambda p: as_npz(p, logits=LOGITS, labels=LABELS[:9]), '500 logits, 9 labels'),
    'objects': (lambda p: as_npy(p, np.array([{}, {}])), 'cannot be read: Object arrays cannot be loaded'),
    'names where there are none': (
        lambda p: as_csv(p, CLASSES, name=[f'{n}.png' for n in range(500)]), 'images of .* have none',
    ),
    'a word among numbers': (
        lambda p: as_csv(p, shifted(LOGITS.astype(object), (2, 3), 'high')), "line 4, 3: expected a number, got 'high'",
    ),
    'no header': (lambda p: (p.with_suffix('.csv').write_text('1\n2\n'), p.with_suffix('.csv'))[1], 'the first line'),
    'empty': (lambda p: (p.with_suffix('.npz').write_bytes(b''), p.with_suffix('.npz'))[1], 'cannot be read'),
    'another kind of file': (lambda p: p.with_suffix('.pth'), 'expected a file called .npz, .npy or .csv'),
    'missing': (lambda p: p.with_suffix('.npy'), 'mine.npy is missing'),
    'a folder': (lambda p: as_folder(p.with_suffix('.npy')), 'mine.npy is no file'),
    'npz called npy': (lambda p: as_npz(p, logits=LOGITS).rename(p.with_suffix('.npy')), r'writes into \.npy files'),
    'npy called npz': (lambda p: as_npy(p, LOGITS).rename(p.with_suffix('.npz')), r'numpy writes into \.npz files'),
    'text called npy': (lambda p: as_text(p.with_suffix('.npy'), '1 2 3'), r'numpy writes into \.npy files'),
    'probabilities': (lambda p: as_npy(p, PROBABILITIES), 'sums to 1, so these are probabilities; give logits'),
    'probabilities in half precision': (lambda p: as_npz(p, logits=PROBABILITIES.astype(np.float16)), 'sums to 1'),
    'certain': (lambda p: as_npy(p, np.eye(10, dtype=int)[CLASSES]), 'sums to 1'),
    'beyond all bounds': (lambda p: as_npy(p, shifted(LOGITS, 7, 1e308)), 'row 7 has a logit .* beyond 1e'),
    'a line after empty ones': (
        lambda p: as_text(p.with_suffix('.csv'), 'prediction\n1\n\n\nx\n'), 'line 5, prediction: expected a whole',
    ),
    'a line after one that is two': (
        lambda p: as_text(p.with_suffix('.csv'), 'name,prediction\n"a\nb",1\nc,10\n'), 'line 4 has prediction 10',
    ),
    'a number as long as a line': (
        lambda p: as_text(p.with_suffix('.csv'), f'prediction\n1\n{"9" * 30}\n'), 'line 3, prediction: 9+ is no class',
    ),
    'an index that pandas wrote': (
        lambda p: as_text(p.with_suffix('.csv'), ',prediction\n0,1\n'), "got '', prediction",
    ),
}  # fmt: skip


@pytest.mark.parametrize('bad', BAD)
def test_what_does_not_fit_is_refused(results, tmp_path, bad):
    make, said = BAD[bad]
    with pytest.raises(UsageError, match=said):
        score_file(make(tmp_path / 'mine'), BENCHMARK, 'mine')
    assert not list(results.rglob('*.json'))


@pytest.mark.parametrize('name', ['', ' a', 'a+b', 'a(b)', 'x' * 81, 'a\nb'])
def test_a_name_that_could_be_taken_for_another_method_is_refused(results, tmp_path, name):
    with pytest.raises(UsageError, match='--name is 1 to 80 characters'):
        score_file(as_npy(tmp_path / 'mine', LOGITS), BENCHMARK, name)


class Listed:
    title = 'a list'
    test = FileSplit(
        None, np.array([b'val/a.jpg', 'val/\xe9.jpg'.encode('latin-1'), b'val/c.jpg']), np.array([1, 0, 2])
    )


def test_rows_with_names_may_be_in_any_order(tmp_path):
    names = [os.fsdecode(name) for name in Listed.test.names]
    given = Submission(None, np.array([7, 8, 9]), np.array([2, 1, 0]), [names[2], names[0], names[1]])
    assert in_test_order(tmp_path, given, Listed).predictions.tolist() == [8, 9, 7]
    for wrong, said in (
        ([names[2], names[0], names[0]], 'names val/a.jpg more than once'),
        ([names[2], names[0], 'x.jpg'], r'lacks 1 test images .* and has 1 unknown ones \(x.jpg\)'),
    ):
        with pytest.raises(UsageError, match=said):
            in_test_order(tmp_path, Submission(None, np.array([7, 8, 9]), None, wrong), Listed)


def test_names_that_are_all_wrong_are_told_at_once(tmp_path):
    """By a look for each, not by one through all for each."""
    names = np.array([f'val/{number}.jpg'.encode() for number in range(20_000)])
    listed = SimpleNamespace(title='a list', test=FileSplit(None, names, np.zeros(len(names), dtype=int)))
    others = [f'test/{number}.jpg' for number in range(20_000)]
    start = time.process_time()
    with pytest.raises(UsageError, match=r'lacks 20,000 test images \(val/0\.jpg, .* and has 20,000 unknown ones'):
        in_test_order(tmp_path, Submission(None, np.zeros(20_000, dtype=int), None, others), listed)
    assert time.process_time() - start < 2


def test_logarithms_of_probabilities_are_logits_and_a_suffix_may_be_in_capitals(results, tmp_path):
    file = as_npy(tmp_path / 'mine', np.log(PROBABILITIES))
    metrics = read_record(score_file(file.rename(tmp_path / 'MINE.NPY'), BENCHMARK, 'mine'))['metrics']
    assert metrics['nll'] == pytest.approx(evaluate(LOGITS, LABELS, DATA.class_counts)['nll'])


def test_on_the_command_line(main, sandbox, capsys):
    file = as_csv(sandbox / 'mine', LOGITS)
    words = ('score', file, '-b', 'digits_lt', '--name', 'Mine', '--claim', 'epochs=90', '--suite', 'theirs')
    assert main(*words) == 0
    (path,) = (sandbox / 'results/theirs/records').glob('*.json')
    assert json.loads(path.read_text())['config']['submitted']['claims'] == {'epochs': 90}
    assert main('eval', path) == 4
    printed = capsys.readouterr().err
    assert "ltbench score mine.csv --name Mine -b 'digits_lt(imbalance_factor=40)'" in printed
    assert printed.strip().endswith('--claim epochs=90 --seed 0 --suite theirs')
    assert main('score', file, '-b', 'digit_lt', '--name', 'Mine') == 2
    assert read_submission(file, 10).logits.shape == (500, 10)

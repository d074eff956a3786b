"""Comparisons by seeds, by test images and by rank, against libraries and values known by hand."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from made_records import make_record
from scipy import stats

from ltbench.errors import StoreError
from ltbench.evaluation.predictions import Predictions, write_with_predictions
from ltbench.record import predictions_path, record_path
from ltbench.report import Report, read_suite
from ltbench.report.cells import resolution
from ltbench.report.frame import network_of, runs_frame
from ltbench.report.intervals import image_intervals
from ltbench.report.noise import fit
from ltbench.report.statistics import MIN_BLOCKS, against, mean_ranks
from ltbench.report.tables import leaderboard

# Demšar (JMLR 2006), table 6: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets; by the ranks in that table,
# two values of the last but one, both printed as 0.975, are no tie
DEMSAR = """
.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657  .882 .888 .886 .898
.936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625  .775 .838 .866 .875  1.00 1.00 1.00 1.00
.940 .962 .965 .962  .619 .666 .614 .669  .972 .981 .97501 .975  .957 .978 .946 .970
"""


def scored(*runs: tuple[str, int, float]) -> pd.DataFrame:
    """A frame of (method, seed, top-1)."""
    frame = runs_frame([make_record(method, seed) for method, seed, _ in runs])
    scores = {(method, seed): top1 for method, seed, top1 in runs}
    frame['top1'] = [scores[pair] for pair in zip(frame['method'], frame['run_seed'], strict=True)]
    return frame


def by_top1(tests: pd.DataFrame) -> pd.DataFrame:
    return tests[(tests['reference'] == 'erm') & (tests['score'] == 'top1')]


def test_every_method_against_erm_and_against_the_best():
    values = {'erm': [70, 71, 73], 'a': [72, 72.5, 75], 'b': [71, 71, 74], 'c': [60, 75, 64]}
    frame = scored(*((method, seed, v) for method, row in values.items() for seed, v in enumerate(row)))
    tests = against(frame)
    assert set(tests.loc[tests['reference'] == 'best', 'against']) == {'a'}
    of_erm = by_top1(tests).set_index('method')
    assert of_erm.difference.round(6).to_dict() == {'a': 1.833333, 'b': 0.666667, 'c': -5.0}
    assert set(of_erm['noise_of']) == {'seeds'}
    assert ((of_erm['p'] < 0.05) == (of_erm['difference'].abs() > of_erm['noise'])).all()


def test_groups_are_compared_with_erm_each_on_its_own():
    frame = scored(*((method, seed, 70) for method in ('erm', 'a', 'b') for seed in range(3)))
    gains = {'many': {'a': [-1, -2, -2], 'b': [0, 0, 1]}, 'few': {'a': [9, 8, 12], 'b': [1, 2, 4]}}
    frame['medium'] = np.nan  # no such classes
    for group, of_method in gains.items():
        frame[group] = [
            50 + of_method.get(m, [0] * 3)[s] for m, s in zip(frame['method'], frame['run_seed'], strict=True)
        ]
    tests = against(frame)
    assert set(zip(tests['reference'], tests['score'], strict=True)) == {
        ('erm', 'top1'), ('erm', 'many'), ('erm', 'few'), ('best', 'top1'),
    }  # fmt: skip
    for group, of_method in gains.items():
        rows = tests[tests['score'] == group].set_index('method')
        assert rows['difference'].to_dict() == pytest.approx({m: np.mean(gain) for m, gain in of_method.items()})
        noise = fit(np.array([of_method['a'], of_method['b'], [0] * 3], float))
        assert rows['run_std'].iloc[0] == pytest.approx(noise.variance**0.5)


def test_what_a_seed_does_to_all_methods_does_not_count():
    """A method with the good seed alone is not better for it; one with a single seed has the noise of the others."""
    runs = [(m, s, 70 + 5 * s + d + 0.1 * ((s + len(m)) % 2)) for m, d in (('erm', 0), ('aa', 1)) for s in range(3)]
    rows = by_top1(against(scored(*runs, ('lucky', 2, 80.5)))).set_index('method')
    assert rows['difference']['lucky'] == pytest.approx(0.5, abs=0.1)
    assert rows['n'].to_dict() == {'aa': 3, 'lucky': 1}
    assert rows['noise']['lucky'] > rows['noise']['aa']


@pytest.mark.filterwarnings('error')
def test_constant_scores_and_methods_without_a_common_seed_are_compared():
    runs = [(m, s, 70 + s + d) for m, d in (('erm', 0), ('tie', 0), ('constant', 0.1)) for s in range(3)]
    rows = by_top1(against(scored(*runs))).set_index('method')
    assert rows['p']['tie'] == pytest.approx(1, abs=1e-3)
    assert rows['noise']['tie'] == pytest.approx(rows['noise']['constant'])
    assert rows['noise']['tie'] > 0.1  # a test image is 0.25 points
    rows = by_top1(against(scored(*runs, ('none', 7, 60)))).set_index('method')
    assert rows[['difference', 'noise', 'p']].notna().all(axis=None)
    assert rows['difference']['none'] == pytest.approx(-11)
    assert len(against(scored(('erm', 0, 70), ('erm', 1, 71)))) == 0


def test_methods_on_the_network_of_erm_are_known_by_the_first_stage_of_their_records():
    """Their differences vary by 0.1, networks by 2: which is what is known of a method on another one."""
    hits = {'erm': (30, 32, 34), 'crt': (36, 38, 40), 'ncm': (35, 37, 39), 'la_posthoc': (33, 36, 37), 'ldam': (31,)}
    hits['lws'] = hits['crt']
    made = [make_record(m, seed, hits=[n] * 8) for m, row in hits.items() for seed, n in enumerate(row)]
    second = {'kind': 'head', 'fingerprint': 'c' * 64, 'epochs': 1, 'cost': made[0]['stages'][0]['cost']}
    network = {record['run_seed']: record['stages'][0] for record in made if record['method'] == 'erm'}
    shared = [
        record if record['method'] in ('erm', 'ldam')
        else record | {'stages': [network[record['run_seed']], second | {'fingerprint': record['fingerprint']}]}
        for record in made
    ]  # fmt: skip
    apart, together = (by_top1(against(runs_frame(records))).set_index('method') for records in (made, shared))
    assert (together['freedom']['ldam'], together['run_std']['ldam']) == pytest.approx((2, 4), abs=0.2)
    assert together['noise']['ldam'] > 5 * apart['noise']['ldam']
    assert together['noise']['crt'] < 2 < together['difference']['crt']


def test_a_network_that_was_trained_again_is_another_one():
    """Its fingerprint is the same, but its losses are those of another processor."""
    erm, crt = (make_record(method, 0) for method in ('erm', 'crt'))
    crt['stages'] = [erm['stages'][0], {**erm['stages'][0], 'kind': 'head', 'fingerprint': crt['fingerprint']}]
    epochs = erm['stages'][0]['epochs']
    erm['curve'] = [{'epoch': epoch, 'loss': 2.0 / (epoch + 1)} for epoch in range(epochs)]
    later = [{'epoch': epochs, 'loss': 0.5}]  # of a run that goes on with the network
    assert network_of(crt | {'curve': [*erm['curve'], *later]}) == network_of(erm)
    assert network_of(
        crt | {'curve': [point | {'loss': point['loss'] + 1e-4} for point in erm['curve']]}
    ) != network_of(erm)


def test_what_is_within_noise_of_the_best_is_marked():
    runs = [('best', s, 80 + s) for s in range(3)] + [('near', s, v) for s, v in enumerate([79, 82, 80])]
    runs += [('far', s, v) for s, v in enumerate([60.0, 61.2, 61.9])] + [('once', 1, 78.9), ('low', 1, 50)]
    board = leaderboard(scored(*runs)).set_index('method')
    assert board['best'].to_dict() == {
        'best': 'best', 'near': 'within noise', 'far': '', 'once': 'within noise', 'low': '',
    }  # fmt: skip
    within = board[board['best'] == 'within noise']
    assert (within['behind'] < within['noise']).all()
    assert board['noise']['once'] > board['noise']['near']
    usual = board['noise'].quantile(0.5, interpolation='lower')
    told = f'1 to 3 seeds: up to about {usual:.1f} points below the best is noise between seeds.'
    assert resolution(board.reset_index()) == told
    board.loc['near', 'behind'] = board.loc['near', 'noise'] = 9.0
    assert resolution(board.reset_index()).endswith(' is noise between seeds (near: up to 9.0).')
    assert resolution(board.reset_index(), {'near': 'Near (a=1)'}).endswith('(Near (a=1): up to 9.0).')
    board.loc['far', ['behind', 'noise']] = 1.5, 1.0  # as of a method on the same networks
    assert resolution(board.reset_index()).endswith('(near: up to 9.0; far: up to 1.0).')


def test_a_lucky_seed_does_not_put_a_better_method_below_it():
    runs = [('erm', s, v) for s, v in enumerate([70.0, 75.0, 80.25])]
    runs += [('even', s, v) for s, v in enumerate([70.5, 75.25, 80.5])]
    runs += [('steady', s, v) for s, v in enumerate([71.25, 76.0, 81.0])] + [('lucky', 2, 79.0)]
    board = leaderboard(scored(*runs)).set_index('method')
    assert (board['best']['lucky'], board['best']['steady']) == ('best', 'within noise')
    assert board['behind']['steady'] < -board['noise']['steady']


def test_single_seeds_are_judged_by_their_test_images():
    single = [make_record('best', hits=[45] * 8), make_record('near', hits=[44] * 8), make_record('far', hits=[20] * 8)]
    frame = runs_frame(single)
    board = leaderboard(frame).set_index('method')
    assert board['best'].to_dict() == {'best': 'best', 'near': 'within noise', 'far': ''}
    assert board['top1_low'].notna().all()
    assert resolution(board.reset_index()).startswith('1 seed: up to about ')
    assert 'is noise of the test images' in resolution(board.reset_index())
    assert leaderboard(runs_frame(single[:1]))['best'].tolist() == ['']
    # paired by image: of 400, near is wrong on 8 that best has right, and on no other
    right = {'best': np.arange(400) < 360, 'near': np.arange(400) < 352, 'far': np.arange(400) < 160}
    known = runs_frame(single, {position: right[run['method']] for position, run in enumerate(single)})
    tests = against(known)
    near = tests[(tests['reference'] == 'best') & (tests['method'] == 'near')].iloc[0]
    assert near['std_error'] == pytest.approx(100 * (0.02 * 0.98 / 399) ** 0.5)
    assert near['p'] < 0.05
    assert leaderboard(known).set_index('method')['best']['near'] == ''


def test_test_images_add_to_the_noise_of_seeds_where_they_are_known():
    runs = [make_record(m, s, hits=[40 + d + s] * 8) for m, d in (('erm', 0), ('a', 3), ('b', 1)) for s in range(3)]
    random = np.random.default_rng(0)
    right = {position: random.permutation(400) < 4 * run['metrics']['top1'] for position, run in enumerate(runs)}
    seeds, both = by_top1(against(runs_frame(runs))), by_top1(against(runs_frame(runs, right)))
    assert (set(seeds['noise_of']), set(both['noise_of'])) == ({'seeds'}, {'seeds and test images'})
    assert (both['noise'].to_numpy() > seeds['noise'].to_numpy()).all()
    del right[0]
    assert set(against(runs_frame(runs, right))['noise_of']) == {'seeds'}


def test_a_report_pairs_by_the_predictions_that_were_kept():
    for method, right in (('best', 360), ('near', 352)):
        record, labels = make_record(method, hits=[right / 8] * 8), np.repeat(np.arange(8), 50)
        predicted = np.where(np.arange(400) % 50 < right // 8, labels, (labels + 1) % 8)
        counts = {'predicted': np.bincount(predicted, minlength=8).tolist(), 'test_images': [50] * 8}
        record['metrics'] = {**record['metrics'], **counts}
        write_with_predictions(record_path('made', record), record, Predictions.of_classes(predicted, labels))
    [row] = Report(read_suite('made')).tests.to_dict('records')
    assert (row['noise_of'], row['difference']) == ('test images', -2)
    assert row['std_error'] == pytest.approx(100 * (0.02 * 0.98 / 399) ** 0.5)
    predictions_path(record_path('made', record)).unlink()
    with pytest.raises(StoreError, match='is missing'):
        read_suite('made')


def test_all_predictions_that_are_not_right_are_named_and_their_records_left_out():
    for method in ('erm', 'cut', 'lost'):
        record, labels = make_record(method), np.repeat(np.arange(8), 50)
        record['metrics'] = {**record['metrics'], 'predicted': [50] * 8, 'test_images': [50] * 8}
        write_with_predictions(record_path('made', record), record, Predictions.of_classes(labels, labels))
        file = predictions_path(record_path('made', record))
        if method == 'cut':
            os.truncate(file, 100)
        if method == 'lost':
            file.unlink()
    with pytest.raises(StoreError) as error:
        read_suite('made')
    first, second, advice = str(error.value).splitlines()
    assert 'cut' in first
    assert 'it was truncated or changed' in first
    assert 'is missing' in second
    assert '`ltbench report made --leave-out` to report without' in advice
    results = read_suite('made', leave_out=True)
    assert Report(results).frame['method'].tolist() == ['erm']
    assert len(results.left_out) == 2


def test_methods_that_are_one_computation_have_one_row():
    runs = [
        make_record(m, s, computation='c' * 64) for m, s in (('la_loss', 0), ('balanced_softmax', 0), ('la_loss', 1))
    ]
    frame = runs_frame([make_record(seed=0), *runs])
    assert frame[['method', 'also', 'run_seed']].to_numpy().tolist() == [
        ['erm', '', 0], ['la_loss', 'balanced_softmax', 0], ['la_loss', 'balanced_softmax', 1],
    ]  # fmt: skip
    board = leaderboard(frame).set_index('method')
    assert (board['also']['la_loss'], board['n_seeds']['la_loss']) == ('balanced_softmax', 2)
    assert frame['record'].tolist() == [0, 1, 3]


def test_the_baseline_keeps_its_name_beside_a_shorter_one():
    frame = runs_frame([make_record(m, computation='c' * 64) for m in ('ce', 'erm')] + [make_record('crt')])
    assert dict(zip(frame['method'], frame['also'], strict=True)) == {'erm': 'ce', 'crt': ''}
    assert set(against(frame).query('reference == "erm"')['method']) == {'crt'}


def test_a_failure_is_counted_in_the_row_of_its_other_name():
    runs = [make_record(m, s, computation='c' * 64) for m in ('la_loss', 'balanced_softmax') for s in (0, 1)]
    board = leaderboard(runs_frame(runs), [make_record('balanced_softmax', 2)])
    assert board[['method', 'n_seeds', 'n_failed']].to_numpy().tolist() == [['la_loss', 2, 1]]


def blocks(values: np.ndarray) -> pd.DataFrame:
    frame = runs_frame([make_record(f'm{m}', factor=f + 1) for f in range(len(values)) for m in range(values.shape[1])])
    frame['top1'] = [
        values[int(f) - 1, int(m[1:])] for f, m in zip(frame['imbalance_factor'], frame['method'], strict=True)
    ]
    return frame


def test_ranks_of_demsar():
    values = np.array(DEMSAR.split(), dtype=float).reshape(14, 4)
    ranks = mean_ranks(blocks(values))
    assert ranks.mean_ranks.round(3).to_dict() == {'m3': 1.964, 'm1': 2.0, 'm2': 2.893, 'm0': 3.143}
    assert ranks.critical_difference == pytest.approx(1.25, abs=0.005)  # 2.569 * sqrt(4 * 5 / (6 * 14))
    assert ranks.friedman == pytest.approx(tuple(stats.friedmanchisquare(*values.T)))
    assert ranks.friedman[1] < 0.05
    # the critical difference is where Nemenyi's p is 0.05: none of these pairs differs by so much
    assert (ranks.nemenyi.to_numpy() > 0.05).sum() == 16
    assert ranks.nemenyi.loc['m0', 'm3'] == pytest.approx(
        stats.studentized_range.sf((3.142857 - 1.964286) / np.sqrt(20 / 84) * np.sqrt(2), 4, np.inf), abs=1e-4
    )


def test_too_few_tables_ties_and_absent_methods_are_said():
    few = mean_ranks(blocks(np.arange(3 * (MIN_BLOCKS - 1)).reshape(-1, 3)))
    assert few.friedman is None
    assert 'too few' in few.note
    assert few.mean_ranks.to_dict() == {'m2': 1, 'm1': 2, 'm0': 3}
    assert mean_ranks(blocks(np.ones((MIN_BLOCKS, 3)))).note == 'all methods tie in every table'
    assert 'needs 3' in mean_ranks(blocks(np.ones((MIN_BLOCKS, 2)))).note
    frame = blocks(np.arange(6).reshape(2, 3))
    part = mean_ranks(frame[~((frame['method'] == 'm1') & (frame['imbalance_factor'] == 1))])
    assert part.left_out == ['m1']
    assert part.mean_ranks.to_dict() == {'m2': 1, 'm0': 2}


def test_intervals_over_test_images():
    hits = [50, 25, 30, 30, 10, 0, 0, 0]
    frame = runs_frame([make_record(hits=hits)])
    low, high = image_intervals(frame)[['top1_low', 'top1_high']].iloc[0]
    free = np.random.default_rng(1).binomial(50, np.array(hits)[:, None] / 50, size=(8, 200_000)).sum(axis=0) / 4
    assert (low, high) == pytest.approx(np.quantile(free, [0.025, 0.975]), abs=0.5)  # one image is 0.25
    one = image_intervals(runs_frame([make_record(hits=[25, 9], counts=[500, 50])])).iloc[0]
    assert (one.many_low, one.many_high) == pytest.approx((50 - 13.86, 50 + 13.86), abs=0.1)
    assert one[['few_low', 'few_high']].isna().all()
    sure = image_intervals(runs_frame([make_record(hits=[50] * 8)])).iloc[0]
    assert (sure.top1_low, sure.top1_high) == (pytest.approx(99, abs=0.5), 100)


def test_mean_ranks_of_few_tables_or_methods_are_not_shown():
    assert [mean_ranks(blocks(np.arange(t * m).reshape(t, m))).says_something for t, m in ((3, 3), (2, 3), (3, 2))] == [
        True, False, False,
    ]  # fmt: skip


def test_groups_without_imbalance_factor_are_kept():
    tests = against(runs_frame([make_record(m, s, factor=None) for m in ('erm', 'a') for s in (0, 1)]))
    assert len(by_top1(tests)) == 1
    assert tests['imbalance_factor'].isna().all()

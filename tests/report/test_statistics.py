"""Tests by seed, by rank and by test image, against libraries and values known by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_records import make_record
from scipy import stats

from ltbench.report.frame import runs_frame
from ltbench.report.intervals import image_intervals
from ltbench.report.statistics import MIN_BLOCKS, against, by_score, mean_ranks
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


def test_paired_by_seed_and_corrected_by_holm():
    values = {'erm': [70, 71, 73], 'a': [72, 72.5, 75], 'b': [71, 71, 74], 'c': [60, 75, 64]}
    frame = scored(*((method, seed, v) for method, row in values.items() for seed, v in enumerate(row)))
    tests = against(frame)
    of_erm = by_top1(tests).set_index('method')
    for method in 'abc':
        assert of_erm.p[method] == pytest.approx(stats.ttest_rel(values[method], values['erm']).pvalue)
    ordered = of_erm.p.sort_values()
    by_hand = np.minimum(np.maximum.accumulate(ordered.to_numpy() * [3, 2, 1]), 1)
    assert of_erm.p_holm[ordered.index].to_numpy() == pytest.approx(by_hand)
    assert set(tests.loc[tests['reference'] == 'best', 'against']) == {'a'}
    assert of_erm.difference['b'] == pytest.approx(2 / 3)


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
    wide = by_score(tests)
    a, b = wide[wide['reference'] == 'erm'].to_dict('records')
    for group, of_method in gains.items():
        p = [stats.ttest_1samp(of_method[method], 0).pvalue for method in 'ab']
        assert [row[f'{group} difference'] for row in (a, b)] == pytest.approx([np.mean(of_method[m]) for m in 'ab'])
        assert a[f'{group} p'] == pytest.approx(p[0])
        assert min(a[f'{group} p_holm'], b[f'{group} p_holm']) == pytest.approx(2 * min(p))  # over this column's two
    assert wide[wide['reference'] == 'best']['few p'].isna().all()


def test_only_common_seeds_are_paired():
    tests = against(scored(('erm', 0, 70), ('erm', 1, 72), ('erm', 2, 9), ('a', 0, 71), ('a', 1, 74), ('a', 5, 99)))
    row = by_top1(tests).iloc[0]
    assert (row.n, row.difference) == (2, 1.5)
    assert row.p == pytest.approx(stats.ttest_rel([71, 74], [70, 72]).pvalue)


@pytest.mark.filterwarnings('error')
def test_where_there_is_no_test_it_is_said():
    runs = [(m, s, 70 + s + d) for m, d in (('erm', 0), ('tie', 0), ('constant', 0.1)) for s in range(3)]
    tests = against(scored(*runs, ('one', 0, 60), ('none', 7, 60)))
    notes = by_top1(tests).set_index('method')['note']
    assert notes.to_dict() == {
        'tie': 'no difference in any seed',
        'constant': 'the same difference in every seed',
        'one': 'one common seed',
        'none': 'no common seed',
    }
    assert by_top1(tests)['p'].isna().all()
    assert len(against(scored(('erm', 0, 70), ('erm', 1, 71)))) == 0


def test_what_cannot_be_told_from_the_best_is_marked():
    runs = [('best', s, 80 + s) for s in range(3)] + [('near', s, v) for s, v in enumerate([79, 82, 80])]
    runs += [('far', s, v) for s, v in enumerate([60.0, 61.2, 61.9])] + [('other', 7, 10)]
    board = leaderboard(scored(*runs)).set_index('method')
    assert board['best'].to_dict() == {'best': 'best', 'near': 'not told apart', 'far': '', 'other': 'not told apart'}
    single = [make_record('best', hits=[45] * 8), make_record('near', hits=[44] * 8), make_record('far', hits=[20] * 8)]
    board = leaderboard(runs_frame(single)).set_index('method')
    assert board['best'].to_dict() == {'best': 'best', 'near': 'not told apart', 'far': ''}
    assert leaderboard(runs_frame(single[:1]))['best'].tolist() == ['']
    # the best has seeds that the others lack: compared by test images in the seeds that both have
    more = [make_record('best', seed, hits=[hits] * 8) for seed, hits in ((1, 50), (2, 50))]
    board = leaderboard(runs_frame([*single, *more])).set_index('method')
    assert board['best'].to_dict() == {'best': 'best', 'near': 'not told apart', 'far': ''}
    assert board['top1_low'].notna().to_dict() == {'best': False, 'near': True, 'far': True}
    # of two seeds, one does not do: far is as good as the best in its second
    for hits, standing in ((50, 'not told apart'), (20, '')):
        again = make_record('far', 1, hits=[hits] * 8)
        board = leaderboard(runs_frame([*single, *more, again])).set_index('method')
        assert board['best'].to_dict() == {'best': 'best', 'near': 'not told apart', 'far': standing}


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
    assert 'takes 3' in mean_ranks(blocks(np.ones((MIN_BLOCKS, 2)))).note
    frame = blocks(np.arange(6).reshape(2, 3))
    part = mean_ranks(frame[~((frame['method'] == 'm1') & (frame['imbalance_factor'] == 1))])
    assert part.left_out == ['m1']
    assert part.mean_ranks.to_dict() == {'m2': 1, 'm0': 2}


def test_intervals_over_test_images():
    hits = [50, 25, 30, 30, 10, 0, 0, 0]
    frame = runs_frame([make_record(hits=hits)])
    low, high = image_intervals(frame)[['top1_low', 'top1_high']].iloc[0]
    free = np.random.default_rng(1).binomial(50, np.array(hits)[:, None] / 50, size=(8, 200_000)).sum(axis=0) / 4
    assert (low, high) == pytest.approx(np.quantile(free, [0.025, 0.975]), abs=0.26)  # one image is 0.25
    one = image_intervals(runs_frame([make_record(hits=[25, 9], counts=[500, 50])])).iloc[0]
    assert (one.many_low, one.many_high) == pytest.approx(100 * stats.binom.ppf([0.025, 0.975], 50, 0.5) / 50, abs=0.1)
    assert one[['few_low', 'few_high']].isna().all()
    sure = image_intervals(runs_frame([make_record(hits=[50] * 8)])).iloc[0]
    assert (sure.top1_low, sure.top1_high) == (100, 100)


def test_groups_without_imbalance_factor_are_kept():
    tests = against(runs_frame([make_record(m, s, factor=None) for m in ('erm', 'a') for s in (0, 1)]))
    assert len(by_score(tests)) == 2
    assert tests['imbalance_factor'].isna().all()

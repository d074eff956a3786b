"""Which differences the records can tell apart: paired by seed within a table, by ranks across tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ltbench.evaluation.metrics import GROUPS
from ltbench.report.frame import DECIMALS, GROUP, by_table
from ltbench.report.holm import holm

BASELINE = 'erm'
ALPHA = 0.05
TEST = 'paired t-test'
TESTED = 3
"""Common seeds from which on the test against the best decides: of two, its one degree of freedom hardly tells any."""
MIN_BLOCKS = 10
"""Tables that a test of mean ranks takes: with fewer, the statistic is not near chi-square (Demšar, JMLR 2006)."""
CONSTANT = 1e-9
"""Percent; differences that vary less do not vary: what is left is the rounding of floats."""
SCORES = ('top1', *GROUPS)
"""By which methods are compared with ``erm``; with the best of their table, which is so by top-1, by that alone."""
OUTCOME = ['difference', 'difference_std', 'p', 'p_holm', 'note']
COLUMNS = [*GROUP, 'score', 'method', 'reference', 'against', 'test', 'n', *OUTCOME]


def against(frame: pd.DataFrame) -> pd.DataFrame:
    """Every method against ``erm``, overall and by group, and against the best of its table, paired by common seeds.

    Returns:
        One row for each group x reference x score x method. ``reference`` is ``erm`` or ``best``, ``against`` the
        method that this is; ``score`` is ``top1`` and, against ``erm``, ``many``, ``medium`` and ``few`` where there
        are such classes; ``n`` common seeds; ``difference`` their mean (method minus reference, percentage points) and
        ``difference_std`` (ddof=1); ``p`` of scipy.stats.ttest_rel, two-sided, and ``p_holm``, corrected by Holm over
        the methods that are compared with this reference by this score in this table. Where there is no test, ``p`` is
        NaN and ``note`` says why.
    """
    tables = list(_tables(frame))
    if not tables:
        return pd.DataFrame(columns=COLUMNS).astype({'imbalance_factor': float})
    return pd.concat(tables, ignore_index=True).astype({'imbalance_factor': float})


def _tables(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for key, rows in by_table(frame):
        present = [score for score in SCORES if rows[score].notna().any()]
        scores = rows.pivot(index='run_seed', columns='method', values=present)
        means = scores['top1'].mean().round(DECIMALS)
        best = min(means.index, key=lambda method: (-means[method], method))
        for reference, name, compared in ((BASELINE, BASELINE, present), ('best', best, ['top1'])):
            if name in means and len(means) > 1:
                named = key._asdict() | {'reference': reference, 'against': name, 'test': TEST}
                yield _paired(_differences(scores, name, compared)).assign(**named)[COLUMNS]


def _differences(scores: pd.DataFrame, reference: str, compared: Sequence[str]) -> pd.DataFrame:
    """Every other method minus the reference: ``[seeds, (score, method)]``, of ``scores`` of the same shape."""
    return pd.concat(
        {score: scores[score].drop(columns=reference).sub(scores[score][reference], axis=0) for score in compared},
        axis=1,
        names=['score', 'method'],
    )


def _paired(differences: pd.DataFrame) -> pd.DataFrame:
    """What a paired t-test says of each column of ``differences`` ``[seeds, (score, method)]``, over its seeds."""
    result = pd.DataFrame({'p': np.nan, 'note': ''}, index=differences.columns)
    result['n'] = differences.notna().sum()
    result['difference'] = differences.mean()
    result['difference_std'] = differences.std(ddof=1)
    result.loc[result['n'] == 0, 'note'] = 'no common seed'
    result.loc[result['n'] == 1, 'note'] = 'one common seed'
    constant = (result['n'] > 1) & (result['difference_std'] <= CONSTANT)
    result.loc[constant, ['difference_std', 'note']] = [0.0, 'the same difference in every seed']
    equal = constant & (result['difference'].abs() <= CONSTANT)
    result.loc[equal, ['difference', 'note']] = [0.0, 'no difference in any seed']
    varying = (result['n'] > 1) & ~constant
    if varying.any():
        values = differences.loc[:, varying].to_numpy()
        # of one sample, the differences: the same test as scipy.stats.ttest_rel of the two
        result.loc[varying, 'p'] = stats.ttest_1samp(values, 0.0, nan_policy='omit').pvalue
    result['p_holm'] = result.groupby(level='score', sort=False)['p'].transform(holm)
    return result.reset_index()


def by_score(tests: pd.DataFrame) -> pd.DataFrame:
    """The same with one row for each group x reference x method.

    Args:
        tests: Of :func:`against`.

    Returns:
        What names the row, ``n``, and for each score the columns of the outcome: ``few difference``, ``few p_holm``.
    """
    row = [*GROUP, 'reference', 'against', 'method', 'n']
    wide = tests[row].drop_duplicates(ignore_index=True)
    for score, rows in tests.groupby('score', sort=False):
        named = rows[[*row, *OUTCOME]].rename(columns={name: f'{score} {name}' for name in OUTCOME})
        wide = wide.merge(named, how='left', on=row)
    return wide


def pairs_by_images(frame: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """Runs beside those of the best of their table, seed by seed, of methods with too few seeds in common to be tested.

    Args:
        frame: Of :func:`ltbench.report.frame.runs_frame`.
        tests: Of :func:`against`.

    Returns:
        The group, ``method``, and ``run`` and ``best_run``: index labels of ``frame``; a row for each common seed.
    """
    runs = frame[[*GROUP, 'method', 'run_seed']].assign(run=frame.index)
    best_runs = runs.rename(columns={'method': 'against', 'run': 'best_run'})
    few = tests.loc[(tests['reference'] == 'best') & (tests['n'] < TESTED), [*GROUP, 'method', 'against']]
    return few.merge(runs, on=[*GROUP, 'method']).merge(best_runs, on=[*GROUP, 'against', 'run_seed'])


def standing(board: pd.DataFrame, tests: pd.DataFrame, pairs: pd.DataFrame, intervals: pd.DataFrame) -> pd.Series:
    """How each row stands to the best of its table: ``best``, ``not told apart`` or, where it is told apart, empty.

    Told apart is what the paired test against the best tells apart (``p_holm`` below 0.05) or, where the two have one
    or two seeds in common, what has in each of them a top-1 interval over test images below that of the best. What
    cannot be compared is not told apart. Where a table has one method, there is nothing to be the best of: empty.

    Args:
        board: A leaderboard with ``rank`` and ``n_seeds``.
        tests: Of :func:`against`.
        pairs: Of :func:`pairs_by_images`.
        intervals: Of :func:`ltbench.report.intervals.image_intervals`, of the runs of ``pairs`` and perhaps others.
    """
    key = [*GROUP, 'method']
    highs, lows = (intervals.loc[pairs[run], f'top1_{side}'] for run, side in (('run', 'high'), ('best_run', 'low')))
    below = pairs[key].assign(by_images=highs.to_numpy() < lows.to_numpy())
    by_images = below.groupby(key, dropna=False)['by_images'].all().reset_index()
    by_seeds = tests.loc[(tests['reference'] == 'best') & (tests['n'] >= TESTED), [*key, 'p_holm']]
    found = board[key].merge(by_seeds, on=key, how='left').merge(by_images, on=key, how='left')
    apart = (found['p_holm'].astype(float) < ALPHA) | found['by_images'].eq(True)
    ranked = board.groupby(GROUP, dropna=False)['rank'].transform('count')
    result = pd.Series('not told apart', index=board.index)
    return result.mask(board['rank'] == 1, 'best').mask(apart | (board['n_seeds'] == 0) | (ranked < 2), '')


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of methods over tables, and what a test of them says.

    Attributes:
        mean_ranks: By method, best (lowest) first; by mean top-1 over seeds, ties share their mean rank.
        tables: Titles of the tables that were ranked: those of at least two methods.
        left_out: Methods that are not in all of them.
        friedman: Statistic and p value of scipy.stats.friedmanchisquare; None where there is no test.
        nemenyi: p values of all pairs, of scikit_posthocs.posthoc_nemenyi_friedman; None where there is no test.
        critical_difference: Of mean ranks, for Nemenyi's test at 0.05; None where there is no test.
        note: Why there is no test; empty where there is one.
    """

    mean_ranks: pd.Series
    tables: list[str]
    left_out: list[str]
    friedman: tuple[float, float] | None = None
    nemenyi: pd.DataFrame | None = None
    critical_difference: float | None = None
    note: str = ''


def mean_ranks(frame: pd.DataFrame) -> Ranks:
    """Rank the methods in every table and average over tables; test the ranks where there are enough tables.

    Only methods that are in all tables are ranked, so that no method is judged on easier ones. The test treats tables
    as independent, which imbalance factors of one data set are not quite.
    """
    keys = [key for key, _ in by_table(frame)]
    number = frame.groupby(GROUP, dropna=False).ngroup()
    means = frame.groupby([number, 'method'])['top1'].mean().round(DECIMALS).unstack()
    means = means[means.notna().sum(axis=1) > 1]
    complete = means.dropna(axis=1)
    tables = [keys[block].title for block in means.index]
    left_out = sorted(set(frame['method']) - set(complete.columns))
    ranks = complete.rank(axis=1, ascending=False)
    mean = ranks.mean().dropna().sort_index().sort_values(kind='stable')  # without a table there is no rank
    blocks, methods = complete.shape
    if note := _why_no_test(ranks):
        return Ranks(mean, tables, left_out, note=note)
    import scikit_posthocs  # brings matplotlib, a second that most reports without figures need not wait

    friedman = stats.friedmanchisquare(*complete.to_numpy().T)
    return Ranks(
        mean,
        tables,
        left_out,
        (float(friedman.statistic), float(friedman.pvalue)),
        scikit_posthocs.posthoc_nemenyi_friedman(complete).loc[mean.index, mean.index],
        float(
            stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)
            / np.sqrt(2)
            * np.sqrt(methods * (methods + 1) / (6 * blocks))
        ),
    )


def _why_no_test(ranks: pd.DataFrame) -> str:
    blocks, methods = ranks.shape
    if blocks < MIN_BLOCKS:
        told = '1 table is' if blocks == 1 else f'{blocks} tables are'
        return f'{told} too few for a test of mean ranks: it takes {MIN_BLOCKS}'
    if methods < 3:
        return f'a test of mean ranks takes 3 methods that are in all tables, here: {methods}'
    if (ranks.nunique(axis=1) == 1).all():
        return 'all methods tie in every table'
    return ''

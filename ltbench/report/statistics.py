"""Which differences between methods are more than noise: within a table by all its runs, across tables by ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ltbench.evaluation.metrics import GROUPS
from ltbench.report.frame import BASELINE, DECIMALS, GROUP, by_table
from ltbench.report.headless import import_matplotlib
from ltbench.report.intervals import image_variances, paired_variance, smallest_steps
from ltbench.report.noise import ALPHA, dunnett, fit, tukey

MIN_BLOCKS = 10
"""Tables that a test of mean ranks needs: with fewer, the statistic is not near chi-square (Demšar, JMLR 2006)."""
LEAST = 3
"""Tables and methods with which, at least, mean ranks say more than the tables."""
SCORES = ('top1', *GROUPS)
"""Scores by which methods are compared with ``erm``; with the best of their table only by top-1, which chose it."""
OUTCOME = ['difference', 'noise', 'p']
COLUMNS = [
    *GROUP, 'score', 'method', 'reference', 'against', 'n', *OUTCOME, 'std_error', 'freedom', 'noise_of', 'run_std',
    'p_equal_variances',
]  # fmt: skip


def against(frame: pd.DataFrame) -> pd.DataFrame:
    """Every method against ``erm``, overall and by group, and against the best of its table.

    Returns:
        One row for each group x reference x score x method. ``reference`` is ``erm`` or ``best``, ``against`` the
        name of that method; ``score`` is ``top1`` and, against ``erm``, ``many``, ``medium`` and ``few`` where there
        are such classes; ``n`` seeds of the method. ``difference`` is method minus reference in percentage points, from
        the linear model of :mod:`ltbench.report.noise`, so that seeds that only one of the two has do not count
        (unless the table has too few runs to estimate the effects of seeds); ``std_error`` its standard error and
        ``freedom`` the degrees of freedom of that. ``p`` is two-sided and
        adjusted for all methods of the table, and ``noise`` the smallest difference with ``p`` of 0.05: by Dunnett's
        test against ``erm``, by Tukey's against the best, which is chosen by its score.

        ``noise_of`` says what varies: ``seeds`` (of training, on these test images), ``seeds and test images`` where
        the frame has them (see ``right`` in :func:`ltbench.report.frame.runs_frame`; top-1 alone), and ``test images``
        where no method has two seeds: the networks stay the same, so the variation between seeds is not known.
        ``run_std`` is the standard deviation of a run, pooled over the table; NaN there. ``p_equal_variances`` is that
        of Bartlett's test: below 0.1 each method has a separate variance.
    """
    tables = list(_tables(frame))
    if not tables:
        return pd.DataFrame(columns=COLUMNS).astype({'imbalance_factor': float})
    return pd.concat(tables, ignore_index=True).astype({'imbalance_factor': float})


def _tables(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for key, rows in by_table(frame):
        means = rows.groupby('method')['top1'].mean().round(DECIMALS)
        best = min(means.index, key=lambda method: (-means[method], method))
        compared = [('erm', BASELINE, score) for score in SCORES if rows[score].notna().any()]
        for reference, name, score in (*compared, ('best', best, 'top1')):
            scored = rows[rows[score].notna()]
            if name in set(scored['method']) and scored['method'].nunique() > 1:
                named = key._asdict() | {'reference': reference, 'against': name, 'score': score}
                yield _compared(scored, score, name, reference == 'best').assign(**named)[COLUMNS]


def _compared(rows: pd.DataFrame, score: str, name: str, chosen: bool) -> pd.DataFrame:
    """The methods of one table against one of them, the reference.

    Args:
        rows: Its runs.
        score: By which they are compared.
        name: The reference.
        chosen: Whether this score chose the reference.
    """
    scores, networks = (rows.pivot(index='method', columns='run_seed', values=column) for column in (score, 'network'))
    reference = scores.index.get_loc(name)
    steps = smallest_steps(*rows[['test_images', 'class_counts']].iloc[0])
    noise = fit(scores.to_numpy(), networks.to_numpy(), steps[score])
    paired = score == 'top1' and rows['right'].notna().all()
    of_images = _paired(rows, reference) if paired else 0.0 if noise.freedom else _unpaired(rows, score, reference)
    found = noise.against(reference, of_images)
    p, half = (tukey if chosen else dunnett)(found, reference)
    seeds = ['seeds'] if noise.freedom else []
    images = ['test images'] if paired or not seeds else []
    table = pd.DataFrame({
        'method': scores.index, 'n': noise.runs, 'difference': found.points, 'noise': half, 'p': p,
        'std_error': found.errors, 'freedom': found.freedom, 'noise_of': ' and '.join([*seeds, *images]),
        'run_std': noise.variance**0.5, 'p_equal_variances': noise.p_equal,
    })  # fmt: skip
    return table[table['method'] != name]


def _paired(rows: pd.DataFrame, reference: int) -> np.ndarray:
    """Variance over test images of each method's difference to one, points squared: ``[methods]``."""
    right = np.stack([np.mean(list(runs), axis=0) for _, runs in rows.groupby('method')['right']])
    return paired_variance(right, right[reference])


def _unpaired(rows: pd.DataFrame, score: str, reference: int) -> np.ndarray:
    """The same for single runs with known hits by class only, as if their test images differed: an overestimate."""
    of_run = image_variances(rows)[score].groupby(rows['method']).mean().to_numpy()
    return of_run + of_run[reference]


def standing(board: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """How each row compares with the best of its table.

    Args:
        board: A leaderboard with ``rank``.
        tests: Of :func:`against`.

    Returns:
        ``best``: ``best``, ``within noise`` of it (or above it, by the seeds that both have), or empty: significantly
        below it, or nothing to compare with.
        ``behind`` and ``noise``: points below the best, and how many points are noise; ``noise_of`` what varies. With
        the index of ``board``.
    """
    key = [*GROUP, 'method']
    to_best = tests.loc[tests['reference'] == 'best', [*key, *OUTCOME, 'noise_of']]
    found = board[key].merge(to_best, on=key, how='left').set_axis(board.index)
    ranked = board.groupby(GROUP, dropna=False)['rank'].transform('count')
    names = pd.Series('', index=board.index).mask((found['p'] >= ALPHA) | (found['difference'] > 0), 'within noise')
    names = names.mask((board['rank'] == 1) & (ranked > 1), 'best')
    found['best'], found['behind'] = names, -found['difference']
    return found[['best', 'behind', 'noise', 'noise_of']]


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

    @property
    def says_something(self) -> bool:
        """Whether there are enough tables and methods for ranks to say more than the tables."""
        return len(self.tables) >= LEAST and len(self.mean_ranks) >= LEAST


def mean_ranks(frame: pd.DataFrame) -> Ranks:
    """Rank the methods in every table and average over tables; test the ranks where there are enough tables.

    Only methods that are in all tables are ranked, so that no method is judged on easier ones. The test treats tables
    as independent; imbalance factors of one data set are not fully so.
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
    import_matplotlib()
    import scikit_posthocs  # imports matplotlib, which takes a second and most reports do not need

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
        tables = '1 table is' if blocks == 1 else f'{blocks} tables are'
        return f'{tables} too few for a test of mean ranks: it needs {MIN_BLOCKS}'
    if methods < 3:
        return f'a test of mean ranks needs 3 methods that are in all tables, here: {methods}'
    if (ranks.nunique(axis=1) == 1).all():
        return 'all methods tie in every table'
    return ''

"""Published numbers beside measured ones; they are compared only where both were made with one recipe.

``results/published.csv`` holds the published rows; ``results/README.md`` explains its columns. What a row's recipe is
and where it differs from the plain recipe of our benchmark is said by the columns ``recipe`` and ``differs``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, product
from statistics import fmean
from typing import Any

import pandas as pd
from scipy.stats import kendalltau, t

from ltbench.errors import StoreError
from ltbench.places import ROOT_OF_PACKAGE
from ltbench.record import ROW, origin_of
from ltbench.report.escaping import in_markdown
from ltbench.report.frame import DECIMALS, GROUP, TableKey, by_table, network_of, row_of
from ltbench.report.noise import fit
from ltbench.report.published_recipes import differences, name_of
from ltbench.report.text import rows_to_markdown
from ltbench.spec import parse_specs

TOLERANCE = 1.0
"""Points, that a measured mean and a published value may differ by: for its seeds, its software."""
LEVEL = 0.95
VERDICTS = f"""\
agrees: the 95 % interval of the difference lies within {TOLERANCE:g} point of 0; differs: it lies wholly outside;
cannot say: neither, or single seeds, which have no interval. It is that of the measured mean, by the variation between
seeds of all methods of its table, and of the published one where its standard error is stated"""

SCORES = {'all': 'top1', 'many': 'many', 'medium': 'medium', 'few': 'few'}
"""Columns of the published file -> metrics of a record."""

IMPORTED_RECIPES = {'ldam-drw': 'ldam', 'classifier-balancing': 'kang'}
"""Source of an imported checkpoint -> the recipe whose rows stand beside it; its method is not in the file."""

HOW_ORDERED = (
    "Kendall's tau of top-1, over the methods that a source and the measured table both have, whatever their recipes: "
    '1 is the same order, -1 the reverse. p: two-sided, of no association, not corrected for the number of sources.'
)

COLUMNS = [
    *ROW, 'published_method', 'recipe', 'source', 'verified', 'score', 'published', 'measured', 'std',
    'epoch', 'n_seeds', 'difference', 'low', 'high', 'verdict', 'differs',
]  # fmt: skip

ORDER_COLUMNS = [
    *GROUP, 'source', 'recipe', 'backbone', 'epochs', 'n_methods', 'kendall_tau', 'p', 'published_order',
    'measured_order',
]  # fmt: skip
LEAST_TO_ORDER = 3
"""Methods; two are either in the same order or not."""

FILES = (ROOT_OF_PACKAGE / 'report' / 'published.csv', ROOT_OF_PACKAGE.parent / 'results' / 'published.csv')
"""Where the published rows are: in an installed wheel, in a checkout."""


@cache
def load_published() -> pd.DataFrame:
    """The published rows, accuracies in percent; an empty cell is NaN in a column of numbers and '' in one of words.

    Raises:
        StoreError: If the file is neither in the wheel nor in the checkout, or is no such table.
    """
    path = next((path for path in FILES if path.is_file()), None)
    if path is None:
        raise StoreError(f'no published.csv at {" or ".join(map(str, FILES))}: the installation is not whole')
    words = ['benchmark', 'backbone', 'recipe', 'differs', 'selected_on', 'method', 'source', 'verified']
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(words, str), keep_default_na=False, na_values=[''])
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise StoreError(f'{path} cannot be read: {error}') from error
    return frame.fillna(dict.fromkeys(words, ''))


Record = Mapping[str, Any]


def beside(records: Sequence[Record]) -> pd.DataFrame:
    """Each measured row with the published rows of its method: one line a published row and score.

    A line without ``differs`` has a ``difference`` (measured - published, points), its interval from ``low`` to
    ``high``, and a ``verdict``, see :data:`VERDICTS`. One with ``differs`` has none of them: the two were not made
    alike. A score that only one of the two has makes no line. Measured rows without a published one are left to
    :func:`without_published`; an empty frame where nothing applies.

    Ours are scores of the ``last`` epoch, in the column ``epoch``. Beside a source that reports the epoch that is best
    on the test images stand those of our ``best`` epoch, of the seeds whose records tell it, see
    :func:`best_on_test`; where none does, that differs.
    """
    rows = _measured_rows(records)
    noise = {'last': _variances(rows, lambda record: record['metrics']), 'best': _variances(rows, best_on_test)}
    lines = [
        line
        for runs in rows
        for published in _candidates(runs[0])
        for line in _lines(runs, published, {epoch: found[row_of(runs[0])] for epoch, found in noise.items()})
    ]
    table = pd.DataFrame(lines, columns=COLUMNS).astype({'imbalance_factor': float, 'published': float})
    table['rank'] = table['score'].map({score: rank for rank, score in enumerate(SCORES.values())})
    order = [*ROW, 'source', 'recipe', 'published_method', 'rank']
    return table.sort_values(order, kind='stable', ignore_index=True)[COLUMNS]


def best_on_test(record: Record) -> Mapping[str, Any] | None:
    """What a record's network scored in the epoch that is best on the test images (``top1``, ``many``, ...), percent.

    Never a result: the test images choose it. None where the record does not tell: unless each epoch of the last fifth
    was scored (``ltbench run --eval-every 1``), and the last of them as the result was. A classifier that was trained
    or adjusted afterwards, and averaged weights, have no epochs of their own.
    """
    if origin_of(record) != 'trained' or any(stage['kind'] != 'train' for stage in record['stages']):
        return None
    scored = {point['epoch']: point for point in record['curve'] if point.get('test_top1') is not None}
    epochs = record['config']['benchmark']['recipe']['epochs']
    if not scored.keys() >= {*range(epochs - max(1, epochs // 5), epochs)}:
        return None
    if float(f'{record["metrics"]["top1"]:.6g}') != scored[epochs - 1]['test_top1']:
        return None
    best = max(scored.values(), key=lambda point: point['test_top1'])
    return {score: best.get(f'test_{score}') for score in SCORES.values()}


def without_published(records: Sequence[Record]) -> list[tuple[str, float | None, str, str, str]]:
    """Measured rows, see :data:`ltbench.record.ROW`, that no published row stands beside."""
    return [row_of(runs[0]) for runs in _measured_rows(records) if not _candidates(runs[0])]


def orders(records: Sequence[Record]) -> pd.DataFrame:
    """Whether methods come in the order that was published, by top-1, whatever the recipes: one line a source.

    A source is a paper or repository with one recipe, backbone and number of epochs; it has a line for each measured
    benchmark, imbalance factor and setting with which it shares :data:`LEAST_TO_ORDER` methods. Of several rows that it
    has of a method the one that differs from ours in the fewest things counts, of several that we have with other
    options likewise. ``kendall_tau`` is Kendall's tau-b, from 1 (the same order) to -1 (the reverse), NaN where all
    values of one side are equal; ``p`` two-sided, exact where no values are equal; the two orders are names, the best
    first.
    """
    found: dict[tuple[Any, ...], dict[str, tuple[tuple[int, int, str], float, float]]] = {}
    for runs in _measured_rows(records):
        if origin_of(runs[0]) != 'trained':
            continue
        *group, method = row_of(runs[0])
        nearest: dict[tuple[Any, ...], tuple[int, str, float]] = {}
        for row in _candidates(runs[0]):
            epochs = None if pd.isna(row['epochs']) else row['epochs']
            source = (*group, row['source'], row['recipe'], row['backbone'], epochs)
            things = sum(len(reason.split('; ')) for reason in differences(runs[0], row))
            if pd.notna(row['all']) and (source not in nearest or things < nearest[source][0]):
                nearest[source] = things, row['method'], row['all']
        mean = round(fmean(run['metrics']['top1'] for run in runs), DECIMALS)
        for source, (things, published, value) in nearest.items():
            mine = (things, len(method), method), value, mean
            of_source = found.setdefault(source, {})
            of_source[published] = min(mine, of_source.get(published, mine))  # one of several that have other options
    lines = []
    for source, rows in found.items():
        pairs = {method: (value, mean) for (_, _, method), value, mean in rows.values()}
        if len(pairs) < LEAST_TO_ORDER:
            continue
        theirs, ours = zip(*pairs.values(), strict=True)
        test = kendalltau(theirs, ours)
        lines.append(
            [*source, len(pairs), test.statistic, test.pvalue, _best_first(pairs, theirs), _best_first(pairs, ours)]
        )
    table = pd.DataFrame(lines, columns=ORDER_COLUMNS).astype({'imbalance_factor': float, 'epochs': float})
    return table.sort_values(ORDER_COLUMNS[:8], kind='stable', ignore_index=True)


def _best_first(methods: Iterable[str], values: Iterable[float]) -> str:
    return ', '.join(name for _, name in sorted(zip(values, methods, strict=True), key=lambda pair: -pair[0]))


def markdown(table: pd.DataFrame, order: pd.DataFrame, records: Sequence[Record]) -> str:
    """A section for people: what is compared, what is not and why, and how many rows have nothing beside them."""
    alone = without_published(records)
    left = f'{len(alone)} of {len(_measured_rows(records))} measured rows have no published row beside them.'
    lines = ['## Published beside measured', '']
    if table.empty:
        return '\n'.join([*lines, left]) + '\n'
    lines += [
        f'{VERDICTS}. Measured values are those of the last epoch; `best`: of the epoch that is best on the test '
        f'images, which is what that source reports. `*`: the published value was not checked at its source. {left}',
    ]
    for heading, part, draw in (
        ('Same recipe', table[table.differs == ''], _compared),
        ('Recipe differs: not compared', table[table.differs != ''], _apart),
    ):
        lines += ['', f'### {heading}', '']
        if part.empty:
            lines += ['None.']
        for key, rows in by_table(part, sort=False):
            lines += [f'**{in_markdown(key.title)}**', '', draw(rows), '']
        lines = lines if lines[-1] else lines[:-1]
    for number, (key, rows) in enumerate(by_table(order, sort=False)):
        lines += ['', f'### Order of methods\n\n{HOW_ORDERED}\n'] if number == 0 else ['']
        lines += [f'**{in_markdown(key.title)}**', '', _ordered(rows)]
    return '\n'.join(lines) + '\n'


def _measured_rows(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each row together, rows in stable order."""
    rows: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        rows.setdefault(row_of(record), []).append(record)
    return [rows[key] for key in sorted(rows, key=lambda key: (key[0], key[1] or 0, *key[2:]))]


def _candidates(record: Record) -> list[dict[str, Any]]:
    """Published rows of the same benchmark, imbalance factor and method."""
    rows = _published_by().get((record['benchmark'], record['imbalance_factor']), [])
    if origin_of(record) == 'submitted':
        return []
    if 'imported' in record['config']:
        imported = record['config']['imported']
        recipe, backbone = IMPORTED_RECIPES.get(imported['source']), name_of(imported['backbone'])
        return [row for row in rows if row['recipe'] == recipe and row['backbone'] == backbone]
    names = [part['name'] for part in record['methods']]
    return [row for row in rows if [spec.name for spec in row['specs']] == names]


@cache
def _published_by() -> dict[tuple[str, float | None], list[dict[str, Any]]]:
    """The published rows by benchmark and imbalance factor (None where the benchmark has only one), specs parsed."""
    rows: dict[tuple[str, float | None], list[dict[str, Any]]] = {}
    for row in load_published().to_dict('records'):
        factor = None if pd.isna(row['imbalance_factor']) else row['imbalance_factor']
        rows.setdefault((row['benchmark'], factor), []).append(row | {'specs': parse_specs(row['method'])})
    return rows


def _variances(
    rows: Sequence[Sequence[Record]], scores_of: Callable[[Record], Mapping[str, Any] | None]
) -> dict[tuple[Any, ...], dict[str, tuple[float, float]]]:
    """Variance of a run of each row and score between seeds, and its degrees of freedom; NaN where all are single.

    Args:
        rows: The records of each row.
        scores_of: What a record scored; None where it does not tell.
    """
    tables: dict[TableKey, dict[str, dict[int, Mapping[str, Any]]]] = {}
    steps: dict[TableKey, float] = {}
    for run in chain.from_iterable(rows):  # methods that are one computation are one
        if (scores := scores_of(run)) is not None:
            table = TableKey.of(run)
            of_run = {**scores, 'network': network_of(run)}
            tables.setdefault(table, {}).setdefault(run['computation'], {})[run['run_seed']] = of_run
            steps[table] = 100 / sum(run['metrics']['test_images'])
    found: dict[tuple[TableKey, str], dict[str, tuple[float, float]]] = {}
    for (key, methods), score in product(tables.items(), SCORES.values()):
        values, networks = (
            {name: {seed: told[of] for seed, told in runs.items()} for name, runs in methods.items()}
            for of in (score, 'network')
        )
        known = pd.DataFrame.from_dict(values, orient='index', dtype=float).dropna(how='all')
        if known.empty:
            continue
        of_runs = pd.DataFrame.from_dict(networks, orient='index').loc[known.index, known.columns]
        # what a seed does to all methods is noise of each mean
        noise = fit(known.to_numpy(), of_runs.to_numpy(), steps[key], blocks=False)
        for method, told in zip(known.index, zip(noise.variances, noise.freedoms, strict=True), strict=True):
            found.setdefault((key, method), {})[score] = told
    return {row_of(runs[0]): found.get((TableKey.of(runs[0]), runs[0]['computation']), {}) for runs in rows}


def _lines(
    runs: Sequence[Record], published: Mapping[str, Any], noise: Mapping[str, Mapping[str, tuple[float, float]]]
) -> Iterator[dict[str, Any]]:
    reasons, epoch, scores = list(differences(runs[0], published)), 'last', [run['metrics'] for run in runs]
    if published['selected_on'] == 'test' and origin_of(runs[0]) == 'trained':
        if best := [one for run in runs if (one := best_on_test(run))]:
            epoch, scores = 'best', best
        else:
            reasons.append('the epoch that is best on the test images published, the last measured')
    differs = '; '.join(reasons)
    for column, score in SCORES.items():
        values = pd.Series([one[score] for one in scores], dtype=float)
        if pd.isna(published[column]) or values.isna().any():
            continue
        mean, std = round(values.mean(), DECIMALS), values.std(ddof=1)
        line = dict(zip(ROW, row_of(runs[0]), strict=True)) | {
            'published_method': published['method'],
            **{key: published[key] for key in ('recipe', 'source', 'verified')},
            'score': score,
            'published': published[column],
            'measured': mean,
            'std': std,
            'epoch': epoch,
            'n_seeds': len(values),
            'difference': float('nan'),
            'low': float('nan'),
            'high': float('nan'),
            'verdict': '',
            'differs': differs,
        }
        if not differs:
            variance, freedom = noise[epoch][score]
            stated = 0.0 if pd.isna(published['standard_error']) else published['standard_error']
            half = t.ppf((1 + LEVEL) / 2, freedom) * (variance / len(values) + stated**2) ** 0.5
            difference = round(mean - published[column], 6)  # 74.35 - 73.35 is a little more than 1
            nearest, furthest = abs(difference) - half, abs(difference) + half
            verdict = 'agrees' if furthest <= TOLERANCE else 'differs' if nearest > TOLERANCE else 'cannot say'
            line |= {'difference': difference, 'low': difference - half, 'high': difference + half, 'verdict': verdict}
        yield line


# ---------------------------------------------------------------------------------------------- text


def _compared(rows: pd.DataFrame) -> str:
    def outcome(row: Mapping[str, Any]) -> dict[str, str]:
        half = '' if pd.isna(row['low']) else f' [{row["low"]:+.1f}, {row["high"]:+.1f}]'
        return {'difference': f'{row["difference"]:+.1f}{half}', 'verdict': row['verdict']}

    return _side_by_side(rows, outcome)


def _apart(rows: pd.DataFrame) -> str:
    return _side_by_side(rows, lambda row: {'what differs': in_markdown(row['differs'])})


def _side_by_side(rows: pd.DataFrame, outcome: Callable[[Mapping[str, Any]], dict[str, str]]) -> str:
    """A table of values published and measured, and what they amount to."""
    return rows_to_markdown(
        [
            {
                'method': in_markdown(row['method']),
                'score': row['score'],
                'published': _published_value(row),
                'measured': _measured_value(row),
                'seeds': row['n_seeds'],
                **outcome(row),
                'source': row['source'],
            }
            for row in rows.to_dict('records')
        ]
    )


def _ordered(rows: pd.DataFrame) -> str:
    table = []
    for row in rows.to_dict('records'):
        epochs = 'epochs not stated' if pd.isna(row['epochs']) else f'{row["epochs"]:g} epochs'
        tested = pd.notna(row['kendall_tau'])
        table.append(
            {
                'source': f'{row["source"]} ({row["backbone"]}, {epochs})',
                'methods': row['n_methods'],
                "Kendall's tau": f'{row["kendall_tau"]:+.2f}' if tested else '',
                'p': f'{row["p"]:.2g}' if tested else '',
                'published, the best first': in_markdown(row['published_order']),
                'measured, the best first': in_markdown(row['measured_order']),
            }
        )
    return rows_to_markdown(table)


def _published_value(row: Mapping[str, Any]) -> str:
    return f'{row["published"]:.2f}' + ('' if row['verified'] == 'yes' else ' `*`')


def _measured_value(row: Mapping[str, Any]) -> str:
    spread = f' ± {row["std"]:.1f}' if pd.notna(row['std']) else ''
    return f'{row["measured"]:.1f}{spread}' + (' `best`' if row['epoch'] == 'best' else '')

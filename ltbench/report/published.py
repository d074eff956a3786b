"""Published numbers beside measured ones; they are compared only where both have the same recipe.

``results/published.csv`` holds the published rows; ``results/README.md`` explains its columns. Its columns ``recipe``
and ``differs`` name the recipe of a row and its differences to the plain recipe of our benchmark.
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
from ltbench.report.intervals import smallest_steps
from ltbench.report.noise import fit
from ltbench.report.published_recipes import differences, name_of
from ltbench.report.text import rows_to_markdown
from ltbench.spec import parse_specs

TOLERANCE = 1.0
"""Points by which a measured mean and a published value may differ, because of seeds and software."""
LEVEL = 0.95
VERDICTS = f"""\
agrees: the 95 % interval of the difference lies within {TOLERANCE:g} point of 0; differs: it lies wholly outside,
also if the published value varies as our runs do; cannot say: neither, or a table of single seeds, which has no
interval. The interval covers the error of the measured mean, by the variation between seeds of all methods of the
table, and the standard error of the published value if stated"""

SCORES = {'all': 'top1', 'many': 'many', 'medium': 'medium', 'few': 'few'}
"""Columns of the published file -> metrics of a record."""

IMPORTED_RECIPES = {'ldam-drw': 'ldam', 'classifier-balancing': 'kang'}
"""Source of an imported checkpoint -> the recipe whose rows are shown beside it; the file does not name its method."""

HOW_ORDERED = (
    "Kendall's tau of top-1, over the methods that a source and the measured table both have, whatever their recipes: "
    '1 is the same order, -1 the reverse. p: two-sided test of no association, not corrected for the number of sources.'
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
"""Fewest methods whose order is compared; two are either in the same order or not."""

FILES = (ROOT_OF_PACKAGE / 'report' / 'published.csv', ROOT_OF_PACKAGE.parent / 'results' / 'published.csv')
"""Places of the published rows: in an installed wheel, in a checkout."""


@cache
def load_published() -> pd.DataFrame:
    """The published rows, accuracies in percent; an empty cell is NaN in a column of numbers and '' in one of words.

    Raises:
        StoreError: If the file is neither in the wheel nor in the checkout, or is not such a table.
    """
    path = next((path for path in FILES if path.is_file()), None)
    if path is None:
        raise StoreError(f'no published.csv at {" or ".join(map(str, FILES))}: install ltbench again')
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
    ``high``, and a ``verdict``, see :data:`VERDICTS`. One with ``differs`` has none of them, because the recipes
    differ. A score that only one of the two has gives no line. Measured rows without a published one are those of
    :func:`without_published`. The frame is empty where nothing applies.

    Measured scores are those of the ``last`` epoch, see the column ``epoch``. For a source that reports the epoch that
    is best on the test images they are those of our ``best`` epoch, of the seeds whose records hold it, see
    :func:`best_on_test`; where none does, ``differs`` says so.
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
    """Scores of a record's network in the epoch that is best on the test images (``top1``, ``many``, ...), percent.

    Never a result, because the test images choose it. None where the record does not hold it: each epoch of the last
    fifth must be scored (``ltbench run --eval-every 1``), and the last of them must equal the result. A classifier that
    was trained or adjusted afterwards, and averaged weights, have no separate epochs.
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
    """Measured rows, see :data:`ltbench.record.ROW`, without a published row beside them."""
    return [row_of(runs[0]) for runs in _measured_rows(records) if not _candidates(runs[0])]


def orders(records: Sequence[Record]) -> pd.DataFrame:
    """Whether methods have the published order, by top-1 and whatever the recipes: one line a source.

    A source is a paper or repository with one recipe, backbone and number of epochs; it has a line for each measured
    benchmark, imbalance factor and setting with which it shares :data:`LEAST_TO_ORDER` methods. If it has several
    rows of a method, the one with the fewest differences to ours counts; likewise if we have several with other
    options. ``kendall_tau`` is Kendall's tau-b, from 1 (the same order) to -1 (the reverse), NaN where all
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
            candidate = (things, len(method), method), value, mean
            of_source = found.setdefault(source, {})
            of_source[published] = min(candidate, of_source.get(published, candidate))  # the nearest of several
    lines = []
    for source, rows in found.items():
        pairs = {method: (value, mean) for (_, _, method), value, mean in rows.values()}
        if len(pairs) < LEAST_TO_ORDER:
            continue
        published_values, measured_values = zip(*pairs.values(), strict=True)
        test = kendalltau(published_values, measured_values)
        both = [_best_first(pairs, values) for values in (published_values, measured_values)]
        lines.append([*source, len(pairs), test.statistic, test.pvalue, *both])
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
    """Variance of a run of each row and score between seeds, and its degrees of freedom; NaN where all have one seed.

    Args:
        rows: The records of each row.
        scores_of: The scores of a record; None where it does not hold them.
    """
    tables: dict[TableKey, dict[str, dict[int, Mapping[str, Any]]]] = {}
    steps: dict[TableKey, dict[str, float]] = {}
    for run in chain.from_iterable(rows):  # methods with the same computation count as one
        if (scores := scores_of(run)) is not None:
            table = TableKey.of(run)
            of_run = {**scores, 'network': network_of(run)}
            tables.setdefault(table, {}).setdefault(run['computation'], {})[run['run_seed']] = of_run
            steps[table] = smallest_steps(run['metrics']['test_images'], run['class_counts'])
    found: dict[tuple[TableKey, str], dict[str, tuple[float, float]]] = {}
    for (key, methods), score in product(tables.items(), SCORES.values()):
        values, networks = (
            {name: {seed: run[of] for seed, run in runs.items()} for name, runs in methods.items()}
            for of in (score, 'network')
        )
        known = pd.DataFrame.from_dict(values, orient='index', dtype=float).dropna(how='all')
        if known.empty:
            continue
        of_runs = pd.DataFrame.from_dict(networks, orient='index').loc[known.index, known.columns]
        # what a seed changes in all methods is noise of each mean, too
        noise = fit(known.to_numpy(), of_runs.to_numpy(), steps[key][score], blocks=False)
        for method, estimate in zip(known.index, zip(noise.variances, noise.freedoms, strict=True), strict=True):
            found.setdefault((key, method), {})[score] = estimate
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
            stated = 0.0 if pd.isna(published['standard_error']) else published['standard_error'] ** 2
            as_ours = stated or variance / (1 if pd.isna(published['runs']) else published['runs'])
            quantile = t.ppf((1 + LEVEL) / 2, freedom)
            half, whole = (quantile * (variance / len(values) + theirs) ** 0.5 for theirs in (stated, as_ours))
            difference = round(mean - published[column], 6)  # 74.35 - 73.35 is a little more than 1
            is_near, is_far = abs(difference) + half <= TOLERANCE, abs(difference) - whole > TOLERANCE
            verdict = 'agrees' if is_near else 'differs' if is_far else 'cannot say'
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
    """A table of published and measured values, and their outcome."""
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

"""The leaderboard for people, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ltbench.console import printable
from ltbench.record import origin_of
from ltbench.report.cells import (
    SCORES,
    WITHIN,
    counted,
    difference_cells,
    marked,
    named,
    resolution,
    scores_of,
    to_best,
)
from ltbench.report.coverage import Covered
from ltbench.report.coverage import markdown as coverage_lines
from ltbench.report.environments import footnotes, marks_of
from ltbench.report.escaping import in_markdown
from ltbench.report.frame import TableKey, by_table, processor_of
from ltbench.report.noise import ALPHA, UNEQUAL
from ltbench.report.reading import SuiteResults
from ltbench.report.statistics import BASELINE, Ranks

RULES = {'many': '> 100', 'medium': '20 to 100', 'few': '< 20'}
RULES_OF_SELECTION = {
    'trained': 'last epoch, scored on the test set, which selects nothing',
    'imported': 'the epoch that the authors of an imported checkpoint chose, perhaps on the test set',
    'submitted': 'whatever the authors of submitted predictions chose, perhaps on the test set',
}
MOST_NAMES = 8  # in a sentence

HOW_TO_READ = f"""\
Accuracies and ECE are in %: mean ± standard deviation over training seeds (ddof = 1); for a single seed the 95 %
interval over test images in brackets instead. Classes are grouped by their number of training images. An empty cell
means that no such class, value or run exists. The geometric mean of class accuracies is 0 if all images of one class
are misclassified.

Methods are ranked by top-1. **Bold**: the best. {WITHIN}: within noise of the best, which means not significantly
different from it (at 5 %, by Tukey's range test, which compares all methods of the table with one another). Noise is
estimated from all runs of the table together (method + seed, least squares), so that three seeds give an estimate.
Methods that share a network count as one. A method that varies more than others is judged by its own variance, a method
with a single seed by the noise of the others. Where all methods have a single seed, only the noise of the test images
is known: it shows whether two networks differ, not whether two methods do."""
HOW_TESTED = f"""\
Differences to {BASELINE} in points, ± their noise (simultaneous 95 % intervals, Dunnett's test). **Bold**:
p < {ALPHA}. All p values are in `statistics.csv`."""


def markdown(
    results: SuiteResults,
    board: pd.DataFrame,
    tests: pd.DataFrame,
    ranks: Ranks,
    frame: pd.DataFrame,
    covered: Sequence[Covered] = (),
) -> str:
    """The leaderboard: a table and the tests for each group, then the mean ranks where they say something.

    Args:
        results: What the tables are made from.
        board: Of :func:`ltbench.report.tables.leaderboard`.
        tests: Of :func:`ltbench.report.statistics.against`.
        ranks: Of :func:`ltbench.report.statistics.mean_ranks`.
        frame: Of :func:`ltbench.report.frame.runs_frame`, of the same records.
        covered: How much of the suite is recorded; shown where it is not complete.
    """
    parts = [f'# {in_markdown(results.suite)}', HOW_TO_READ, *left_out(results)]
    if any(each.recorded < each.asked for each in covered):
        parts.append('Recorded runs of the suite:\n\n' + '\n'.join(coverage_lines(covered)))
    runs, tested = dict(by_table(frame)), dict(by_table(tests))
    for key, rows in by_table(board, sort=False):
        records = [results.records[position] for position in runs[key]['record']] if key in runs else []
        parts += [f'## {in_markdown(key.title)}', _header(records, rows, tested.get(key)), _table(rows)]
        failures = [failure for failure in results.failures if TableKey.of(failure) == key]
        if failures:
            parts.append('Failed runs:\n' + '\n'.join(_failure(failure) for failure in failures))
        parts += _tests(tested.get(key), rows)
    return '\n\n'.join([*parts, *_mean_ranks(ranks)]) + '\n'


def selection_of(records: Iterable[Mapping[str, Any]]) -> str:
    """How the reported epochs were selected."""
    origins = {origin_of(record) for record in records}
    return '; '.join(rule for origin, rule in RULES_OF_SELECTION.items() if origin in origins)


def _header(records: Sequence[Mapping[str, Any]], rows: pd.DataFrame, tests: pd.DataFrame | None) -> str:
    """Facts about one table, and the differences that it can resolve."""
    if not records:
        return 'No run of this table has succeeded.'
    first = records[0]
    groups = ', '.join(f'{first["groups"][name]} {name} ({rule})' for name, rule in RULES.items())
    chosen: dict[str, set[str]] = {}
    for record in records:
        if record['chosen']:
            chosen.setdefault(record['method'], set()).update(record['chosen'])
    values = '; '.join(
        f'{in_markdown(method)} ({in_markdown(", ".join(sorted(chosen[method])))})' for method in sorted(chosen)
    )
    selection = f'{selection_of(records)}; values chosen on validation images: {values or "none"}'
    machines = in_markdown('; '.join(machine for machine, _ in machines_of(records)))
    caveat = first['config']['benchmark'].get('caveat')
    return '\n'.join(
        [
            *([f'- **{in_markdown(caveat)}**'] if caveat else []),
            f'- Selection: {selection}.',
            f'- Setting: {in_markdown(first["setting"])}; protocol {first["protocol"]}; table {first["table"]}.',
            f'- Data: {_data(records)}.',
            f'- Classes: {len(first["class_counts"])}: {groups}.',
            f'- Recorded on: {machines}.',
            *(f'- {same}.' for same in [_same_network(rows)] if same),
            *(f'- **{resolution(rows)}**{_spread(tests)}' for _ in rows['noise'].dropna().index[:1]),
            *(f'- Note: {in_markdown(note)}.' for note in _notes(records)),
        ]
    )


def _notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warnings that all runs of a table share, as of a held-out test part; those of one method are in its records."""
    return sorted(set.intersection(*(set(record['warnings']) for record in records)))


def _data(records: Sequence[Mapping[str, Any]]) -> str:
    """The data of one table, and their folder where that was chosen."""
    roots = distinct(record['config']['benchmark']['data'].get('root') or None for record in records)
    return f'{records[0]["data"][:12] or "unknown"}' + (f', read from {in_markdown(roots)}' if roots else '')


def _spread(tests: pd.DataFrame | None) -> str:
    """The variation that :func:`resolution` is based on."""
    if tests is None or tests.empty:
        return ''
    row = tests[tests['reference'] == 'best'].iloc[0]
    if pd.isna(row['run_std']):
        return ' The variation between training seeds is not known.'
    varied = pd.notna(row['p_equal_variances']) and row['p_equal_variances'] < UNEQUAL
    unequal = (
        f'; methods vary differently (Bartlett: p = {row["p_equal_variances"]:.2g}), so each has its own variance'
        if varied
        else ''
    )
    return f' A run has a standard deviation of {row["run_std"]:.1f} points, pooled over the methods{unequal}.'


def _same_network(rows: pd.DataFrame) -> str:
    """Parameters and FLOPs, where they are printed alike for all methods; else they have columns."""
    millions = rows[['parameters', 'flops']].dropna().to_numpy() / 1e6
    texts = {
        f'Network: {parameters:.2f} million parameters, {flops:.1f} million FLOPs an image'
        for parameters, flops in millions
    }
    return texts.pop() if len(texts) == 1 else ''


def _table(rows: pd.DataFrame) -> str:
    alone, seeds = (rows['n_seeds'] > 0).sum() == 1, rows['n_seeds'].unique()
    costs = {} if _same_network(rows) else {'parameters (M)': ('parameters', 1e6, 2), 'FLOPs (M)': ('flops', 1e6, 1)}
    costs |= {'CPU s': ('cpu_seconds', 1, 1), 'wall s': ('wall_seconds', 1, 1)}
    table = [
        {
            '': '' if pd.isna(row['rank']) else f'{row["rank"]:.0f}',
            'method': in_markdown(named(row)) + sign,
            **({'seeds': row['n_seeds']} if len(seeds) > 1 else {}),
            **({'failed': row['n_failed'] or ''} if rows['n_failed'].any() else {}),
        }
        | {name: marked(row, metric) for metric, name in scores_of(rows).items()}
        | ({} if alone else {'to the best ± noise': to_best(row)})
        | {name: _number(row[cost] / unit, decimals) for name, (cost, unit, decimals) in costs.items()}
        for row, sign in zip(rows.to_dict('records'), marks_of(rows), strict=True)
    ]
    notes = [
        *map(in_markdown, footnotes(rows)),
        *(['One method: there is nothing to compare it with.'] if alone else []),
    ]
    return '\n\n'.join([rows_to_markdown(table), *notes])


def rows_to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table; cells are Markdown, see :func:`in_markdown`."""
    lines = [list(rows[0]), ['---'] * len(rows[0]), *(row.values() for row in rows)]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def _tests(tests: pd.DataFrame | None, rows: pd.DataFrame) -> list[str]:
    """Methods against the baseline: a row a method, a difference for each score."""
    if (rows['n_seeds'] > 0).sum() < 2:
        return []
    to_baseline = None if tests is None else tests[tests['reference'] == BASELINE]
    if to_baseline is None or to_baseline.empty:
        return [f'No run of {BASELINE} is here to compare with.']
    cells = difference_cells(to_baseline)
    scores = [score for score in scores_of(rows) if score in cells]
    table = [
        {'method': in_markdown(method)}
        | {SCORES[score]: f'**{text}**' if significant else text for score, (text, significant) in of.items()}
        for method, of in cells[scores].to_dict('index').items()
    ]
    return [HOW_TESTED, rows_to_markdown(table)]


def ranks_note(ranks: Ranks) -> str:
    """Which tables mean ranks cover, and the result of their test, or why there is none; '' if there are too few."""
    if not ranks.says_something:
        return ''
    names = ', '.join(ranks.left_out) if len(ranks.left_out) <= MOST_NAMES else f'{len(ranks.left_out)} methods'
    out = f' Left out because they are not in all of them: {names}.' if ranks.left_out else ''
    tables = counted(len(ranks.tables), 'table')
    note = f'By mean top-1 over seeds, 1 is best, in {tables} with two methods or more.{out}'
    if ranks.friedman is None:
        return f'{note} No test: {ranks.note}.'
    statistic, p = ranks.friedman
    apart = (
        f'Nemenyi: mean ranks {ranks.critical_difference:.2f} or more apart differ significantly (p < {ALPHA}).'
        if p < ALPHA
        else 'Not significantly different.'
    )
    return (
        f'{note} Friedman: chi-square {statistic:.2f}, p = {p:.2g}. {apart} '
        'The test assumes independent tables; imbalance factors of one data set are not fully independent.'
    )


def _mean_ranks(ranks: Ranks) -> list[str]:
    if not ranks.says_something:
        return []
    table = [{'method': in_markdown(method), 'mean rank': f'{rank:.2f}'} for method, rank in ranks.mean_ranks.items()]
    return ['## Mean ranks over tables', in_markdown(ranks_note(ranks)), rows_to_markdown(table)]


def left_out(results: SuiteResults) -> list[str]:
    """Which files were left out, as Markdown; nothing where none was."""
    count = len(results.left_out)
    if not count:
        return []
    files = '\n'.join(f'- {in_markdown(printable(f"{path.parent.name}/{path.name}"))}' for path in results.left_out)
    return [f'{counted(count, "file")} left out, because they are invalid or conflict with others:\n\n{files}\n']


def _failure(failure: Mapping[str, Any]) -> str:
    method, reason = in_markdown(failure['method']), in_markdown(failure['reason'])
    return f'- {method}, seed {failure["run_seed"]}, stage {in_markdown(failure["stage"])}: {reason}'


def machines_of(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Each device with its processor, and how many runs it carried out."""
    machines = (f'{record["environment"]["device"]}, {processor_of(record)}' for record in records)
    return sorted(Counter(machines).items())


def distinct(values: Iterable[Any]) -> str:
    """Distinct values, sorted as text, without None."""
    return ', '.join(sorted({str(value) for value in values if value is not None}))


def _number(value: float, decimals: int) -> str:
    return '' if pd.isna(value) else f'{value:.{decimals}f}'

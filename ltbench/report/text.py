"""Tables for people: the leaderboard and the README of a suite, as Markdown."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ltbench.config import config_names
from ltbench.console import printable
from ltbench.record import origin_of
from ltbench.report.coverage import Covered
from ltbench.report.coverage import markdown as coverage_lines
from ltbench.report.environments import footnotes, marks_of
from ltbench.report.escaping import in_markdown
from ltbench.report.frame import TableKey, by_table, processor_of
from ltbench.report.reading import SuiteResults
from ltbench.report.statistics import ALPHA, BASELINE, Ranks, by_score

SCORES = {
    'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few', 'macro': 'macro',
    'geometric_mean': 'geometric mean', 'ece': 'ECE',
}  # fmt: skip
"""Metrics that are shown, by their names for people."""
RULES = {'many': '> 100', 'medium': '20 to 100', 'few': '< 20'}
RULES_OF_SELECTION = {
    'trained': 'last epoch, scored on the test set, which selects nothing',
    'imported': 'the epoch that the authors of an imported checkpoint chose, perhaps on the test set',
    'submitted': 'whatever the authors of submitted predictions chose, perhaps on the test set',
}
WHAT = {
    'run': 'train what is missing, record, report',
    'report': 'make all of this from the records again; trains nothing',
}
"""What the commands do."""
MOST_NAMES = 8  # in a sentence
SOFTWARE = ('ltbench', 'python', 'torch', 'torchvision', 'mmengine', 'numpy')

HOW_TO_READ = f"""\
Accuracies and ECE in %: mean ± standard deviation over training seeds (ddof = 1), n seeds; a single seed has the 95 %
interval over test images in brackets instead: a bootstrap within each class, which tells nothing of the variation
between seeds. Groups are by training images of the class; an empty cell: there is no such class, value or run.
Parameters in millions, FLOPs of one image's forward pass in millions, CPU and wall seconds of a run's training: means.
Ranked by top-1. **Bold**: the best, and all that cannot be told from it. Told apart is what a paired t-test over common
seeds (two-sided, Holm-corrected over the methods of the table) tells from the best with p < {ALPHA}; of one or two
common seeds, which such a test hardly tells apart, what has in each of them its top-1 interval over test images wholly
below that of the best. The best is chosen on the same runs, so its lead is somewhat flattering."""
HOW_TESTED = """\
Paired tests over common seeds: differences in percentage points, mean ± standard deviation; p of a t-test, two-sided,
Holm-corrected over the methods of its column."""


def markdown(
    results: SuiteResults,
    board: pd.DataFrame,
    tests: pd.DataFrame,
    ranks: Ranks,
    frame: pd.DataFrame,
    covered: Sequence[Covered] = (),
) -> str:
    """The leaderboard: a table and the tests for each group, then the mean ranks.

    Args:
        results: What the tables are made from.
        board: Of :func:`ltbench.report.tables.leaderboard`.
        tests: Of :func:`ltbench.report.statistics.against`.
        ranks: Of :func:`ltbench.report.statistics.mean_ranks`.
        frame: Of :func:`ltbench.report.frame.runs_frame`, of the same records.
        covered: What of the suite is recorded; told where not all of it is.
    """
    parts = [f'# {in_markdown(results.suite)}', HOW_TO_READ, *_left_out(results)]
    if any(each.recorded < each.asked for each in covered):
        parts.append('Of the suite there is:\n\n' + '\n'.join(coverage_lines(covered)))
    runs, tested = dict(by_table(frame)), dict(by_table(tests))
    for key, rows in by_table(board, sort=False):
        mine = [results.records[position] for position in runs[key]['record']] if key in runs else []
        parts += [f'## {in_markdown(key.title)}', _header(mine), _table(rows)]
        failures = [failure for failure in results.failures if TableKey.of(failure) == key]
        if failures:
            parts.append('Failed runs:\n' + '\n'.join(_failure(failure) for failure in failures))
        parts.append(_tests(tested.get(key), rows))
    return '\n\n'.join([*parts, _mean_ranks(ranks)]) + '\n'


def readme(
    results: SuiteResults, files: Sequence[str], short_tables: Iterable[str], covered: Sequence[Covered] = ()
) -> str:
    """What a suite's folder holds, what made it, on which machines, and in what time: from the records alone.

    Args:
        results: The suite's records.
        files: Names of what was made beside it.
        short_tables: Of :func:`ltbench.report.excerpt.excerpts`.
        covered: What of the suite is recorded.
    """
    records, told = results.records, [*results.records, *results.failures]
    methods, tables = len({run['method'] for run in told}), len({TableKey.of(run) for run in told})
    made_by = commands(results)
    widest = max(map(len, made_by))
    lines = [
        f'# {in_markdown(results.suite)}',
        '',
        f'{counted(len(records), "run")}, {len(results.failures)} failed, of {counted(methods, "method")} in '
        f'{counted(tables, "table")} (benchmark, imbalance factor, setting, data and recipe).',
        '',
        *_left_out(results),
        *([*coverage_lines(covered), ''] if covered else []),
        '```',
        *[f'{command:<{widest}}  # {WHAT[command.split()[1]]}' for command in made_by],
        '```',
        '',
        *(_made_with(records) if records else []),
        'Made from the records alone, beside this file:',
        '',
        *[f'- `{name}`' for name in files],
        *(f'\n{table}' for table in short_tables),
    ]
    return '\n'.join(lines) + '\n'


def commands(results: SuiteResults) -> list[str]:
    """What makes the suite's folder again: its runs, where it is a suite that can be run by name, and the report."""
    trained = not results.records or any(origin_of(record) == 'trained' for record in results.records)
    named = results.source or results.suite
    runs = (
        [shlex.join(['ltbench', 'run', named])]
        if trained and (results.source or named in config_names('suites'))
        else []
    )
    return [*runs, shlex.join(['ltbench', 'report', named])]


def selection_of(records: Iterable[Mapping[str, Any]]) -> str:
    """Which epoch the numbers are of."""
    origins = {origin_of(record) for record in records}
    return '; '.join(rule for origin, rule in RULES_OF_SELECTION.items() if origin in origins)


def _made_with(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Work, machines and versions, as a list."""
    stages = {stage['fingerprint']: stage['cost'] for record in records for stage in record['stages']}
    spent = ('wall_seconds', 'evaluation_seconds')  # an imported checkpoint has the latter alone
    seconds = sum(cost.get(name, 0.0) for cost in stages.values() for name in spent)
    versions = {name: _distinct(record['environment'].get(name) for record in records) for name in SOFTWARE}
    commits = in_markdown(_distinct(record['environment'].get('git_commit') for record in records))
    return [
        f'- Stages: {len(stages)}, {_duration(seconds)} one after the other; a stage that runs share is counted once.',
        *[f'- Machine: {in_markdown(machine)}, {counted(count, "run")}.' for machine, count in _machines(records)],
        '- Versions: ' + '; '.join(f'{name} {in_markdown(said)}' for name, said in versions.items() if said) + '.',
        f'- Protocol {_distinct(record["protocol"] for record in records)}; record schema '
        f'{_distinct(record["schema"] for record in records)}' + (f'; commit {commits}.' if commits else '.'),
        '',
    ]


def _header(records: Sequence[Mapping[str, Any]]) -> str:
    """What the numbers of one table are of."""
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
    machines = in_markdown('; '.join(machine for machine, _ in _machines(records)))
    caveat = first['config']['benchmark'].get('caveat')
    return '\n'.join(
        [
            *([f'- **{in_markdown(caveat)}**'] if caveat else []),
            f'- Selection: {selection}.',
            f'- Setting: {in_markdown(first["setting"])}; protocol {first["protocol"]}; table {first["table"]}.',
            f'- Data: {_data(records)}.',
            f'- Classes: {len(first["class_counts"])}: {groups}.',
            f'- Recorded on: {machines}.',
            *(f'- Note: {in_markdown(note)}.' for note in _notes(records)),
        ]
    )


def _notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What every run of a table has to say, as what was held out to test on; what one method says is in its records."""
    return sorted(set.intersection(*(set(record['warnings']) for record in records)))


def _data(records: Sequence[Mapping[str, Any]]) -> str:
    """What the runs of one table were trained and tested on, and where it lay, where that was chosen."""
    roots = _distinct(record['config']['benchmark']['data'].get('root') or None for record in records)
    return f'{records[0]["data"][:12] or "unknown"}' + (f', read from {in_markdown(roots)}' if roots else '')


def _table(rows: pd.DataFrame) -> str:
    alone = (rows['n_seeds'] > 0).sum() == 1
    table = [
        {
            '': '' if pd.isna(row['rank']) else f'{row["rank"]:.0f}',
            'method': in_markdown(row['method']) + sign,
            'n': row['n_seeds'],
            'failed': row['n_failed'] or '',
        }
        | {name: _score(row, metric) for metric, name in SCORES.items()}
        | {
            'parameters (M)': _number(row['parameters'] / 1e6, 2),
            'FLOPs (M)': _number(row['flops'] / 1e6, 1),
            'CPU s': _number(row['cpu_seconds'], 1),
            'wall s': _number(row['wall_seconds'], 1),
        }
        for row, sign in zip(rows.to_dict('records'), marks_of(rows), strict=True)
    ]
    said = [
        *map(in_markdown, footnotes(rows)),
        *(['One method: there is nothing to compare it with.'] if alone else []),
    ]
    return '\n\n'.join([rows_to_markdown(table), *said])


def rows_to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table; cells are Markdown, see :func:`in_markdown`."""
    lines = [list(rows[0]), ['---'] * len(rows[0]), *(row.values() for row in rows)]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def counted(count: int, noun: str) -> str:
    """``1 table``, ``2 tables``."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


def _score(row: Mapping[str, Any], metric: str) -> str:
    return f'**{score(row, metric)}**' if metric == 'top1' and row['best'] else score(row, metric)


def score(row: Mapping[str, Any], metric: str, plus_minus: str = '±') -> str:
    """A metric of a leaderboard's row: ``80.7 ± 2.3``, or ``70.0 [65.8, 74.0]`` for one seed; may be empty."""
    mean, std = row[f'{metric}_mean'], row[f'{metric}_std']
    low, high = row.get(f'{metric}_low'), row.get(f'{metric}_high')
    if pd.isna(mean):
        return ''
    if pd.notna(std):
        return f'{mean:.1f} {plus_minus} {std:.1f}'
    return f'{mean:.1f} [{low:.1f}, {high:.1f}]' if pd.notna(low) else f'{mean:.1f}'


def _tests(tests: pd.DataFrame | None, rows: pd.DataFrame) -> str:
    if (rows['n_seeds'] > 0).sum() < 2:
        return 'Paired tests: none, they take two methods.'
    compared = (rows.loc[rows['n_seeds'] > 0, 'method'] == BASELINE).any()
    said = '' if compared else f' No run of {BASELINE} is here to compare with.'
    if tests is None or tests['p'].isna().all():
        notes = Counter() if tests is None else Counter(tests['note'])
        reasons = ', '.join(f'{note} ({counted(count, "comparison")})' for note, count in sorted(notes.items()))
        return f'Paired tests: none could be made: {reasons}.{said}'
    compared_with = [_comparison(rows) for _, rows in tests.groupby('reference', sort=False)]
    return '\n\n'.join([f'{HOW_TESTED}{said}', *compared_with])


def _comparison(tests: pd.DataFrame) -> str:
    """Methods against one other: a row a method, a difference and a p value for each score."""
    table = []
    for row in by_score(tests).to_dict('records'):
        cells = {'method': in_markdown(row['method']), 'common seeds': row['n']}
        for score in tests['score'].unique():
            cells |= {SCORES[score]: _difference(row, score), f'p {SCORES[score]}': _p(row, score)}
        table.append(cells)
    against = in_markdown(tests['against'].iloc[0]) + (', the best' if tests['reference'].iloc[0] == 'best' else '')
    return f'Against {against}:\n\n{rows_to_markdown(table)}'


def _difference(row: Mapping[str, Any], score: str) -> str:
    mean, std = row[f'{score} difference'], row[f'{score} difference_std']
    return '' if pd.isna(mean) else f'{mean:+.1f}' + ('' if pd.isna(std) else f' ± {std:.1f}')


def _p(row: Mapping[str, Any], score: str) -> str:
    return row[f'{score} note'] if pd.isna(row[f'{score} p']) else f'{row[f"{score} p_holm"]:.2g}'


def said_of_ranks(ranks: Ranks) -> str:
    """What mean ranks over tables are of, and what a test of them says, or why there is none."""
    names = ', '.join(ranks.left_out) if len(ranks.left_out) <= MOST_NAMES else f'{len(ranks.left_out)} methods'
    out = f' Left out, because they are not in all of them: {names}.' if ranks.left_out else ''
    said = f'By mean top-1 over seeds, 1 is best, in {counted(len(ranks.tables), "table")} of two methods or more.{out}'
    if ranks.friedman is None:
        return f'{said} No test: {ranks.note}.'
    statistic, p = ranks.friedman
    apart = (
        f'Nemenyi: mean ranks that differ by {ranks.critical_difference:.2f} or more differ with p < {ALPHA}.'
        if p < ALPHA
        else 'The methods are not told apart.'
    )
    return (
        f'{said} Friedman: chi-square {statistic:.2f}, p = {p:.2g}. {apart} '
        'The test takes tables as independent, which factors of one data set are not quite.'
    )


def _mean_ranks(ranks: Ranks) -> str:
    lines = ['## Mean ranks over tables', '', in_markdown(said_of_ranks(ranks))]
    if len(ranks.mean_ranks):
        table = [
            {'method': in_markdown(method), 'mean rank': f'{rank:.2f}'} for method, rank in ranks.mean_ranks.items()
        ]
        lines += ['', rows_to_markdown(table)]
    return '\n'.join(lines)


def _left_out(results: SuiteResults) -> list[str]:
    count = len(results.left_out)
    if not count:
        return []
    files = '\n'.join(f'- {in_markdown(printable(f"{path.parent.name}/{path.name}"))}' for path in results.left_out)
    return [f'{counted(count, "file")} left out, as not valid or in conflict with others:\n\n{files}\n']


def _failure(failure: Mapping[str, Any]) -> str:
    method, reason = in_markdown(failure['method']), in_markdown(failure['reason'])
    return f'- {method}, seed {failure["run_seed"]}, stage {in_markdown(failure["stage"])}: {reason}'


def _machines(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    told = (f'{record["environment"]["device"]}, {processor_of(record)}' for record in records)
    return sorted(Counter(told).items())


def _distinct(values: Iterable[Any]) -> str:
    return ', '.join(sorted({str(value) for value in values if value is not None}))


def _number(value: float, decimals: int) -> str:
    return '' if pd.isna(value) else f'{value:.{decimals}f}'


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min' if minutes else f'{seconds:.0f} s'

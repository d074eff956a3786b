"""The README of a suite: what its folder holds, which commands made it, on which machines, and in what time."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ltbench.config import config_names
from ltbench.record import origin_of
from ltbench.report.cells import counted
from ltbench.report.coverage import Covered
from ltbench.report.coverage import markdown as coverage_lines
from ltbench.report.escaping import in_markdown
from ltbench.report.frame import TableKey
from ltbench.report.reading import SuiteResults
from ltbench.report.text import distinct, left_out, machines_of

WHAT = {
    'run': 'the suite as declared: train what the store lacks, record, report',
    'report': 'rebuild all of this from the records; trains nothing',
}
"""What the commands do."""
VERSIONS = ('ltbench', 'python', 'torch', 'torchvision', 'mmengine', 'numpy')


def readme(
    results: SuiteResults, files: Sequence[str], short_tables: Iterable[str], covered: Sequence[Covered] = ()
) -> str:
    """What a suite's folder holds, which commands made it, on which machines, and in what time: from the records alone.

    Args:
        results: The suite's records.
        files: Names of the other files of the report.
        short_tables: Of :func:`ltbench.report.excerpt.excerpts`.
        covered: How much of the suite is recorded.
    """
    records, runs = results.records, [*results.records, *results.failures]
    methods, tables = len({run['method'] for run in runs}), len({TableKey.of(run) for run in runs})
    made_by = commands(results)
    widest = max(map(len, made_by))
    lines = [
        f'# {in_markdown(results.suite)}',
        '',
        f'{counted(len(records), "run")}, {len(results.failures)} failed, of {counted(methods, "method")} in '
        f'{counted(tables, "table")} (benchmark, imbalance factor, setting, data and recipe).',
        '',
        *left_out(results),
        *([*coverage_lines(covered), ''] if covered else []),
        '```',
        *[f'{command:<{widest}}  # {WHAT[command.split()[1]]}' for command in made_by],
        '```',
        '',
        'Both use the folder that `LTBENCH_RESULTS` names: here the parent of this folder.',
        '',
        *(_made_with(records) if records else []),
        'Made from the records alone, beside this file:',
        '',
        *[f'- `{name}`' for name in files],
        '',
        'All suites on one page: `../index.html`.',
        *(f'\n{table}' for table in short_tables),
    ]
    return '\n'.join(lines) + '\n'


def commands(results: SuiteResults) -> list[str]:
    """Commands that rebuild the suite's folder: its runs, if the suite can be run by name, and the report."""
    trained = not results.records or any(origin_of(record) == 'trained' for record in results.records)
    named = results.source or results.suite
    runs = (
        [shlex.join(['ltbench', 'run', named])]
        if trained and (results.source or named in config_names('suites'))
        else []
    )
    return [*runs, shlex.join(['ltbench', 'report', named])]


def _made_with(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Work, machines and versions, as a list."""
    stages = {stage['fingerprint']: stage['cost'] for record in records for stage in record['stages']}
    spent = ('wall_seconds', 'evaluation_seconds')  # an imported checkpoint has the latter alone
    seconds = sum(cost.get(name, 0.0) for cost in stages.values() for name in spent)
    versions = {name: distinct(record['environment'].get(name) for record in records) for name in VERSIONS}
    commits = in_markdown(distinct(record['environment'].get('git_commit') for record in records))
    return [
        f'- Stages: {len(stages)}, {_duration(seconds)} in total; a stage that several runs share is counted once.',
        *[f'- Machine: {in_markdown(machine)}, {counted(count, "run")}.' for machine, count in machines_of(records)],
        '- Versions: ' + '; '.join(f'{name} {in_markdown(value)}' for name, value in versions.items() if value) + '.',
        f'- Protocol {distinct(record["protocol"] for record in records)}; record schema '
        f'{distinct(record["schema"] for record in records)}' + (f'; commit {commits}.' if commits else '.'),
        '',
    ]


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min' if minutes else f'{seconds:.0f} s'

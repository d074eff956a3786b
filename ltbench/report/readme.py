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
from ltbench.spec import Spec

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
    made_by = commands(results, covered)
    short = [command for command in made_by if ' -b ' not in command]
    annotated = {command: f'{command:<{max(map(len, short))}}  # {WHAT[command.split()[1]]}' for command in short}
    lines = [
        f'# {in_markdown(results.suite)}',
        '',
        f'{counted(len(records), "run")}, {len(results.failures)} failed, of {counted(methods, "method")} in '
        f'{counted(tables, "table")} (benchmark, imbalance factor, setting, data and recipe).',
        '',
        *left_out(results),
        *([*coverage_lines(covered), ''] if covered else []),
        '```',
        *[annotated.get(command, command) for command in made_by],
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


def commands(results: SuiteResults, covered: Sequence[Covered] = ()) -> list[str]:
    """Commands that rebuild the suite's folder: its runs, those of other settings, and the report.

    Args:
        results: The suite's records.
        covered: How much of the suite is recorded; empty if it is not known here.
    """
    named = results.source or results.suite
    known = bool(results.source) or named in config_names('suites')
    trained = [record for record in results.records if origin_of(record) == 'trained']
    as_declared = {each.title for each in covered if each.recorded} if covered else {_title(one) for one in trained}
    others: dict[str, list[Mapping[str, Any]]] = {}
    for record in trained:
        if _title(record) not in as_declared:
            others.setdefault(_title(record), []).append(record)
    whole = known and (as_declared or not results.records)
    runs = [shlex.join(['ltbench', 'run', named])] if whole else []
    runs += [_run_of(named, records) for records in others.values()] if known else []
    return [*runs, shlex.join(['ltbench', 'report', named])]


def _title(record: Mapping[str, Any]) -> str:
    return TableKey.of(record).title


def _run_of(suite: str, records: Sequence[Mapping[str, Any]]) -> str:
    """The command that makes some runs of one table."""
    benchmark = records[0]['config']['benchmark']
    spec = str(Spec(benchmark['name'], benchmark['overrides']))
    preset = [] if benchmark['preset'] == 'paper' else ['--preset', benchmark['preset']]
    methods = [word for method in sorted({record['method'] for record in records}) for word in ('-m', method)]
    seeds = ','.join(map(str, sorted({record['run_seed'] for record in records})))
    return shlex.join(['ltbench', 'run', suite, '-b', spec, *preset, *methods, '--seeds', seeds])


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

"""Records and tables to one HTML file that needs nothing else: no network, no server."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from ltbench.record import results_root
from ltbench.report import frame, page_data, page_tables
from ltbench.report.escaping import in_script
from ltbench.report.published import HOW_ORDERED
from ltbench.report.text import selection_of

PIXEL = 0.64  # CSS pixels of one of a figure: 96 and 150 an inch
VERSIONS = ('ltbench', 'python', 'torch', 'torchvision', 'mmengine', 'numpy')


@dataclass(frozen=True)
class Contents:
    """What a page shows.

    Args:
        suite: Name of the suite.
        commands: Command lines that make the records and the report anew.
        records: Those that the leaderboard was made from.
        failures: Runs that failed, see :class:`ltbench.record_schema.Failure`.
        left_out: What is wrong with each file that is no valid record.
        leaderboard: See :func:`ltbench.report.tables.leaderboard`.
        failures: Runs that failed, see :class:`ltbench.record_schema.Failure`.
        left_out: What is wrong with each file that the report does not use.
        statistics: Comparisons of each method with others.
        ranks: What is said of mean ranks over benchmarks.
        mean_ranks: The ranks themselves.
        published: Published beside measured; a row whose ``differs`` is not empty is of another recipe, shown apart.
        published_order: How the order of methods agrees with that of each source.
        ablations: Title -> table.
        figures: Paths of PNG files within the suite's folder.
        captions: What figures show, by the part of their file names before the first hyphen.
        settings: The setting under which the leaderboard has each record, see
            :func:`ltbench.report.frame.distinguish`; default: the record's own.
    """

    suite: str
    commands: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    leaderboard: pd.DataFrame
    failures: Sequence[Mapping[str, Any]] = ()
    left_out: Sequence[str] = ()
    statistics: pd.DataFrame | None = None
    ranks: str = ''
    mean_ranks: pd.DataFrame | None = None
    published: pd.DataFrame | None = None
    published_order: pd.DataFrame | None = None
    ablations: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Sequence[Path] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()


def page(contents: Contents) -> str:
    """The page as HTML.

    Raises:
        FileNotFoundError: If a figure is not there.
    """
    caveats = frame.caveats(contents.records)
    loader = jinja2.PackageLoader('ltbench.report', 'page_files')
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters['breakable'] = page_tables.breakable
    settings = contents.settings or [record['setting'] for record in contents.records]
    told = [{**record, 'setting': setting} for record, setting in zip(contents.records, settings, strict=True)]
    names = frame.names_of(told)
    runs: dict[tuple[page_tables.Key, int], Mapping[str, Any]] = {}  # of equal methods once, as in the leaderboard
    for shown, record in sorted(
        zip(told, contents.records, strict=True), key=lambda pair: (len(pair[0]['method']), pair[0]['method'])
    ):
        key = frame.row_of(shown | {'method': names[frame.row_of(shown)][0]})
        runs.setdefault((key, record['run_seed']), record)
    keys = [key for key, _ in runs]
    boards = page_tables.boards(
        contents.leaderboard, dict(zip(keys, runs.values(), strict=True)), keys, contents.failures, caveats
    )
    row_of = {row.key: row.number for board in boards for row in board.rows}
    order = sorted(runs, key=lambda run: (row_of[run[0]], run[1]))
    data = page_data.details(contents.suite, [runs[run] for run in order], [row_of[key] for key, _ in order])
    titles = _titles(contents.leaderboard)
    compared, apart = page_tables.published(contents.published, caveats)
    return environment.get_template('page.html').render(
        contents=contents,
        how_ordered=HOW_ORDERED,
        facts=_facts(contents),
        boards=boards,
        metrics=[c for c in page_tables.METRIC_COLUMNS if any(c in board.columns for board in boards)],
        filters=_filters(boards),
        tables={
            'statistics': [
                *page_tables.plain(contents.mean_ranks, 'Mean ranks'),
                *page_tables.comparisons(contents.statistics, caveats),
            ],
            'compared': compared,
            'apart': apart,
            'order': page_tables.plain(contents.published_order, 'Order of methods', caveats),
            'ablations': [
                table
                for name, ablation in contents.ablations.items()
                for table in page_tables.ablation(ablation, name, caveats)
            ],
        },
        left_out=[message.replace(f'{results_root() / contents.suite}/', '') for message in contents.left_out],
        figures=[
            _figure(results_root() / contents.suite / path, contents.captions, titles) for path in contents.figures
        ],
        data=in_script(data | {'metrics': [column.for_script() for column in page_tables.METRIC_COLUMNS]}),
        css=_read(loader, environment, 'page.css'),
        script=_read(loader, environment, 'page.js'),
    )


def _read(loader: jinja2.BaseLoader, environment: jinja2.Environment, name: str) -> str:
    return loader.get_source(environment, name)[0]


def _facts(contents: Contents) -> dict[str, str]:
    """What the head of the page says, by label; nothing that there is nothing to say about."""
    records, failed, left_out = contents.records, len(contents.failures), len(contents.left_out)
    environments = [record['environment'] for record in records]
    machines = Counter(map(_machine, records))
    versions = (f'{name} {_listed(environment[name] for environment in environments)}' for name in VERSIONS)
    chosen = sum(bool(record['chosen']) for record in records)
    devices = sorted(machines.items(), key=lambda item: (-item[1], item[0]))
    facts = {
        'Runs': f'{len(records)} recorded'
        + f', {failed} failed' * bool(failed)
        + f', {left_out} {"file" if left_out == 1 else "files"} left out' * bool(left_out),
        'Methods': str(len({record['method'] for record in records})),
        'Seeds': _listed(record['run_seed'] for record in records),
        'Protocol': f'version {_listed(record["protocol"] for record in records)}',
        'Selection': selection_of(records)
        + f'; {chosen} {"run" if chosen == 1 else "runs"} chose values on validation images' * bool(chosen),
        'Machine' if len(machines) == 1 else 'Machines': '; '.join(
            machine + f' ({count} runs)' * (len(machines) > 1) for machine, count in devices
        ),
        'Versions': ', '.join(versions),
        'Commit': _listed((environment['git_commit'] or 'none')[:12] for environment in environments),
    }  # fmt: skip
    return {label: text for label, text in facts.items() if text and records} or {'Runs': facts['Runs']}


def _machine(record: Mapping[str, Any]) -> str:
    device, threads = record['environment']['device'], record['environment']['threads']
    processor = f'{frame.processor_of(record)}, {threads} thread{"s" * (threads != 1)}'
    return processor if device == 'cpu' else f'{device} ({processor})'


def _listed(values: Iterable[Any]) -> str:
    """Distinct values in order; a stretch of whole numbers as its ends."""
    distinct = sorted(set(values))
    whole = all(isinstance(value, int) for value in distinct)
    if whole and len(distinct) > 3 and distinct[-1] - distinct[0] == len(distinct) - 1:
        return f'{distinct[0]} to {distinct[-1]}'
    return ', '.join(map(str, distinct))


def _filters(boards: Sequence[page_tables.Board]) -> dict[str, list[tuple[str, str]]]:
    """What can be chosen from: value and label, where there is more than one."""
    choices = {
        'benchmark': sorted({(board.benchmark, board.benchmark) for board in boards}),
        'factor': [(text, text or 'none') for text in sorted({b.factor for b in boards}, key=lambda t: float(t or 0))],
        'setting': sorted({(board.setting, board.setting) for board in boards}),
    }
    return {name: values for name, values in choices.items() if len(values) > 1}


def _figure(path: Path, captions: Mapping[str, str], titles: Mapping[str, str]) -> dict[str, Any]:
    """What a figure shows, and of which table; its size in CSS pixels and its contents."""
    kind, _, where = path.stem.partition('-')
    said = captions.get(kind, kind.replace('_', ' ').capitalize())
    of, contents = titles.get(where, where), path.read_bytes()
    width, height = (round(int.from_bytes(contents[at : at + 4]) * PIXEL) for at in (16, 20))
    return {
        'caption': said,
        'of': of,
        'alt': f'{said} ({of})' if of else said,
        'width': width,
        'height': height,
        'kind': 'tall' if height > 0.7 * width else '',
        'source': f'data:image/png;base64,{base64.b64encode(contents).decode()}',
    }


def _titles(leaderboard: pd.DataFrame) -> dict[str, str]:
    """Tables by the part of a figure's file name that says which it is of, all imbalance factors together as well."""
    keys = [key for key, _ in frame.by_table(leaderboard, sort=False)]
    together = [key._replace(imbalance_factor=None, table='') for key in keys]
    return {key.slug: key.title for key in (*together, *keys)}

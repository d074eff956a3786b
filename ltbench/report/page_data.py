"""A suite to the data that the page's script reads: its tables, and its runs.

Runs are one compact JSON in which they share common values: a configuration, an environment, a list of classes or a
curve is stored once and referred to by its place in a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ltbench.console import printable
from ltbench.record import origin_of, record_name
from ltbench.report import readme, text
from ltbench.report.ablation import cells_of
from ltbench.report.cells import counted
from ltbench.report.environments import footnotes, marks_of
from ltbench.report.families import family_of
from ltbench.report.frame import BASELINE, GROUP, TableKey, by_table, processor_of, row_of, slugs
from ltbench.report.names import display_names, in_titles, title_of
from ltbench.report.suite import Report
from ltbench.report.tables import METRICS

CURVE_POINTS = 80  # of a longer curve every n-th epoch is kept, and the last; more would not be visible on the page
RUN_FIELDS = (
    'id', 'row', 'seed', 'method', 'fingerprint', 'metrics', 'hits', 'images', 'classes', 'curve', 'config', 'stages',
    'methods', 'cost', 'environment', 'versions', 'chosen', 'warnings',
)  # fmt: skip
"""The fields of a run in ``runs``, in order."""
METRIC_NAMES = (*METRICS, 'ece_many', 'ece_medium', 'ece_few')


@dataclass
class _Pool:
    """Values, each stored once."""

    values: list[Any] = field(default_factory=list)
    places: dict[Any, int] = field(default_factory=dict)

    def add(self, value: Any) -> int:
        return self._add(value, repr(value))  # many times as fast as JSON; records have their keys in one order

    def add_numbers(self, values: list[float | None]) -> int:
        """As :meth:`add`, for long lists: a tuple is faster to make than text."""
        return self._add(values, tuple(values))

    def _add(self, value: Any, key: Any) -> int:
        if key not in self.places:
            self.places[key] = len(self.values)
            self.values.append(value)
        return self.places[key]


def tables(
    report: Report, published: pd.DataFrame, order: pd.DataFrame, ablations: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """The tables of a suite, with all that the page shows of them except single runs.

    Args:
        report: The suite.
        published: Of :func:`ltbench.report.published.beside`.
        order: Of :func:`ltbench.report.published.orders`.
        ablations: By name, of :mod:`ltbench.report.ablation`.
    """
    results = report.results
    names = {failure['method']: title_of(failure['method']) for failure in results.failures}
    names |= display_names(results.records)
    position = {row_of(row): number for number, row in enumerate(report.board.to_dict('records'))}
    covered = {each.title: each.text for each in report.coverage}
    tested, frames = dict(by_table(report.tests)), dict(by_table(report.frame))
    shown = []
    by_key = list(by_table(report.board, sort=False))
    for slug, (key, rows) in zip(slugs(key for key, _ in by_key), by_key, strict=True):
        records = [results.records[place] for place in frames[key]['record']] if key in frames else []
        first = records[0] if records else None
        shown.append({
            'slug': slug, 'title': key.title, 'benchmark': key.benchmark, 'factor': key.imbalance_factor,
            'setting': key.setting, 'hash': key.table,
            'caveat': first['config']['benchmark'].get('caveat', '') if first else '',
            'resolution': text.resolution(rows, names), 'groups': first['groups'] if first else {},
            'covered': covered.get(key.title, ''),
            'scores': text.scores_of(rows),
            'rows': list(_rows(rows, tested.get(key), position, names, records, frames.get(key))),
            'notes': footnotes(rows),
            'failures': [
                [names[failure['method']], failure['run_seed'], failure['stage'], failure['reason']]
                for failure in results.failures if TableKey.of(failure) == key
            ],
            'beside': [
                *_published(_of(published, key), names),
                *(_ablation(name, of, names) for name, frame in ablations.items() if len(of := _of(frame, key))),
                *_orders(_of(order, key), names),
            ],
        })  # fmt: skip
    return {
        'suite': results.suite,
        'about': report.suite.doc.partition('\n')[0] if report.suite is not None else '',
        'commands': readme.commands(results, report.coverage),
        'facts': _facts(report),
        'left_out': [printable(reason) for reason in results.left_out.values()],
        'covered': [[each.title, each.text] for each in report.coverage],
        'tables': shown,
    }


def _rows(
    rows: pd.DataFrame,
    tests: pd.DataFrame | None,
    position: Mapping[Any, int],
    names: Mapping[str, str],
    records: Sequence[Mapping[str, Any]],
    runs: pd.DataFrame | None,
) -> Iterator[dict[str, Any]]:
    """The methods of one table, best first."""
    versus: dict[str, dict[str, list[float]]] = {}
    against = tests if tests is None else tests[tests['reference'] == 'erm'].dropna(subset=['difference', 'noise', 'p'])
    for test in () if against is None else against.to_dict('records'):
        # not to fewer digits: the page rounds them again
        outcome = [round(test[name], 4) for name in ('difference', 'noise', 'p')]
        versus.setdefault(test['method'], {})[test['score']] = outcome
    origins = {record['method']: origin_of(record) for record in records}
    costs = {} if runs is None else _relative_costs(runs)
    for row, mark in zip(rows.to_dict('records'), marks_of(rows), strict=True):
        origin = origins.get(row['method'], 'trained')
        yield {
            'row': position[row_of(row)], 'method': row['method'], 'name': names[row['method']] + mark,
            'also': {name: names.get(name, name) for name in row['also'].split(', ') if name},
            'origin': origin, 'family': family_of(row['method']) if origin == 'trained' else '',
            'n': row['n_seeds'], 'failed': row['n_failed'],
            'rank': _short(row['rank']), 'standing': row['best'], 'behind': _short(row['behind']),
            'noise': _short(row['noise']),
            'scores': {
                metric: [_short(row.get(f'{metric}_{what}')) for what in ('mean', 'std', 'low', 'high')]
                for metric in text.SCORES
            },
            'versus': versus.get(row['method'], {}), 'cost': costs.get(row['method']),
        }  # fmt: skip


def _relative_costs(runs: pd.DataFrame) -> dict[str, float]:
    """CPU time of each method's runs, relative to that of the baseline in the same seeds and environment."""
    same = ['run_seed', 'environment']
    plain = runs[runs['method'] == BASELINE].set_index(same)['cpu_seconds'].rename('plain')
    beside = runs.join(plain, on=same).dropna(subset=['plain', 'cpu_seconds'])
    spent = beside.groupby('method')[['cpu_seconds', 'plain']].sum()
    spent = spent[spent['plain'] > 0]
    return (spent['cpu_seconds'] / spent['plain']).round(2).to_dict()


def _of(frame: pd.DataFrame, key: TableKey) -> pd.DataFrame:
    """The rows of one table."""
    if frame.empty:
        return frame
    return frame[[TableKey.of(row) == key for row in frame[GROUP].to_dict('records')]]


def _published(rows: pd.DataFrame, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Published beside measured: what can be compared, and what has another recipe."""
    for title, part in (
        ('Published, same recipe', rows[rows['differs'] == '']),
        ('Published, another recipe', rows[rows['differs'] != '']),
    ):
        if part.empty:
            continue
        apart = bool(part['differs'].iloc[0])
        columns = ['method', 'score', 'published', 'measured', *(['differs'] if apart else ['difference', 'verdict'])]
        cells = [
            [
                names.get(row['method'], row['method']),
                text.SCORES[row['score']],
                _text(row['published']) + ' (not checked)' * (row['verified'] != 'yes'),
                _text(row['measured']) + ' (best epoch)' * (row['epoch'] == 'best'),
                *([row['differs']] if apart else [f'{row["difference"]:+.1f}', row['verdict']]),
                row['source'],
            ]
            for row in part.to_dict('records')
        ]
        yield _beside(title, [*columns, 'source'], cells)


def _ablation(name: str, rows: pd.DataFrame, names: Mapping[str, str]) -> dict[str, Any]:
    head, *cells = cells_of(rows)
    method = head.index('method')
    for line in cells:
        line[method] = names.get(line[method], line[method])
    return _beside(f'Ablation of {in_titles(name)}', [text.SCORES.get(label, label) for label in head], cells)


def _orders(rows: pd.DataFrame, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The order of methods in each published source, and the one that was measured."""
    if len(rows):
        shown = rows.drop(columns=GROUP).rename(columns={'n_methods': 'methods', 'kendall_tau': "Kendall's tau"})
        shown['epochs'] = [_text(epochs).removesuffix('.0') for epochs in rows['epochs']]
        for column in ('published_order', 'measured_order'):
            shown[column] = [', '.join(names.get(name, name) for name in order.split(', ')) for order in rows[column]]
        cells = [[_text(value) for value in row] for row in shown.itertuples(index=False)]
        yield _beside('Order of methods', list(shown), cells)


def _beside(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """A table under the leaderboard, without columns that are empty."""
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    return {
        'title': title,
        'columns': [columns[place].replace('_', ' ') for place in kept],
        'rows': [[row[place] for place in kept] for row in rows],
    }


def _text(value: Any) -> str:
    if isinstance(value, float):
        return '' if pd.isna(value) else f'{value:.4g}' if abs(value) < 1 else f'{value:.1f}'
    return '' if value is None else str(value)


def _facts(report: Report) -> list[tuple[str, str]]:
    """Where the numbers are from, as label and text; without empty ones."""
    records, failed, left_out = report.as_recorded, len(report.results.failures), len(report.results.left_out)
    environments = [record['environment'] for record in records]
    machines = sorted(Counter(map(_machine, records)).items(), key=lambda item: (-item[1], item[0]))
    facts = {
        'Runs': f'{len(records)} recorded'
        + f', {failed} failed' * bool(failed)
        + f', {counted(left_out, "file")} left out' * bool(left_out),
        'Seeds': _listed(record['run_seed'] for record in records),
        'Selection': text.selection_of(records),
        'Protocol': _listed(record['protocol'] for record in records),
        'Machines': '; '.join(machine + f' ({counted(count, "run")})' for machine, count in machines),
        'Versions': ', '.join(f'{name} {_listed(each[name] for each in environments)}' for name in readme.VERSIONS),
        'Commit': _listed((each['git_commit'] or 'none')[:12] for each in environments),
    }
    return [(label, value) for label, value in facts.items() if value and (records or label == 'Runs')]


def _machine(record: Mapping[str, Any]) -> str:
    device, threads = record['environment']['device'], record['environment']['threads']
    processor = f'{processor_of(record)}, {counted(threads, "thread")}'
    return processor if device == 'cpu' else f'{device} ({processor})'


def _listed(values: Iterable[Any]) -> str:
    """Distinct values in order; a range of whole numbers as its ends."""
    distinct = sorted(set(values))
    whole = all(isinstance(value, int) for value in distinct)
    if whole and len(distinct) > 3 and distinct[-1] - distinct[0] == len(distinct) - 1:
        return f'{distinct[0]} to {distinct[-1]}'
    return ', '.join(map(str, distinct))


# ---------------------------------------------------------------------------------------------- runs


def runs(report: Report) -> dict[str, Any]:
    """Everything that the page shows of single runs.

    Returns:
        ``runs``: a list a run, see :data:`RUN_FIELDS`; each pool as a list, to whose places runs refer. Accuracies of
        classes are stored as hits, which take less space; a curve as its epochs and named columns.
    """
    position = {row_of(row): number for number, row in enumerate(report.board.to_dict('records'))}
    records = report.as_recorded
    rows = {place: position[row_of(report.results.records[place])] for place in report.frame['record']}
    ordered = sorted(rows, key=lambda place: (rows[place], records[place]['run_seed'], place))
    names = (
        'images', 'classes', 'curves', 'columns', 'benchmarks', 'stage_configs', 'stages', 'methods', 'environments',
        'versions', 'warnings',
    )  # fmt: skip
    pools = {name: _Pool() for name in names}
    made = [_run(records[place], rows[place], pools) for place in ordered]
    shared = {name: pool.values for name, pool in pools.items()}
    return {'fields': list(RUN_FIELDS), 'metric_names': list(METRIC_NAMES), **shared, 'runs': made}


def run_id(record: Mapping[str, Any]) -> str:
    """What a link to a run names: the record's file name without its suffix."""
    return record_name(record).removesuffix('.json')


def _run(record: Mapping[str, Any], row: int, pools: Mapping[str, _Pool]) -> list[Any]:
    metrics, config = record['metrics'], record['config']
    classes = {'names': record['class_names'], 'counts': record['class_counts']}
    stages = [
        [stage['kind'], stage['fingerprint'][:12], stage['epochs'], stage['cost'].get('wall_seconds')]
        for stage in record['stages']
    ]
    # a stage's configuration differs between seeds by the seed alone
    of_stages = [
        [pools['stage_configs'].add({k: v for k, v in stage.items() if k != 'seed'}), stage.get('seed')]
        for stage in config['stages']
    ]
    fields = {
        'id': run_id(record),
        'row': row,
        'seed': record['run_seed'],
        'method': record['method'],
        'fingerprint': record['fingerprint'],
        'metrics': [_short(metrics.get(name)) for name in METRIC_NAMES],
        'hits': _hits(metrics['per_class'], metrics['test_images']),
        'images': pools['images'].add(metrics['test_images']),
        'classes': pools['classes'].add(classes),
        'curve': _curve(record['curve'], pools),
        'config': [pools['benchmarks'].add(config['benchmark']), of_stages],
        'stages': [pools['stages'].add(stage) for stage in stages],
        'methods': pools['methods'].add(record['methods']),
        'cost': [_short(record['cost'].get(name)) for name in COST_NAMES],
        'environment': pools['environments'].add(record['environment']),
        'versions': pools['versions'].add(
            {name: record[name] for name in ('schema', 'protocol', 'table', 'data', 'code', 'ltbench')}
        ),
        'chosen': record['chosen'] or 0,
        'warnings': pools['warnings'].add(record['warnings']),
    }
    return [fields[name] for name in RUN_FIELDS]


COST_NAMES = ('parameters', 'flops', 'wall_seconds', 'cpu_seconds', 'images_per_second', 'peak_memory_mb')
"""The fields of a run's ``cost``, in order."""


def _hits(per_class: Sequence[float | None], images: Sequence[int]) -> list[int | None]:
    """Correctly classified images of each class; None for a class without test images."""
    return [None if a is None else round(a * n / 100) for a, n in zip(per_class, images, strict=True)]


def _curve(curve: Sequence[Mapping[str, Any]], pools: Mapping[str, _Pool]) -> int:
    """Place of the curve: ``[total epochs, epochs kept, {name: values}]``, columns being places themselves."""
    step = max(1, -(-len(curve) // CURVE_POINTS))
    first = (len(curve) - 1) % step
    scored = [
        any(name.endswith('_top1') for name in point) for point in curve
    ]  # during training, on request: none is left out
    kept = [point for n, point in enumerate(curve) if scored[n] or n % step == first]
    names = sorted(set().union(*kept) - {'epoch'})
    columns = {name: pools['columns'].add_numbers([point.get(name) for point in kept]) for name in names}
    epochs = pools['columns'].add_numbers([point['epoch'] for point in kept])
    return pools['curves'].add([len(curve), epochs, columns])


def _short(value: float | None) -> float | None:
    """Rounded as the tables are, and whole numbers without a point."""
    if value is None or pd.isna(value):
        return None
    value = round(value, 4)
    return int(value) if value == int(value) else value

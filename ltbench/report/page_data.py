"""Records to what the page's script reads: one compact JSON in which runs share what they have in common.

A configuration, an environment, a list of classes or a curve is kept once and named by its place in a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ltbench.record import record_name
from ltbench.report.tables import METRICS

CURVE_POINTS = 80  # of a longer curve every n-th epoch is kept, and the last; more cannot be told apart on the page
RUN_FIELDS = (
    'id', 'row', 'seed', 'method', 'fingerprint', 'metrics', 'hits', 'images', 'classes', 'curve', 'config', 'stages',
    'methods', 'cost', 'environment', 'versions', 'chosen', 'warnings',
)  # fmt: skip
"""What stands at each place of a run in ``runs``."""
METRIC_NAMES = (*METRICS, 'ece_many', 'ece_medium', 'ece_few')


@dataclass
class _Pool:
    """Values, each kept once."""

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


def details(suite: str, records: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> dict[str, Any]:
    """Everything that the page tells of single runs.

    Args:
        suite: Name of the suite.
        records: In the order in which the page shows them.
        rows: The row of the leaderboard that each belongs to.

    Returns:
        ``runs``: a list a run, see :data:`RUN_FIELDS`; of every pool a list that runs name places of. Accuracies of
        classes are kept as hits, which say the same in less room; a curve as its epochs and named columns.
    """
    names = (
        'images', 'classes', 'curves', 'columns', 'benchmarks', 'stage_configs', 'stages', 'methods', 'environments',
        'versions', 'warnings',
    )  # fmt: skip
    pools = {name: _Pool() for name in names}
    runs = [_run(record, row, pools) for record, row in zip(records, rows, strict=True)]
    shared = {name: pool.values for name, pool in pools.items()}
    return {'suite': suite, 'fields': list(RUN_FIELDS), 'metric_names': list(METRIC_NAMES), **shared, 'runs': runs}


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
    told = {
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
    return [told[name] for name in RUN_FIELDS]


COST_NAMES = ('parameters', 'flops', 'wall_seconds', 'cpu_seconds', 'images_per_second', 'peak_memory_mb')
"""What stands at each place of a run's ``cost``."""


def _hits(per_class: Sequence[float | None], images: Sequence[int]) -> list[int | None]:
    """Images of each class that were taken for their own; None for a class without test images."""
    return [None if a is None else round(a * n / 100) for a, n in zip(per_class, images, strict=True)]


def _curve(curve: Sequence[Mapping[str, Any]], pools: Mapping[str, _Pool]) -> int:
    """Place of the curve: ``[total epochs, epochs kept, {name: values}]``, columns being places themselves."""
    step = max(1, -(-len(curve) // CURVE_POINTS))
    first = (len(curve) - 1) % step
    scored = [
        any(name.endswith('_top1') for name in point) for point in curve
    ]  # on the way, as asked for: none is left out
    kept = [point for n, point in enumerate(curve) if scored[n] or n % step == first]
    names = sorted(set().union(*kept) - {'epoch'})
    columns = {name: pools['columns'].add_numbers([point.get(name) for point in kept]) for name in names}
    epochs = pools['columns'].add_numbers([point['epoch'] for point in kept])
    return pools['curves'].add([len(curve), epochs, columns])


def _short(value: float | None) -> float | None:
    """Rounded as the tables are, and whole numbers without a point."""
    if value is None:
        return None
    value = round(value, 4)
    return int(value) if value == int(value) else value

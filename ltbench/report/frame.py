"""Records to the frame that every table and figure is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ltbench.record import ROW
from ltbench.report.reading import VERSIONS

GROUP = list(ROW[:-1])
"""What tells the tables apart: benchmark, imbalance factor and setting."""
METRICS = ('top1', 'many', 'medium', 'few', 'macro', 'geometric_mean', 'nll', 'ece')
TRAINING = ('cpu_seconds', 'wall_seconds')
COSTS = ('parameters', 'flops', *TRAINING)
DECIMALS = 9
"""Of means that are ranked: methods tie where the mean is the same, whatever the order in which floats were added."""
COPIED = (*ROW, 'run_seed', 'fingerprint', 'computation', *VERSIONS, 'class_counts')


def runs_frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run, in a stable order.

    Columns: the group (benchmark, imbalance_factor, setting), method, run_seed, fingerprint, computation,
    benchmark_version, protocol, ``class_counts``, one a metric and cost, ``per_class``, ``test_images``, and
    ``record``, the position in ``records``. A metric that a run does not have is NaN. Where a group has runs of several
    versions of its benchmark or of the protocol, ``setting`` says so for all but the newest: they are groups of their
    own.

    Args:
        records: As :func:`ltbench.report.reading.read_suite` gives them: each run once, and one code for each row.
    """
    rows = [
        {key: record[key] for key in COPIED}
        | {metric: record['metrics'][metric] for metric in METRICS}
        | {cost: _cost(record, cost) for cost in COSTS}
        | {key: record['metrics'][key] for key in ('per_class', 'test_images')}
        | {'record': position}
        for position, record in enumerate(records)
    ]
    frame = pd.DataFrame(rows, columns=[*COPIED, *METRICS, *COSTS, 'per_class', 'test_images', 'record'])
    numbers = [*METRICS, *COSTS, 'imbalance_factor']
    frame[numbers] = frame[numbers].astype(float)
    newest = frame.groupby(GROUP, dropna=False)[list(VERSIONS)].transform('max')
    for version, name in zip(VERSIONS, ('benchmark version', 'protocol'), strict=True):
        old = frame[version] < newest[version]
        frame.loc[old, 'setting'] += f', {name} ' + frame.loc[old, version].astype(str)
    return frame.sort_values([*GROUP, 'method', 'run_seed'], ignore_index=True)


def _cost(record: Mapping[str, Any], name: str) -> float | None:
    """What a run took; what training a checkpoint took that was imported is not known."""
    return None if name in TRAINING and 'imported' in record['config'] else record['cost'][name]


def caveats(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What every table and figure of a benchmark has to say, by its name; of most benchmarks nothing."""
    return {
        record['benchmark']: caveat for record in records if (caveat := record['config']['benchmark'].get('caveat', ''))
    }


def title(benchmark: str, imbalance_factor: float, setting: str) -> str:
    """Of a group, for people."""
    factor = f', imbalance factor {imbalance_factor:g}' if pd.notna(imbalance_factor) else ''
    return f'{benchmark}{factor} ({setting})'


def slug(benchmark: str, imbalance_factor: float | None, setting: str) -> str:
    """Of a group, for file names."""
    factor = f'-if{imbalance_factor:g}' if pd.notna(imbalance_factor) else ''
    text = f'{benchmark}{factor}' + ('' if setting == 'paper' else f'-{setting}')
    return ''.join(character if character.isalnum() or character in '-_.=' else '_' for character in text)

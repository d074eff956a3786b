"""Records to the plain frame that a user analyses and plots: one row a run, one column a number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ltbench.record import cost_of
from ltbench.report.frame import distinguish

METRICS = (
    'top1', 'many', 'medium', 'few', 'macro', 'geometric_mean', 'balanced_error', 'nll', 'ece', 'ece_many',
    'ece_medium', 'ece_few',
)  # fmt: skip
COSTS = ('parameters', 'flops', 'wall_seconds', 'cpu_seconds', 'images_per_second', 'peak_memory_mb')
COLUMNS = (
    'suite', 'benchmark', 'imbalance_factor', 'setting', 'method', 'seed', *METRICS, *COSTS, 'table', 'fingerprint',
    'path',
)  # fmt: skip


def tidy(records: Mapping[Path, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run, ordered by suite, benchmark, imbalance factor, setting, method and seed.

    Args:
        records: By the file that each was read from.

    Returns:
        The columns :data:`COLUMNS`. Metrics are those of :func:`ltbench.evaluation.evaluate`: accuracies, errors and
        ECE in percent, NLL in nats; missing ones are NaN, such as the accuracy of an empty group. Costs are of
        the network and all its stages, in parameters, FLOPs an image (a multiply-add counts as two), seconds, images a
        second and MB; unknown ones of an imported checkpoint are NaN. Rows may be compared within one
        ``setting`` of a benchmark and imbalance factor; ``table`` is the hash of all that they share.
    """
    rows = [
        {
            'suite': path.absolute().parent.parent.name,
            'seed': record['run_seed'],
            'path': str(path),
            **{key: record[key] for key in ('benchmark', 'setting', 'method', 'table', 'fingerprint')},
            'imbalance_factor': record['imbalance_factor'],
            **{name: record['metrics'][name] for name in METRICS},
            **{name: cost_of(record, name) for name in COSTS},
        }
        for path, record in zip(records, distinguish(list(records.values())), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = ['imbalance_factor', *METRICS, *COSTS]
    frame[numbers] = frame[numbers].astype(float)
    frame['seed'] = frame['seed'].astype(int)
    return frame.sort_values(list(COLUMNS[:6]), ignore_index=True)

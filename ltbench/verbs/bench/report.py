"""Tables and figures of many records, against only reading those records."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.errors import UsageError
from ltbench.places import ROOT_OF_PACKAGE
from ltbench.record import record_path, write_record
from ltbench.verbs.bench.measure import Case, measure_alternating
from ltbench.verbs.report import report

EXAMPLE = ROOT_OF_PACKAGE.parent / 'results' / 'digits' / 'records'
SUITE = 'bench'
METHODS, SEEDS = 30, 10


def measure(rounds: int) -> list[dict[str, Any]]:
    """Seconds from 300 records to the report, and of reading their JSON.

    Raises:
        UsageError: Outside a checkout: the records are copies of a measured one.
    """
    examples = sorted(EXAMPLE.glob('*.json'))
    if not examples:
        raise UsageError(f'part report needs a record to copy, and there is none in {EXAMPLE}; run it in a checkout')
    before = os.environ.get('LTBENCH_RESULTS')
    with tempfile.TemporaryDirectory(prefix='ltbench-bench-') as folder:
        os.environ['LTBENCH_RESULTS'] = folder
        try:
            paths = _write_records([json.loads(path.read_text(encoding='utf-8')) for path in examples])

            def ours() -> float:
                start = time.perf_counter()
                report(SUITE)
                return time.perf_counter() - start

            def reading() -> float:
                start = time.perf_counter()
                for path in paths:
                    json.loads(path.read_text(encoding='utf-8'))
                return time.perf_counter() - start

            figures = measure_alternating(rounds, [ours, reading])
        finally:
            if before is None:
                del os.environ['LTBENCH_RESULTS']
            else:
                os.environ['LTBENCH_RESULTS'] = before
    return [_CASE.result(figures)]


_CASE = Case(
    f'report: {METHODS * SEEDS} records to tables and figures, against reading the records',
    's',
    goal=None,
    less_is_better=True,
)


def _write_records(examples: list[dict[str, Any]]) -> list[Path]:
    example = examples[0]
    metrics = [other['metrics'] for other in examples if other['class_counts'] == example['class_counts']]
    random = np.random.default_rng(0)
    paths = []
    for number in range(METHODS):
        for seed in range(SEEDS):
            name = f'method_{number:02d}'
            record = {**example, 'method': name, 'run_seed': seed, 'fingerprint': f'{number * SEEDS + seed:064x}'}
            record['computation'] = f'{number:064x}'
            record['methods'] = [{'name': name, 'options': {}}]
            record['metrics'] = metrics[
                random.integers(len(metrics))
            ]  # unchanged: other metrics are computed from those of the classes
            path = record_path(SUITE, record)
            write_record(path, record)
            paths.append(path)
    return paths

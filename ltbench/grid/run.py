"""What `ltbench run` does: expand a suite into runs, carry out the graph, write a record for every finished run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltbench import __version__
from ltbench.config import Benchmark, Suite, load_benchmark, load_suite, parse_specs
from ltbench.data import load_data
from ltbench.data.base import FileSplit
from ltbench.engine.optim import build_optimizer, learning_rate
from ltbench.errors import LTBenchError, UsageError, given
from ltbench.evaluation import evaluate
from ltbench.evaluation.metrics import describe_groups
from ltbench.fingerprint import PROTOCOL_VERSION
from ltbench.grid.graph import Graph, Run
from ltbench.grid.selection import Selection
from ltbench.grid.status import StageState
from ltbench.method import build_method, make_plan
from ltbench.models.classifier import LongTailClassifier
from ltbench.recipe import check_augmentation, check_schedule
from ltbench.record import SCHEMA_VERSION, is_valid, record_path, write_record
from ltbench.registry import DATASETS, METHODS, POLICIES, build, lookup
from ltbench.store import DamagedArtifactError, Store


def choose_suite(selection: Selection) -> Suite:
    """The suite to run: a named one, narrowed or changed; or one made for the benchmarks given.

    ``-b`` without a suite runs ``erm`` with seed 0 on that benchmark, under a suite named after it.
    """
    if selection.suite is None and selection.benchmarks:
        name = '+'.join(dict.fromkeys(spec.name for text in selection.benchmarks for spec in parse_specs(text)))
        suite = Suite(name.replace('/', '_').removesuffix('.py'), selection.benchmarks, ('erm',), (0,))
    else:
        suite = load_suite(selection.suite or 'digits')
    return replace(
        suite,
        benchmarks=selection.benchmarks or suite.benchmarks,
        methods=selection.methods or suite.methods,
        seeds=selection.seeds or suite.seeds,
        preset=selection.preset or suite.preset,
        source=selection.suite if selection.suite and selection.suite.endswith('.py') else '',
    )


def expand(
    suite: Suite, options: Mapping[str, Any] | None = None, scale_lr: bool = False
) -> tuple[Graph, dict[str, str]]:
    """All runs of a suite, laid over each other, and the methods that raise while planning, with their reasons.

    Args:
        suite: The grid.
        options: ``METHOD.option`` or a key of the benchmark -> value, as given with ``-o``.
        scale_lr: As in :func:`ltbench.config.load_benchmark`.

    Raises:
        UsageError: For anything unknown or contradictory, before anything is written.
        DataError: If data are missing or damaged.
    """
    of_methods, of_benchmarks = _split_options(suite, options or {})
    methods = [_with_options(method, of_methods) for method in suite.methods]
    benchmarks = [load_benchmark(text, suite.preset, of_benchmarks, scale_lr) for text in suite.benchmarks]
    broken: dict[str, str] = {}
    for benchmark in benchmarks:
        check_parts(benchmark)
    for benchmark in benchmarks:  # all names and options are checked before any data are read
        for method in methods:
            try:
                for stage in make_plan(method, benchmark, '', 0).stages():
                    given(stage.fingerprint)  # the code of its parts is read for it
            except LTBenchError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a method is foreign code; it fails alone
                broken[method] = f'{type(error).__name__} while planning on {benchmark.name}: {error}'
    runs = []
    for benchmark in benchmarks:
        data = load_data(benchmark.data)
        check_augmentation(benchmark.recipe['augmentation'], isinstance(data.train, FileSplit), benchmark.name)
        fingerprint = data.fingerprint
        for method in methods:
            if method not in broken:
                for seed in suite.seeds:
                    runs.append(Run(benchmark, method, seed, make_plan(method, benchmark, fingerprint, seed)))
    return Graph(runs), broken


def check_parts(benchmark: Benchmark) -> None:
    """Build a benchmark's plain network without memory, and its optimizer and schedule.

    Raises:
        UsageError: If one of them is unknown or has an impossible value.
    """
    lookup(DATASETS, benchmark.data['type'])
    recipe = benchmark.recipe
    check_schedule(recipe['schedule'], benchmark.name)
    try:
        for policy in recipe['augmentation'].get('policies') or ():
            build(POLICIES, policy)
        with torch.device('meta'):
            model = LongTailClassifier(make_plan('erm', benchmark, '', 0).settings, num_classes=2, in_channels=3)
        build_optimizer(model, recipe['optimizer'])
        learning_rate(recipe['schedule'], recipe['optimizer']['lr'], recipe['epochs'] - 1, recipe['epochs'])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{benchmark.name}: {type(error).__name__}: {error}') from error


def _split_options(suite: Suite, options: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    of_methods: dict[str, dict[str, Any]] = {}
    of_benchmarks: dict[str, Any] = {}
    named = {spec.name for method in suite.methods for spec in parse_specs(method)}
    for key, value in options.items():
        owner, _, option = key.partition('.')
        if owner in named:
            of_methods.setdefault(owner, {})[option] = value
        elif owner in METHODS.module_dict:
            raise UsageError(f'-o {key}={value}: {owner} is not among the methods to run ({", ".join(sorted(named))})')
        else:
            of_benchmarks[key] = value
    return of_methods, of_benchmarks


def _with_options(method: str, options: Mapping[str, Mapping[str, Any]]) -> str:
    specs = parse_specs(method)
    for spec in specs:
        lookup(METHODS, spec.name)
    return '+'.join(str(replace(spec, options={**spec.options, **options.get(spec.name, {})})) for spec in specs)


def without_recorded(graph: Graph, suite: Suite) -> Graph:
    """The runs that have no record yet, also where the store has lost what others were made from."""
    return Graph(run for run in graph.runs if not is_valid(path_of_record(run, suite)))


def unrecorded(graph: Graph, suite: Suite, store: Store) -> Iterator[tuple[Run, Path]]:
    """Finished runs without a record, with the path it will have."""
    for run in graph.runs:
        path = path_of_record(run, suite)
        if store.find(run.fingerprint) is not None and not is_valid(path):
            yield run, path


def just_finished(graph: Graph, suite: Suite, states: Mapping[str, StageState]) -> Iterator[tuple[Run, Path]]:
    """Runs whose last stage has just been carried out, with the path of their (new or renewed) record."""
    for run in graph.runs:
        if run.fingerprint in states and states[run.fingerprint].state == 'done':
            yield run, path_of_record(run, suite)


def path_of_record(run: Run, suite: Suite) -> Path:
    """Where a run's record is, or will be."""
    return record_path(suite.name, identity_of(run))


def record_run(run: Run, store: Store, path: Path) -> dict[str, Any]:
    """Score a finished run's stored logits and write its record."""
    last = store.find(run.fingerprint)
    if last is None:
        raise DamagedArtifactError(f'the artifact {run.fingerprint[:12]} is gone')
    with np.load(last.path('test.npz')) as outputs:
        logits, labels = outputs['logits'], outputs['labels']
    data = load_data(run.benchmark.data)
    lineage, model = last.meta['lineage'], last.meta['model']
    warnings = {warning for row in lineage for warning in row['warnings']}
    record = identity_of(run) | {
        'computation': _computation(run),
        'schema': SCHEMA_VERSION,
        'ltbench': __version__,
        'protocol': PROTOCOL_VERSION,
        'data': run.data,
        'code': last.meta['environment'].get('code', ''),  # artifacts made before it was noted have none
        'methods': [
            {'name': spec.name, 'options': build_method(spec, run.benchmark).values} for spec in parse_specs(run.method)
        ],
        'stages': [{key: row[key] for key in ('kind', 'fingerprint', 'epochs', 'cost')} for row in lineage],
        'config': {
            'benchmark': run.benchmark.resolved,
            'stages': [{'kind': stage.kind, **stage.config} for stage in run.stages if stage.is_complete],
        },
        'class_names': list(data.class_names),
        'class_counts': data.class_counts,
        'groups': describe_groups(data.class_counts),
        'metrics': evaluate(logits, labels, data.class_counts),
        'curve': model['curve'],
        'analysis': model.get('analysis', {}),  # artifacts made before there was one have none
        'chosen': last.meta.get('chosen', {}),
        'warnings': sorted({*warnings, *run.plan.notes, *run.benchmark.notes, *data.notes}),
        'cost': {
            'parameters': model['parameters'],
            'flops': model['flops'],
            'wall_seconds': round(sum(row['cost']['wall_seconds'] for row in lineage), 3),
            'cpu_seconds': round(sum(row['cost']['cpu_seconds'] for row in lineage), 3),
            'images_per_second': model['images_per_second'],
            'peak_memory_mb': max(row['cost']['peak_memory_mb'] for row in lineage),
        },
        'environment': last.meta['environment'],
    }
    write_record(path, record)
    return record


def identity_of(run: Run) -> dict[str, Any]:
    """What tells a run's record apart from others, see :data:`ltbench.record.IDENTITY`."""
    return {
        'benchmark': run.benchmark.name,
        'imbalance_factor': run.benchmark.data.get('imbalance_factor'),
        'setting': run.benchmark.setting,
        'table': run.benchmark.table(run.data),
        'method': run.method,
        'run_seed': run.seed,
        'fingerprint': run.fingerprint,
    }


def _computation(run: Run) -> str:
    """What a run computes apart from its seed: runs that differ here never share a row."""
    if run.seed == 0:
        return run.fingerprint
    return make_plan(run.method, run.benchmark, run.data, 0).stages()[-1].fingerprint

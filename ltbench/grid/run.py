"""What `ltbench run` does: expand a suite into runs, carry out the graph, write a record for every finished run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ltbench import __version__
from ltbench.config import Suite, load_benchmark, load_suite, parse_specs
from ltbench.data import load_data
from ltbench.errors import LTBenchError, UsageError
from ltbench.evaluation import evaluate
from ltbench.evaluation.metrics import describe_groups
from ltbench.fingerprint import PROTOCOL_VERSION
from ltbench.grid.graph import Graph, Run
from ltbench.grid.status import StageState
from ltbench.method import Stage, build_method, make_plan, train_stage_of
from ltbench.record import SCHEMA_VERSION, record_path, write_record
from ltbench.registry import METHODS, lookup
from ltbench.store import Store


@dataclass(frozen=True)
class Selection:
    """What was asked for on the command line."""

    suite: str | None = None
    benchmarks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    preset: str | None = None
    options: Mapping[str, Any] | None = None


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
    )


def expand(suite: Suite, options: Mapping[str, Any] | None = None) -> tuple[Graph, dict[str, str]]:
    """All runs of a suite, laid over each other, and the methods that raise while planning, with their reasons.

    Args:
        suite: The grid.
        options: ``METHOD.option`` or a key of the benchmark -> value, as given with ``-o``.

    Raises:
        UsageError: For anything unknown or contradictory, before anything is written.
        DataError: If data are missing or damaged.
    """
    of_methods, of_benchmarks = _split_options(suite, options or {})
    methods = [_with_options(method, of_methods) for method in suite.methods]
    benchmarks = [load_benchmark(text, suite.preset, of_benchmarks) for text in suite.benchmarks]
    broken: dict[str, str] = {}
    for benchmark in benchmarks:  # all names and options are checked before any data are read
        for method in methods:
            try:
                make_plan(method, benchmark, '', 0).stages()
            except LTBenchError:
                raise
            except Exception as error:  # noqa: BLE001 - a method is foreign code; it fails alone
                broken[method] = f'{type(error).__name__} while planning on {benchmark.name}: {error}'
    runs = []
    for benchmark in benchmarks:
        fingerprint = load_data(benchmark.data).fingerprint
        for method in methods:
            if method not in broken:
                for seed in suite.seeds:
                    runs.append(Run(benchmark, method, seed, make_plan(method, benchmark, fingerprint, seed)))
    return Graph(runs), broken


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


def unrecorded(graph: Graph, suite: Suite, store: Store) -> Iterator[tuple[Run, Path]]:
    """Finished runs without a record, with the path it will have."""
    for run in graph.runs:
        if store.find(run.fingerprint) is not None and not (path := path_of_record(run, suite)).exists():
            yield run, path


def just_finished(graph: Graph, suite: Suite, states: Mapping[str, StageState]) -> Iterator[tuple[Run, Path]]:
    """Runs whose last stage has just been carried out, with the path of their (new or renewed) record."""
    for run in graph.runs:
        if run.fingerprint in states and states[run.fingerprint].state == 'done':
            yield run, path_of_record(run, suite)


def path_of_record(run: Run, suite: Suite) -> Path:
    """Where a run's record is, or will be."""
    return record_path(suite.name, _identity(run))


def record_run(run: Run, graph: Graph, store: Store, path: Path) -> dict[str, Any]:
    """Score a finished run's stored logits and write its record."""
    last = store.find(run.fingerprint)
    assert last is not None
    with np.load(last.path('test.npz')) as outputs:
        logits, labels = outputs['logits'], outputs['labels']
    data = load_data(run.benchmark.data)
    metas = {key: artifact.meta for key in graph.ancestors(run.fingerprint) if (artifact := store.find(key))}
    trained = metas[train_stage_of(run.stages[-1]).fingerprint]
    sized = metas.get(_with_head(run.stages[-1]).fingerprint, trained)
    record = _identity(run) | {
        'schema': SCHEMA_VERSION,
        'ltbench': __version__,
        'protocol': PROTOCOL_VERSION,
        'benchmark_version': run.benchmark.version,
        'methods': [
            {'name': spec.name, 'options': build_method(spec, run.benchmark).values} for spec in parse_specs(run.method)
        ],
        'stages': [
            {'kind': meta['kind'], 'fingerprint': key, 'epochs': meta.get('epochs', 0), 'cost': meta['cost']}
            for key, meta in metas.items()
        ],
        'config': {
            'benchmark': run.benchmark.resolved,
            'stages': [{'kind': stage.kind, **stage.config} for stage in run.stages if stage.is_complete],
        },
        'class_names': list(data.class_names),
        'class_counts': data.class_counts,
        'groups': describe_groups(data.class_counts),
        'metrics': evaluate(logits, labels, data.class_counts),
        'curve': trained['curve'],
        'chosen': last.meta.get('chosen', {}),
        'warnings': sorted({warning for meta in metas.values() for warning in meta['warnings']}),
        'cost': {
            'parameters': sized['cost']['parameters'],
            'flops': sized['cost']['flops'],
            'wall_seconds': round(sum(meta['cost']['wall_seconds'] for meta in metas.values()), 3),
            'cpu_seconds': round(sum(meta['cost']['cpu_seconds'] for meta in metas.values()), 3),
            'images_per_second': trained['cost']['images_per_second'],
            'peak_memory_mb': max(meta['cost']['peak_memory_mb'] for meta in metas.values()),
        },
        'environment': last.meta['environment'],
    }
    write_record(path, record)
    return record


def _identity(run: Run) -> dict[str, Any]:
    return {
        'benchmark': run.benchmark.name,
        'imbalance_factor': run.benchmark.data.get('imbalance_factor'),
        'setting': run.benchmark.setting,
        'method': run.method,
        'run_seed': run.seed,
        'fingerprint': run.fingerprint,
    }


def _with_head(stage: Stage) -> Stage:
    """The stage that made the head a run's logits come from."""
    while stage.kind not in ('head', 'train'):
        assert stage.needs is not None
        stage = stage.needs
    return stage

"""Cached plans: `status` and `run --dry-run` show stages without importing torch.

Planning imports the files of all methods, and these import torch. Stages are plain data: they are stored in the user's
cache, and are valid while no code, config or data file has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ltbench.benchmark import Benchmark
from ltbench.console import meanwhile
from ltbench.grid.answer import cached_answers
from ltbench.grid.cost import Scale
from ltbench.grid.graph import CachedPlan, Graph, Run
from ltbench.grid.selection import Selection, choose_suite
from ltbench.spec import parse_specs
from ltbench.stage import PARENTS, Stage
from ltbench.suite import Suite


@dataclass(frozen=True)
class Outline:
    """The planned runs of a selection.

    Attributes:
        suite: The suite, with the names that were chosen.
        graph: The stages of all runs, each once.
        broken: Methods without a plan, with their reasons.
        notes: What a user should know about benchmarks and data.
        lacking: Notes on benchmarks without data, one line each.
        scales: How much there is to compute on each of :attr:`benchmarks`; None if that is only known with its data.
    """

    suite: Suite
    graph: Graph
    broken: Mapping[str, str]
    notes: list[str]
    lacking: Sequence[str] = ()
    scales: Sequence[Scale | None] = ()

    @property
    def benchmarks(self) -> list[Benchmark]:
        """The benchmarks of the runs, each once."""
        return list({id(run.benchmark): run.benchmark for run in self.graph.runs}.values())


def outline(selection: Selection, plugin_files: Iterable[str] = ()) -> Outline:
    """The graph of a selection, from the cache or planned now.

    Args:
        selection: What was asked for.
        plugin_files: Files with methods; with these nothing is cached.

    Raises:
        UsageError: For anything unknown or contradictory.
    """
    plugin_files = list(plugin_files)
    answers = None if plugin_files else cached_answers('plan', selection)
    if answers is not None and (answer := answers.find()) is not None:
        return _read(answer['content'], choose_suite(selection))
    with meanwhile('importing torch'):
        from ltbench import plugins
        from ltbench.data import load_data
        from ltbench.grid.planning import plan_selection
        from ltbench.grid.scale import published_size, scale_of

    suite, planned = plan_selection(selection, plugin_files, needs_data=False)
    graph, broken, lacking = planned
    notes: dict[str, None] = {}
    files: list[Sequence[Path] | None] = []
    scales: list[Scale | None] = []
    for benchmark, has_data in {id(run.benchmark): (run.benchmark, bool(run.data)) for run in graph.runs}.values():
        data = load_data(benchmark.data) if has_data else None
        notes |= dict.fromkeys([*benchmark.notes, *(data.notes if data else ())])
        files += [data.files] if data else []
        size = data.size if data else published_size(benchmark)
        scales.append(size and scale_of(benchmark, size))
    found = Outline(suite, graph, broken, list(notes), planned.notes_on_missing_data(selection), scales)
    complete = not (broken or lacking or plugins.not_loaded()) and all(each is not None for each in files)
    if answers is not None and complete:
        answers.keep(_write(found), [path for each in files for path in each or ()])
    return found


def _write(found: Outline) -> dict[str, Any]:
    """As plain data: each benchmark, and each stage, once."""
    benchmarks = found.benchmarks
    stages: dict[str, dict[str, Any]] = {}  # parents first

    def take(stage: Stage) -> str:
        key = stage.fingerprint
        if key not in stages:
            parents = {name: parent and take(parent) for name, parent in stage.named_parents().items()}
            entry = {'fingerprint': key, 'code': stage.code, 'kind': stage.kind, 'config': stage.config}
            stages[key] = {**entry, **parents}
        return key

    return {
        'benchmarks': [{each.name: getattr(item, each.name) for each in fields(Benchmark)} for item in benchmarks],
        'runs': [
            {
                'benchmark': benchmarks.index(run.benchmark),
                'method': str(run.method),
                'seed': run.seed,
                'data': run.data,
                'stages': [take(stage) for stage in run.stages],
                'measured_by': run.measured_by,
                'probes': [take(stage) for stage in run.probes],
            }
            for run in found.graph.runs
        ],
        'stages': list(stages.values()),
        'notes': found.notes,
        'scales': found.scales,
    }


def _read(answer: Mapping[str, Any], suite: Suite) -> Outline:
    benchmarks = [Benchmark(**written) for written in answer['benchmarks']]
    stages: dict[str, Stage] = {}
    for written in answer['stages']:
        parents = {name: stages[written[name]] if written[name] else None for name in PARENTS}
        stage = Stage(written['kind'], written['config'], **parents)
        stages[written['fingerprint']] = stage.known_as(written['fingerprint'], written['code'])
    runs = []
    for written in answer['runs']:
        planned, probes = (tuple(stages[key] for key in written[name]) for name in ('stages', 'probes'))
        plan = CachedPlan(written['data'], planned, probes)
        benchmark, measured_by = benchmarks[written['benchmark']], tuple(written['measured_by'])
        runs.append(Run(benchmark, parse_specs(written['method']), written['seed'], plan, measured_by))
    scales = [scale and Scale(*scale) for scale in answer['scales']]
    return Outline(suite, Graph(runs), {}, answer['notes'], scales=scales)

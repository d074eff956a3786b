"""Stages of each method, and which other methods share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ltbench.benchmark import load_benchmark
from ltbench.errors import given
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.spec import Specs, parse_specs


def stages_and_shares(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """For each method, its stages as text, and what it shares with others, on the embedded benchmark.

    A method that raises while planning is described by its error.
    """
    benchmark = load_benchmark('digits_lt')
    runs, described = [], {}
    for method in methods:
        try:
            run = Run(benchmark, parse_specs(method), 0, make_plan(method, benchmark, '', 0))
            given(run.fingerprint)  # reads the code of its parts, which may fail
            runs.append(run)
        except Exception as error:  # noqa: BLE001 - a method is foreign code; it is listed all the same
            described[method] = (f'{type(error).__name__}: {error}', '')
    graph = Graph(runs)
    stages = {run.method: graph.ancestors(run.fingerprint) for run in runs}
    for run in runs:
        kinds = [stage.kind for stage in run.stages]
        words = [f'{kind} x{kinds.count(kind)}' if kinds.count(kind) > 1 else kind for kind in dict.fromkeys(kinds)]
        if run.stages[-1].tuned_on is not None:
            words.append('(train on less data, to choose values)')
        described[str(run.method)] = (' > '.join(words), _shared(run, runs, graph, stages))
    return described


def _shared(run: Run, runs: Sequence[Run], graph: Graph, stages: Mapping[Specs, list[str]]) -> str:
    same = [str(other.method) for other in runs if other.fingerprint == run.fingerprint and other is not run]
    if same:
        return f'everything with {_names(same)}'
    with_others: dict[int, list[str]] = {}
    for other in runs:
        common = [graph.stages[key] for key in stages[run.method] if key in stages[other.method]]
        epochs = sum(stage.end - stage.begin for stage in common if stage.kind == 'train')
        if other is not run and epochs:
            with_others.setdefault(epochs, []).append(str(other.method))
    if not with_others:
        return ''
    most = max(with_others)
    return f'{most} of {run.stages[0].config["recipe"]["epochs"]} epochs with {_names(with_others[most])}'


def _names(names: Sequence[str]) -> str:
    shown = sorted(names, key=lambda name: (name != 'erm', name))
    return ', '.join(shown[:3]) + (f' and {len(shown) - 3} more' if len(shown) > 3 else '')

"""What `run --dry-run` shows: the stages of a selection, which of them are to do, and how long that will take."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from rich.console import Console
from rich.table import Table

from ltbench.console import make_console
from ltbench.grid.answer import show
from ltbench.grid.cost import Costs, Scale, bytes_of, flops_of, images_of
from ltbench.grid.graph import Graph
from ltbench.grid.outline import Outline, outline
from ltbench.grid.recording import note_on_other_tables, without_recorded
from ltbench.grid.selection import Selection
from ltbench.grid.status import continued_from_store, needed_stages
from ltbench.store import Store
from ltbench.verbs.view import duration


def show_plan(selection: Selection, plugin_files: Iterable[str]) -> None:
    """Print the stages of a selection, and train nothing.

    Args:
        selection: The runs.
        plugin_files: Files with methods.
    """
    console, store = make_console(), Store()
    found = outline(selection, plugin_files)
    suite, graph = found.suite, found.graph
    if selection.skip_recorded:
        count, graph = len(graph.runs), without_recorded(graph, suite)
        console.print(f'{count - len(graph.runs)} of {count} runs already have a record and are skipped.')
    not_comparable = note_on_other_tables(suite, graph)
    show([*found.notes, *found.lacking, *([f'note: {not_comparable}'] if not_comparable else [])], console)
    graph = continued_from_store(graph, store)
    needed = set(needed_stages(graph, store))
    table = Table('stage', 'kind', 'epochs', 'state', 'begins from', 'for', box=None)
    for key, stage in graph.stages.items():
        epochs = str(stage.end - stage.begin) if stage.kind == 'train' else ''
        state = 'to do' if key in needed else 'found' if store.find(key) else 'not needed'
        parent = ', '.join(parent.fingerprint[:10] for parent in stage.parents)
        runs = graph.runs_of(key)
        table.add_row(
            key[:10], stage.kind, epochs, state, parent, str(runs[0]) + (f' +{len(runs) - 1}' if runs[1:] else '')
        )
    console.print(table)
    train_epochs = {key: stage.end - stage.begin for key, stage in graph.stages.items() if stage.kind == 'train'}
    alone = sum(train_epochs.get(key, 0) for run_ in graph.runs for key in graph.lineage(run_.fingerprint))
    to_do = sum(count for key, count in train_epochs.items() if key in needed)
    console.print(
        f'{len(graph.runs)} runs, {len(graph.stages)} stages, {len(needed)} to do: {to_do} epochs to train; '
        f'{sum(train_epochs.values())} epochs in all against {alone} if each run were trained alone.'
    )
    _show_work(found, graph, needed, console)


def _show_work(found: Outline, graph: Graph, needed: set[str], console: Console) -> None:
    """The amount of work on each benchmark, and how long it will take."""
    scales = {id(benchmark): scale for benchmark, scale in zip(found.benchmarks, found.scales, strict=True)}
    scale_of: dict[str, Scale] = {}  # by stage
    table = Table('to do on', 'runs', 'networks', 'epochs', 'images (M)', 'exaFLOP', 'disk (GB)', box=None)
    for column in table.columns[1:]:
        column.justify = 'right'
    for benchmark in found.benchmarks:
        runs, scale = [run for run in graph.runs if run.benchmark is benchmark], scales[id(benchmark)]
        keys = {key for run in runs for end in run.ends for key in graph.lineage(end)} & needed
        stages = [graph.stages[key] for key in keys]
        networks = [stage for stage in stages if stage.kind == 'train']
        counted = ['?'] * 3
        if scale is not None:
            scale_of |= dict.fromkeys(keys, scale)
            counted = [
                f'{sum(images_of(stage, scale) for stage in stages) / 1e6:,.1f}',
                f'{sum(flops_of(stage, scale) for stage in stages) / 1e18:,.3g}',
                f'{sum(bytes_of(stage, scale) for stage in stages) / 1e9:,.2f}',
            ]
        epochs = sum(stage.end - stage.begin for stage in networks)
        where = f'{runs[0].where} ({benchmark.setting})' if runs else benchmark.name
        table.add_row(where, str(len(runs)), str(len(networks)), str(epochs), *counted)
    console.print(table)
    console.print('Counted for the plain network and one view of an image; more experts or views take more.')
    costs = Costs()
    seconds = {key: costs.of(graph, key) for key in needed}
    known = [value for value in seconds.values() if value is not None]
    if known:
        unknown_ones = (
            f'; no similar earlier record for {len(seconds) - len(known)} stages' if len(known) < len(seconds) else ''
        )
        console.print(f'About {duration(sum(known))} of work, by {costs.records} earlier records{unknown_ones}.')
    left = sum(flops_of(graph.stages[key], scale_of[key]) for key in needed & scale_of.keys() if seconds[key] is None)
    if left:
        rest = f'{"The other" if known else "The"} {left / 1e18:.3g} exaFLOP'
        if not costs.rates:
            console.print(f'{rest} cannot be estimated in hours: no recorded run gives a speed.')
            return
        console.print(f'{rest} would take, at the speed of recorded networks:')
        speeds = Table('machine, threads, precision', 'networks', 'GFLOP/s', 'time', box=None)
        for machine, rates in sorted(costs.rates.items(), key=lambda item: -median(item[1])):
            rate = median(rates)
            speeds.add_row(machine, str(len(rates)), f'{rate / 1e9:,.0f}', duration(left / rate))
        console.print(speeds)

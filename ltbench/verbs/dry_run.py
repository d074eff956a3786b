"""What `run --dry-run` shows: the stages of a selection, which of them are to do, and what that will take."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from ltbench.console import make_console
from ltbench.grid.answer import show
from ltbench.grid.cost import Costs
from ltbench.grid.outline import outline
from ltbench.grid.recording import told_apart, without_recorded
from ltbench.grid.selection import Selection
from ltbench.grid.status import needed_stages
from ltbench.store import Store
from ltbench.verbs.view import duration


def show_plan(selection: Selection, plugin_files: Iterable[str]) -> None:
    """Print the stages of a selection, and train nothing.

    Args:
        selection: What was asked for.
        plugin_files: Files with methods.
    """
    console, store = make_console(), Store()
    found = outline(selection, plugin_files)
    suite, graph = found.suite, found.graph
    if selection.skip_recorded:
        count, graph = len(graph.runs), without_recorded(graph, suite)
        console.print(f'{count - len(graph.runs)} of {count} runs have a record and are left alone.')
    beside = told_apart(suite, graph)
    show([*found.notes, *found.said_first(), *([f'note: {beside}'] if beside else [])], console)
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
    alone = sum(train_epochs.get(key, 0) for run_ in graph.runs for key in graph.ancestors(run_.fingerprint))
    to_do = sum(count for key, count in train_epochs.items() if key in needed)
    console.print(
        f'{len(graph.runs)} runs, {len(graph.stages)} stages, {len(needed)} to do: {to_do} epochs to train; '
        f'{sum(train_epochs.values())} epochs in all against {alone} if each run were trained alone.'
    )
    costs = Costs()
    seconds = [costs.of(graph, key) for key in needed]
    known = [value for value in seconds if value is not None]
    if known:
        unknown_ones = f'; {len(seconds) - len(known)} stages have nothing to be judged by' if known != seconds else ''
        console.print(f'About {duration(sum(known))} of work, by {costs.records} earlier records{unknown_ones}.')

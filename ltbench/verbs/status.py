"""The verb `status`: the state of every run of a selection."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from ltbench.console import make_console
from ltbench.errors import InterruptedRunError
from ltbench.grid.answer import show
from ltbench.grid.graph import Graph
from ltbench.grid.outline import outline
from ltbench.grid.recording import identity_of, other_tables_note, without_recorded
from ltbench.grid.selection import Selection
from ltbench.grid.status import StageState, read_states, state_of_run
from ltbench.record import ROW, RecordIndex, record_name
from ltbench.store import Store
from ltbench.suite import Suite
from ltbench.verbs.view import Line, draw_grid, duration, progress_of

WATCH_SECONDS = 2.0


def status(
    selection: Selection, plugin_files: Iterable[str], watch: bool, write: Callable[[str], None] | None = None
) -> None:
    """Print the state of every run.

    Args:
        selection: The runs.
        plugin_files: Files with methods.
        watch: Refresh it every two seconds until nothing is left to do.
        write: Takes the text for programs, one JSON list of runs; then nothing is printed.
    """
    found = outline(selection, plugin_files)
    suite, graph, broken = found.suite, found.graph, found.broken
    if selection.skip_recorded:
        graph = without_recorded(graph, suite)
    store = Store()
    if write is not None:
        rows = read_rows(suite, graph, store)
        rows += [{'method': method, 'state': 'failed', 'detail': reason} for method, reason in broken.items()]
        write(json.dumps(rows, indent=1) + '\n')
        return
    console = make_console()
    show(found.lacking, console)
    if not watch or not console.is_terminal:
        console.print(_draw(read_rows(suite, graph, store), broken, console))
        return
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                rows = read_rows(suite, graph, store)
                live.update(_draw(rows, broken, console, watched=True), refresh=True)
                if all(row['state'] in ('done', 'recorded', 'failed', 'blocked') for row in rows):
                    return
                time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        raise InterruptedRunError('no longer watching; running stages continue') from None


def read_rows(suite: Suite, graph: Graph, store: Store) -> list[dict[str, Any]]:
    """One row for each run: its identity, state and further details."""
    states, recorded = read_states(graph, store), RecordIndex(suite.name)
    rows = []
    for run in graph.runs:
        state, identity = state_of_run(run, states), identity_of(run)
        if state.state == 'pending':
            name = record_name(identity)
            if not run.data:
                state = StageState('recorded' if recorded.instead_of(name, identity)[1] else 'pending')
            elif recorded.has(name) and not (state.waiting or state.progress):
                state = StageState('recorded', 'made with another store; `ltbench run --skip-recorded` skips it')
            else:
                older, elsewhere = recorded.instead_of(name, identity)
                if older is not None:
                    state = StageState(
                        'stale', f'{older.name} was made by other code; `ltbench run` makes a new record'
                    )
                elif elsewhere and not (state.waiting or state.progress):
                    state = StageState(reason=other_tables_note([(run, fields) for fields in elsewhere]))
        current = {'state': state.state, 'detail': _detail(state), 'host': state.host}
        rows.append({**identity, **current, 'progress': state.progress, 'seconds_left': state.seconds_left})
    return rows


def _draw(rows: list[dict[str, Any]], broken: Mapping[str, str], console: Console, watched: bool = False) -> Group:
    names = _table_names(rows)
    lines = [Line('no plan could be made', method, 0, 'failed', reason) for method, reason in broken.items()]
    lines += [Line(names[_table_of(row)], row['method'], row['run_seed'], row['state'], row['detail']) for row in rows]
    return draw_grid(lines, console, running_first=watched, whole=not watched)


def _table_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ROW[:-1])


def _table_names(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], str]:
    """Benchmark and imbalance factor of each table, with what else is needed to distinguish it from others."""
    tables = dict.fromkeys(_table_of(row) for row in rows)
    names = {}
    for benchmark, factor, setting, table in tables:
        alike = [other for other in tables if other[:2] == (benchmark, factor)]
        more = [setting] if len({other[2] for other in alike}) > 1 else []
        more += [f'table {table[:6]}'] if sum(other[2] == setting for other in alike) > 1 else []
        where = benchmark + (f' IF {factor:g}' if factor is not None else '')
        names[benchmark, factor, setting, table] = where + (f' ({", ".join(more)})' if more else '')
    return names


def _detail(state: StageState) -> str:
    if state.state == 'running':
        left = state.seconds_left
        parts = [progress_of(state), f'{duration(left)} left' if left else '', f'on {state.host}' if state.host else '']
        return ', '.join(part for part in parts if part)
    if state.state == 'pending' and state.waiting:
        return state.waiting
    if state.state == 'pending' and state.progress:
        return f'stopped at epoch {state.progress["done"]}/{state.progress["total"]}; resumes from its last checkpoint'
    return state.reason

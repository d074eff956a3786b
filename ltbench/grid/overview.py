"""The verb `status`: where every run of a selection stands."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ltbench.config import Suite
from ltbench.console import make_console
from ltbench.errors import InterruptedRunError
from ltbench.garbage import uncollected
from ltbench.grid.graph import Graph
from ltbench.grid.run import identity_of
from ltbench.grid.status import STATES, StageState, read_states, state_of_run
from ltbench.grid.view import STYLES, duration, progress_of
from ltbench.record import Recorded, record_name
from ltbench.store import Store

WATCH_SECONDS = 2.0


def show_status(suite: Suite, graph: Graph, broken: Mapping[str, str], watch: bool, as_json: bool) -> None:
    """Print the state of every run.

    Args:
        suite: Says where the records are.
        graph: The runs.
        broken: Methods without a plan, with their reasons.
        watch: Draw it again every two seconds until nothing is left to do.
        as_json: For programs; one JSON list of runs.
    """
    store = Store()
    if as_json:
        rows = read_rows(suite, graph, store)
        rows += [{'method': method, 'state': 'failed', 'detail': reason} for method, reason in broken.items()]
        typer.echo(json.dumps(rows, indent=1))
        return
    console = make_console()
    if not watch or not console.is_terminal:
        console.print(_draw(read_rows(suite, graph, store), broken))
        return
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                rows = read_rows(suite, graph, store)
                live.update(_draw(rows, broken, console.height), refresh=True)
                if all(row['state'] in ('done', 'recorded', 'failed', 'blocked') for row in rows):
                    return
                time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        raise InterruptedRunError('no longer watching; what runs goes on') from None


@uncollected()
def read_rows(suite: Suite, graph: Graph, store: Store) -> list[dict[str, Any]]:
    """One row a run: what it is, its state, and whatever more is known."""
    states, recorded = read_states(graph, store), Recorded(suite.name)
    rows = []
    for run in graph.runs:
        state, identity = state_of_run(run, states), identity_of(run)
        if state.state == 'pending':
            name = record_name(identity)
            if recorded.has(name) and not (state.waiting or state.progress):
                state = StageState('recorded', 'made with another store; `ltbench run --skip-recorded` leaves it alone')
            elif older := recorded.instead_of(name, identity['setting']):
                state = StageState('stale', f'{older.name} is of other code or data; `ltbench run` makes it again')
        told = {'state': state.state, 'detail': _detail(state), 'host': state.host}
        rows.append({**identity, **told, 'progress': state.progress, 'seconds_left': state.seconds_left})
    return rows


def _draw(rows: list[dict[str, Any]], broken: Mapping[str, str], height: int | None = None) -> Group:
    table = Table('benchmark', 'method', 'seed', 'state', 'detail', box=None)
    for method, reason in broken.items():
        table.add_row('', method, '', Text('failed', STYLES['failed']), reason)
    order = ('running', 'failed', 'blocked', 'stale', 'pending', 'recorded', 'done') if height else ()
    shown = sorted(rows, key=lambda row: order.index(row['state'])) if order else rows
    for row in shown[: max(height - 5, 3) if height else None]:
        factor = f' IF {row["imbalance_factor"]:g}' if row['imbalance_factor'] is not None else ''
        state = Text(row['state'], STYLES[row['state']])
        table.add_row(row['benchmark'] + factor, row['method'], str(row['run_seed']), state, row['detail'])
    counts = {state: sum(row['state'] == state for row in rows) for state in STATES}
    counts['failed'] += len(broken)
    return Group(table, Text(', '.join(f'{count} {state}' for state, count in counts.items() if count)))


def _detail(state: StageState) -> str:
    if state.state == 'running':
        left = state.seconds_left
        parts = [progress_of(state), f'{duration(left)} left' if left else '', f'on {state.host}' if state.host else '']
        return ', '.join(part for part in parts if part)
    if state.state == 'pending' and state.waiting:
        return state.waiting
    if state.state == 'pending' and state.progress:
        return f'stopped at epoch {state.progress["done"]}/{state.progress["total"]}; goes on from its last checkpoint'
    return state.reason

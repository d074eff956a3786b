"""Display of a running grid: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ltbench.evaluation.metrics import in_words
from ltbench.grid.graph import Graph, Run, epochs_of
from ltbench.grid.status import StageState, state_of_run

STYLES = {
    'done': 'green', 'recorded': 'green', 'running': 'cyan', 'failed': 'bold red', 'blocked': 'red', 'stale': 'yellow',
    'pending': 'dim',
}  # fmt: skip
LINE_EVERY_SECONDS = 30


SYMBOLS = {
    'done': '●', 'recorded': '●', 'running': '◐', 'failed': '✗', 'blocked': '–', 'stale': '○', 'pending': '·',
}  # fmt: skip
"""Symbol of a seed's state if the terminal has more than ASCII; else the first letter of the state is used."""
FIRST = ('running', 'failed', 'blocked', 'stale', 'pending', 'recorded', 'done')


@dataclass(frozen=True)
class Line:
    """What is shown of a run: its table, method, seed and state, and further details."""

    where: str
    method: str
    seed: int
    state: str
    detail: str = ''


def draw_grid(
    lines: Sequence[Line], console: Console, footer: str = '', running_first: bool = False, whole: bool = False
) -> Group:
    """A block for each table, with a row for each method: one symbol per seed, states in words, and each detail once.

    Args:
        lines: The runs.
        console: Where it is drawn.
        footer: Text after the counts of states.
        running_first: Methods with a running stage come first.
        whole: Show all rows, even if they are more than fit on the terminal.
    """
    blocks: dict[str, dict[str, list[Line]]] = {}
    for line in lines:
        blocks.setdefault(line.where, {}).setdefault(line.method, []).append(line)
    room = 2 * len(lines) + 1 if whole else max(console.height - 4, 3)
    parts: list[Text | Table] = []
    hidden = 0
    for where, methods in blocks.items():
        rows = list(methods.items())
        if running_first:
            rows.sort(key=lambda row: min(FIRST.index(line.state) for line in row[1]))
        if room < 2:
            hidden += len(rows)
            continue
        parts.append(Text(where, 'bold'))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(overflow='fold', max_width=console.width * 5 // 8)
        table.add_column(no_wrap=True)
        table.add_column(overflow='fold')
        for method, runs in rows[: room - 1]:
            table.add_row(f'  {method}', _signs(runs, console), _words(runs))
        parts.append(table)
        hidden += len(rows) - len(rows[: room - 1])
        room -= 1 + len(rows)
    counts = Counter(line.state for line in lines)
    states = ', '.join(f'{counts[state]} {state}' for state in STYLES if counts[state])
    more = f'{hidden} more methods not shown' if hidden else ''
    return Group(*parts, Text('; '.join(part for part in (states, footer, more) if part), 'bold'))


def _signs(runs: Sequence[Line], console: Console) -> Text:
    plain = not (console.encoding or '').lower().startswith('utf')
    return Text.assemble(*((line.state[0] if plain else SYMBOLS[line.state], STYLES[line.state]) for line in runs))


def _words(runs: Sequence[Line]) -> str:
    """States and details of a method's seeds; equal ones are shown once for all their seeds."""
    alike: dict[tuple[str, str], list[int]] = {}
    for line in runs:
        alike.setdefault((line.state, line.detail), []).append(line.seed)
    texts = []
    for (state, detail), seeds in alike.items():
        which = (
            f'seed{"s" if seeds[1:] else ""} {", ".join(map(str, seeds))}: ' if alike.keys() - {(state, detail)} else ''
        )
        texts.append(which + (detail if state == 'done' and detail else state + (f', {detail}' if detail else '')))
    return '\n'.join(texts)


class PlainView:
    """One line for each finished or failed run, and every half minute one on what is running."""

    def __init__(self, graph: Graph, needed: list[str], console: Console) -> None:
        self.graph, self.console = graph, console
        self.estimate = Estimate(graph, needed)
        self.runs = [run for run in graph.runs if not set(needed).isdisjoint(run.ends)]
        self.finished = 0
        self.reported: set[tuple[str, str]] = set()
        self.last_line = time.monotonic()

    def __enter__(self) -> PlainView:
        self.console.print(f'{len(self.runs)} runs, {len(self.estimate.work)} stages to do')
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def recorded(self, run: Run, record: Mapping[str, Any]) -> None:
        """A run has finished."""
        self.finished += 1
        self._print(f'{run}  {in_words(record["metrics"])}')

    def update(self, states: dict[str, StageState]) -> None:
        """Print new failures, and every half minute what is running."""
        for key, state in states.items():
            if state.state != 'blocked' and state.reason and (key, state.reason) not in self.reported:
                self.reported.add((key, state.reason))
                names = ', '.join(str(run) for run in self.graph.runs_of(key))
                self._print(f'{"FAILED" if state.state == "failed" else "again:"} {names}: {state.reason}')
        if time.monotonic() - self.last_line > LINE_EVERY_SECONDS:
            for key, state in states.items():
                if state.state == 'running':
                    run = self.graph.runs_of(key)[0]
                    self._print(f'  running {run}: {self.graph.stages[key].kind} {progress_of(state)}')
            waiting = [state.waiting for state in states.values() if state.waiting]
            if waiting:
                self._print(f'  waiting: {len(waiting)} ({waiting[0]}' + (', ...)' if waiting[1:] else ')'))
            self._print(f'  {self.finished}/{len(self.runs)} runs finished{left(self.estimate.seconds_left(states))}')

    def _print(self, line: str) -> None:
        self.last_line = time.monotonic()
        self.console.print(line, highlight=False, soft_wrap=True)


class LiveView:
    """A table of runs with state, accuracy so far and time left, redrawn in place."""

    def __init__(self, graph: Graph, needed: list[str], console: Console) -> None:
        self.graph, self.console = graph, console
        self.estimate = Estimate(graph, needed)
        self.runs = [run for run in graph.runs if not set(needed).isdisjoint(run.ends)]
        self.results: dict[tuple[str, str], str] = {}
        self.states: dict[str, StageState] = {}
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveView:
        self.live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.live.__exit__(*exception)

    def recorded(self, run: Run, record: Mapping[str, Any]) -> None:
        """A run has finished."""
        self.results[run.fingerprint, str(run.method)] = in_words(record['metrics'])

    def update(self, states: dict[str, StageState]) -> None:
        """Redraw."""
        self.states = states
        self.live.update(self._draw(), refresh=True)

    def _draw(self) -> Group:
        known = self._known()
        lines = [self._line(run, state_of_run(run, known)) for run in self.runs]
        ended = sum(line.state == 'done' for line in lines)
        footer = f'{ended}/{len(lines)} runs finished{left(self.estimate.seconds_left(self.states))}'
        return draw_grid(lines, self.console, footer, running_first=True)

    def _line(self, run: Run, state: StageState) -> Line:
        if found := self.results.get((run.fingerprint, str(run.method))):
            return Line(run.where, str(run.method), run.seed, 'done', found)
        detail = state.reason or state.waiting
        if not detail and state.state == 'running':
            detail = progress_of(state) + left(state.seconds_left)
            owner = self._owner(run)
            detail = f'shared with {owner}' if owner != str(run.method) else detail
        return Line(run.where, str(run.method), run.seed, state.state, detail)

    def _owner(self, run: Run) -> str:
        """The method that shows the progress of a run's current stage: the first that needs this stage."""
        for stage in run.stages:
            if self.states.get(stage.fingerprint, StageState()).state == 'running':
                return str(self.graph.runs_of(stage.fingerprint)[0].method)
        return str(run.method)

    def _known(self) -> dict[str, StageState]:
        return {key: self.states.get(key, StageState('done')) for key in self.graph.stages}


class Estimate:
    """Time left for the whole grid, from the share of its epochs done since it started."""

    def __init__(self, graph: Graph, needed: list[str]) -> None:
        self.work = {key: epochs_of(graph.stages[key]) for key in needed}
        self.started = time.monotonic()

    def seconds_left(self, states: Mapping[str, StageState]) -> float | None:
        """None before anything has been done."""
        done = to_do = 0.0
        for key, epochs in self.work.items():
            state = states.get(key, StageState())
            share = 1.0 if state.state == 'done' else 0.0
            if state.state == 'running' and state.progress:
                share = state.progress['done'] / state.progress['total']
            done += share * epochs
            if state.state in ('running', 'pending'):
                to_do += (1 - share) * epochs
        return (time.monotonic() - self.started) * to_do / done if done else None


def make_view(graph: Graph, needed: list[str], console: Console) -> LiveView | PlainView:
    """A live table on a terminal, plain lines elsewhere."""
    return (LiveView if console.is_terminal else PlainView)(graph, needed, console)


def progress_of(state: StageState) -> str:
    """Epoch, and accuracy on the training batches so far."""
    if not state.progress:
        return ''
    accuracy = state.progress.get('accuracy')
    shown = f'  train accuracy {accuracy:.1f}' if accuracy is not None else ''
    return f'epoch {state.progress["done"]}/{state.progress["total"]}{shown}'


def left(seconds: float | None) -> str:
    """``', 3 min left'``, or nothing if unknown."""
    return f', {duration(seconds)} left' if seconds else ''


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    if seconds < 5400:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.1f} h' if seconds < 3 * 86_400 else f'{seconds / 86_400:,.0f} days'

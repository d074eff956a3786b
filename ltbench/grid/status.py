"""State of each stage and run of a graph, read from the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ltbench.console import say
from ltbench.grid.graph import Graph, Run
from ltbench.sealed import UnreadableFileError
from ltbench.store import Store


@dataclass
class StageState:
    """State of one stage.

    Attributes:
        state: ``'done'``, ``'running'``, ``'pending'``, ``'blocked'`` (a parent failed) or ``'failed'``; of a run also
            ``'recorded'`` (it has a record, but nothing in this store) or ``'stale'`` (recorded by other code).
        reason: Why it failed or is blocked, or is tried again.
        progress: What the worker last reported: ``done`` and ``total`` epochs, ``loss``, ``accuracy``, times.
        host: Where it runs.
        waiting: What a pending stage that was submitted waits for.
    """

    state: str = 'pending'
    reason: str = ''
    progress: dict[str, Any] = field(default_factory=dict)
    host: str = ''
    waiting: str = ''

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the epochs of this session so far."""
        done, total = self.progress.get('done'), self.progress.get('total')
        if self.state != 'running' or not done:
            return None
        first = self.progress.get('first', 0)
        elapsed = self.progress['updated'] - self.progress['started']
        return elapsed * (total - done) / max(done - first, 1)


def read_states(graph: Graph, store: Store) -> dict[str, StageState]:
    """State of every stage of a graph."""
    states: dict[str, StageState] = {}
    for key, stage in graph.stages.items():
        states[key] = read_state(key, store)
        for parent in stage.parents:
            if states[key].state == 'pending' and states[parent.fingerprint].state in ('failed', 'blocked'):
                states[key] = StageState('blocked', f'the {parent.kind} stage it needs failed')
    return states


def read_state(key: str, store: Store) -> StageState:
    """State of one stage, regardless of its parents."""
    if store.has(key):
        return StageState('done')
    if not store.work(key).is_dir():
        return StageState('pending')
    owner = store.owner(key)
    if owner is not None:
        return StageState('running', progress=store.read(key, 'progress') or {}, host=owner.get('host', ''))
    failure = store.read(key, 'failure')
    if failure is not None:
        return StageState('failed', failure['reason'])
    submitted = store.read(key, 'submitted')
    waiting = f'submitted to {submitted["where"]} as {submitted["job"]}' if submitted else ''
    return StageState('pending', progress=store.read(key, 'progress') or {}, waiting=waiting)


def state_of_run(run: Run, states: dict[str, StageState]) -> StageState:
    """That of its last stage if that is done; else of its first failed, else its first running, else its last stage."""
    if states[run.fingerprint].state == 'done':
        lacking = [name for name, end in zip(run.measured_by, run.ends[1:], strict=True) if states[end].state != 'done']
        return StageState('done', f'still to be measured: {", ".join(lacking)}') if lacking else states[run.fingerprint]
    own_states = [states[stage.fingerprint] for stage in run.stages]
    for wanted in ('failed', 'running'):
        for state in own_states:
            if state.state == wanted:
                return state
    return states[run.fingerprint]


def continued_from_store(graph: Graph, store: Store) -> Graph:
    """The graph in which each missing train stage starts from the latest stored epoch of the same history, whichever
    run produced it."""
    if all(stage.kind != 'train' or store.has(key) for key, stage in graph.stages.items()):
        return graph
    try:
        stored = store.fingerprints()
    except (UnreadableFileError, PermissionError) as error:  # unreadable folders of other users do not stop this run
        say(f'note: {error}; so no training continues from the epochs of other commands')
        return graph
    return Graph(graph.runs, set(stored))


def needed_stages(graph: Graph, store: Store) -> list[str]:
    """Stages to carry out: those of unfinished runs and probes, up to the nearest ancestor with an artifact."""
    needed: set[str] = set()
    for run in graph.runs:
        waiting = [*run.ends]
        while waiting:
            key = waiting.pop()
            if key not in needed and store.find(key) is None:
                needed.add(key)
                waiting.extend(parent.fingerprint for parent in graph.stages[key].parents)
    return [key for key in graph.stages if key in needed]

"""The local executor: one process a stage at a time per slot, N slots."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver as forkserver
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

from ltbench.errors import EXIT_CLAIMED
from ltbench.grid.graph import Graph
from ltbench.grid.status import StageState, read_state
from ltbench.registry import EXECUTORS
from ltbench.store import Store

TICK_SECONDS = 0.2
PRELOAD = ['ltbench.engine.worker', 'sklearn.datasets']
"""Imported once by the fork server, so that a worker process starts in milliseconds."""


def default_slots() -> int:
    """One a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@EXECUTORS.register_module(name='local')
class LocalExecutor:
    """Carries out a graph's missing stages on this machine.

    Args:
        store: Where artifacts are found and put.
        runtime: ``ltbench.engine.job.Runtime`` as plain data, handed to every worker.
        slots: Stages at once.
    """

    def __init__(self, store: Store, runtime: dict[str, Any], slots: int | None = None) -> None:
        self.store, self.runtime, self.slots = store, runtime, slots or default_slots()
        self.context = multiprocessing.get_context('forkserver')
        self.context.set_forkserver_preload(PRELOAD)

    def run(self, graph: Graph) -> Iterator[dict[str, StageState]]:
        """Start every stage that is needed and ready, most urgent first, until none is left.

        A stage that another driver is making is waited for. A failed stage blocks what rests on it; the others go on.
        When the generator is closed (Ctrl-C), the workers are ended; their checkpoints stay.

        Yields:
            The states of the needed stages, a few times a second.
        """
        _start_fork_server()
        states = {key: StageState() for key in needed_stages(graph, self.store)}
        order = sorted(states, key=lambda key: -graph.urgency[key])
        workers: dict[str, _Worker] = {}
        try:
            while True:
                for key in order:
                    if len(workers) < self.slots and self._is_ready(key, graph, states, workers):
                        workers[key] = self._start(key, graph)
                        states[key] = StageState('running', host='here')
                for key, worker in workers.items():
                    progress = self.store.read(key, 'progress') or {}
                    if progress.get('updated', 0) >= worker.started:
                        states[key].progress = progress
                yield states
                if all(state.state in ('done', 'failed', 'blocked') for state in states.values()):
                    return
                wait([worker.process.sentinel for worker in workers.values()], timeout=TICK_SECONDS)
                for key in [key for key, worker in workers.items() if not worker.process.is_alive()]:
                    self._finish(key, workers.pop(key), graph, states)
                if not workers:
                    time.sleep(TICK_SECONDS)  # all that is left is in other hands
        finally:
            for worker in workers.values():
                worker.end()

    def _is_ready(self, key: str, graph: Graph, states: dict[str, StageState], workers: dict[str, _Worker]) -> bool:
        if key in workers or states[key].state in ('done', 'failed', 'blocked'):
            return False
        for parent in graph.stages[key].parents:
            if parent.fingerprint in states and states[parent.fingerprint].state != 'done':
                return False
        elsewhere = read_state(key, self.store)
        if elsewhere.state in ('done', 'running'):
            states[key] = elsewhere
            return False
        return True

    def _start(self, key: str, graph: Graph) -> _Worker:
        job = {
            'fingerprint': key,
            'stage': graph.stages[key].to_json(),
            'store': str(self.store.root),
            'runtime': self.runtime,
        }
        theirs, ours = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_work, args=(job, theirs))
        process.start()
        theirs.close()
        return _Worker(process, ours, time.time())

    def _finish(self, key: str, worker: _Worker, graph: Graph, states: dict[str, StageState]) -> None:
        worker.process.join()
        code = worker.process.exitcode
        if code == EXIT_CLAIMED:
            states[key] = StageState()
            return
        if code == 0 and self.store.find(key) is not None:
            states[key] = StageState('done')
            return
        failure = self.store.read(key, 'failure') or {}
        if (code is not None and code < 0) or failure.get('time', 0) < worker.started:
            reason = (
                f'killed by {signal.Signals(-code).name}' if code and code < 0 else f'worker ended with code {code}'
            )
            failure = {'reason': reason, 'time': time.time()}
            self.store.write(key, 'failure', failure)
        damaged = [p.fingerprint for p in graph.stages[key].parents if self.store.find(p.fingerprint) is None]
        if damaged:  # an artifact it needs did not pass its check and was set aside: make it again, then this one
            for again in (key, *damaged):
                states[again] = StageState()
            return
        states[key] = StageState('failed', failure['reason'])
        for descendant in graph.descendants(key):
            if descendant in states:
                states[descendant] = StageState('blocked', f'the {graph.stages[key].kind} stage it needs failed')


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: Connection
    started: float

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _start_fork_server() -> None:
    """Start the fork server so that Ctrl-C passes it by: the driver ends the workers itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def needed_stages(graph: Graph, store: Store) -> list[str]:
    """Stages to carry out: those of unfinished runs, up to the nearest ancestor whose artifact is there."""
    needed: set[str] = set()
    for run in graph.runs:
        waiting = [run.fingerprint]
        while waiting:
            key = waiting.pop()
            if key not in needed and store.find(key) is None:
                needed.add(key)
                waiting.extend(parent.fingerprint for parent in graph.stages[key].parents)
    return [key for key in graph.stages if key in needed]


def _work(job: dict[str, Any], alive: Connection) -> None:
    from ltbench.engine.worker import process

    process(job, alive)

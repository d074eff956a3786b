"""Base of all executors: when a stage is started, and what its end means."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

from ltbench.engine.job import Job, Runtime
from ltbench.errors import EXIT_CLAIMED, EXIT_FAILED, StoreError, UsageError
from ltbench.grid.graph import Graph
from ltbench.grid.status import StageState, needed_stages, read_state
from ltbench.store import Store

TICK_SECONDS = 0.2
TRIES = 2
"""Of a stage that was killed, or failed for a reason that may be temporary."""
AGAIN_SECONDS = 5.0
"""Before a stage that a worker found claimed by another process is tried again, if it looks free from here."""
RETURNS = 20
"""Of a worker in a row that finds the stage claimed, while nobody holds it and no epoch is done: so many take longer
than the claim of a dead process is valid."""
LATE_SECONDS = 10.0
"""For a worker to end by itself once its artifact exists, whoever made it."""


class Task(ABC):
    """A stage that was handed to a worker process, on this machine or another.

    Attributes:
        reason: Why it ended, if neither the worker nor the exit code says so.
        waiting: Why it has not started yet, as text; empty once it runs.
    """

    reason = ''
    waiting = ''

    @abstractmethod
    def poll(self) -> int | None:
        """None while it waits or runs; then the worker's exit code, negative for a signal."""

    @abstractmethod
    def end(self) -> None:
        """End it now; its checkpoints stay."""


class Executor(ABC):
    """Carries out a graph's missing stages; a subclass says where.

    Args:
        store: Where artifacts are found and put.
        runtime: How every stage is carried out.
        slots: Devices in use at once; most stages take one.
    """

    tick_seconds: ClassVar[float] = TICK_SECONDS

    def __init__(self, store: Store, runtime: Runtime, slots: int) -> None:
        self.store, self.runtime, self.slots = store, runtime, slots

    @abstractmethod
    def start(self, jobs: Mapping[str, Job]) -> dict[str, Task]:
        """Start jobs, by fingerprint, most urgent first; never more than there are free slots."""

    def prepare(self, graph: Graph) -> None:
        """Check that the graph can be carried out here, before anything is started.

        Raises:
            UsageError: If not; the message says what is missing.
        """
        widest = max((stage.devices for stage in graph.stages.values()), default=1)
        if widest > self.slots:
            raise UsageError(f'{widest} devices per run need {widest} slots, got {self.slots}: --workers {widest}')

    def wait(self, tasks: Mapping[str, Task]) -> None:
        """Sleep for a moment, or until a task has ended."""
        time.sleep(self.tick_seconds)

    def end(self, tasks: Sequence[Task]) -> None:
        """End tasks now; their checkpoints stay."""
        for task in tasks:
            task.end()

    def run(self, graph: Graph, timeout: float | None = None) -> Generator[dict[str, StageState], None, None]:
        """Start every stage that is needed and ready, most urgent first, until none is left.

        A stage that another driver is making is waited for. A failed stage blocks the stages that depend on it; the
        others continue. One that was killed, or failed for a reason that may be temporary, is tried once more. When the
        generator is closed (Ctrl-C), the tasks are ended; their checkpoints stay.

        Args:
            graph: The runs.
            timeout: Seconds of work after which a stage is ended as failed.

        Yields:
            The states of the needed stages, a few times a second.
        """
        self.prepare(graph)
        states = {key: StageState() for key in needed_stages(graph, self.store)}
        self.tries: Counter[str] = Counter()
        self.again: dict[str, str] = {}  # why; kept while a killed worker still looks alive
        self.returns: dict[str, list[int]] = {}
        self.found_claimed: dict[str, float] = {}
        self.seen_at_work: dict[str, float] = {}
        self.seen_done: dict[str, float] = {}
        tasks: dict[str, Task] = {}
        try:
            while True:
                for key in states.keys() - tasks.keys():
                    if states[key].state == 'running':
                        states[key] = self._elsewhere(key)
                for key, task in self.start(self._next(graph, states, tasks)).items():
                    tasks[key] = task
                    states[key] = StageState('running', self.again.get(key, ''), host='here')
                for key, task in tasks.items():
                    states[key].state, states[key].waiting = ('pending' if task.waiting else 'running'), task.waiting
                    with suppress(StoreError):  # as of a network disk for a moment: what was known is shown on
                        states[key].progress = self.store.read(key, 'progress') or {}
                yield states
                if all(state.state in ('done', 'failed', 'blocked') for state in states.values()):
                    return
                self.wait(tasks)
                for key, task in list(tasks.items()):
                    code, reason = task.poll(), task.reason
                    if code is None and timeout is not None and self._seconds_at_work(key, task) > timeout:
                        task.end()
                        code, reason = EXIT_FAILED, f'took longer than {timeout / 60:g} minutes'
                    if code is None and self._is_overdue(key):
                        task.end()  # it was suspended, for example, and another driver's worker has made the artifact
                        code = 0
                    if code is not None:
                        del tasks[key]
                        self.seen_at_work.pop(key, None)
                        self._finish(key, code, reason, graph, states)
        finally:
            self.end(list(tasks.values()))

    def _next(self, graph: Graph, states: dict[str, StageState], tasks: Mapping[str, Task]) -> dict[str, Job]:
        """Jobs of the most urgent stages that are ready, as many as fit into the free slots."""
        free = self.slots - sum(graph.stages[key].devices for key in tasks)
        jobs: dict[str, Job] = {}
        for key in sorted(states, key=lambda key: -graph.urgency[key]):
            if free < 1:
                break
            if key not in tasks and self._is_ready(key, graph, states):
                free -= graph.stages[key].devices
                if free < 0:
                    break  # less urgent stages must not delay a wide one for ever
                for name in ('failure', 'worker'):  # of an earlier try
                    self.store.forget(key, name)
                jobs[key] = Job(graph.stages[key], str(self.store.root), self.runtime)
        return jobs

    def _is_ready(self, key: str, graph: Graph, states: dict[str, StageState]) -> bool:
        if states[key].state in ('done', 'failed', 'blocked'):
            return False
        for parent in graph.stages[key].parents:
            if parent.fingerprint in states and states[parent.fingerprint].state != 'done':
                return False
        elsewhere = self._elsewhere(key)
        if elsewhere.state != 'pending':
            states[key] = elsewhere
            return False
        # other machines than its own accept a dead process' claim for a minute; ours may be its own
        return time.monotonic() - self.found_claimed.get(key, -AGAIN_SECONDS) >= AGAIN_SECONDS

    def _elsewhere(self, key: str) -> StageState:
        """State of a stage that is no task of ours: done or made by another driver, else pending, even if it failed."""
        try:
            state = read_state(key, self.store)
        except (StoreError, OSError):  # a disk error, for example: the claim decides
            return StageState()
        return state if state.state in ('done', 'running') else StageState()

    def _seconds_at_work(self, key: str, task: Task) -> float:
        """Since a worker was first seen at work, by this process' clock; waiting in a queue does not count."""
        with suppress(StoreError):  # as of a network disk for a moment
            if task.waiting or self.store.read(key, 'worker') is None:
                self.seen_at_work.pop(key, None)
                return 0.0
        return time.monotonic() - self.seen_at_work.setdefault(key, time.monotonic())

    def _is_overdue(self, key: str) -> bool:
        """Whether the artifact has been there for so long that a worker that still runs will not end by itself."""
        if not self.store.has(key):
            self.seen_done.pop(key, None)
            return False
        return time.monotonic() - self.seen_done.setdefault(key, time.monotonic()) > LATE_SECONDS

    def _finish(self, key: str, code: int, reason: str, graph: Graph, states: dict[str, StageState]) -> None:
        """Set the state of a stage whose task has ended: by its artifact if it exists, else by the worker's report."""
        try:
            self._judge(key, code, reason, graph, states)
        except StoreError as error:  # a disk error, for example: this stage fails, the others continue
            self._fail(key, str(error), graph, states)

    def _judge(self, key: str, code: int, reason: str, graph: Graph, states: dict[str, StageState]) -> None:
        if self.store.find(key) is not None:
            states[key] = StageState('done')
            return
        if code == EXIT_CLAIMED:
            self._returned(key, graph, states)
            return
        failure = self.store.read(key, 'failure')
        if reason or code < 0 or failure is None:
            by_code = f'killed by {signal.Signals(-code).name}' if code < 0 else f'worker ended with code {code}'
            failure = {'reason': reason or by_code, 'time': time.time()}
            self.store.write(key, 'failure', failure)
        damaged = [p.fingerprint for p in graph.stages[key].parents if self.store.find(p.fingerprint) is None]
        if damaged:  # an artifact it needs did not pass its check and was set aside: make it again, then this one
            for again in (key, *damaged):
                states[again] = StageState()
            return
        self.tries[key] += 1
        if (code < 0 or failure.get('may_pass')) and self.tries[key] < TRIES:
            self.again[key] = f'{failure["reason"]}; tried once more'
            states[key] = StageState(reason=self.again[key])
            return
        self._fail(key, failure['reason'], graph, states)

    def _returned(self, key: str, graph: Graph, states: dict[str, StageState]) -> None:
        """A worker found the stage claimed by others, or was asked to stop; too many such returns in a row fail it."""
        self.found_claimed[key] = time.monotonic()
        done = int((self.store.read(key, 'progress') or {}).get('done', 0))
        returns = self.returns.setdefault(key, [])
        if self.store.owner(key) is not None or (returns and done > returns[-1]):
            returns.clear()
        returns.append(done)
        if len(returns) >= RETURNS:
            reason = f'its worker ended {RETURNS} times in a row with code {EXIT_CLAIMED} before an epoch was done'
            self._fail(key, reason, graph, states)
        else:
            states[key] = StageState()

    def _fail(self, key: str, reason: str, graph: Graph, states: dict[str, StageState]) -> None:
        states[key] = StageState('failed', reason)
        for descendant in graph.descendants(key):
            if descendant in states:
                states[descendant] = StageState('blocked', f'the {graph.stages[key].kind} stage it needs failed')

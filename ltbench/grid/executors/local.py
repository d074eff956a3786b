"""The local executor: N slots, each runs one stage at a time in a separate process."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch

from ltbench.engine.job import Job, Runtime
from ltbench.errors import UsageError
from ltbench.grid.executors.base import TICK_SECONDS, Executor, Task
from ltbench.grid.executors.fork_server import fork_server, starting
from ltbench.grid.graph import Graph
from ltbench.registry import EXECUTORS
from ltbench.store import Store

STARTS = 4
"""Attempts in a row to start a worker: the fork server may be killed at that moment, and the next one too."""
NO_WORD = 255
"""Exit code that multiprocessing gives if the fork server could not report how the process ended."""


@EXECUTORS.register_module(name='local')
class LocalExecutor(Executor):
    """Carries out a graph's missing stages on this machine.

    A stage takes a slot for each of its devices. With GPUs, slot i is GPU ``i % GPUs``: with as many slots as GPUs no
    stages share one, with twice as many two stages share each.

    Args:
        store: Where artifacts are found and put.
        runtime: How every stage is carried out.
        slots: Stages at once; None is one per GPU, or one per core without GPUs.
    """

    def __init__(self, store: Store, runtime: Runtime, slots: int | None = None) -> None:
        super().__init__(store, runtime, slots or default_slots())
        self.free = list(range(self.slots))

    def prepare(self, graph: Graph) -> None:
        """Also check that there are enough GPUs for a run, and start the fork server unless it runs."""
        super().prepare(graph)
        widest, gpus = max(stage.devices for stage in graph.stages.values()), torch.cuda.device_count()
        if 0 < gpus < widest and self.runtime.device != 'cpu':
            raise UsageError(f'{widest} devices per run, but this machine has {gpus} GPU{"s" if gpus > 1 else ""}')
        self.context = fork_server()

    def start(self, jobs: Mapping[str, Job]) -> dict[str, Task]:
        """A process for each job."""
        return {key: self._begin(job) for key, job in jobs.items()}

    def wait(self, tasks: Mapping[str, Task]) -> None:
        """Wait until a process has ended, at most a fifth of a second."""
        sentinels = [task.process.sentinel for task in tasks.values() if isinstance(task, _Worker)]
        if sentinels:
            wait(sentinels, timeout=TICK_SECONDS)
        else:
            super().wait(tasks)  # other processes make all remaining stages

    def _begin(self, job: Job) -> Task:
        for _ in range(STARTS):
            try:
                self.context = fork_server()  # a new one if it was killed; one that multiprocessing starts gets Ctrl-C
                return _Worker(self, job)
            except (OSError, EOFError) as error:  # EOFError: the fork server was killed at this moment
                problem = error
        return _NotStarted(problem)


class _NotStarted(Task):
    """A stage that no process could be started for; it counts as killed, and is tried once more."""

    def __init__(self, problem: Exception) -> None:
        self.reason = f'no process could be started for it ({problem})'

    def poll(self) -> int | None:
        return -signal.SIGKILL

    def end(self) -> None:
        pass


class _Worker(Task):
    def __init__(self, executor: LocalExecutor, job: Job) -> None:
        self.executor = executor
        self.slots = [executor.free.pop(0) for _ in range(job.stage.devices)]
        job_data = job.on(slots=tuple(self.slots)).to_json()
        worker_end, self.pipe = executor.context.Pipe(duplex=False)
        self.process: ForkServerProcess = executor.context.Process(target=_work, args=(job_data, worker_end))
        try:
            with starting():
                self.process.start()
        except (OSError, EOFError):
            self.pipe.close()
            self._give_back()
            raise
        finally:
            worker_end.close()

    def poll(self) -> int | None:
        if self.process.is_alive():
            return None
        self._release()
        if self.process.exitcode == NO_WORD:
            self.reason = 'the process that starts the workers, or this one, was killed'
            return -signal.SIGKILL
        return self.process.exitcode

    def end(self) -> None:
        self.process.kill()
        self._release()

    def _release(self) -> None:
        self.process.join()
        self.pipe.close()
        self._give_back()

    def _give_back(self) -> None:
        self.executor.free = sorted([*self.executor.free, *self.slots])


def default_slots() -> int:
    """One per GPU; without GPUs, one per core."""
    return torch.cuda.device_count() or usable_cores()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _work(job: dict[str, Any], alive: Connection) -> None:
    from ltbench.engine.worker import process

    process(job, alive)

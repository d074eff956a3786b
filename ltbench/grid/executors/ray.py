"""The ray executor: stages as tasks on a Ray cluster, whose nodes may come and go."""

from __future__ import annotations

import importlib
import logging
import math
import os
import socket
import time
from collections.abc import Generator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from ltbench.console import make_console
from ltbench.data.base import data_root
from ltbench.engine.job import LOG, Job, Runtime
from ltbench.errors import EXIT_FAILED, UsageError
from ltbench.grid.executors.base import Executor, Task
from ltbench.grid.executors.ray_task import run_in_subprocess
from ltbench.grid.executors.search_path import safe_environment
from ltbench.grid.graph import Graph
from ltbench.grid.status import StageState
from ltbench.places import ROOT_OF_PACKAGE
from ltbench.registry import EXECUTORS
from ltbench.store import Store

CONNECT_SECONDS = 10.0
LOOK_SECONDS = 2.0
"""Between two checks of which nodes there are."""
CANCEL_SECONDS = 5.0
"""For cancelled tasks to end their workers; those that remain then end with their Ray workers."""
ARRIVE_SECONDS = 60.0
"""For a finished artifact to become visible here; network file systems cache for a while that a file is missing."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Of a Ray that is started here; only jobs and exit codes go through it."""


@EXECUTORS.register_module(name='ray')
class RayExecutor(Executor):
    """Carries out a graph's missing stages on a Ray cluster.

    The cluster is that of ``$RAY_ADDRESS``, else the one that ``ray start`` started here, else a Ray on this machine
    for the time of the grid; this machine must be one of its nodes. ltbench is installed on each node, and the store,
    like the data, is a folder that all nodes see under the same path. When a node dies, its stages continue elsewhere
    from their checkpoints; a node that joins is used.

    Args:
        store: Where artifacts are found and put.
        runtime: How every stage is carried out.
        slots: Stages submitted to Ray at once; it queues what does not fit. None is as many as the present nodes have
            room for.
        gpus_per_stage: Share of a GPU that a stage takes, 0 to 1; a stage of several devices takes that many whole
            ones. None is 1, or 0 where no node has a GPU.

    Raises:
        UsageError: If Ray is not installed.
    """

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        slots: int | None = None,
        gpus_per_stage: float | None = None,
    ) -> None:
        super().__init__(store, runtime, slots or 0)
        self.chosen_slots, self.chosen_gpus = slots, gpus_per_stage
        self.ray = _import_ray()

    def run(self, graph: Graph, timeout: float | None = None) -> Generator[dict[str, StageState], None, None]:
        """Also give cancelled tasks a moment to end their workers, and leave the cluster."""
        joined_before = self.ray.is_initialized()
        self.cancelled: list[Any] = []
        try:
            yield from super().run(graph, timeout)
        finally:
            if self.cancelled:
                self.ray.wait(self.cancelled, num_returns=len(self.cancelled), timeout=CANCEL_SECONDS)
            if not joined_before:
                self.ray.shutdown()

    def prepare(self, graph: Graph) -> None:
        """Connect, and check that the nodes have what stages need."""
        can_grow = self._connect()
        self.widest = max((stage.devices for stage in graph.stages.values()), default=1)
        has_gpus = any(node['Resources'].get('GPU') for node in self._nodes())
        self.gpus_per_stage = float(has_gpus) if self.chosen_gpus is None else self.chosen_gpus
        self._count_slots()
        super().prepare(graph)
        if not self._room_for(self.widest):
            cpus, gpus = self._request(self.widest)
            wanted = f'CPU: {cpus}' + (f', GPU: {gpus:g}' if gpus else '')
            if not can_grow:
                raise UsageError(f'a stage takes more than the Ray on this machine has ({wanted})')
            _say(f'No node of the Ray cluster has what a stage needs ({wanted}); it waits until one joins')

    def start(self, jobs: Mapping[str, Job]) -> dict[str, Task]:
        """Submit jobs to Ray."""
        return {key: _RayTask(self, job, *self._request(job.stage.devices)) for key, job in jobs.items()}

    def wait(self, tasks: Mapping[str, Task]) -> None:
        """Wait until a task has ended, at most a fifth of a second."""
        if time.monotonic() - self.counted > LOOK_SECONDS:
            self._count_slots()
        running = [task.reference for task in tasks.values() if isinstance(task, _RayTask) and task.code is None]
        if running:
            self.ray.wait(running, timeout=self.tick_seconds)
        else:
            super().wait(tasks)  # all remaining artifacts are made by others, or become visible soon

    def _connect(self) -> bool:
        """Join a cluster or start one; return whether it may get more nodes."""
        if self.ray.is_initialized():
            return True
        _check_address(os.environ.get('RAY_ADDRESS', ''))
        quiet: dict[str, Any] = {'log_to_driver': False, 'logging_level': logging.ERROR}
        try:
            # Ray's workers look for code first in what is the working directory now: that must not be a folder with
            # the user's data
            with chdir(ROOT_OF_PACKAGE.parent):
                try:
                    self.ray.init(object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False, **quiet)
                except ValueError:  # there is a cluster, for which these arguments are not allowed
                    self.ray.init(**quiet)
                    return True
        except (ConnectionError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise UsageError(f'no Ray cluster answers ({reason}); RAY_ADDRESS=local starts Ray here') from error
        _say('Started Ray on this machine for the time of this run; RAY_ADDRESS names no cluster')
        return False

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node['Alive']]

    def _request(self, devices: int) -> tuple[int, float]:
        """CPUs and GPUs of a stage."""
        gpus = self.gpus_per_stage if devices == 1 else devices * math.ceil(self.gpus_per_stage)
        return devices * self.runtime.threads, gpus

    def _room_for(self, devices: int) -> int:
        """How many stages with so many devices the nodes could carry out at once."""
        wanted = [(kind, count) for kind, count in zip(('CPU', 'GPU'), self._request(devices), strict=True) if count]
        rooms = [[round(node['Resources'].get(kind, 0) / count, 4) for kind, count in wanted] for node in self._nodes()]
        return sum(int(min(room)) for room in rooms)

    def _count_slots(self) -> None:
        # with fewer than the widest stage needs, it would never be submitted and no autoscaler would notice it
        self.slots = self.chosen_slots or max(self._room_for(1), self.widest)
        self.counted = time.monotonic()


class _RayTask(Task):
    def __init__(self, executor: RayExecutor, job: Job, cpus: int, gpus: float) -> None:
        self.executor, self.ray, self.store = executor, executor.ray, executor.store
        self.fingerprint = job.stage.fingerprint
        self.code: int | None = None
        self.ended = 0.0
        job = job.on(slots=tuple(range(job.stage.devices)))  # of the GPUs that Ray lets the worker see
        if not gpus:
            job = job.on(device='cpu')
        work = self.store.work(self.fingerprint)
        work.mkdir(parents=True, exist_ok=True)
        # the job has the resolved plug-in files; paths in the variable may be relative to the driver's folder
        environment = {'LTBENCH_DATA': str(data_root().absolute()), 'LTBENCH_PLUGINS': '', **safe_environment()}
        options = {'num_cpus': cpus, 'num_gpus': gpus, 'max_retries': -1, 'scheduling_strategy': 'SPREAD'}
        remote = self.ray.remote(**options)(run_in_subprocess)
        self.reference = remote.remote(job.to_json(), str(work / LOG), str(Path.cwd()), environment)

    def poll(self) -> int | None:
        if self.code is None:
            if not self.ray.wait([self.reference], timeout=0)[0]:
                return None
            self.code, self.ended = self._result(), time.monotonic()
        is_late = self.code == 0 and not self.store.has(self.fingerprint)
        return None if is_late and time.monotonic() - self.ended < ARRIVE_SECONDS else self.code

    def end(self) -> None:
        self.ray.cancel(self.reference)
        self.executor.cancelled.append(self.reference)

    def _result(self) -> int:
        try:
            code, failure = self.ray.get(self.reference)
        except self.ray.exceptions.RayError as error:  # Ray could not start it, or ltbench is not there
            self.reason = str(error).strip().splitlines()[-1]
            return EXIT_FAILED
        if failure and self.store.read(self.fingerprint, 'failure') is None:  # it too may become visible late
            self.store.write(self.fingerprint, 'failure', failure)
        return code


def _import_ray() -> Any:
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        importlib.import_module('ray.exceptions')
        return importlib.import_module('ray')
    except ImportError as error:
        raise UsageError(f"--executor ray needs Ray: pip install 'ltbench[ray]' ({error})") from error


def _check_address(address: str) -> None:
    """Check that a cluster answers at all; Ray itself would keep trying for minutes."""
    if address in ('', 'auto', 'local'):
        return
    host, _, port = address.rpartition(':')
    try:
        if '/' in host:
            raise ValueError
        socket.create_connection((host.strip('[]'), int(port)), CONNECT_SECONDS).close()
    except (ValueError, OverflowError):
        raise UsageError(f'RAY_ADDRESS is {address!r}, but should be HOST:PORT of the head, or local') from None
    except OSError as error:
        raise UsageError(f'no Ray cluster answers at RAY_ADDRESS={address} ({error}); local starts one') from None


def _say(line: str) -> None:
    make_console().print(line, highlight=False)

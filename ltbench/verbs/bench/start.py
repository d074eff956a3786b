"""Time from the request of a stage to the end of its first epoch: fork server workers against new processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from ltbench.benchmark import load_benchmark
from ltbench.engine.job import Job, Runtime
from ltbench.errors import LTBenchError
from ltbench.grid.executors.base import Task
from ltbench.grid.executors.local import LocalExecutor
from ltbench.grid.graph import Graph
from ltbench.store import Store
from ltbench.verbs.bench.measure import Case
from ltbench.verbs.bench.workload import graph_of, scratch_store

EPOCHS = 20  # about a second: long enough to be observed
LOOK_SECONDS = 0.005


def measure(rounds: int) -> list[dict[str, Any]]:
    """Seconds to the end of the first epoch on digits (0.06 s of it training), for the first stage and the next ones.

    Args:
        rounds: Number of drivers, each with two stages, and of new processes.
    """
    benchmark = load_benchmark('digits_lt', overrides={'epochs': EPOCHS})
    graph = graph_of(benchmark, 'erm')
    measured = []
    for _ in range(rounds):
        with scratch_store() as store:
            # the fork server starts first, as in the command
            code = 'from ltbench.grid.executors.fork_server import fork_server; fork_server()\n'
            code += 'from ltbench.verbs.bench.start import drive; drive()'
            command = [sys.executable, '-c', code, str(store.root)]
            begun = time.time()
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise LTBenchError(f'the driver failed: {ran.stderr.strip().splitlines()[-1]}')
            seen, first, following = json.loads(ran.stdout.splitlines()[-1])
        measured.append((seen - begun, first, following, _new_process(graph)))
    stage = 'start of a digits stage, from its request to the end of its first epoch: '
    bounds: dict[str, float | None] = {
        'start of a command, to the end of the first epoch of a digits stage': None,
        stage + 'the first of a command': 4,
        stage + 'the next ones': 0.7,
    }
    note = 'The reference: a new process for the stage, which imports everything; ours began with the command.'
    results = []
    for which, (what, bound) in enumerate(bounds.items()):
        case = Case(what, 's', goal=None, less_is_better=True, note=note)
        result = case.result((seconds[which], seconds[-1]) for seconds in measured)
        if bound is not None:
            result['note'] += f' Target: at most {bound:g} s, {"met" if result["ours"] <= bound else "not met"}.'
        results.append(result)
    return results


class _TimedExecutor(LocalExecutor):
    """Notes when each stage is requested."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        super().__init__(store, runtime, slots=1)
        self.requested: dict[str, float] = {}

    def start(self, jobs: Mapping[str, Job]) -> dict[str, Task]:
        """As the base class, after noting the time."""
        self.requested |= dict.fromkeys(jobs, time.time())
        return super().start(jobs)


def drive() -> None:
    """Carry out two stages, one after the other, in a process that has started none yet; print the times."""
    graph = graph_of(load_benchmark('digits_lt', overrides={'epochs': EPOCHS}), 'erm', seeds=(0, 1))
    store, begun = Store(sys.argv[1]), time.time()
    executor, progress = _TimedExecutor(store, Runtime()), _FirstProgress(store, graph)
    for _ in executor.run(graph):
        pass
    seen = progress.stop()
    first, second = sorted(seen, key=lambda key: executor.requested[key])
    print(json.dumps([seen[first], seen[first] - begun, seen[second] - executor.requested[second]]))  # noqa: T201


def _new_process(graph: Graph) -> float:
    """Seconds of a process that carries out one stage, to the end of its first epoch."""
    key, stage = next(iter(graph.stages.items()))
    with scratch_store() as store:
        job = store.root / 'job.json'
        job.write_text(json.dumps(Job(stage, str(store.root)).to_json()))
        begun, progress = time.time(), _FirstProgress(store, graph)
        subprocess.run([sys.executable, '-m', 'ltbench.engine.worker', str(job)], capture_output=True, check=True)
        return progress.stop()[key] - begun


class _FirstProgress:
    """Notes, in a thread, when each stage first reports its progress."""

    def __init__(self, store: Store, graph: Graph) -> None:
        self.store, self.waiting = store, set(graph.stages)
        self.seen: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for key in list(self.waiting):
                if self.store.read(key, 'progress') is not None:
                    self.seen[key] = time.time()
                    self.waiting.remove(key)

    def stop(self) -> dict[str, float]:
        """Fingerprint -> time."""
        self._ended.set()
        self._thread.join()
        return self.seen

"""Four drivers on one store, short stages and a slow disk: each stage is made once, and every driver ends.

Three rounds in CI; the long form, three minutes:
``DRIVER_ROUNDS=20 pytest -n 0 -m slow --log-cli-level=INFO tests/grid/test_many_drivers.py``.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ltbench.benchmark import load_benchmark
from ltbench.engine import worker
from ltbench.engine.job import Job, Runtime, StageContext
from ltbench.grid.executors.base import Executor, Task
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.spec import parse_specs
from ltbench.store import Store

pytestmark = pytest.mark.slow

LOGGER = logging.getLogger('many_drivers')
ROUNDS = int(os.environ.get('DRIVER_ROUNDS', '3'))
DRIVERS = 4
LATENCY_SECONDS = 0.003
ROUND_SECONDS = 120
SLOWED = ('exists', 'glob', 'is_dir', 'is_file', 'iterdir', 'lstat', 'mkdir', 'open', 'rename', 'replace', 'rmdir',
          'stat', 'touch', 'unlink')  # fmt: skip
RUNTIME = Runtime(device='cpu')


class Forked(Task):
    """A worker: the real one, in a process that has all of its imports."""

    def __init__(self, job: Job) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                code = worker.carry_out(job)
            finally:
                os._exit(code)

    def poll(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def end(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


class Forking(Executor):
    def start(self, jobs):
        return {key: Forked(job) for key, job in jobs.items()}


def slowly(really: Callable[..., Any]) -> Callable[..., Any]:
    def act(*arguments: Any, **options: Any) -> Any:
        time.sleep(LATENCY_SECONDS)
        return really(*arguments, **options)

    return act


def make(context: StageContext) -> None:
    """A stage of a few milliseconds, which says each time that it is made."""
    for parent in context.stage.parents:
        assert context.artifact_of(parent).path('made').read_bytes() == parent.fingerprint.encode()
    with (context.store.root / 'log').open('ab', buffering=0) as log:
        log.write(f'{context.stage.fingerprint}\n'.encode())
    time.sleep(random.Random(context.stage.fingerprint).uniform(0, 0.03))
    key = context.stage.fingerprint
    context.store.publish(key, {}, lambda folder: (folder / 'made').write_bytes(key.encode()) and None)


def drive(graph: Graph, root: Path, patch: pytest.MonkeyPatch) -> None:
    """A driver, in a process of its own: its exit code is how many stages are not done at the end."""
    for name in SLOWED:
        patch.setattr(Path, name, slowly(getattr(Path, name)))
    patch.setattr(os, 'utime', slowly(os.utime))
    patch.setattr(worker, 'CARRY_OUT', dict.fromkeys(worker.CARRY_OUT, make))
    *_, states = Forking(Store(root), RUNTIME, slots=3).run(graph)
    Store(root).tidy(graph.stages.keys())
    os._exit(sum(state.state != 'done' for state in states.values()))


def test_each_stage_is_made_once_and_every_driver_ends(tmp_path, monkeypatch):
    benchmark = load_benchmark('digits_lt')
    plans = [(method, seed) for seed in range(11) for method in ('erm', 'crt', 'ldam')]
    graph = Graph(Run(benchmark, parse_specs(m), seed, make_plan(m, benchmark, '0' * 64, seed)) for m, seed in plans)
    assert len(graph.stages) == 44
    context = multiprocessing.get_context('fork')
    began = time.monotonic()
    for number in range(ROUNDS):
        root = tmp_path / str(number)
        root.mkdir()
        drivers = [context.Process(target=drive, args=(graph, root, monkeypatch)) for _ in range(DRIVERS)]
        for driver in drivers:
            driver.start()
        deadline = time.monotonic() + ROUND_SECONDS
        for driver in drivers:
            driver.join(max(deadline - time.monotonic(), 0))
        late = [driver for driver in drivers if driver.is_alive()]
        for driver in late:
            driver.kill()
            driver.join()
        assert not late
        assert [driver.exitcode for driver in drivers] == [0] * DRIVERS
        made = Counter((root / 'log').read_text().split())
        assert set(made) == set(graph.stages)
        assert {key: count for key, count in made.items() if count > 1} == {}
        assert list(root.glob('work/*')) == []
        assert not (root / 'damaged').exists()
        LOGGER.info('round %d: %d stages, %.0f s', number + 1, len(made), time.monotonic() - began)

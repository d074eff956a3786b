"""The scheduling loop that all executors share."""

from __future__ import annotations

import pytest

from ltbench.config import load_benchmark
from ltbench.errors import EXIT_CLAIMED
from ltbench.grid import executor
from ltbench.grid.executor import Executor, Task
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.store import Store


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Answer(Task):
    """One that has ended with ``code``, or goes on for ever (None)."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self):
        return self.code

    def end(self):
        pass


class Scripted(Executor):
    code: int | None = None

    def start(self, jobs):
        return {key: Answer(self.code) for key in jobs}


def test_a_stage_that_only_its_workers_find_claimed_is_tried_every_five_seconds(tmp_path, monkeypatch):
    """As when a node dies whose name the driver's machine shares, and others wait for the claim to expire."""
    clock = Clock()
    monkeypatch.setattr(executor, 'time', clock)
    starts = []

    class Claimed(Scripted):
        code = EXIT_CLAIMED

        def start(self, jobs):
            starts.extend(clock.now for _ in jobs)
            return super().start(jobs)

    benchmark = load_benchmark('digits_lt')
    graph = Graph([Run(benchmark, 'erm', 0, make_plan('erm', benchmark, '', 0))])
    states = Claimed(Store(tmp_path), {}, slots=1).run(graph)
    while clock.now < 14:
        next(states)
    states.close()
    assert starts == pytest.approx([0, 5, 10], abs=1)


def test_with_all_slots_taken_what_another_driver_does_is_still_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, 'time', Clock())
    benchmark, store = load_benchmark('digits_lt'), Store(tmp_path)
    graph = Graph([Run(benchmark, 'erm', seed, make_plan('erm', benchmark, '', seed)) for seed in range(2)])
    theirs, ours = (run.fingerprint for run in graph.runs)
    claim = store.claim(theirs)
    states = Scripted(store, {}, slots=1).run(graph)
    seen = next(states)
    assert (seen[theirs].state, seen[ours].state) == ('running', 'running')
    store.write(theirs, 'progress', {'done': 3, 'total': 7})
    assert next(states)[theirs].progress['done'] == 3
    claim.release()
    assert next(states)[theirs].state == 'pending'
    states.close()

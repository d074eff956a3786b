"""The scheduling loop that all executors share."""

from __future__ import annotations

import signal

import pytest

from ltbench.benchmark import load_benchmark
from ltbench.claims import CLAIM_EXPIRES_SECONDS
from ltbench.engine.job import Runtime
from ltbench.errors import EXIT_CLAIMED
from ltbench.grid.executors import base as executor
from ltbench.grid.executors.base import Executor, Task
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.sealed import UnreadableFileError
from ltbench.spec import parse_specs
from ltbench.store import Store


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 - self.now  # a clock on the wall that runs backwards

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
    graph = Graph([Run(benchmark, parse_specs('erm'), 0, make_plan('erm', benchmark, '', 0))])
    states = Claimed(Store(tmp_path), Runtime(), slots=1).run(graph)
    while clock.now < 14:
        next(states)
    states.close()
    assert starts == pytest.approx([0, 5, 10], abs=1)


def test_with_all_slots_taken_what_another_driver_does_is_still_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, 'time', Clock())
    benchmark, store = load_benchmark('digits_lt'), Store(tmp_path)
    graph = Graph(
        [Run(benchmark, parse_specs('erm'), seed, make_plan('erm', benchmark, '', seed)) for seed in range(2)]
    )
    theirs, ours = (run.fingerprint for run in graph.runs)
    claim = store.claim(theirs)
    states = Scripted(store, Runtime(), slots=1).run(graph)
    seen = next(states)
    assert (seen[theirs].state, seen[ours].state) == ('running', 'running')
    store.write(theirs, 'progress', {'done': 3, 'total': 7, 'first': 0, 'started': 0.0, 'updated': 1.0})
    assert next(states)[theirs].progress['done'] == 3
    claim.release()
    assert next(states)[theirs].state == 'pending'
    states.close()


def graph_of(*seeds: int) -> Graph:
    benchmark = load_benchmark('digits_lt')
    return Graph([Run(benchmark, parse_specs('erm'), seed, make_plan('erm', benchmark, '', seed)) for seed in seeds])


def test_a_stage_is_judged_by_its_artifact_not_by_its_worker(tmp_path, monkeypatch):
    """Two drivers on one store: ours finds the folder gone and fails, theirs has published."""
    monkeypatch.setattr(executor, 'time', Clock())
    store, graph = Store(tmp_path), graph_of(0)
    (key,) = graph.stages

    class Late(Scripted):
        code = 1

        def start(self, jobs):
            if jobs:
                store.write(key, 'failure', {'reason': 'No such file or directory', 'time': 0.0})
                store.publish(key, {'kind': 'train'}, lambda folder: None)
            return super().start(jobs)

    *_, last = Late(store, Runtime(), slots=1).run(graph)
    assert last[key].state == 'done'


def test_why_a_stage_is_tried_again_is_said_also_if_its_killed_worker_looked_alive_for_a_moment(tmp_path, monkeypatch):
    """The driver hears of a killed fork server at once, and a worker of it takes its time to die."""
    monkeypatch.setattr(executor, 'time', Clock())
    store, graph = Store(tmp_path), graph_of(0)
    (key,) = graph.stages

    class Killed(Scripted):
        code, claim = -signal.SIGKILL, None

        def start(self, jobs):
            tasks = super().start(jobs)
            if jobs and self.claim is None:
                self.claim = store.claim(key)
            return tasks

    driver = Killed(store, Runtime(), slots=1)
    states = driver.run(graph)
    next(states)
    assert next(states)[key].state == 'running'  # in other hands, as far as one can see
    driver.claim.release()
    assert next(states)[key].reason == 'killed by SIGKILL; tried once more'
    states.close()


def test_a_stopped_worker_does_not_block_when_another_has_published(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(executor, 'time', clock)
    store, graph = Store(tmp_path), graph_of(0)
    (key,) = graph.stages
    states = Scripted(store, Runtime(), slots=1).run(graph)
    assert next(states)[key].state == 'running'
    store.publish(key, {'kind': 'train'}, lambda folder: None)
    *_, last = states
    assert last[key].state == 'done'
    assert executor.LATE_SECONDS <= clock.now < 2 * executor.LATE_SECONDS


def test_a_worker_that_only_ever_returns_fails(tmp_path, monkeypatch):
    """`os._exit(75)` in a method looks as if another process had the stage."""
    clock = Clock()
    monkeypatch.setattr(executor, 'time', clock)

    class Returning(Scripted):
        code = EXIT_CLAIMED

    graph = graph_of(0)
    *_, last = Returning(Store(tmp_path), Runtime(), slots=1).run(graph)
    (state,) = last.values()
    assert state.state == 'failed'
    assert '20 times in a row' in state.reason
    assert clock.now > CLAIM_EXPIRES_SECONDS  # else the claim of a dead machine would be a failure


def test_a_clock_that_jumps_ends_no_stage(tmp_path, monkeypatch):
    """The time of work is counted by this process' own clock, not by what another's said when it began."""
    clock = Clock()
    monkeypatch.setattr(executor, 'time', clock)
    store, graph = Store(tmp_path), graph_of(0)
    (key,) = graph.stages
    states = Scripted(store, Runtime(), slots=1).run(graph, timeout=60.0)
    next(states)
    store.write(key, 'worker', {'host': 'here', 'pid': 1, 'started': -1e9})
    while clock.now < 50:
        assert next(states)[key].state == 'running'
    *_, last = states
    assert last[key].reason == 'took longer than 1 minutes'


def test_a_disk_that_cannot_be_read_fails_the_stage_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, 'time', Clock())
    graph = graph_of(0, 1)
    bad, good = graph.stages

    class Stutter(Store):
        asked = 0

        def find(self, fingerprint):
            if fingerprint == bad:
                self.asked += 1
                if self.asked > 1:
                    raise UnreadableFileError('manifest.json cannot be read: Input/output error')
            return super().find(fingerprint)

    store = Stutter(tmp_path)

    class Done(Scripted):
        code = 0

        def start(self, jobs):
            for key in jobs:
                if key == good:
                    store.publish(key, {'kind': 'train'}, lambda folder: None)
            return super().start(jobs)

    *_, last = Done(store, Runtime(), slots=1).run(graph)
    assert (last[bad].state, last[good].state) == ('failed', 'done')
    assert 'Input/output error' in last[bad].reason

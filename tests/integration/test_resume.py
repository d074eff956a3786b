"""Interrupted equals uninterrupted, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine import hooks
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out, set_at
from ltbench.errors import EXIT_CLAIMED
from ltbench.grid.graph import Graph, Run
from ltbench.grid.status import continued_from_store, needed_stages
from ltbench.method import make_plan
from ltbench.sealed import UnreadableFileError
from ltbench.spec import parse_specs
from ltbench.store import Store


def graph_of(*methods: str, epochs: int = 6) -> Graph:
    plugins.load()
    benchmark = load_benchmark('digits_lt', overrides={'epochs': epochs})
    data = load_data(benchmark.data).fingerprint
    return Graph([Run(benchmark, parse_specs(method), 0, make_plan(method, benchmark, data, 0)) for method in methods])


def carry_out_all(graph: Graph, store: Store, runtime: Runtime | None = None) -> None:
    for stage in graph.stages.values():
        assert carry_out(Job(stage, str(store.root), runtime or Runtime())) == 0, stage.kind


def test_a_stage_that_dies_after_any_epoch_ends_with_the_same_bits(tmp_path, monkeypatch, logits_files):
    graph = graph_of('nbn', epochs=4)
    whole, cut = Store(tmp_path / 'whole'), Store(tmp_path / 'cut')
    carry_out_all(graph, whole)

    (stage,) = graph.stages.values()
    saved = hooks.Checkpoints.after_train_epoch

    def save_then_die(self, runner):
        saved(self, runner)
        raise KeyboardInterrupt  # no Exception: nothing is caught or tidied up on the way

    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', save_then_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            carry_out(Job(stage, str(cut.root), Runtime(checkpoint_seconds=0)))
    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', saved)
    assert sorted(path.name for path in cut.work(stage.fingerprint).glob('epoch_*')) == [
        'epoch_00002.pt',
        'epoch_00003.pt',
    ]
    (cut.work(stage.fingerprint) / 'epoch_00003.pt').write_bytes(b'cut off by a crash')
    carry_out_all(graph, cut)
    assert logits_files(whole.root) == logits_files(cut.root)
    states = [torch.load(s.find(stage.fingerprint).path('state.pt'), weights_only=True) for s in (whole, cut)]
    assert states[0]['curve'] == states[1]['curve']
    for name, tensor in states[0]['model'].items():
        assert torch.equal(tensor, states[1]['model'][name]), name


@pytest.mark.parametrize('was_interrupted', [False, True])
def test_training_goes_on_from_what_another_run_has_stored(tmp_path, monkeypatch, logits_files, was_interrupted):
    alone, store = Store(tmp_path / 'alone'), Store(tmp_path / 'store')
    graph = graph_of('ldam')
    carry_out_all(graph, alone)
    (stage,) = graph.stages.values()
    trained = []
    save = hooks.Checkpoints.after_train_epoch

    def save_and_tell(self, runner):
        save(self, runner)
        trained.append(runner.epoch + 1)
        if was_interrupted and len(trained) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', save_and_tell)
    if was_interrupted:  # at an epoch before the one that will be stored
        with pytest.raises(KeyboardInterrupt):
            carry_out(Job(stage, str(store.root), Runtime(checkpoint_seconds=0)))
    assert continued_from_store(graph, store).stages == graph.stages
    carry_out_all(graph_of('ldam_drw'), store)

    trained.clear()
    was_interrupted = False
    graph = continued_from_store(graph, store)
    prefix, rest = graph.stages.values()
    assert (rest.fingerprint, rest.begin, rest.end) == (stage.fingerprint, prefix.end, 6)
    assert needed_stages(graph, store) == [rest.fingerprint]
    assert carry_out(Job(rest, str(store.root), Runtime())) == 0
    assert trained == [6]
    assert logits_files(store.root)[rest.fingerprint] == logits_files(alone.root)[rest.fingerprint]
    assert [row['epochs'] for row in store.find(rest.fingerprint).meta['lineage']] == [5, 1]


@pytest.mark.parametrize('error', [UnreadableFileError, PermissionError])
def test_what_others_keep_to_themselves_in_a_store_stops_nobody(tmp_path, monkeypatch, capsys, error):
    def fail(self):
        raise error('artifacts/ab: Permission denied')

    monkeypatch.setattr(Store, 'fingerprints', fail)
    graph = graph_of('erm')
    assert continued_from_store(graph, Store(tmp_path)) is graph
    assert 'artifacts/ab: Permission denied; so no training continues' in ' '.join(''.join(capsys.readouterr()).split())


OF_HEADS = [
    'crt(epochs=4)', 'crt(epochs=4, across_epochs=True)', 'weight_balancing(epochs=4)', 'nbn_retrain(epochs=4)',
    'weight_balancing(epochs=4, lr=0.1, head_decay=0.0, loss=bce, project=epoch)',
]  # fmt: skip


@pytest.mark.parametrize('method', OF_HEADS)
def test_a_head_that_dies_after_any_epoch_ends_with_the_same_bits(tmp_path, monkeypatch, logits_files, method):
    graph = graph_of(method, epochs=2)
    whole, cut = Store(tmp_path / 'whole'), Store(tmp_path / 'cut')
    carry_out_all(graph, whole)
    *before, head = graph.stages.values()
    for stage in before:
        assert carry_out(Job(stage, str(cut.root), Runtime())) == 0

    saved, begun = hooks.Checkpoints.after_train_epoch, []

    def save_then_die(self, runner):
        begun.append(runner.epoch)
        saved(self, runner)
        raise KeyboardInterrupt

    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', save_then_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            carry_out(Job(head, str(cut.root), Runtime(checkpoint_seconds=0)))
    assert begun == [0, 1, 2]
    monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', saved)
    carry_out_all(graph, cut)
    assert logits_files(whole.root) == logits_files(cut.root)


def test_a_stage_that_is_told_to_leave_saves_its_epoch_and_ends_with_the_same_bits(tmp_path, monkeypatch, logits_files):
    graph = graph_of('nbn', epochs=4)
    whole, cut = Store(tmp_path / 'whole'), Store(tmp_path / 'cut')
    carry_out_all(graph, whole)

    (stage,) = graph.stages.values()
    told, started = threading.Event(), hooks.EpochStart.before_train_epoch

    def tell(self, runner):
        started(self, runner)
        if runner.epoch == 2:
            told.set()  # in the middle of the third epoch

    monkeypatch.setattr(hooks.EpochStart, 'before_train_epoch', tell)
    seldom = Runtime(checkpoint_seconds=1000)
    assert carry_out(Job(stage, str(cut.root), seldom), told) == EXIT_CLAIMED
    assert [path.name for path in cut.work(stage.fingerprint).glob('epoch_*')] == ['epoch_00003.pt']
    assert cut.read(stage.fingerprint, 'failure') is None
    assert carry_out(Job(stage, str(cut.root), seldom), told) == 0  # told again in its last epoch: no reason to leave
    assert logits_files(whole.root) == logits_files(cut.root)


def test_a_run_that_shares_its_first_epochs_ends_with_the_same_bits_as_one_alone(tmp_path, logits_files):
    together, alone = Store(tmp_path / 'together'), Store(tmp_path / 'alone')
    shared = graph_of('erm', 'drw', 'drw(start=0.5)', 'crt')
    # states after 3 and 5 of 6 epochs are shared by all; then erm goes on, and the two drw from 3 and from 5
    assert [(s.begin, s.end) for s in shared.stages.values() if s.kind == 'train'] == [
        (0, 3), (3, 5), (5, 6), (5, 6), (3, 6),
    ]  # fmt: skip
    carry_out_all(shared, together)
    for method in ('erm', 'drw', 'drw(start=0.5)', 'crt'):
        carry_out_all(graph_of(method), alone)
    ours, theirs = logits_files(together.root), logits_files(alone.root)
    assert len(ours) == 4
    assert ours == {key: theirs[key] for key in ours}


def test_a_second_signal_in_the_middle_of_the_first_is_no_deadlock():
    class Told(threading.Event):
        held = False

        def set(self):
            assert not self.held, "threading.Event's own lock would be waited for for ever"
            self.held = True
            signal.raise_signal(signal.SIGTERM)
            super().set()
            self.held = False

    before, told = signal.getsignal(signal.SIGTERM), Told()
    try:
        set_at(signal.SIGTERM, told)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told.is_set()


@pytest.mark.slow
def test_kill_nine_and_the_same_command_again(sandbox, ltbench, logits_files):
    arguments = ['run', '-m', 'erm', '-m', 'crt', '--seeds', '0', '-o', 'epochs=100']
    process = subprocess.Popen([sys.executable, '-m', 'ltbench.cli', *arguments], cwd=sandbox, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(sandbox.glob('store/work/*/epoch_*.pt')):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # driver, fork server and worker
    process.wait()
    assert not list(sandbox.glob('store/artifacts/*/*/test.npz'))
    ltbench(*arguments)
    ours = logits_files(sandbox / 'store')
    logs = [path.read_text() for path in sandbox.glob('store/artifacts/*/*/log.txt')]
    assert any('continuing from epoch' in log for log in logs)
    ltbench(*arguments, LTBENCH_STORE=str(sandbox / 'undisturbed'), LTBENCH_RESULTS=str(sandbox / 'results2'))
    assert ours == logits_files(sandbox / 'undisturbed')
    assert len(ours) == 2


@pytest.mark.slow
def test_a_worker_ends_with_its_driver(sandbox):
    arguments = ['run', '-m', 'erm', '--seeds', '0', '-o', 'epochs=2000']
    process = subprocess.Popen([sys.executable, '-m', 'ltbench.cli', *arguments], cwd=sandbox)
    deadline = time.monotonic() + 60
    while not (workers := list(sandbox.glob('store/work/*/worker.json'))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(json.loads(workers[0].read_text())['content']['pid'])
    process.kill()  # the driver alone
    process.wait()
    while Path(f'/proc/{pid}').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f'/proc/{pid}').exists()

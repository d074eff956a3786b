"""A stage does no more than it must: counted, where counting is possible."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from ltbench import sealed as store_module
from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine import heads, hooks
from ltbench.engine.environment import Meter
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out, carry_out_json
from ltbench.errors import EXIT_CLAIMED, EXIT_FAILED
from ltbench.evaluation import evaluate
from ltbench.models.classifier import LongTailClassifier
from ltbench.store import Store
from ltbench.verbs.bench.workload import carry_out_in, cifar_shaped, graph_of

COUNTED = ('item', 'tolist', '__float__', '__int__', '__bool__', 'cpu', 'numpy')


def test_no_step_reads_from_the_device(tmp_path, monkeypatch):
    """Whatever turns a loss or logit into a Python number waits for the device; epochs may, steps may not."""
    (stage,) = graph_of(load_benchmark('digits_lt', overrides={'epochs': 2}), 'erm').stages.values()
    reads, in_step = [], []
    step = LongTailClassifier.train_step

    def watched_step(self, *arguments, **named):
        in_step.append(1)
        try:
            return step(self, *arguments, **named)
        finally:
            in_step.pop()

    monkeypatch.setattr(LongTailClassifier, 'train_step', watched_step)
    for name in COUNTED:
        original = getattr(torch.Tensor, name)

        def counted(self, *arguments, original=original, name=name, **named):
            if in_step and self.is_floating_point():
                reads.append(name)
            return original(self, *arguments, **named)

        monkeypatch.setattr(torch.Tensor, name, counted)
    carry_out_in(Store(tmp_path), [stage], 1)
    assert reads == []


def test_an_epoch_keeps_no_graph_of_its_steps(tmp_path, monkeypatch):
    (stage,) = graph_of(load_benchmark('digits_lt', overrides={'epochs': 1}), 'erm').stages.values()
    sums = []
    after_epoch = hooks.Curve.after_train_epoch

    def look(self, runner):
        sums.extend([self.loss, self.correct])
        after_epoch(self, runner)

    monkeypatch.setattr(hooks.Curve, 'after_train_epoch', look)
    carry_out_in(Store(tmp_path), [stage], 1)
    assert [(total.requires_grad, total.grad_fn) for total in sums] == [(False, None)] * 2


@pytest.mark.parametrize('method', ['erm', 'resample_progressive+nbn'])
def test_scores_on_the_way_change_nothing_but_the_curve(tmp_path, method):
    """Trained in two sittings, the second from a checkpoint of the first."""
    (stage,) = graph_of(load_benchmark('digits_lt', overrides={'epochs': 5}), method).stages.values()
    found = []
    for every in (None, 2):
        store = Store(tmp_path / str(every))
        runtime = Runtime(eval_every=every, checkpoint_seconds=0)
        leave = threading.Event()
        leave.set()
        assert carry_out(Job(stage, str(store.root), runtime), leave) == EXIT_CLAIMED
        assert carry_out(Job(stage, str(store.root), runtime)) == 0
        found.append(store.find(stage.fingerprint))
    plain, scored = found
    assert plain.path('test.npz').read_bytes() == scored.path('test.npz').read_bytes()
    curve = scored.meta['model']['curve']
    names = ('test_top1', 'test_many', 'test_medium', 'test_few')
    assert [sum(name in epoch for name in names) for epoch in curve] == [0, 4, 0, 4, 0]
    without = [{key: value for key, value in epoch.items() if key not in names} for epoch in curve]
    assert without == plain.meta['model']['curve']
    assert scored.meta['cost']['wall_seconds'] > 0


def test_a_network_that_cannot_be_scored_yet_trains_on(tmp_path, monkeypatch):
    (stage,) = graph_of(load_benchmark('digits_lt', overrides={'epochs': 2}), 'erm').stages.values()
    original, calls = hooks.predict, []

    def wild(*arguments):
        calls.append(1)
        return original(*arguments) * (torch.inf if len(calls) == 1 else 1)

    monkeypatch.setattr(hooks, 'predict', wild)
    assert carry_out(Job(stage, str(tmp_path), Runtime(eval_every=1))) == 0
    curve = Store(tmp_path).find(stage.fingerprint).meta['model']['curve']
    assert ['test_top1' in epoch for epoch in curve] == [False, True]


def test_what_is_done_while_a_meter_is_paused_does_not_count():
    meter = Meter()
    with meter.paused():
        time.sleep(0.2)
        sum(range(3_000_000))
    assert meter.read()['wall_seconds'] < 0.1
    assert meter.read()['cpu_seconds'] < 0.02


def test_a_job_of_a_newer_version_says_so(tmp_path):
    (stage,) = graph_of(load_benchmark('digits_lt', overrides={'epochs': 1}), 'erm').stages.values()
    job = Job(stage, str(tmp_path)).to_json()
    job['runtime']['of_the_future'] = 1
    code = carry_out_json(job)
    torch.set_flush_denormal(False)  # which it sets for the whole process
    assert code == EXIT_FAILED
    assert 'install the same' in Store(tmp_path).read(stage.fingerprint, 'failure')['reason']


def test_the_score_after_the_last_epoch_is_the_final_one(tmp_path):
    (stage,) = graph_of(load_benchmark('digits_lt', overrides={'epochs': 2}), 'erm').stages.values()
    store = Store(tmp_path)
    assert carry_out(Job(stage, str(tmp_path), Runtime(eval_every=1))) == 0
    artifact = store.find(stage.fingerprint)
    outputs = np.load(artifact.path('test.npz'))
    data = load_benchmark('digits_lt').data
    metrics = evaluate(outputs['logits'], outputs['labels'], load_data(data).class_counts)
    last = artifact.meta['model']['curve'][-1]
    assert [last[f'test_{name}'] for name in ('top1', 'few')] == pytest.approx([metrics['top1'], metrics['few']], 1e-5)


def test_files_that_are_written_do_not_grow_with_the_epochs(tmp_path, monkeypatch):
    written = []
    original = store_module.write_atomically

    def count(path, contents):
        written.append(path.name)
        original(path, contents)

    monkeypatch.setattr(store_module, 'write_atomically', count)
    monkeypatch.setattr('ltbench.engine.job.PROGRESS_SECONDS', 1e6)
    numbers = []
    for epochs in (2, 12):
        written.clear()
        (stage,) = graph_of(load_benchmark('digits_lt', overrides={'epochs': epochs}), 'erm').stages.values()
        assert carry_out(Job(stage, str(tmp_path / str(epochs)), Runtime(checkpoint_seconds=1e6))) == 0
        numbers.append(len(written))
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize('benchmark', ['digits', 'cifar'])
def test_views_computed_once_have_the_bits_of_views_computed_as_drawn(benchmark, tmp_path, monkeypatch):
    if benchmark == 'digits':
        chosen = load_benchmark('digits_lt', overrides={'epochs': 1})
    else:
        chosen = cifar_shaped(1, 8, n_max=40, num_classes=10, imbalance_factor=20, test_per_class=2)
    graph = graph_of(chosen, 'crt(epochs=6)')
    (features,) = (key for key, stage in graph.stages.items() if stage.kind == 'features')
    passed = []

    def views_of(name: str) -> dict[str, torch.Tensor]:
        store = Store(tmp_path / name)
        carry_out_in(store, list(graph.stages.values()), 1)
        return torch.load(store.find(features).path(heads.FEATURES), weights_only=True)

    once_only = heads._views_once
    monkeypatch.setattr(heads, '_views_once', lambda *a: passed.append(1) or once_only(*a))
    once = views_of('once')
    monkeypatch.setattr(heads, 'Split', type('NoSplit', (), {}))  # as large images, that workers decode
    as_drawn = views_of('as_drawn')
    assert passed == [1]
    assert torch.equal(once['labels'], as_drawn['labels'])
    assert torch.equal(once['views'], as_drawn['views'])


MEMORY = """
import json, resource, sys
import torch
def resident(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 1e9
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
before = resident()
from ltbench.engine.environment import keep_freed_memory
keep_freed_memory()
from ltbench.verbs.bench.workload import carry_out_in, cifar_shaped, graph_of, scratch_store
torch.set_num_threads(1)
# a third of the images of CIFAR-100-LT, in the shapes of its stage
graph = graph_of(cifar_shaped(1, 32, n_max=160, test_per_class=10), 'erm')
with scratch_store() as store:
    carry_out_in(store, list(graph.stages.values()), 1)
print(json.dumps(peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_a_cifar_stage_takes_less_than_a_gigabyte_and_a_half_above_torch():
    result = subprocess.run([sys.executable, '-c', MEMORY], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) < 1.5

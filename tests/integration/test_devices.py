"""One run on several devices: the steps of one process, divided."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.data.batches import BatchPreprocessor, Share, train_loader
from ltbench.data.samplers import ClassAware, InstanceBalanced
from ltbench.errors import UsageError
from ltbench.store import Store

FROZEN = '''
from torch import nn
from ltbench.method import Method, Plan
from ltbench.registry import METHODS, MODELS

@MODELS.register_module()
class FrozenBN:
    """BN in evaluation mode, also while training; in float64, where no last bit decides the sign of an activation."""

    def __call__(self, backbone):
        in_float64 = backbone.double().forward
        backbone.forward = lambda images: in_float64(images.double()).float()
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train = lambda mode=True, module=module: module
                module.eval()
                module.training = False

@METHODS.register_module()
class frozen_bn(Method):
    """A control: no batch statistics at all."""

    def apply(self, plan: Plan) -> Plan:
        return plan.replace(normalization=dict(type='FrozenBN'))
'''
# 347 images in batches of 173, 173 and 1: the second process has no part in the last one
STEPS = ['-o', 'epochs=7', '-o', 'batch_size=173', '-o', 'optimizer.lr=0.02']


@pytest.mark.parametrize('size', [2, 3, 5])
@pytest.mark.parametrize('batch_size', [64, 173])
def test_the_processes_see_together_what_one_sees_step_by_step(size, batch_size):
    data = load_data({'type': 'DigitsLT', 'imbalance_factor': 40})
    augmentation = {'crop_padding': 1, 'flip': True}

    def epoch(sampler, share):
        sampler.set_epoch(3)
        preprocess = BatchPreprocessor(data, augmentation, seed=5, share=share)
        preprocess.set_epoch(3)
        loader = train_loader(data.train, sampler, batch_size, augmentation, share=share)
        return [(batch.get('whole'), preprocess(batch, training=True)) for batch in loader]

    for sampler in (InstanceBalanced(data.train.labels, seed=5), ClassAware(data.train.labels, seed=5)):
        alone = epoch(sampler, Share())
        parts = [epoch(sampler, Share(rank, size)) for rank in range(size)]
        assert [len(part) for part in parts] == [len(alone)] * size
        for step, (_, whole) in enumerate(alone):
            for key in ('images', 'labels'):
                joined = torch.empty_like(whole[key])
                for rank, part in enumerate(parts):
                    assert part[step][0] == len(whole['labels'])
                    if Share(rank, size).counts(len(joined)):
                        joined[rank::size] = part[step][1][key]
                assert torch.equal(joined, whole[key]), (step, key)


def weights(store, record, devices):
    artifact = store.find(record['fingerprint'])
    assert artifact.meta['config']['recipe']['devices'] == devices
    return torch.load(artifact.path('state.pt'), weights_only=True)


def largest_difference(one, two):
    assert one['model'].keys() == two['model'].keys()
    return max((one['model'][key].float() - two['model'][key].float()).abs().max().item() for key in one['model'])


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(ltbench, sandbox):
    (sandbox / 'frozen.py').write_text(FROZEN)
    methods = ('frozen_bn', 'frozen_bn+drw(start=0)', 'erm')
    named, found = [word for method in methods for word in ('-m', method)], {}
    for devices in (1, 2):
        folders = {'LTBENCH_STORE': str(sandbox / f'store{devices}'), 'LTBENCH_RESULTS': str(sandbox / f'of{devices}')}
        ltbench(
            'run', '-b', 'digits_lt', *named, *STEPS, '--plugin', 'frozen.py', '--workers', '2',
            '-o', f'devices={devices}', **folders,
        )  # fmt: skip
        records = [json.loads(path.read_text()) for path in (sandbox / f'of{devices}').glob('*/records/*.json')]
        found[devices] = {record['method']: record for record in records}
        assert set(found[devices]) == set(methods)
    for method in methods:
        one, two = (weights(Store(sandbox / f'store{devices}'), found[devices][method], devices) for devices in (1, 2))
        assert one['iteration'] == two['iteration'] == 21
        difference = largest_difference(one, two)
        if method == 'erm':  # each process normalises by the statistics of its own part
            assert difference > 1e-4
            assert two['curve'][-1]['loss'] < two['curve'][0]['loss']
        else:
            assert difference < 1e-5
            for mine, theirs in zip(one['curve'], two['curve'], strict=True):
                assert mine['accuracy'] == theirs['accuracy']
                assert mine['loss'] == pytest.approx(theirs['loss'], rel=1e-4 if 'drw' not in method else 0.2)
        assert found[1][method]['setting'] != found[2][method]['setting']  # they never share a table
        assert found[1][method]['table'] != found[2][method]['table']


def children_of(pid: int) -> list[int]:
    return [int(child) for child in subprocess.run(['pgrep', '-P', str(pid)], capture_output=True).stdout.split()]


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_next_try_ends_with_the_same_bits(ltbench, sandbox, logits_files):
    arguments = ['run', '-b', 'digits_lt', '-m', 'erm', '-o', 'epochs=40', '-o', 'devices=2', '--workers', '2']
    ltbench(*arguments, LTBENCH_STORE=str(sandbox / 'whole'))
    for victim in ('first', 'second'):
        kill_one(victim, [*arguments, '--no-figures'], sandbox / victim)
        assert logits_files(sandbox / victim) == logits_files(sandbox / 'whole')


def kill_one(victim: str, arguments: list[str], store: Path) -> None:
    """Kill one of the two processes of a run, which goes on and ends."""
    driver = subprocess.Popen(
        [sys.executable, '-m', 'ltbench.cli', *arguments], env={**os.environ, 'LTBENCH_STORE': str(store)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    work = store / 'work'
    deadline = time.monotonic() + 90
    while not list(work.glob('*/epoch_*.pt')):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first = json.loads(next(work.glob('*/worker.json')).read_text())['content']['pid']
    second = [pid for pid in children_of(first) if b'spawn_main' in Path(f'/proc/{pid}/cmdline').read_bytes()]
    os.kill(first if victim == 'first' else second[0], signal.SIGKILL)
    printed, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, printed
    how = 'killed by SIGKILL' if victim == 'first' else 'process 2 of 2 was killed by SIGKILL'
    assert f'{how}; tried once more' in printed
    assert 'top-1' in printed
    (log,) = store.glob('artifacts/*/*/log.txt')
    assert 'continuing from epoch' in log.read_text()
    assert not [pid for pid in (first, *second) if Path(f'/proc/{pid}').exists()]


def test_impossible_numbers_of_devices_are_refused_before_anything_is_written(ltbench, sandbox):
    assert '3 devices per run need 3 slots, got 2: --workers 3' in ltbench(
        'run', '-b', 'digits_lt', '-o', 'devices=3', '--workers', '2', code=2
    )
    assert not (sandbox / 'store').exists() or not list((sandbox / 'store').glob('*/*'))
    with pytest.raises(UsageError, match='a batch of 64 cannot be divided among more devices'):
        load_benchmark('digits_lt', overrides={'devices': 65})
    with pytest.raises(UsageError, match='recipe.devices of digits_lt is a whole number, 1 or larger'):
        load_benchmark('digits_lt', overrides={'devices': 0})

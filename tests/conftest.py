"""Shared by all tests: one torch thread, every method loaded, hypothesis without chance or deadlines."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from ltbench import plugins
from ltbench.config import Benchmark

# the same examples on every machine, so that a red test is red for everyone; a slow machine is no failure
settings.register_profile('ltbench', max_examples=40, deadline=None, derandomize=True)
settings.load_profile('ltbench')


@pytest.fixture(scope='session', autouse=True)
def methods_loaded() -> Iterator[None]:
    """Register the built-in methods, whatever the developer's own environment names."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith('LTBENCH_')]:
            patch.delenv(name)
        broken = plugins.load()
        assert not broken, broken
        yield


@pytest.fixture
def benchmark() -> Benchmark:
    """A benchmark with the CIFAR recipe of Cao et al. (2019), as a method sees it: 200 epochs, imbalance 100."""
    return Benchmark(
        name='toy_lt',
        preset='paper',
        version=1,
        data={'type': 'DigitsLT', 'imbalance_factor': 100, 'profile': 'exp', 'split_seed': 0},
        backbone={'type': 'CIFARResNet', 'depth': 32},
        recipe={
            'epochs': 200,
            'batch_size': 128,
            'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4},
            'schedule': {'type': 'step', 'warmup_epochs': 5, 'at': [0.8, 0.9], 'gamma': 0.01},
            'augmentation': {'crop_padding': 4, 'flip': True},
            'precision': 'fp32',
            'devices': 1,
        },
    )

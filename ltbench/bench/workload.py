"""What is trained while measuring: noise in the shape of CIFAR, a benchmark on it, and a store to throw away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ltbench import plugins
from ltbench.config import Benchmark
from ltbench.data.base import LongTailData, Split, load_data
from ltbench.data.profiles import class_counts
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out
from ltbench.errors import LTBenchError
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.registry import DATASETS
from ltbench.stage import Stage
from ltbench.store import Store


@DATASETS.register_module()
class NoiseLT(LongTailData):
    """Random pixels in the shape of CIFAR with a long tail: they train as fast as images, and need no download.

    Args:
        n_max: Training images of class 0.
        imbalance_factor: Largest over smallest class.
        num_classes: C.
        test_per_class: Test images of each class.
    """

    title = 'noise in the shape of CIFAR'
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)

    def __init__(
        self, n_max: int = 500, imbalance_factor: float = 100, num_classes: int = 100, test_per_class: int = 100
    ) -> None:
        self.class_names = tuple(str(label) for label in range(num_classes))
        random = np.random.default_rng(0)

        def noise(counts: list[int]) -> Split:
            labels = np.repeat(np.arange(num_classes), counts)
            return Split(random.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8), labels)

        self.train = noise(class_counts('exp', n_max, imbalance_factor, num_classes))
        self.test = noise([test_per_class] * num_classes)


def cifar_shaped(
    epochs: int, depth: int = 32, precision: str = 'fp32', batch_size: int = 128, **data: Any
) -> Benchmark:
    """The CIFAR recipe of the long-tail literature on noise; ``data`` are arguments of :class:`NoiseLT`."""
    return Benchmark(
        name='cifar_shaped',
        preset='bench',
        version=1,
        data={'type': 'NoiseLT', **data},
        backbone={'type': 'CIFARResNet', 'depth': depth},
        recipe={
            'epochs': epochs,
            'batch_size': batch_size,
            'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4},
            'schedule': {'type': 'step', 'at': [0.8, 0.9], 'gamma': 0.01, 'warmup_epochs': 0},
            'augmentation': {'crop_padding': 4, 'flip': True},
            'precision': precision,
            'devices': 1,
        },
    )


def graph_of(benchmark: Benchmark, *methods: str, seeds: Sequence[int] = (0,)) -> Graph:
    """The stages of some methods on one benchmark, each once."""
    plugins.load()
    data = load_data(benchmark.data).fingerprint
    return Graph([Run(benchmark, m, seed, make_plan(m, benchmark, data, seed)) for m in methods for seed in seeds])


@contextmanager
def scratch_store() -> Iterator[Store]:
    """An empty store that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix='ltbench-bench-') as folder:
        yield Store(folder)


def carry_out_in(store: Store, stages: Sequence[Stage], threads: int) -> float:
    """Seconds that stages take in this process, as a worker carries them out, one after the other."""
    start = time.perf_counter()
    for stage in stages:
        code = carry_out(Job(stage, str(store.root), Runtime(threads=threads)))
        if code:
            failure = store.read(stage.fingerprint, 'failure') or {}
            raise LTBenchError(f'the {stage.kind} stage failed: {failure.get("reason", "in other hands")}')
    return time.perf_counter() - start

"""What is trained while measuring: a benchmark in the shape of CIFAR, its stages, and a temporary store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ltbench import plugins
from ltbench.benchmark import Benchmark
from ltbench.data import load_data
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out
from ltbench.errors import LTBenchError
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.spec import parse_specs
from ltbench.stage import Stage
from ltbench.store import Store


def cifar_shaped(
    epochs: int, depth: int = 32, precision: str = 'fp32', batch_size: int = 128, **data: Any
) -> Benchmark:
    """The CIFAR recipe of the long-tail literature on noise; ``data`` goes to :class:`~ltbench.data.noise.NoiseLT`."""
    return Benchmark(
        name='cifar_shaped',
        preset='bench',
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
    parsed = list(map(parse_specs, methods))
    return Graph([Run(benchmark, m, seed, make_plan(m, benchmark, data, seed)) for m in parsed for seed in seeds])


@contextmanager
def scratch_store() -> Iterator[Store]:
    """An empty store that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix='ltbench-bench-') as folder:
        yield Store(folder)


def carry_out_in(store: Store, stages: Sequence[Stage], threads: int) -> float:
    """Seconds that stages take in this process, carried out as in a worker, one after the other."""
    start = time.perf_counter()
    for stage in stages:
        code = carry_out(Job(stage, str(store.root), Runtime(threads=threads)))
        if code:
            failure = store.read(stage.fingerprint, 'failure') or {}
            raise LTBenchError(
                f'the {stage.kind} stage failed: {failure.get("reason", "another process is working on it")}'
            )
    return time.perf_counter() - start

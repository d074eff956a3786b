"""A ``train`` stage against a bare PyTorch loop, and against a conventional script."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ltbench.benchmark import Benchmark, load_benchmark
from ltbench.data.base import load_data
from ltbench.engine.job import Runtime, StageContext
from ltbench.engine.train import train
from ltbench.errors import given, unknown
from ltbench.verbs.bench.measure import Case
from ltbench.verbs.bench.references import bare_loop, conventional_script
from ltbench.verbs.bench.workload import cifar_shaped, graph_of, scratch_store

EPOCHS_OF_A_RUN = 200  # as in the CIFAR recipe: one evaluation per 200 epochs
WORTH_IT = 1.1  # times as fast as the published recipes' fp32
DIGITS_EPOCHS = 40  # of the digits benchmark per measurement; one takes a few hundredths of a second


def measure(rounds: int, threads: int = 1, model: str | None = None) -> list[dict[str, Any]]:
    """Images/s of ResNet-32 in float32 and bfloat16, and of the tiny network of the digits benchmark.

    Args:
        rounds: Measurements of each side.
        threads: Threads of every side.
        model: Only ``'resnet32'`` or ``'digits'``.
    """
    models: dict[str, Callable[[int, int], list[dict[str, Any]]]] = {'resnet32': _resnet32, 'digits': _digits}
    if model is not None and model not in models:
        raise unknown('model to measure', model, models)
    return [case for name in models if model in (None, name) for case in models[name](rounds, threads)]


def _resnet32(rounds: int, threads: int) -> list[dict[str, Any]]:
    # the same ratio of test to training images as CIFAR-100-LT with imbalance factor 100
    shape = {'n_max': 400, 'num_classes': 10, 'test_per_class': 92}
    cases, rates = [], {}
    with tempfile.TemporaryDirectory(prefix='ltbench-bench-') as folder:
        for precision, goal in (('fp32', 1.35), ('bf16', 2.2)):
            benchmark = cifar_shaped(rounds + 1, precision=precision, **shape)
            data = load_data(benchmark.data)
            images = len(data.train)
            name = f'train: ResNet-32, batch 128, {precision}, {threads} thread{"s" if threads > 1 else ""}'
            turns, _ = train_alternating(benchmark, [bare_loop(benchmark, data)], threads)
            case = Case(f'{name}, against a bare loop on resident tensors', 'images/s', 0.97)
            cases.append(case.result((images / ours, images / bare) for ours, bare in turns))
            # separate: what its workers leave in memory and caches slows the next measurement by a few percent
            turns, evaluation = train_alternating(
                benchmark, [conventional_script(benchmark, data, Path(folder))], threads
            )
            case = Case(
                f'{name}, against a conventional script (PIL, 4 loader workers, fp32)',
                'images/s',
                goal,
                note='Per epoch; the script evaluates and saves after each, ours once after 200 epochs.',
            )
            share = evaluation / EPOCHS_OF_A_RUN
            cases.append(case.result((images / (ours + share), images / script) for ours, script in turns))
            rates[precision] = cases[-1]['ours']
    cases[-1]['note'] += f' {recommended(**rates)}'
    return cases


def recommended(fp32: float, bf16: float) -> str:
    """Which precision to use on this machine, from the images/s of both."""
    gain = f'bf16 is {bf16 / fp32:.1f} times as fast as fp32 here'
    return f'{gain}: -o precision=bf16.' if bf16 >= WORTH_IT * fp32 else f'{gain}: not worth using.'


def _digits(rounds: int, threads: int) -> list[dict[str, Any]]:
    benchmark = load_benchmark('digits_lt', overrides={'epochs': (rounds + 1) * DIGITS_EPOCHS})
    data = load_data(benchmark.data)
    turns, _ = train_alternating(benchmark, [bare_loop(benchmark, data, DIGITS_EPOCHS)], threads, DIGITS_EPOCHS)
    images = len(data.train) * DIGITS_EPOCHS
    case = Case('train: ResNet-8 on digits, batch 64, fp32, against a bare loop on resident tensors', 'images/s', 0.93)
    return [case.result((images / ours, images / bare) for ours, bare in turns)]


def train_alternating(
    benchmark: Benchmark, ways: Sequence[Callable[[], float]], threads: int, epochs: int = 1, method: str = 'erm'
) -> tuple[list[tuple[float, ...]], float]:
    """Train a method as a stage does, alternating with the other ways every ``epochs`` epochs.

    Returns:
        The seconds of ours and of the other ways in each round, without the first; the seconds of the evaluation.
    """
    (stage,) = graph_of(benchmark, method).stages.values()
    turns = _Turns(ways, epochs)
    with scratch_store() as store:
        artifact = given(train(StageContext(stage, store, Runtime(threads=threads)), [turns]))
        return turns.seconds[1:], artifact.meta['cost']['evaluation_seconds']


class _Turns(Hook):
    """Times the epochs of a training, including everything that the stage does between them."""

    priority = 'HIGHEST'

    def __init__(self, ways: Sequence[Callable[[], float]], epochs: int) -> None:
        self.ways, self.epochs = ways, epochs
        self.seconds: list[tuple[float, ...]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        """End our measurement, and run the other ways."""
        if runner.epoch % self.epochs:
            return
        if runner.epoch:
            self._stop()
        self._others = tuple(way() for way in self.ways)
        self._started = time.perf_counter()

    def after_train(self, runner: Runner) -> None:
        """End our last measurement."""
        self._stop()

    def _stop(self) -> None:
        self.seconds.append((time.perf_counter() - self._started, *self._others))

"""A grid of methods that share stages, against each method trained alone; and two ways to use all cores."""

from __future__ import annotations

import time
from typing import Any

from ltbench.engine.job import Runtime
from ltbench.errors import LTBenchError
from ltbench.grid.executors.local import LocalExecutor, usable_cores
from ltbench.verbs.bench.measure import Case, measure_alternating
from ltbench.verbs.bench.workload import carry_out_in, cifar_shaped, graph_of, scratch_store

METHODS = (
    'erm', 'ce_drw', 'deferred_resampling', 'crt(epochs=2)', 'lws(epochs=2)', 'tau_norm(tau=1)', 'ncm', 'la_posthoc',
    'ldam', 'ldam_drw', 'balanced_softmax', 'la_loss', 'focal', 'class_balanced',
)  # fmt: skip
EPOCHS = 10  # a twentieth of the CIFAR recipe; the epochs of cRT and LWS are scaled likewise, rounded up


def measure(rounds: int, threads: int = 1) -> list[dict[str, Any]]:
    """Seconds of fourteen methods as one grid and each alone; of stages in parallel and one after the other.

    Args:
        rounds: Measurements of each side.
        threads: Threads of each stage of the fourteen methods.
    """
    return [_sharing(rounds, threads), *(_cores(rounds, depth) for depth in (8, 32))]


def _sharing(rounds: int, threads: int) -> dict[str, Any]:
    benchmark = cifar_shaped(EPOCHS, depth=8, n_max=40, imbalance_factor=10, num_classes=10, test_per_class=20)
    together, alone = graph_of(benchmark, *METHODS), [graph_of(benchmark, method) for method in METHODS]

    def grid() -> float:
        with scratch_store() as store:
            return carry_out_in(store, list(together.stages.values()), threads)

    def one_by_one() -> float:
        seconds = 0.0
        for graph in alone:
            with scratch_store() as store:
                seconds += carry_out_in(store, list(graph.stages.values()), threads)
        return seconds

    case = Case(
        f'grid: {len(METHODS)} methods in the shape of CIFAR as one grid, against the sum of each alone',
        's',
        goal=0.5,
        less_is_better=True,
        note=f'ResNet-8, {EPOCHS} epochs, stages one after the other on one core on both sides.',
    )
    return case.result(measure_alternating(rounds, [grid, one_by_one]))


def _cores(rounds: int, depth: int) -> dict[str, Any]:
    """As many stages as cores: at once with one thread each, or one after the other with one thread per core."""
    cores = usable_cores()
    benchmark = cifar_shaped(2, depth=depth, n_max=4000 // depth, num_classes=10, test_per_class=10)
    graph = graph_of(benchmark, 'erm', seeds=range(cores))

    def stages(at_once: int, threads: int) -> float:
        with scratch_store() as store:
            executor = LocalExecutor(store, Runtime(threads=threads, device='cpu'), at_once)
            start = time.perf_counter()
            for states in executor.run(graph):
                failed = [state.reason for state in states.values() if state.state == 'failed']
                if failed:
                    raise LTBenchError(failed[0])
            return time.perf_counter() - start

    case = Case(
        f'grid: {cores} stages of ResNet-{depth} at once with one thread, against one by one with {cores} threads',
        's',
        goal=None,
        less_is_better=True,
        note='Includes the start of each worker. Stages always use one thread: more would change their last bits.',
    )
    return case.result(measure_alternating(rounds, [lambda: stages(cores, 1), lambda: stages(1, cores)]))

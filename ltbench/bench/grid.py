"""A grid of methods that share what they have in common, against each method trained alone."""

from __future__ import annotations

from typing import Any

from ltbench.bench.measure import Case, by_turns
from ltbench.bench.workload import carry_out_in, cifar_shaped, graph_of, scratch_store

METHODS = (
    'erm', 'ce_drw', 'deferred_resampling', 'crt(epochs=2)', 'lws(epochs=2)', 'tau_norm(tau=1)', 'ncm', 'la_posthoc',
    'ldam', 'ldam_drw', 'balanced_softmax', 'la_loss', 'focal', 'class_balanced',
)  # fmt: skip
EPOCHS = 10  # a twentieth of the CIFAR recipe, and so, rounded up, are the epochs of cRT and LWS


def measure(rounds: int, threads: int = 1) -> list[dict[str, Any]]:
    """Seconds of fourteen methods as one grid, and one after the other without knowledge of each other."""
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
    return [case.result(by_turns(rounds, [grid, one_by_one]))]

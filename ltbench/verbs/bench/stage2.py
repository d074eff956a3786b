"""Cost of methods on top of a trained network, against training it."""

from __future__ import annotations

from typing import Any

from ltbench.verbs.bench.measure import Case, measure_alternating
from ltbench.verbs.bench.workload import carry_out_in, cifar_shaped, graph_of, scratch_store

METHODS = ('crt', 'lws', 'tau_norm(tau=1)', 'ncm', 'la_posthoc')
EPOCHS, EPOCHS_OF_A_RUN = 2, 200
DEPTH = 20


def measure(rounds: int, threads: int = 1) -> list[dict[str, Any]]:
    """Seconds of cRT, LWS, tau-normalisation, NCM and post-hoc logit adjustment, and of the ERM stage under them."""
    # the same ratio of test to training images as CIFAR-100-LT with imbalance factor 100
    benchmark = cifar_shaped(EPOCHS, DEPTH, n_max=400, num_classes=10, test_per_class=92)
    graph = graph_of(benchmark, *METHODS)
    training = [stage for stage in graph.stages.values() if stage.kind == 'train']
    others = [stage for stage in graph.stages.values() if stage.kind != 'train']
    with scratch_store() as parents:
        carry_out_in(parents, training, threads)

        def on_top() -> float:
            seconds = carry_out_in(parents, others, threads)
            for stage in others:
                parents.set_aside(stage.fingerprint)
            return seconds

        def erm() -> float:
            with scratch_store() as store:
                carry_out_in(store, training, threads)
                cost = store.find(training[0].fingerprint).meta['cost']  # type: ignore[union-attr]
            return cost['wall_seconds'] * EPOCHS_OF_A_RUN / EPOCHS + cost['evaluation_seconds']

        case = Case(
            'stage2: cRT, LWS, tau-norm, NCM and post-hoc LA together, against the ERM stage that they start from',
            's',
            goal=0.05,
            less_is_better=True,
            note=f'ResNet-{DEPTH}; {EPOCHS} epochs of ERM are trained, and scaled to {EPOCHS_OF_A_RUN}.',
        )
        return [case.result(measure_alternating(rounds, [on_top, erm]))]

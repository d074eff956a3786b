"""Every pair of methods that do not claim the same slot can be planned; those that differ in kind also train."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out
from ltbench.errors import UsageError
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.registry import METHODS
from ltbench.spec import parse_specs
from ltbench.store import Store
from ltbench.verbs.contract import SMALL

plugins.load()
BENCHMARK = load_benchmark('digits_lt', overrides={**SMALL, 'epochs': 2})


def spec(name: str) -> str:
    return f'{name}(epochs=1)' if 'epochs' in METHODS.get(name).options() else name


def plan_of(text: str):
    return make_plan(text, BENCHMARK, load_data(BENCHMARK.data).fingerprint, 0)


CLAIMS = {name: frozenset(plan_of(spec(name)).claims) for name in plugins.method_names()}


def pairs() -> list[tuple[str, str]]:
    """Each pair once, in an order that can be planned; pairs whose claims overlap are left out."""
    found = []
    for a, b in itertools.combinations(plugins.method_names(), 2):
        if not CLAIMS[a] & CLAIMS[b]:
            found.append((b, a) if 'post-hoc step' in CLAIMS[a] else (a, b))  # a post-hoc step comes last
    return found


PAIRS = pairs()


def different() -> list[tuple[str, str]]:
    """One pair of each two kinds, which claim different slots; methods of a kind take turns; and all pairs of nbn."""
    kinds: dict[tuple[frozenset[str], ...], list[tuple[str, str]]] = {}
    for pair in PAIRS:
        kinds.setdefault(tuple(CLAIMS[name] for name in pair), []).append(pair)
    chosen = [found[number % len(found)] for number, found in enumerate(kinds.values())]
    return list(dict.fromkeys([*chosen, *(pair for pair in PAIRS if 'nbn' in pair)]))


DIFFERENT = different()


def test_every_method_is_in_a_pair_that_trains():
    assert {name for pair in DIFFERENT for name in pair} == {name for pair in PAIRS for name in pair}


def test_overlapping_claims_are_refused_by_both_names():
    for a, b in itertools.combinations(plugins.method_names(), 2):
        if (a, b) not in PAIRS and (b, a) not in PAIRS:
            with pytest.raises(UsageError, match=f'(?s)({a}.*{b}|{b}.*{a})'):
                plan_of(f'{spec(a)}+{spec(b)}')


def run_all(texts: list[str], store: Store) -> None:
    runs = [Run(BENCHMARK, parse_specs(text), 0, plan_of(text)) for text in texts]
    graph = Graph(runs)
    for stage in graph.stages.values():
        code = carry_out(Job(stage, str(store.root), Runtime(device='cpu')))
        names = [str(run.method) for run in graph.runs_of(stage.fingerprint)]
        assert code == 0, (names, store.read(stage.fingerprint, 'failure'))
    for run in runs:
        with np.load(store.find(run.fingerprint).path('test.npz')) as outputs:
            assert np.isfinite(outputs['logits']).all(), run.method


@pytest.mark.parametrize('partner', ['balanced_softmax', 'la_loss', 'ldam_drw', 'crt', 'lws', 'mixup', 'tau_norm'])
def test_nbn_combines_with_any_loss_sampler_or_head(partner, tmp_path):
    run_all(
        [f'nbn+{spec(partner)}', f'nbn(rectify_logits=True, scalar_decay=False, bias_init=normal)+{spec(partner)}'],
        Store(tmp_path),
    )


@pytest.mark.slow
@pytest.mark.parametrize('first', sorted({a for a, _ in DIFFERENT}))
def test_every_pair_of_two_kinds_trains(first, tmp_path):
    run_all([f'{spec(a)}+{spec(b)}' for a, b in DIFFERENT if a == first], Store(tmp_path))

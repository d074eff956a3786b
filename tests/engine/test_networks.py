"""The network that a run ends with, as teachers and probes take it up; and what its record says of it."""

from __future__ import annotations

import numpy as np
import pytest

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine.job import Job, Runtime, StageContext
from ltbench.engine.networks import network_of
from ltbench.engine.outputs import predict
from ltbench.engine.worker import carry_out
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.plan import HOLDOUT_SHARE
from ltbench.spec import parse_specs
from ltbench.stage import train_stage_of
from ltbench.store import Store
from ltbench.verbs.contract import SMALL

plugins.load()
BENCHMARK = load_benchmark('digits_lt', overrides={**SMALL, 'n_max': 120, 'imbalance_factor': 40})  # many and few


def trained(text: str, store: Store) -> Run:
    plan = make_plan(text, BENCHMARK, load_data(BENCHMARK.data).fingerprint, 0)
    run = Run(BENCHMARK, parse_specs(text), 0, plan)
    for stage in Graph([run]).stages.values():
        code = carry_out(Job(stage, str(store.root), Runtime(device='cpu')))
        assert code == 0, store.read(stage.fingerprint, 'failure')
    return run


def logits_of(run: Run, store: Store) -> np.ndarray:
    with np.load(store.find(run.fingerprint).path('test.npz')) as stored:
        return stored['logits']


@pytest.mark.parametrize(
    'text',
    ['crt(epochs=2)', 'crt(epochs=2, bn=train)', 'weight_balancing(epochs=2)', 'nbn_retrain(epochs=2, bn=train)'],
)
def test_it_is_the_network_that_was_scored(text, tmp_path):
    store = Store(tmp_path)
    run = trained(text, store)
    stage = run.stages[-1]
    context = StageContext(stage, store, Runtime(device='cpu'))
    model = network_of(context, stage).eval()
    logits = predict(model, model.data_preprocessor, context.data.test, {}).numpy()
    assert np.allclose(logits, logits_of(run, store), atol=1e-4)
    first, last = (store.find(each.fingerprint).meta['model']['analysis'] for each in (run.stages[0], stage))
    assert first['strength'] != last['strength']  # it is that of the head that was trained last
    if text == 'crt(epochs=2)':
        assert first['bn'] == last['bn']


@pytest.mark.parametrize('name', ['la_loss', 'gpaco(queue=64)', 'proco', 'glmc'])
def test_a_step_of_sam_that_goes_nowhere_is_the_plain_step(name, tmp_path):
    """Both of its passes are of one loss: the same random numbers, queues and statistics."""
    store = Store(tmp_path)
    plain, sharp = (logits_of(trained(text, store), store) for text in (name, f'sam(radius=0.0)+{name}'))
    assert np.allclose(plain, sharp, atol=1e-4 * np.abs(plain).max())


def test_a_value_is_chosen_on_images_that_the_teacher_has_not_seen():
    plan = make_plan('distill+tau_norm', BENCHMARK, load_data(BENCHMARK.data).fingerprint, 0)
    (student,) = [stage for stage in plan.stages() if stage.kind == 'train']
    chooser = plan.stages()[-1].tuned_on
    other = train_stage_of(chooser)
    held_out = [stage.config['data']['holdout'] for stage in (other, train_stage_of(other.teacher))]
    assert held_out == [HOLDOUT_SHARE] * 2
    assert other.config['teach'] == other.teacher.fingerprint != student.config['teach'] == student.teacher.fingerprint
    assert not student.config['data'].get('holdout') and not train_stage_of(student.teacher).config['data'].get(
        'holdout'
    )

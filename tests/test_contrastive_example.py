"""The contrastive example of the tutorial is a method as it stands: the tests run the text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine.job import Job
from ltbench.engine.worker import carry_out
from ltbench.errors import UsageError
from ltbench.method import make_plan
from ltbench.models.objective import Batch
from ltbench.registry import METHODS, MODELS, build
from ltbench.store import Store

TUTORIAL = Path(__file__).parents[1] / 'docs/tutorials/your_method.md'


def example() -> str:
    blocks = re.findall(r'```python\n(.*?)```', TUTORIAL.read_text(encoding='utf-8'), re.DOTALL)
    (found,) = [block for block in blocks if '(Objective)' in block]
    return found


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """The example as a plug-in, gone after the test."""
    plugins.load()
    for registry in (METHODS, MODELS):
        monkeypatch.setattr(registry, '_module_dict', dict(registry.module_dict))
    (tmp_path / 'mine.py').write_text(example(), encoding='utf-8')
    monkeypatch.setattr(plugins, '_loaded', dict(plugins._loaded))
    assert str(tmp_path / 'mine.py') not in plugins.load([tmp_path / 'mine.py'])


def test_the_contrastive_example_is_short_and_trains(loaded, tmp_path):
    assert len([line for line in example().splitlines() if line.strip()]) <= 30
    benchmark = load_benchmark('digits_lt', overrides={'epochs': 4})
    data = load_data(benchmark.data).fingerprint
    store, losses = Store(tmp_path / 'store'), {}
    for method in ('supervised_contrast(weight=0)', 'supervised_contrast+la_loss', 'ldam+supervised_contrast'):
        *_, stage = make_plan(method, benchmark, data, 0).stages()
        assert carry_out(Job(stage, str(store.root))) == 0
        losses[method] = [row['loss'] for row in store.find(stage.fingerprint).meta['model']['curve']]
    assert all(later[-1] < later[0] for later in losses.values())
    with pytest.raises(UsageError, match='cannot be combined: both set the'):
        make_plan('mixup+supervised_contrast', benchmark, data, 0)


def test_the_contrastive_example_computes_equation_2(loaded):
    network = nn.Module()
    network.backbone, network.classify = nn.Identity(), nn.Linear(4, 3)
    network.loss = nn.CrossEntropyLoss()
    objective = build(MODELS, dict(type='TwoViewContrast', weight=0.7), in_features=4)
    views, labels = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), [0, 2, 0]
    loss, logits = objective(network, Batch(tuple(views), torch.tensor(labels)))

    z = objective.project(views.flatten(0, 1)).detach().numpy().astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i, label in enumerate(labels * 2):
        others = [j for j in range(6) if j != i]
        everything = sum(np.exp(z[i] @ z[j] / 0.1) for j in others)
        alike = [j for j in others if (labels * 2)[j] == label]
        total -= sum(np.log(np.exp(z[i] @ z[j] / 0.1) / everything) for j in alike) / len(alike)
    plain = network.loss(network.classify(views[0]), torch.tensor(labels))
    assert loss.item() == pytest.approx(plain.item() + 0.7 * total / 6, rel=1e-5)
    assert torch.equal(logits, network.classify(views[0]))

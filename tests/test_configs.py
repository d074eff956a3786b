"""Every config is loaded, resolved and built; new ones are found by themselves."""

from __future__ import annotations

import pytest
import torch

from ltbench.config import config_names, load_benchmark, load_suite, read_config
from ltbench.engine.optim import build_optimizer, learning_rate
from ltbench.method import make_plan
from ltbench.models.classifier import LongTailClassifier
from ltbench.registry import DATASETS, lookup

SETTINGS = [
    (name, preset)
    for name in config_names('benchmarks')
    for preset in ['paper', *read_config('benchmarks', name)[0].get('presets', {})]
]


@pytest.mark.parametrize(('name', 'preset'), SETTINGS)
def test_benchmark(name, preset):
    benchmark = load_benchmark(name, preset)
    assert benchmark.doc.startswith(f'{name}: '), 'the docstring begins with the name'
    assert f'`ltbench run -b {name}`' in benchmark.doc or f'`ltbench run -b "{name}(' in benchmark.doc
    data = lookup(DATASETS, benchmark.data['type'])
    plan = make_plan('erm', benchmark, '', 0)
    with torch.device('meta'):
        model = LongTailClassifier(plan.settings, getattr(data, 'classes', 10), in_channels=3)
    build_optimizer(model, benchmark.recipe['optimizer'])
    epochs, lr = benchmark.recipe['epochs'], benchmark.recipe['optimizer']['lr']
    rates = [learning_rate(benchmark.recipe['schedule'], lr, epoch, epochs) for epoch in range(epochs)]
    assert max(rates) == lr
    assert 0 <= rates[-1] < 0.02 * lr


@pytest.mark.parametrize('name', config_names('suites'))
def test_suite(name):
    suite = load_suite(name)
    assert f'`ltbench run {name}`' in suite.doc or name == 'digits'
    for text in suite.benchmarks:
        benchmark = load_benchmark(text, suite.preset)
        for method in suite.methods:
            assert make_plan(method, benchmark, '', 0).stages()


def test_published_recipes():
    """The plain recipe is the default: LDAM's on CIFAR, Decoupling's on the large sets."""
    cifar = load_benchmark('cifar100_lt').recipe
    table = {0: 0.02, 4: 0.1, 159: 0.1, 160: 1e-3, 179: 1e-3, 180: 1e-5, 199: 1e-5}
    for epoch, lr in table.items():
        assert learning_rate(cifar['schedule'], 0.1, epoch, 200) == pytest.approx(lr)
    assert cifar['optimizer'] == {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4}
    for name, decay in {'imagenet_lt': 5e-4, 'inat2018': 1e-4, 'places_lt': 5e-4}.items():
        recipe = load_benchmark(name).recipe
        assert (recipe['epochs'], recipe['batch_size'], recipe['optimizer']['lr']) == (90, 512, 0.2)
        assert recipe['optimizer']['weight_decay'] == decay
    assert load_benchmark('inat2018', 'long').recipe['epochs'] == 200

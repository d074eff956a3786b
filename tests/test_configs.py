"""Every config is loaded, resolved and built; new ones are found by themselves."""

from __future__ import annotations

import pytest
import torch

from ltbench.benchmark import load_benchmark
from ltbench.config import config_names, read_config
from ltbench.data.views import resolve
from ltbench.engine.optim import build_optimizer, learning_rate
from ltbench.errors import UsageError
from ltbench.method import make_plan
from ltbench.models.classifier import LongTailClassifier
from ltbench.registry import DATASETS, lookup
from ltbench.suite import load_suite

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


RANDAUGMENT = [{'type': 'RandAugment', 'operations': 2, 'strength': 30, 'probability': 0.5}]


@pytest.mark.parametrize(('name', 'preset', 'epochs', 'batch_size', 'lr', 'decay', 'rates'), [
    ('cifar10_lt', 'strong', 200, 64, 0.1, 2e-4, {0: 0.02, 4: 0.1, 5: 0.1, 70: 0.075}),
    ('cifar100_lt', 'strong', 200, 64, 0.1, 2e-4, {0: 0.02, 4: 0.1, 5: 0.1, 70: 0.075}),
    ('cifar100_lt', 'strong_400', 400, 64, 0.1, 2e-4, {0: 0.02, 319: 0.1, 320: 0.01, 359: 0.01, 360: 1e-3}),
    ('imagenet_lt', 'strong', 180, 256, 0.1, 5e-4, {0: 0.1, 90: 0.05}),
    ('imagenet_lt', 'strong_400', 400, 128, 0.02, 5e-4, {0: 0.002, 9: 0.02, 205: 0.01}),
    ('inat2018', 'strong', 100, 256, 0.2, 1e-4, {0: 0.2, 50: 0.1}),
])  # fmt: skip
def test_published_recipes_with_strong_augmentation(name, preset, epochs, batch_size, lr, decay, rates):
    """As DBM, NCL, BCL and PaCo state them; what they leave open is as in the plain recipe."""
    paper, strong = load_benchmark(name), load_benchmark(name, preset)
    recipe = strong.recipe
    assert (recipe['epochs'], recipe['batch_size']) == (epochs, batch_size)
    assert recipe['optimizer'] == {'type': 'SGD', 'lr': lr, 'momentum': 0.9, 'weight_decay': decay}
    for epoch, rate in rates.items():
        assert learning_rate(recipe['schedule'], lr, epoch, epochs) == pytest.approx(rate, abs=1e-4)
    if 'cifar' in name:
        policies = [{'type': 'AutoAugment', 'table': 'cifar10'}, {'type': 'Cutout', 'side': 16}]
        assert recipe['augmentation'] == {'crop_padding': 4, 'flip': True, 'policies': policies}
    else:
        jitter = {'color_jitter': [0.4, 0.4, 0.4, 0.0]}
        assert recipe['augmentation'] == paper.recipe['augmentation'] | jitter | {'policies': RANDAUGMENT}
    assert (strong.data, strong.backbone) == (paper.data, paper.backbone)


@pytest.mark.parametrize('name', config_names('benchmarks'))
def test_no_preset_shares_a_table_with_another(name):
    presets = ['paper', *read_config('benchmarks', name)[0].get('presets', {})]
    benchmarks = [load_benchmark(name, preset) for preset in presets]
    assert [benchmark.setting for benchmark in benchmarks] == presets
    assert len({benchmark.table('the same data') for benchmark in benchmarks}) == len(presets)


@pytest.mark.parametrize('view', ['plain', 'strong'])
@pytest.mark.parametrize('name', ['cifar100_lt', 'imagenet_lt'])
def test_a_strong_view_is_what_the_strong_preset_makes_of_every_image(name, view):
    plain, strong = (load_benchmark(name, preset).recipe['augmentation'] for preset in ('paper', 'strong'))
    for augmentation in (strong, plain):
        seen = resolve(view if augmentation is strong else 'strong', augmentation)
        # the view cuts out half of an image's side, whatever that is; of 32 pixels that is 16
        policies = [{'side': 16, **each} if each['type'] == 'Cutout' else each for each in seen['policies']]
        assert {**seen, 'policies': policies} == strong


def test_a_file_may_begin_with_a_benchmark_of_ours(tmp_path):
    mine = tmp_path / 'mine.py'
    mine.write_text(
        '"""Mine, _base_ = 1."""\n_base_ = (\n    "folder_lt"\n)\ndata = dict(root="leaves")\nrecipe = dict(epochs=9)\n'
    )
    ours, found = load_benchmark('folder_lt(root=leaves)'), load_benchmark(str(mine))
    assert (found.data, found.backbone) == (ours.data, ours.backbone)
    assert found.recipe == {**ours.recipe, 'epochs': 9}
    assert load_benchmark(str(mine), 'quick').recipe['epochs'] == 30
    mine.write_text('_base_ = "foldr_lt"\n')
    with pytest.raises(UsageError, match=f"unknown benchmark as _base_ of {mine}: 'foldr_lt': did you mean folder_lt"):
        load_benchmark(str(mine))


@pytest.mark.parametrize(('name', 'said'), [('digits_lt', '-b digits_lt'), ('erm', '-m erm')])
def test_what_is_no_suite_but_something_else_is_said(name, said):
    with pytest.raises(UsageError, match=f'{name} is a .*, not a suite: `ltbench run {said}`'):
        load_suite(name)

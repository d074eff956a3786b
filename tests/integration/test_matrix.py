"""Every method trains on every benchmark: tiny data in the official layouts, tiny networks of the real ones' classes.

Two epochs, so that a method which changes something late has a late part. Stages are shared as in any grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_trees import LARGE, MAKERS

from ltbench import plugins
from ltbench.benchmark import Benchmark, load_benchmark
from ltbench.config import config_names
from ltbench.data import base, cifar, fashion_mnist, load_data
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.registry import METHODS
from ltbench.spec import Spec, parse_specs
from ltbench.store import Store

plugins.load()
METHOD_NAMES = [name for name in plugins.method_names() if METHODS.get(name).__module__.startswith('methods.')]
OF_THE_MISSION = [
    'resample_class_balanced', 'resample_sqrt', 'resample_progressive', 'resample_repeat_factor', 'ldam', 'ldam_drw',
    'crt', 'lws', 'la_loss', 'la_posthoc', 'balanced_softmax', 'tau_norm', 'ncm', 'ce_drw', 'deferred_resampling',
    'ride',
]  # fmt: skip
FIRST_LARGE = 'imagenet_lt'


# ---------------------------------------------------------------------------------------------- tiny data


@pytest.fixture
def data_folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """A data folder of our own; what is made there is taken for the published files."""
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path / 'data'))
    monkeypatch.setattr(fashion_mnist, 'MD5', dict(fashion_mnist.MD5))
    for kind in (cifar.CIFAR10LT, cifar.CIFAR100LT):
        monkeypatch.setattr(kind, '_nearest', classmethod(lambda cls: (cls.pickles, [])))
    caches = (base._load, fashion_mnist._read)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path / 'data'
    for cache in caches:
        cache.cache_clear()


def tiny(name: str, folder: Path, /, **backbone: Any) -> Benchmark:
    """A benchmark with little data and a small network."""
    data = load_benchmark(name).data
    overrides = MAKERS[data['type']](folder / name, data, np.random.default_rng(0))
    overrides |= {'epochs': 2, 'batch_size': 64 if data['type'] == 'CIFAR100LT' else 16, 'recipe.optimizer.lr': 0.02}
    if data['type'] in LARGE:
        overrides |= {'batch_size': 8, 'random_resized_crop': 32, 'resize': 36, 'center_crop': 32}
        backbone = {'name': 'resnet10', 'width': 0.125, **backbone}
    elif 'depth' in load_benchmark(name).backbone:
        backbone = {'depth': 8, **backbone}
    else:
        backbone = {'width': 0.125, **backbone}
    benchmark = load_benchmark(name, overrides=overrides)
    return replace(benchmark, backbone={**benchmark.backbone, **backbone})


# ---------------------------------------------------------------------------------------------- training


def spec(asked: Spec, benchmark: Benchmark) -> str:
    """The method with a short second stage, a late part, and a size that fits the small network."""
    name, known = asked.name, METHODS.get(asked.name).options()
    options = {key: value for key, value in {'epochs': 1, 'start': 0.5}.items() if key in known}
    options = {key: value for key, value in options.items() if type(known[key].default) in (int, float)}
    if name == 'resample_repeat_factor':
        options['threshold'] = 1.0  # three classes: none is rarer than a thousandth
    if name == 'wide' and 'width' in benchmark.backbone:
        options['width'] = 2 * benchmark.backbone['width']
    return str(Spec(name, {**options, **asked.options}))


@dataclass
class Trained:
    """A run's logits and what its artifact says of the network."""

    logits: np.ndarray
    model: dict[str, Any]


def train_all(benchmark: Benchmark, methods: list[str], folder: Path) -> dict[str, Trained]:
    """Carry out every method; what fails is gathered and shown at once."""
    data = load_data(benchmark.data)
    store, runs = Store(folder), {}
    for method in methods:
        text = '+'.join(spec(asked, benchmark) for asked in parse_specs(method))
        runs[method] = Run(benchmark, parse_specs(text), 0, make_plan(text, benchmark, data.fingerprint, 0))
    graph, failed = Graph(runs.values()), {}
    for stage in graph.stages.values():
        if any(parent.fingerprint in failed for parent in stage.parents):
            failed[stage.fingerprint] = ''
        elif carry_out(Job(stage, str(store.root), Runtime(device='cpu', loader_workers=0))) != 0:
            methods_of = sorted({str(run.method) for run in graph.runs_of(stage.fingerprint)})
            reason = (store.read(stage.fingerprint, 'failure') or {}).get('reason')
            failed[stage.fingerprint] = f'{", ".join(methods_of)}: {stage.kind} stage: {reason}'
    assert not failed, '\n'.join(filter(None, failed.values()))
    trained = {}
    for method, run in runs.items():
        artifact = store.find(run.fingerprint)
        with np.load(artifact.path('test.npz')) as outputs:
            assert outputs['logits'].shape == (len(data.test), data.num_classes), method
            assert np.isfinite(outputs['logits']).all(), method
            assert outputs['labels'].tolist() == data.test.labels.tolist(), method
            trained[method] = Trained(outputs['logits'], artifact.meta['model'])
    return trained


def train_every_method(benchmark: Benchmark, folder: Path) -> None:
    trained = train_all(benchmark, METHOD_NAMES, folder)
    idle = [name for name in METHOD_NAMES if np.array_equal(trained[name].logits, trained['erm'].logits)]
    assert idle == ['erm'], 'these methods change nothing here'
    plain, wide, ride = (trained[name].model['parameters'] for name in ('erm', 'wide', 'ride'))
    assert wide > 1.3 * plain
    assert ride > 1.3 * plain
    assert trained['ride'].model['flops'] > trained['erm'].model['flops']


def test_every_method_trains_on_the_networks_of_large_images(data_folder, tmp_path):
    train_every_method(tiny(FIRST_LARGE, data_folder), tmp_path / 'store')


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in config_names('benchmarks') if name != FIRST_LARGE])
def test_every_method_trains_on_every_benchmark(name, data_folder, tmp_path):
    train_every_method(tiny(name, data_folder), tmp_path / 'store')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'width'), [('resnet10', 0.125), ('resnet50', 0.125), ('resnext50_32x4d', 0.25)], ids=lambda value: value
)
def test_nbn_combines_with_the_methods_of_the_mission_on_the_networks_of_large_images(
    name, width, data_folder, tmp_path
):
    benchmark = tiny(FIRST_LARGE, data_folder, name=name, width=width)
    combined = [f'nbn+{method}' for method in OF_THE_MISSION]
    trained = train_all(benchmark, ['nbn', *combined, *OF_THE_MISSION], tmp_path / 'store')
    for method in OF_THE_MISSION:
        with_nbn = trained[f'nbn+{method}']
        assert not np.array_equal(with_nbn.logits, trained[method].logits), method
        assert not np.array_equal(with_nbn.logits, trained['nbn'].logits), method
        # one scalar for the whole network, also where three experts share it
        assert with_nbn.model['parameters'] == trained[method].model['parameters'] + 1, method


AS_PUBLISHED = {
    'nbn(scope=whole_last_stage)': 'nbn',
    'nbn(rectify_logits=affine)': 'nbn',
    'nbn_retrain': 'nbn',
    'nbn_retrain(classifier=fresh, bn=train, sampling=instance_balanced)': 'nbn_retrain',
    'ride(heads=linear)': 'ride',
    'ride(heads=linear, loss=free)': 'ride(heads=linear)',
    'ride(heads=linear, loss=free)+balanced_softmax': 'ride(heads=linear, loss=free)',
    'nbn(scope=whole_last_stage, scalar=expert)+ride(heads=linear, loss=free)': 'ride(heads=linear, loss=free)',
    'nbn(scope=whole_last_stage, scalar=expert, rectify_logits=True)+ride(heads=linear, loss=free)+balanced_softmax':
        'ride(heads=linear, loss=free)+balanced_softmax',
    'disalign(start=code)': 'disalign',
    'weight_balancing(loss=bce)': 'weight_balancing',
    'weight_balancing(project=epoch)': 'weight_balancing',
    'weight_balancing(schedule=code)': 'weight_balancing',
    'mixup_drw(divide_by=batch)': 'mixup_drw',
    'remix+drw(divide_by=batch)': 'remix+drw',
    'focal+drw(divide_by=batch)': 'focal+drw',
    'resample_class_balanced(across_epochs=True)': 'resample_class_balanced',
    'resample_progressive(across_epochs=True)': 'resample_progressive',
    'crt(across_epochs=True)': 'crt',
    'lws(across_epochs=True)': 'lws',
}  # fmt: skip
"""What official codes do where the defaults are otherwise, and the same without it."""


@pytest.mark.parametrize('name', ['digits_lt', pytest.param(FIRST_LARGE, marks=pytest.mark.slow)])
def test_the_habits_of_official_codes_train_and_act(name, data_folder, tmp_path):
    trained = train_all(tiny(name, data_folder), sorted({*AS_PUBLISHED, *AS_PUBLISHED.values()}), tmp_path / 'store')
    idle = [text for text, plain in AS_PUBLISHED.items() if np.array_equal(trained[text].logits, trained[plain].logits)]
    assert not idle
    experts = [
        trained[f'{nbn}ride(heads=linear, loss=free)'] for nbn in ('nbn(scope=whole_last_stage, scalar=expert)+', '')
    ]
    assert experts[0].model['parameters'] == experts[1].model['parameters'] + 3

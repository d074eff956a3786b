"""Golden results: what the engine computes today, in numbers small enough to be kept. `tests/lock.py` compares them.

Every built-in method trains for 15 steps on 78 digits, with warm-up, decay, crop, flip, a cut and a short last batch;
options, schedules, precisions and combinations that take other ways through the engine are cases of their own, and so
are large images, on a tree of 30 that is drawn here. Beside these: initial weights, what the samplers draw, the data.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ltbench import plugins
from ltbench.config import Benchmark, Spec
from ltbench.data import FileSplit, LongTailData, load_data
from ltbench.engine.job import Job, Runtime, Workbench
from ltbench.engine.train import build_model
from ltbench.engine.worker import carry_out
from ltbench.evaluation import evaluate
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.registry import METHODS, SAMPLERS, build
from ltbench.store import Store

ROWS = 8  # test images whose logits are kept
DIGITS_KEPT = 6  # significant ones

DIGITS = Benchmark(
    name='golden_digits',
    preset='paper',
    version=1,
    data={'type': 'DigitsLT', 'n_max': 20, 'imbalance_factor': 10, 'test_per_class': 10},
    backbone={'type': 'CIFARResNet', 'depth': 8},
    recipe={
        'epochs': 4,
        'batch_size': 32,
        'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9, 'weight_decay': 5e-3},
        'schedule': {'type': 'cosine', 'warmup_epochs': 2},
        'augmentation': {'crop_padding': 1, 'flip': True},
        'precision': 'fp32',
        'devices': 1,
    },
)
LARGE = Benchmark(
    name='golden_large',
    preset='paper',
    version=1,
    data={'type': 'ImageNetLT', 'root': '', 'verify': False},
    backbone={'type': 'TorchvisionResNet', 'name': 'resnet10'},
    recipe={
        **DIGITS.recipe,
        'epochs': 2,
        'batch_size': 8,
        'augmentation': {
            'random_resized_crop': 32, 'flip': True, 'color_jitter': [0.4, 0.4, 0.4, 0.0],
            'resize': 40, 'center_crop': 32, 'pre_resize': None,
        },
    },
    has_validation=True,
)  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    'step': {'schedule': {'type': 'step', 'warmup_epochs': 2, 'at': [0.6, 0.8], 'gamma': 0.1}},
    'constant': {'schedule': {'type': 'constant', 'warmup_epochs': 0}, 'augmentation': {}},
    'float32': {'epochs': 1},
    'bf16': {'epochs': 1, 'precision': 'bf16'},
    'AdamW': {'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1}},
}
WAYS = (
    'nbn(scope=all, scalar=each, bias_init=ones)', 'nbn(normalize=weight, scalar=layer)',
    'nbn(normalize=bias, bias_init=normal, scalar_decay=False, rectify_logits=True)', 'nbn(bias_init=ones)+crt(epochs=3)',
    'nbn(bias_init=normal)+balanced_softmax', 'bn_uniform(scope=all)', 'crt(bn=train, epochs=3)',
    'lws(bn=train, train_classifier=True, epochs=3)', 'mislas(bn=eval, epochs=3)', 'la_posthoc(tau=validation)', 'tau_norm(tau=0.7)',
    'ncm(distance=cosine)', 'ncm(distance=l2n)', 'mixup+ldam', 'resample_repeat_factor(threshold=0.2)', 'drw+focal', 'deferred_resampling+cosine_head',
)  # fmt: skip
LARGE_WAYS = ('erm', 'nbn', 'crt(epochs=2)', 'tau_norm(tau=0.7)')

Values = Mapping[str, Any]  # name -> a list of numbers, or a text


@dataclass(frozen=True)
class Case:
    """One golden.

    Attributes:
        make: Folder of the store, which all cases share -> the values; ``run`` among them is a name, not a result.
        tolerance: Largest difference, as a share of the largest value; see :data:`TOLERANCE`.
    """

    make: Callable[[Path], Values]
    tolerance: float


TOLERANCE = 1e-3
TOLERANCE_FLOAT32 = 1e-3
TOLERANCE_BF16 = 3e-2
NEARLY_EXACT = 1e-5
EXACT = 0.0
OTHERWISE = {'float32': (TOLERANCE_FLOAT32, torch.float32), 'bf16': (TOLERANCE_BF16, torch.float32)}


@contextmanager
def computing_in(dtype: torch.dtype) -> Iterator[None]:
    """Let everything that would compute in float32 do so in ``dtype``.

    In float64 no last bit decides the sign of an activation, so that all CPUs agree to many digits.
    """
    single, default = torch.Tensor.float, torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    if dtype == torch.float64:
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.Tensor.float = single  # type: ignore[method-assign]
        torch.set_default_dtype(default)


def cases() -> dict[str, Case]:
    """All goldens by name; those of a run are called BENCHMARK/METHOD."""
    plugins.load()
    found = {f'digits/{name}': _run(DIGITS, _short(name)) for name in built_in()}
    found |= {f'digits/{method}': _run(DIGITS, method) for method in WAYS}
    for name, changed in RECIPES.items():
        found[f'digits, {name}/erm'] = _run(with_recipe(DIGITS, changed), 'erm', *OTHERWISE.get(name, ()))
    found |= {f'large/{method}': _run(LARGE, method) for method in LARGE_WAYS}
    small = with_recipe(LARGE, {'augmentation': {**LARGE.recipe['augmentation'], 'pre_resize': 36}})
    found['large, pre_resize/erm'] = _run(small, 'erm', TOLERANCE_BF16)
    found |= {
        f'initial weights/{b.backbone["type"]}': Case(partial(_weights, b), NEARLY_EXACT) for b in (DIGITS, LARGE)
    }
    found |= {f'sampler/{name}': Case(partial(_drawn, name), EXACT) for name in _ours(SAMPLERS)}
    found['data/digits'] = Case(_pixels, EXACT)
    found['metrics'] = Case(_metrics, NEARLY_EXACT)
    return found


def built_in() -> list[str]:
    """Names of the methods in ``methods/``."""
    return _ours(METHODS)


def _ours(registry: Any) -> list[str]:
    names = registry.module_dict.items()
    return sorted(name for name, part in names if part.__module__.partition('.')[0] in ('ltbench', 'methods'))


def with_recipe(benchmark: Benchmark, changed: Mapping[str, Any]) -> Benchmark:
    """The benchmark with other entries in its recipe."""
    return replace(benchmark, recipe={**benchmark.recipe, **changed})


def _short(name: str) -> str:
    """A method with few epochs in its second stage, if it has one."""
    return str(Spec(name, {'epochs': 3} if 'epochs' in METHODS.module_dict[name].options() else {}))


def _run(benchmark: Benchmark, method: str, tolerance: float = TOLERANCE, dtype: torch.dtype = torch.float64) -> Case:
    return Case(partial(_trained, benchmark, method, dtype), tolerance)


def _trained(benchmark: Benchmark, method: str, dtype: torch.dtype, folder: Path) -> Values:
    """Loss of every epoch of every stage, and test logits ``[8, C]``, one row after the other."""
    benchmark, store = _located(benchmark, folder), Store(folder / 'store')
    plan = make_plan(method, benchmark, load_data(benchmark.data).fingerprint, seed=0)
    run, losses = Run(benchmark, method, 0, plan), []
    for stage in Graph([run]).stages.values():
        runtime = Runtime(device='cpu', loader_workers=0, checkpoint_seconds=1e9)
        with computing_in(dtype):
            code = carry_out(Job(stage, str(store.root), runtime))
        if code != 0:
            raise RuntimeError(f'{method}: {(store.read(stage.fingerprint, "failure") or {}).get("reason")}')
    for stage in run.stages:
        meta = store.find(stage.fingerprint).meta
        losses += [epoch['loss'] for epoch in meta.get('model', {}).get('curve', []) + meta.get('head_curve', [])]
    with np.load(store.find(run.fingerprint).path('test.npz')) as outputs:
        logits = outputs['logits']
    rows = logits[:: max(len(logits) // ROWS, 1)][:ROWS]
    return {'run': run.fingerprint[:16], 'loss': losses, 'logits': _numbers(rows)}


def _weights(benchmark: Benchmark, folder: Path) -> Values:
    """Of every weight of convolutions and head: the first value and the deviation."""
    benchmark = _located(benchmark, folder)
    plan = make_plan('erm', benchmark, load_data(benchmark.data).fingerprint, seed=0)
    model = build_model(Workbench(plan.stages()[-1], Store(folder / 'store'), Runtime(device='cpu')))
    weights = [parameter.detach() for parameter in model.parameters() if parameter.dim() > 1]
    return {'first': [_number(w.flatten()[0]) for w in weights], 'deviation': [_number(w.std()) for w in weights]}


def _drawn(name: str, folder: Path) -> Values:
    """The first indices of an epoch."""
    labels = np.repeat(np.arange(5), [30, 14, 7, 3, 1])
    config = {'type': name, **({'threshold': 0.2} if name == 'RepeatFactor' else {})}
    sampler = build(SAMPLERS, config, labels=labels, seed=0, epochs=4)
    sampler.set_epoch(2)
    return {'indices': list(sampler)[:20]}


def _pixels(folder: Path) -> Values:
    """Hash of the pixels and labels of both parts, and what they are normalised by."""
    data = load_data(DIGITS.data)
    digest = hashlib.sha256()
    for split in (data.train, data.test):
        digest.update(np.ascontiguousarray(split.images).tobytes() + split.labels.astype('<i8').tobytes())
    return {'sha256': digest.hexdigest(), 'normalisation': [*data.mean, *data.std]}


def _metrics(folder: Path) -> Values:
    """All metrics of made-up logits of 40 images."""
    random = np.random.default_rng(0)
    labels = np.arange(40) % 4
    logits = random.normal(size=(40, 4)).astype(np.float32) + 2 * np.eye(4, dtype=np.float32)[labels]
    found = evaluate(logits, labels, [200, 50, 21, 5])
    return {name: [_number(leaf) for leaf in _leaves(value)] for name, value in found.items()}


def _located(benchmark: Benchmark, folder: Path) -> Benchmark:
    if benchmark.data['type'] != 'ImageNetLT':
        return benchmark
    root = folder / 'tree'
    if not root.is_dir():
        draw_tree(root)
    return replace(benchmark, data={**benchmark.data, 'root': str(root)})


def draw_tree(root: Path) -> None:
    """Images of three classes in ImageNet-LT's layout; PNG under any name, since every decoder gives the same pixels."""
    random = np.random.default_rng(0)
    for name, folder, counts in (
        ('train', 'train', (11, 5, 3)),
        ('val', 'train', (2, 2, 2)),
        ('test', 'val', (3, 3, 3)),
    ):
        lines = []
        for label, count in enumerate(counts):
            for number in range(count):
                path = f'{folder}/n0{label}/{name}_{number}.JPEG'
                coarse = random.integers(0, 256, (6, 5, 3)) // 2 + 40 * label
                pixels = np.kron(coarse, np.ones((8, 12, 1), int)) + random.integers(0, 40, (48, 60, 3))
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / path, 'PNG')
                lines.append(f'{path} {label}')
        (root / f'ImageNet_LT_{name}.txt').write_text('\n'.join(lines) + '\n')


def _leaves(value: Any) -> Iterator[float]:
    """The numbers in a metric; a bin without images is -1."""
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item)
    else:
        yield -1 if value is None else value


def _number(value: Any) -> float:
    return float(f'{float(value):.{DIGITS_KEPT}g}')


def _numbers(values: np.ndarray) -> list[float]:
    return [_number(value) for value in values.ravel()]

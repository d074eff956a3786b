"""Golden results: what the engine computes today, in few enough numbers to be kept. `tests/lock.py` compares them.

Every built-in method trains for 12 steps on 78 digits, with warm-up, decay, crop, flip, a cut and a short last batch;
options, schedules, precisions and combinations that take other ways through the engine are cases of their own, and so
are large images, on a tree of 34 that is drawn here. Beside these: initial weights, what the samplers draw, the pixels
of the digits and of a JPEG file, the metrics of given logits.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ltbench import plugins
from ltbench.benchmark import Benchmark
from ltbench.data import FileSplit, load_data
from ltbench.data.crops import large_dataset
from ltbench.data.images import decode
from ltbench.engine.job import Job, Runtime, StageContext
from ltbench.engine.networks import build_model
from ltbench.engine.worker import carry_out
from ltbench.evaluation import evaluate
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.models.classifier import LongTailClassifier
from ltbench.registry import METHODS, SAMPLERS, build
from ltbench.source import foreign_code
from ltbench.spec import Spec, parse_specs
from ltbench.store import Store

ROWS = 8  # test images whose logits are kept
KEPT = 6  # significant digits of every number

DIGITS = Benchmark(
    name='golden_digits',
    preset='paper',
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
RECIPES: dict[str, dict[str, Any]] = {
    'step': {'schedule': {'type': 'step', 'warmup_epochs': 1, 'at': [0.4, 0.8], 'gamma': 0.1}},
    'step, a factor each': {
        'schedule': {
            'type': 'step',
            'warmup_epochs': 1,
            'warmup_from_zero': True,
            'at': [0.5, 0.75],
            'gamma': [0.1, 2.0],
        }
    },
    'constant': {'schedule': {'type': 'constant', 'warmup_epochs': 0}, 'augmentation': {}},
    'AdamW': {'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1}},
    'float32': {'epochs': 1},
    'bf16': {'epochs': 1, 'precision': 'bf16', 'optimizer': {**DIGITS.recipe['optimizer'], 'lr': 1e-4}},
    'amp_bf16': {'epochs': 1, 'precision': 'amp_bf16', 'optimizer': {**DIGITS.recipe['optimizer'], 'lr': 1e-4}},
}
WAYS = (
    'nbn(scope=all, scalar=each, bias_init=ones)', 'nbn(normalize=weight, scalar=layer)',
    'nbn(normalize=bias, bias_init=normal, scalar_decay=False, rectify_logits=True)',
    'nbn(bias_init=ones)+crt(epochs=3)', 'nbn(bias_init=normal)+balanced_softmax', 'bn_uniform(scope=all)',
    'crt(bn=train, epochs=3)', 'lws(bn=train, train_classifier=True, epochs=3)', 'mislas(bn=eval, epochs=3)',
    'la_posthoc(tau=validation)', 'tau_norm(tau=0.7)', 'ncm(distance=cosine)', 'ncm(distance=l2n)',
    'sade(aggregate=test_images)', 'sam(eta=8)',
    'resample_repeat_factor(threshold=0.2)', 'mixup+ldam', 'drw+focal', 'deferred_resampling+cosine_head',
    'nbn(scope=whole_last_stage, scalar=expert, rectify_logits=affine)+ride(heads=linear, loss=free)+balanced_softmax',
    'nbn_retrain(bn=train, epochs=3)', 'crt(across_epochs=True, epochs=3)', 'resample_progressive(across_epochs=True)',
    'disalign(start=code, epochs=3)', 'weight_balancing(loss=bce, project=epoch, schedule=code, epochs=3)',
    'mixup_drw(divide_by=batch)',
)  # fmt: skip
"""Besides every method with its defaults."""
LARGE = replace(
    DIGITS,
    name='golden_large',
    data={'type': 'ImageNetLT', 'root': '', 'verify': False},
    backbone={'type': 'TorchvisionResNet', 'name': 'resnet10'},
    recipe={
        **DIGITS.recipe,
        'epochs': 2,
        'batch_size': 8,
        'optimizer': {**DIGITS.recipe['optimizer'], 'lr': 0.002},
        'augmentation': {
            'random_resized_crop': 32,
            'flip': True,
            'color_jitter': [0.4, 0.4, 0.4, 0.0],
            'resize': 40,
            'center_crop': 32,
            'pre_resize': None,
        },
    },
    has_validation=True,
)
LARGE_WAYS = ('erm', 'nbn', 'crt(epochs=2, lr=0.01)', 'tau_norm', 'bbn', 'sade(aggregate=test_images)')
PREPARED = {'augmentation': {**LARGE.recipe['augmentation'], 'prepared': 40}}
JPEG = base64.b64decode("""
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQ
YEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAYACMD
ASIAAhEBAxEB/8QAGQABAQADAQAAAAAAAAAAAAAAAAUCBAYD/8QALxAAAQMDAQUFCQEAAAAAAAAAAQIDEQAEBRITISIxUQYUQWHRM0JSVGJzgZGT
of/EABkBAAIDAQAAAAAAAAAAAAAAAAQFAAIDAf/EACwRAAECBAEKBwAAAAAAAAAAAAEAAgMEESESBRQVMTJRUlOh4WGBkcHR8PH/2gAMAwEAAhED
EQA/AJDto82ypxaIShJUTI3ACsME6lzLW7bagpR1c5+E12GTwGnF3Z7yOFhZgN8+E+dcj2ex+wzVu4XpCdXuxzSR1oyEGZvEhwzXECOio+fmZgh8
RoBGqn6rWft3FWSNKTudHiOhqZYBduFpuOHVEePX1FdPkLcvshGvSQqQYnwPrU9WGL+5VzGn6Jn/AHypdKtgMAk3uo4399dKLAzsNsURZk4SN1e6
0i+wT7SPxSt0YAfMp/mPWlHaOgcR++SI0vk7mdD8KTb9pMxc3Ddtc3oWy8sNrRskjUkmCJAkbqp3Fs1aNKuLVGzcbgJVziTB57uVKVXY2bJfPOLJ
uC1tgSK+N1hZ5G7ecKXXdSYk8I3fqvLMZG7s9l3d4J1apOkGYjqKUrkuxhnGuIv2Uyixud4aWopau0GVCiE3Yj7aPSlKU/wt3BYCXhcI9Av/2Q==
""")
"""Coarse noise of 35 x 24 pixels with half as many of colour: a decoder that interpolates them otherwise is seen."""
UPSIDE_DOWN = b'\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0'
"""EXIF that says so; behind the first two bytes of a file."""

TOLERANCE = 2e-5
"""Largest difference that is none, as a share of the largest value of a list. Runs compute in float64, where AVX-512,
AVX2 and SSE, one thread and two, torch 2.13 and 2.14 agree to all digits that are kept. In float32 the sign of some
activation differs sooner or later, and that moved every third run by 0.1 % and more."""
TOLERANCE_ROUNDED = 1e-2
"""Of single and half precision, in 3 steps: float32 differs by 2e-6 between these, bfloat16 by 3e-3. The latter is as
much as there is between bfloat16 and float32: it is ``bf16/CIFARResNet`` that sees the rounding."""
TOLERANCE_PIXELS = 1.5 / 255
"""Of pixels that were decoded from JPEG or scaled by torch: builds of these libraries may differ by 1 of 255."""
EXACT = 0.0
PRECISION: dict[str, tuple[float, torch.dtype]] = dict.fromkeys(
    ('float32', 'bf16', 'amp_bf16'), (TOLERANCE_ROUNDED, torch.float32)
)

Values = dict[str, Any]
"""Name -> numbers, or a text. ``identity`` is no result but the name of one: it moves with a method and its file."""


@dataclass(frozen=True)
class Case:
    """One golden.

    Attributes:
        make: Folder for stores and images, which all cases share -> the values.
        tolerance: See :data:`TOLERANCE`.
    """

    make: Callable[[Path], Values]
    tolerance: float


def cases() -> dict[str, Case]:
    """All goldens by name; those of a run are called BENCHMARK/METHOD."""
    plugins.load()
    found = {f'digits/{method}': _run(DIGITS, method) for method in (*map(_short, built_in()), *WAYS)}
    for name, changed in RECIPES.items():
        found[f'digits, {name}/erm'] = _run(with_recipe(DIGITS, changed), 'erm', *PRECISION.get(name, ()))
    found |= {f'large/{method}': _run(LARGE, method) for method in LARGE_WAYS}
    found['large, prepared/erm'] = _run(with_recipe(LARGE, PREPARED), 'erm')
    for benchmark in (DIGITS, LARGE):
        found[f'initial weights/{benchmark.backbone["type"]}'] = Case(partial(_weights, benchmark), TOLERANCE)
    found['bf16/CIFARResNet'] = Case(_rounded, EXACT)
    found |= {f'sampler/{name}': Case(partial(_drawn, name), EXACT) for name in _ours(SAMPLERS)}
    found |= {'pixels/digits': Case(_pixels, EXACT), 'pixels/jpeg': Case(_decoded, TOLERANCE_PIXELS)}
    return found | {'metrics/all': Case(_metrics, TOLERANCE)}


def built_in() -> list[str]:
    """Names of the methods in ``methods/``."""
    return _ours(METHODS)


@contextmanager
def computing_in(dtype: torch.dtype) -> Iterator[None]:
    """Let everything that would compute in float32 do so in ``dtype``, float32 or float64."""
    single, default = torch.Tensor.float, torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    if dtype == torch.float64:
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.Tensor.float = single  # type: ignore[method-assign]
        torch.set_default_dtype(default)


def with_recipe(benchmark: Benchmark, changed: Mapping[str, Any]) -> Benchmark:
    """The benchmark with other entries in its recipe."""
    return replace(benchmark, recipe={**benchmark.recipe, **changed})


def draw_tree(root: Path) -> None:
    """Images of three classes in ImageNet-LT's layout: PNG under any name, as every decoder gives the same pixels."""
    random = np.random.default_rng(0)
    parts = (('train', 'train', (11, 5, 3)), ('val', 'train', (2, 2, 2)), ('test', 'val', (3, 3, 3)))
    for part, folder, counts in parts:
        lines = [
            f'{folder}/n0{label}/{part}_{number}.JPEG {label}'
            for label, count in enumerate(counts)
            for number in range(count)
        ]
        for path, label in map(str.split, lines):
            coarse = random.integers(0, 128, (6, 5, 3)) + 40 * int(label)
            pixels = np.kron(coarse, np.ones((8, 12, 1), int)) + random.integers(0, 40, (48, 60, 3))
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / path, 'PNG')
        (root / f'ImageNet_LT_{part}.txt').write_text('\n'.join(lines) + '\n')


# ---------------------------------------------------------------------------------------------- what is kept


def _trained(benchmark: Benchmark, method: str, dtype: torch.dtype, folder: Path) -> Values:
    """Loss of every epoch, also of a second stage, and test logits ``[8, C]``, one row after the other."""
    benchmark, store = _located(benchmark, folder), Store(folder / 'store')
    run = Run(
        benchmark, parse_specs(method), 0, make_plan(method, benchmark, load_data(benchmark.data).fingerprint, seed=0)
    )
    for stage in Graph([run]).stages.values():
        with computing_in(dtype):
            code = carry_out(Job(stage, str(store.root), Runtime(device='cpu', loader_workers=0)))
        if code != 0:
            raise RuntimeError(f'{method}: {(store.read(stage.fingerprint, "failure") or {}).get("reason")}')
    artifact = store.find(run.fingerprint)
    assert artifact is not None
    losses = [epoch['loss'] for epoch in (*artifact.meta['model']['curve'], *artifact.meta.get('head_curve', ()))]
    with np.load(artifact.path('test.npz')) as outputs:
        logits = outputs['logits']
    rows = logits[:: max(len(logits) // ROWS, 1)][:ROWS]
    return {'identity': run.fingerprint[:16], 'loss': losses, 'logits': _numbers(rows.ravel())}


def _weights(benchmark: Benchmark, folder: Path) -> Values:
    """Of every weight of convolutions and head: the first value and the deviation."""
    model = _network(_located(benchmark, folder), folder)
    weights = [parameter.detach() for parameter in model.parameters() if parameter.dim() > 1]
    return {'first': _numbers(w.flatten()[0] for w in weights), 'deviation': _numbers(w.std() for w in weights)}


def _rounded(folder: Path) -> Values:
    """What the first convolution gives in bfloat16, where float32 holds the sums of rounded products exactly.

    So all CPUs, with and without instructions for it, agree in every bit, and what is not rounded is seen.
    """
    model, seen = _network(with_recipe(DIGITS, {'precision': 'bf16'}), folder), []
    random = np.random.default_rng(0)
    images, weight = (
        torch.from_numpy(1 + random.integers(0, 1024, shape) / 1024).float() for shape in ((1, 1, 8, 8), (16, 1, 3, 3))
    )
    model.backbone.conv1.weight.data = weight * torch.tensor([1.0, -1.0]).repeat(8).view(16, 1, 1, 1)
    model.backbone.conv1.register_forward_hook(lambda *call: seen.append(call[-1].detach().float().flatten()))
    model.backbone(images)
    return {'outputs': _numbers(seen[0][::40])}


def _network(benchmark: Benchmark, folder: Path) -> LongTailClassifier:
    stage = make_plan('erm', benchmark, load_data(benchmark.data).fingerprint, seed=0).stages()[-1]
    return build_model(StageContext(stage, Store(folder / 'store'), Runtime(device='cpu')))


def _drawn(name: str, folder: Path) -> Values:
    """The first indices of an epoch."""
    config = {'type': name, **({'threshold': 0.2} if name == 'RepeatFactor' else {})}
    sampler = build(SAMPLERS, config, labels=np.repeat(np.arange(5), [30, 14, 7, 3, 1]), seed=0, epochs=4)
    sampler.set_epoch(2)
    return {'identity': str(foreign_code(config)), 'indices': list(sampler)[:20]}


def _pixels(folder: Path) -> Values:
    """Hash of the pixels and labels of both parts, and what they are normalised by."""
    data, digest = load_data(DIGITS.data), hashlib.sha256()
    for split in (data.train, data.test):
        digest.update(np.ascontiguousarray(split.images).tobytes() + split.labels.astype('<i8').tobytes())
    return {'sha256': digest.hexdigest(), 'normalisation': [*data.mean, *data.std]}


def _decoded(folder: Path) -> Values:
    """Some pixels of a JPEG file and of the same upside down, which another decoder reads: whole, and as they are
    trained and tested on, decoded then and there or prepared."""
    root = folder / 'jpeg'
    root.mkdir(exist_ok=True)
    (root / 'upright.jpg').write_bytes(JPEG)
    (root / 'turned.jpg').write_bytes(JPEG[:2] + UPSIDE_DOWN + JPEG[2:])
    split = FileSplit(root, np.array([b'upright.jpg', b'turned.jpg']), np.zeros(2, np.int64))
    found = {f'whole, {split.path(row).stem}': np.asarray(decode(split.path(row))) for row in range(2)}
    for name, side in (('decoded', None), ('prepared', 20)):
        augmentation = {'random_resized_crop': 8, 'flip': True, 'resize': 20, 'center_crop': 16, 'prepared': side}
        for training in (True, False):
            dataset = large_dataset(split, augmentation, training)
            images = dataset.__getitems__([(0, 5), (1, 6)])['images'].numpy()
            found[f'{name}, {"trained" if training else "tested"} on'] = images
    return {name: _numbers(pixels.ravel()[::17]) for name, pixels in found.items()}


def _metrics(folder: Path) -> Values:
    """All metrics of made-up logits of 40 images."""
    random, labels = np.random.default_rng(0), np.arange(40) % 4
    logits = random.normal(size=(40, 4)).astype(np.float32) + 2 * np.eye(4, dtype=np.float32)[labels]
    return {name: _numbers(_leaves(value)) for name, value in evaluate(logits, labels, [200, 50, 21, 5]).items()}


def _leaves(value: Any) -> Iterator[float]:
    """The numbers in a metric; a bin without images is -1."""
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item)
    else:
        yield -1 if value is None else value


def _numbers(values: Any) -> list[float]:
    return [float(f'{float(value):.{KEPT}g}') for value in values]


def _located(benchmark: Benchmark, folder: Path) -> Benchmark:
    if benchmark.data['type'] != 'ImageNetLT':
        return benchmark
    root = folder / 'tree'
    if not root.is_dir():
        draw_tree(root)
    return replace(benchmark, data={**benchmark.data, 'root': str(root)})


def _run(benchmark: Benchmark, method: str, tolerance: float = TOLERANCE, dtype: torch.dtype = torch.float64) -> Case:
    return Case(partial(_trained, benchmark, method, dtype), tolerance)


def _short(name: str) -> str:
    """A method with few epochs in its second stage, if it has one."""
    return str(Spec(name, {'epochs': 3} if 'epochs' in METHODS.module_dict[name].options() else {}))


def _ours(registry: Any) -> list[str]:
    parts = registry.module_dict.items()
    return sorted(name for name, part in parts if part.__module__.partition('.')[0] in ('ltbench', 'methods'))

"""Score a published checkpoint on a benchmark's test part and write its record."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ltbench import __version__
from ltbench.benchmark import Benchmark
from ltbench.data import LongTailData, load_data
from ltbench.data.base import Split
from ltbench.data.batches import BatchPreprocessor, example_of
from ltbench.engine.environment import Meter, compute_exactly, describe, peak_memory_mb, size_of
from ltbench.engine.outputs import predict
from ltbench.engine.probing import measured, watched
from ltbench.errors import DataError, UsageError
from ltbench.evaluation import evaluate
from ltbench.evaluation.metrics import describe_groups, in_words
from ltbench.evaluation.predictions import Predictions, write_with_predictions
from ltbench.fingerprint import PROTOCOL_VERSION, fingerprint
from ltbench.models.classifier import LongTailClassifier
from ltbench.probes import ALWAYS, Seen
from ltbench.record import SCHEMA_VERSION, record_path, set_superseded_aside
from ltbench.verbs.imported.formats import Checkpoint, read_checkpoint
from ltbench.verbs.imported.network import build_imported, check_order_of_labels, choose_backbone

IMAGENET_PIXELS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INATURALIST_PIXELS = ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192))
CIFAR_PIXELS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
PIXELS = {'torchvision': IMAGENET_PIXELS, 'ldam-drw': CIFAR_PIXELS}
"""Mean and standard deviation of sources with one pair for all data; the others' pair depends on the data set."""
PIXELS_BY_DATA = {
    'ImageNetLT': IMAGENET_PIXELS,
    'PlacesLT': IMAGENET_PIXELS,
    'INaturalist2018': INATURALIST_PIXELS,
    'CIFAR10LT': CIFAR_PIXELS,
    'CIFAR100LT': CIFAR_PIXELS,
}


Pixels = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, in units of 0..1."""
Evaluation = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""Metrics on the test part with the analysis of the network; cost of the evaluation; environment."""


def score_checkpoint(
    path: Path, source: str, benchmark: Benchmark, suite: str = 'imported', pixels: Pixels | None = None
) -> Iterator[str]:
    """Score a file without training, write its record to ``results/SUITE/records``, and yield lines that describe it.

    Args:
        path: The checkpoint.
        source: The repository whose code wrote it, one of :data:`~ltbench.verbs.imported.SOURCES`.
        benchmark: Gives test images, groups, and the network if the file does not name it.
        suite: Where the record goes.
        pixels: Mean and standard deviation used in its training; None: those of the source's code.

    Raises:
        UsageError: If source, network, benchmark or pixels do not fit together.
        DataError: If the file or the data are missing, damaged or do not fit; see :func:`read_checkpoint`.
        StoreError: If the record cannot be written.
    """
    checkpoint = read_checkpoint(path, source)
    backbone, contradiction = choose_backbone(checkpoint, benchmark)
    data = load_data(benchmark.data)
    data = with_pixels_of(source, benchmark, data) if pixels is None else with_pixels(pixels, data)
    label_order = check_order_of_labels(benchmark, data)
    preprocess = BatchPreprocessor(data, benchmark.recipe['augmentation'], seed=0)
    model = build_imported(checkpoint, backbone, data.num_classes, data.channels, preprocess)
    yield from _weights_in_words(checkpoint)
    if contradiction:
        yield f'note: {contradiction}'
    imported = _describe(checkpoint, backbone, data) | {'label_order': label_order}
    if pixels is not None:
        imported['pixels'] = 'given by hand'
    evaluation, predictions = _evaluate(model, benchmark, data)
    record = _record(benchmark, data, imported, evaluation)
    record['warnings'] = [*([contradiction] if contradiction else []), *data.notes]
    target = record_path(suite, record)
    write_with_predictions(target, record, predictions)
    set_superseded_aside(target, record)
    yield f'{benchmark.name} ({record["setting"]}) / {record["method"]}  {in_words(record["metrics"], 2)}'
    yield f'record: {target}'


def with_pixels_of(source: str, benchmark: Benchmark, data: LongTailData) -> LongTailData:
    """The data with the mean and standard deviation in the source's code.

    Unknown data sets, and images with another number of channels, keep their own.
    """
    known = PIXELS.get(source) or PIXELS_BY_DATA.get(benchmark.data['type'])
    if known is None or len(known[0]) != data.channels:
        return data
    return with_pixels(known, data)


def with_pixels(pixels: Pixels, data: LongTailData) -> LongTailData:
    """The data with another mean and standard deviation.

    Raises:
        UsageError: If their number is not that of the channels, or they are not in units of 0..1.
    """
    for name, values, low in (('mean', pixels[0], -1e-9), ('standard deviation', pixels[1], 0.0)):
        shown = ', '.join(f'{value:g}' for value in values)
        if len(values) != data.channels:
            count = f'{data.channels} channel{"s" if data.channels > 1 else ""}'
            raise UsageError(f'the images have {count}, and the {name} given is {shown}: give one number per channel')
        if not all(low < value <= 1 for value in values):
            raise UsageError(f'the {name} given is {shown}: expected numbers between 0 and 1, as of pixels from 0 to 1')
    changed = copy.copy(data)
    changed.mean, changed.std = pixels
    return changed


def _describe(checkpoint: Checkpoint, backbone: Mapping[str, Any], data: LongTailData) -> dict[str, Any]:
    """Facts for the record about the file and how it was read."""
    return {
        'source': checkpoint.source,
        'file': checkpoint.path.name,
        'sha256': checkpoint.sha256,
        'arch': checkpoint.arch,
        'backbone': dict(backbone),
        'head': checkpoint.head,
        'normalization': checkpoint.normalization,
        'rectification': checkpoint.rectification,
        'scaled': checkpoint.scaled,
        'tensors': len(checkpoint.weights),
        'ignored': checkpoint.ignored,
        'mean': list(data.mean),
        'std': list(data.std),
    }


def _record(
    benchmark: Benchmark,
    data: LongTailData,
    imported: Mapping[str, Any],
    evaluation: Evaluation,
) -> dict[str, Any]:
    """The record of an imported row, with a name that no method can have, and in a separate setting."""
    measured, cost, environment = evaluation
    source, file, sha256 = imported['source'], imported['file'], imported['sha256']
    by_hand = {name: imported[name] for name in ('mean', 'std') if 'pixels' in imported}
    key = fingerprint(
        {
            'protocol': PROTOCOL_VERSION,
            'kind': 'imported',
            'data': data.fingerprint,
            'augmentation': benchmark.recipe['augmentation'],
            'imported': {name: value for name, value in imported.items() if name not in ('file', 'ignored')},
        }
    )
    stem = re.sub(r'[^\w+=-]', '_', file.partition('.')[0])
    return {
        'schema': SCHEMA_VERSION,
        'ltbench': __version__,
        'protocol': PROTOCOL_VERSION,
        'benchmark': benchmark.name,
        'data': data.fingerprint,
        'code': environment.get('code', ''),
        'table': benchmark.table(data.fingerprint),
        'imbalance_factor': benchmark.data.get('imbalance_factor'),
        'setting': _setting(benchmark, imported['backbone']),
        'method': f'imported:{source}({", ".join([stem, f"sha256={sha256[:8]}", *map(_joined, by_hand.items())])})',
        'methods': [{'name': f'imported:{source}', 'options': {'file': file, 'sha256': sha256, **by_hand}}],
        'run_seed': 0,
        'fingerprint': key,
        'computation': key,
        'stages': [{'kind': 'imported', 'fingerprint': key, 'epochs': 0, 'cost': cost}],
        'config': {'benchmark': benchmark.resolved, 'stages': [], 'imported': imported},
        'class_names': list(data.class_names),
        'class_counts': data.class_counts,
        'groups': describe_groups(data.class_counts),
        **measured,
        'curve': [],
        'chosen': {},
        'warnings': [],
        'cost': {
            'parameters': cost['parameters'],
            'flops': cost['flops'],
            'wall_seconds': 0.0,  # cost of training: none was done here
            'cpu_seconds': 0.0,
            'images_per_second': 0.0,
            'peak_memory_mb': cost['peak_memory_mb'],
        },
        'environment': environment,
    }


def _joined(option: tuple[str, list[float]]) -> str:
    """Text like ``mean=0.5/0.5/0.5``: one file with other pixel statistics gets a separate row."""
    return f'{option[0]}={"/".join(f"{value:g}" for value in option[1])}'


def _weights_in_words(checkpoint: Checkpoint) -> Iterator[str]:
    """How many weights were used, and which keys were ignored and why; counters are grouped."""
    yield f'{checkpoint.path.name}: {len(checkpoint.weights)} weights used, sha256 {checkpoint.sha256}'
    by_reason: dict[str, list[str]] = {}
    for key, reason in checkpoint.ignored.items():
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in sorted(by_reason.items()):
        shown = ', '.join(keys) if len(keys) <= 3 else f'{keys[0]} and {len(keys) - 1} like it'
        yield f'ignored: {shown} ({reason})'


def _evaluate(model: LongTailClassifier, benchmark: Benchmark, data: LongTailData) -> tuple[Evaluation, Predictions]:
    """Results on the test part, and the prediction of each of its images."""
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if device.type == 'cuda':
        compute_exactly()
    model.to(device, memory_format=torch.channels_last)
    preprocess, augmentation = model.data_preprocessor, benchmark.recipe['augmentation']
    workers = 0 if isinstance(data.test, Split) else torch.get_num_threads()
    meter = Meter()
    try:
        with watched(model) as features:
            logits = predict(model, preprocess, data.test, augmentation, workers)
    except DataError as error:  # from a worker process: its traceback comes first
        last = str(error).strip().splitlines()[-1]
        raise DataError(last.removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')) from error
    if not torch.isfinite(logits).all():
        raise DataError('the logits of this checkpoint are not all finite')
    cost: dict[str, Any] = {'evaluation_seconds': meter.read()['wall_seconds']}
    cost |= size_of(model, preprocess.normalize(example_of(data, augmentation).to(device)))
    cost['peak_memory_mb'] = peak_memory_mb(device)
    metrics = evaluate(logits.numpy(), data.test.labels, data.class_counts)
    analysis = measured(ALWAYS, Seen(model, features, torch.from_numpy(data.test.labels), data.class_counts))
    evaluation = {'metrics': metrics, 'analysis': analysis}, cost, describe(device, torch.get_num_threads())
    return evaluation, Predictions.of_logits(logits.numpy(), data.test.labels)


def _setting(benchmark: Benchmark, backbone: Mapping[str, Any]) -> str:
    """A setting that gives each network a separate table, apart from trained rows."""
    changed = {key: value for key, value in backbone.items() if benchmark.backbone.get(key) != value}
    return ', '.join(
        ['imported', benchmark.setting, *(f'backbone.{key}={value} by the file' for key, value in changed.items())]
    )

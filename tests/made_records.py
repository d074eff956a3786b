"""Made records, valid in every field, with results that a test chooses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.benchmark import table_of
from ltbench.evaluation.metrics import describe_groups, evaluate
from ltbench.record import SCHEMA_VERSION, record_path, write_record

COUNTS = (5000, 1500, 400, 120, 60, 30, 15, 5)  # 4 many, 2 medium and 2 few
IMAGES = 50  # test images a class


def make_record(
    method: str = 'erm',
    seed: int = 0,
    *,
    benchmark: str = 'cifar10_lt',
    factor: float | None = 100,
    setting: str = 'paper',
    hits: Sequence[int] | None = None,
    counts: Sequence[int] = COUNTS,
    options: dict[str, Any] | None = None,
    epochs: int = 3,
    protocol: int = 1,
    data: str = '',
    root: str | None = None,
    backbone: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A record, not yet written: ``hits`` of the :data:`IMAGES` test images of each class are taken for their own.

    The others are taken for the first class (those of the first for the second). ``options`` are those of the method,
    ``data`` is another data set's name, which its fingerprint comes from, and ``root`` where it lies; ``backbone``,
    ``recipe`` and ``environment`` change entries of these; ``changes`` replace whole fields.
    """
    hits = [max(IMAGES - 4 * c - seed % 3, 0) for c in range(len(counts))] if hits is None else hits
    labels = np.repeat(np.arange(len(counts)), IMAGES)
    right = np.concatenate([np.arange(IMAGES) < h for h in hits])
    predicted = np.where(right, labels, np.where(labels == 0, 1, 0))
    logits = np.zeros((len(labels), len(counts)))
    logits[np.arange(len(labels)), predicted] = 1 + (np.arange(len(labels)) % 7)
    # the same for all seeds, as in a real record
    computation = _hash([method, benchmark, factor, setting, options])
    data_fingerprint = _hash([data, factor, list(counts)])
    curve = [
        {'epoch': e, 'loss': 2.0 / (e + 1), 'accuracy': 50.0 + 10 * e, 'lr': 0.1}
        | ({'bn_scale': 1.0 + e} if 'nbn' in method else {})
        for e in range(epochs)
    ]
    rest = np.random.default_rng(seed)
    vector = {name: [float(f'{v:.5g}') for v in rest.normal(1, 0.1, 16)] for name in ('weight', 'bias')}
    layer = {'name': 'layer3.0.bn2', 'weight_mean': 1.0, 'weight_std': 0.1, 'bias_mean': 1.0, 'bias_std': 0.1}
    record: dict[str, Any] = {
        'schema': SCHEMA_VERSION,
        'ltbench': '0.1.0',
        'protocol': protocol,
        'benchmark': benchmark,
        'imbalance_factor': factor,
        'setting': setting,
        'data': data_fingerprint,
        'code': '',
        'method': method,
        'methods': [{'name': part.partition('(')[0], 'options': dict(options or {})} for part in method.split('+')],
        'run_seed': seed,
        'fingerprint': _hash([computation, seed]),
        'computation': computation,
        'stages': [
            {
                'kind': 'train', 'fingerprint': _hash([computation, seed]), 'epochs': epochs,
                'cost': {'wall_seconds': 10.0, 'cpu_seconds': 9.0, 'evaluation_seconds': 1.0, 'peak_memory_mb': 500.0},
            }
        ],
        'config': {
            'benchmark': {
                'name': benchmark, 'preset': setting.partition(',')[0],
                'data': {'type': 'CIFAR10LT', 'imbalance_factor': factor, 'profile': 'exp', 'split_seed': 0},
                'backbone': {'type': 'CIFARResNet', 'depth': 32},
                'recipe': {
                    'epochs': epochs, 'batch_size': 128,
                    'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4},
                    'schedule': {'type': 'step', 'at': [0.8, 0.9], 'gamma': 0.01, 'warmup_epochs': 5},
                    'augmentation': {'crop_padding': 4, 'flip': True}, 'precision': 'fp32', 'devices': 1,
                },
                'overrides': {},
            },
            'stages': [{'kind': 'train'}],
        },
        'class_names': [f'class {c}' for c in range(len(counts))],
        'class_counts': list(counts),
        'groups': dict(describe_groups(counts)),
        'metrics': evaluate(logits, labels, counts),
        'curve': curve,
        'analysis': {
            'bn': {'layers': [layer], 'last': {'name': 'layer3.0.bn2', **vector}},
            'strength': {
                'rare_group': 'few',
                'frequent': {'channels': 10, 'mean': 0.8, 'std': 0.4}, 'rare': {'channels': 6, 'mean': 0.4, 'std': 0.3},
            },
        },
        'chosen': {},
        'warnings': [],
        'cost': {
            'parameters': 464154, 'flops': 138000000, 'wall_seconds': 10.0, 'cpu_seconds': 9.0,
            'images_per_second': 300.0, 'peak_memory_mb': 500.0,
        },
        'environment': {
            'ltbench': '0.1.0', 'python': '3.11.7', 'torch': '2.14.1', 'torchvision': '0.29.1', 'mmengine': '0.11.0rc3',
            'numpy': '2.4.6', 'platform': 'Linux', 'processor': 'a processor', 'host': 'a host', 'device': 'cpu',
            'threads': 1, 'git_commit': None,
        },
    }  # fmt: skip
    resolved: dict[str, Any] = record['config']['benchmark']
    resolved['data'] |= {} if root is None else {'root': root}
    resolved['backbone'] |= backbone or {}
    resolved['recipe'] |= recipe or {}
    record['environment'] |= environment or {}
    record['table'] = table_of(protocol, data_fingerprint, resolved['backbone'], resolved['recipe'])
    return record | changes


def all_classes(score: float, classes: int = len(COUNTS)) -> dict[str, Any]:
    """The metrics that say it of a record whose classes have one accuracy."""
    names = ('top1', 'macro', 'worst_class', 'geometric_mean', 'harmonic_mean', 'many', 'medium', 'few')
    return {**dict.fromkeys(names, score), 'balanced_error': 100 - score, 'per_class': [score] * classes}


def write(record: dict[str, Any], suite: str = 'made') -> Path:
    """Write a record where it belongs; return its path."""
    path = record_path(suite, record)
    write_record(path, record)
    return path


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

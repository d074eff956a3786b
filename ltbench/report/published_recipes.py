"""Recipes of published rows, and how a measured run differs from them: only equal recipes are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ltbench.config import leaves
from ltbench.record import origin_of
from ltbench.spec import parse_specs

Record = Mapping[str, Any]

BACKBONES = {'CIFARResNet': 'resnet{depth}', 'TorchvisionResNet': '{name}'}
"""Names of backbones in the published file; arguments that the name does not include are added to it."""

CIFAR_LDAM = {
    'data': {'profile': 'exp', 'split_seed': 0},
    'recipe': {
        'batch_size': 128,
        'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4},
        'schedule': {'type': 'step', 'at': [0.8, 0.9], 'gamma': 0.01, 'warmup_epochs': 5},
        'augmentation': {'crop_padding': 4, 'flip': True},
        'precision': 'fp32',
    },
}


def _kang(weight_decay: float, color_jitter: list[float] | None) -> dict[str, Any]:
    return {
        'data': {'verify': True},
        'recipe': {
            'batch_size': 512,
            'optimizer': {'type': 'SGD', 'lr': 0.2, 'momentum': 0.9, 'weight_decay': weight_decay},
            'schedule': {'type': 'cosine', 'warmup_epochs': 0},
            'augmentation': {
                'random_resized_crop': 224, 'flip': True, 'color_jitter': color_jitter, 'resize': 256,
                'center_crop': 224, 'pre_resize': None,
            },
            'precision': 'fp32',
        },
    }  # fmt: skip


RECIPES = {
    ('ldam', 'cifar10_lt'): CIFAR_LDAM,
    ('ldam', 'cifar100_lt'): CIFAR_LDAM,
    ('imbalanced_dl', 'cifar10_lt'): CIFAR_LDAM,
    ('kang', 'imagenet_lt'): _kang(5e-4, [0.4, 0.4, 0.4, 0.0]),
    ('kang', 'inat2018'): _kang(1e-4, None),
}
"""Published recipes, as entries of a resolved benchmark: a measured row that differs is not compared."""

NOT_OF_THE_RECIPE = ('data.type', 'data.root', 'data.imbalance_factor', 'recipe.epochs', 'recipe.devices')
"""Entries that have a separate column, and those that published rows do not state."""


def differences(record: Record, published: Mapping[str, Any]) -> Iterator[str]:
    """How the recipe of a measured row differs from that of a published one, in words; nothing if it does not."""
    config = record['config']['benchmark']
    if 'imported' in record['config']:
        yield 'an imported checkpoint, whose method and training the file does not tell'
    if published['differs']:
        yield f'published: {published["differs"]}'
    recipe = RECIPES.get((published['recipe'], published['benchmark']))
    if recipe is not None:
        yield from _unlike(config, recipe)
    elif record['setting'] != 'paper':
        yield f'measured: {record["setting"].removeprefix("paper, ")}'
    pairs = {
        'backbone': (name_of(config['backbone']), published['backbone']),
        'epochs': (config['recipe']['epochs'], published['epochs']),
    }
    for what, (measured, stated) in pairs.items():
        if pd.isna(stated):
            yield f'published: {what} not stated'
        elif measured != stated:
            yield f'{what}: {_show(measured)} measured, {_show(stated)} published'
    if origin_of(record) == 'trained':
        yield from _unlike_options(record, published)


def _unlike(config: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[str]:
    measured, stated = (dict(leaves({key: tree[key] for key in ('data', 'recipe')})) for tree in (config, recipe))
    for key in sorted(measured.keys() | stated.keys()):
        if key not in NOT_OF_THE_RECIPE and measured.get(key) != stated.get(key):
            yield f'{key.partition(".")[2]}: {_show(measured.get(key))} measured, {_show(stated.get(key))} published'


def _unlike_options(record: Record, published: Mapping[str, Any]) -> Iterator[str]:
    """Options that the published row states and whose measured value differs, and further ones set by hand."""
    for part, typed, spec in zip(record['methods'], parse_specs(record['method']), published['specs'], strict=True):
        for name, value in spec.options.items():
            if part['options'].get(name) != value:
                measured = _show(part['options'].get(name))
                yield f'{part["name"]}.{name}: {measured} measured, {_show(value)} published'
        for name, value in typed.options.items():
            if name not in spec.options:
                yield f'measured: {part["name"]}.{name} set to {_show(value)} by hand'


def name_of(backbone: Mapping[str, Any]) -> str:
    """A backbone's name in the published file: ``resnet32``, ``resnet32 with width=2``."""
    pattern = BACKBONES.get(backbone['type'], '{type}')
    if not all(name in backbone for name in re.findall(r'{(\w+)}', pattern)):
        pattern = '{type}'
    rest = [f'{k}={_show(v)}' for k, v in backbone.items() if k != 'type' and f'{{{k}}}' not in pattern]
    return ' with '.join([pattern.format_map(backbone), *([', '.join(rest)] if rest else [])])


def _show(value: Any) -> str:
    return f'{value:g}' if isinstance(value, float) else str(value)

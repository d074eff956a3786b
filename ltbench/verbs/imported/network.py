"""From a checkpoint to the network with its weights; every weight is used or reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ltbench.benchmark import Benchmark
from ltbench.data.base import LongTailData
from ltbench.data.batches import BatchPreprocessor
from ltbench.errors import DataError, UsageError
from ltbench.models.classifier import LongTailClassifier
from ltbench.models.pretrained import without_weights
from ltbench.verbs.imported.formats import CIFAR_DEPTHS, TORCHVISION_NETWORKS, Checkpoint

SCALARS = ('weight_scalar', 'bias_scalar')
LISTED = 8  # keys in a message


def choose_backbone(checkpoint: Checkpoint, benchmark: Benchmark) -> tuple[dict[str, Any], str | None]:
    """The network's config, and a note if file and benchmark contradict each other; then the file's network is used.

    Raises:
        UsageError: If one is for small images and the other for large ones.
    """
    wanted = dict(benchmark.backbone)
    if checkpoint.backbone is None or checkpoint.backbone.items() <= wanted.items():
        return wanted, None
    if checkpoint.backbone['type'] != wanted['type']:
        raise UsageError(
            f'{checkpoint.path} holds {checkpoint.arch} ({checkpoint.backbone["type"]}), '
            f'but {benchmark.name} is for {wanted["type"]}'
        )
    chosen = wanted | checkpoint.backbone
    replaced = {key: wanted.get(key) for key in chosen if chosen[key] != wanted.get(key)}
    return chosen, (
        f'the file says {checkpoint.arch}, {benchmark.name} says '
        f'{", ".join(f"{key}={value}" for key, value in replaced.items())}: the network of the file is used'
    )


def build_imported(
    checkpoint: Checkpoint,
    backbone: Mapping[str, Any],
    num_classes: int,
    in_channels: int,
    preprocess: BatchPreprocessor | None = None,
) -> LongTailClassifier:
    """The network with the checkpoint's weights, in evaluation mode.

    Args:
        checkpoint: The file's contents.
        backbone: Config of the network, see :func:`choose_backbone`.
        num_classes: C of the benchmark.
        in_channels: Channels of its images.
        preprocess: Passed to the network.

    Raises:
        DataError: If the file has another number of classes; or a weight is missing, unexpected or of another shape;
            it is named.
    """
    _check_classes(checkpoint, num_classes)
    model = _skeleton(checkpoint, backbone, num_classes, in_channels, preprocess)
    wanted = _wanted(checkpoint, model)
    weights = _spread_scalar(checkpoint, wanted)
    wrong = list(_differences(checkpoint, wanted, weights))
    if wrong:
        raise DataError(
            f'{checkpoint.path} does not fit {_title(backbone)}: {"; ".join(wrong)}'
            + _hint(checkpoint, backbone, num_classes, in_channels)
        )
    if checkpoint.scaled:  # the factor multiplies weight and bias
        scale = weights.pop('head.scale')
        weights |= {'head.weight': scale[:, None] * weights['head.weight'], 'head.bias': scale * weights['head.bias']}
    model.load_state_dict({key: value.to(wanted[key].dtype) for key, value in weights.items()}, strict=False)
    return model.eval()


def check_order_of_labels(benchmark: Benchmark, data: LongTailData) -> str:
    """The order in which the sources number the classes of a benchmark.

    Raises:
        DataError: If the benchmark's lists number them differently.
    """
    if benchmark.data['type'] == 'ImageNetLT' and list(data.class_names) != sorted(data.class_names):
        raise DataError(f'{benchmark.name}: labels are not the index of the sorted wnid, as checkpoints assume')
    return LABEL_ORDER.get(benchmark.data['type'], "the benchmark's own")


LABEL_ORDER = {
    'ImageNetLT': 'index of the sorted wnid',
    'INaturalist2018': 'category id',
    'PlacesLT': 'as in the official lists',
    'CIFAR10LT': 'as in the official pickles',
    'CIFAR100LT': 'as in the official pickles',
}


def _check_classes(checkpoint: Checkpoint, num_classes: int) -> None:
    for name in ('head.weight', 'head.base.weight'):
        weight = checkpoint.weights.get(name)
        if weight is not None and (weight.dim() != 2 or len(weight) != num_classes):
            raise DataError(
                f'{checkpoint.path} classifies {len(weight) if weight.dim() else "?"} classes '
                f'({checkpoint.names[name]} {list(weight.shape)}), the benchmark has {num_classes}'
            )


def _skeleton(
    checkpoint: Checkpoint,
    backbone: Mapping[str, Any],
    num_classes: int,
    in_channels: int,
    preprocess: BatchPreprocessor | None = None,
) -> LongTailClassifier:
    config = {
        'backbone': backbone,
        'head': checkpoint.head,
        'normalization': checkpoint.normalization,
        'rectification': checkpoint.rectification,
        'recipe': {'precision': 'fp32'},
    }
    return LongTailClassifier(without_weights(config), num_classes, in_channels, preprocess)


def _wanted(checkpoint: Checkpoint, model: LongTailClassifier) -> dict[str, Tensor]:
    """The weights that a file of this kind must have for a network, in our names."""
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith('num_batches_tracked')}
    return wanted | ({'head.scale': wanted['head.bias']} if checkpoint.scaled else {})


def _spread_scalar(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with the one scalar copied to the name of every layer that shares it."""
    weights = dict(checkpoint.weights)
    scalar = weights.pop('nbn_scalar', None)
    if scalar is not None:
        weights |= {key: scalar for key in wanted if key.rpartition('.')[2] in SCALARS}
    return weights


def _differences(checkpoint: Checkpoint, wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Iterator[str]:
    def named(keys: Any) -> str:
        """Keys as in the file, where all scalars are one key."""
        names = sorted({_name_in_file(checkpoint, key) for key in keys})
        more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
        return ', '.join(names[:LISTED]) + more

    if missing := wanted.keys() - weights.keys():
        yield f'missing {named(missing)}'
    if extra := weights.keys() - wanted.keys():
        yield f'too many {named(extra)}'
    for key in sorted(wanted.keys() & weights.keys()):
        if wanted[key].shape != weights[key].shape:
            yield (
                f'{_name_in_file(checkpoint, key)} is {list(weights[key].shape)} in our layout, '
                f'expected {list(wanted[key].shape)}'
            )
            return  # one example is enough


def _name_in_file(checkpoint: Checkpoint, key: str) -> str:
    if key.rpartition('.')[2] in SCALARS:
        return 'scale_factor'
    return checkpoint.names.get(key, key.removeprefix('backbone.'))


def _title(backbone: Mapping[str, Any]) -> str:
    return ', '.join(str(value) for value in backbone.values())


def _hint(checkpoint: Checkpoint, backbone: Mapping[str, Any], num_classes: int, in_channels: int) -> str:
    """Advice on the network that would fit; empty if there is none."""
    choices: dict[str, tuple[str, list[Any]]] = {
        'TorchvisionResNet': ('name', list(dict.fromkeys(TORCHVISION_NETWORKS.values()))),
        'CIFARResNet': ('depth', [8, *CIFAR_DEPTHS.values()]),
    }
    option, values = choices.get(backbone['type'], ('', []))
    for value in values:
        with torch.device('meta'):
            other = _skeleton(checkpoint, {**backbone, option: value}, num_classes, in_channels)
        wanted = _wanted(checkpoint, other)
        if not list(_differences(checkpoint, wanted, _spread_scalar(checkpoint, wanted))):
            return f'. It fits -o backbone.{option}={value}'
    return ''

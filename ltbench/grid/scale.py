"""A benchmark's plain network without memory for its weights, and how much it computes. Needs no data."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, cast

import torch

from ltbench.benchmark import Benchmark
from ltbench.data.base import Size
from ltbench.engine.environment import size_of
from ltbench.grid.cost import Scale
from ltbench.method import make_plan
from ltbench.models.classifier import LongTailClassifier
from ltbench.registry import DATASETS, lookup

CLASSES = 2  # the network is built once for all benchmarks with its backbone; each further class adds a row to the head


def plain_network(benchmark: Benchmark, channels: int = 3) -> LongTailClassifier:
    """ERM's network for two classes, on the meta device and in single precision, on which no count depends. Benchmarks
    with equal networks share one."""
    settings = make_plan('erm', benchmark, '', 0).settings
    built_from = {**settings, 'data': {}, 'recipe': {'precision': 'fp32'}}
    return _network(json.dumps(built_from), channels)


@cache
def _network(settings: str, channels: int) -> LongTailClassifier:
    with torch.device('meta'):
        return LongTailClassifier(json.loads(settings), num_classes=CLASSES, in_channels=channels)


def scale_of(benchmark: Benchmark, size: Size) -> Scale:
    """The scale of a benchmark whose data have this size."""
    model = plain_network(benchmark, size.channels)
    counted = _counted(model, size.channels, size.side or benchmark.recipe['augmentation']['center_crop'])
    features, more = cast(int, model.backbone.out_features), size.classes - CLASSES
    parameters, flops = counted['parameters'] + (features + 1) * more, counted['flops'] + 2 * features * more
    return Scale(size.train, size.test, size.classes, features, parameters, flops)


@cache
def _counted(model: LongTailClassifier, channels: int, side: int) -> dict[str, int]:
    return size_of(model, torch.zeros(1, channels, side, side, device='meta'))


def published_size(benchmark: Benchmark) -> Size | None:
    """Size of a benchmark's data, if it is known without them."""
    options: dict[str, Any] = {
        key: value for key, value in benchmark.data.items() if key not in ('type', 'fingerprint', 'holdout')
    }
    return lookup(DATASETS, benchmark.data['type']).published_size(**options)

"""Cost of stages: operations, images and bytes are counted; seconds are estimated from earlier, similar stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from ltbench.errors import StoreError
from ltbench.grid.graph import Graph
from ltbench.record import read_record, reference_root, results_root
from ltbench.stage import Stage


class Scale(NamedTuple):
    """Size of a benchmark and of its plain network.

    Attributes:
        train: Training images.
        test: Test images.
        classes: C.
        features: Features that the network computes for an image.
        parameters: Of the network.
        flops: Of one image's forward pass; a multiply-add counts as two.
    """

    train: int
    test: int
    classes: int
    features: int
    parameters: int
    flops: int


BACKWARD = 2
"""A backward pass takes as long as so many forward passes."""
NUMBER_BYTES = 4


def flops_of(stage: Stage, scale: Scale) -> float:
    """Floating-point operations that a stage takes; work on features counts as none."""
    images = images_of(stage, scale)
    return images * scale.flops * (1 if stage.kind == 'features' else 1 + BACKWARD)


def images_of(stage: Stage, scale: Scale) -> int:
    """Images that a stage puts through the network."""
    if stage.kind == 'train':
        return (stage.end - stage.begin) * scale.train
    if 'along' in stage.config:  # a head together with parts of the backbone
        return stage.config['epochs'] * scale.train
    return max(stage.config['epochs'], 1) * scale.train + scale.test if stage.kind == 'features' else 0


def bytes_of(stage: Stage, scale: Scale) -> int:
    """Approximate size of its artifact in the store: weights, features, or test logits."""
    numbers = {
        'train': scale.parameters + scale.test * scale.classes,
        'features': images_of(stage, scale) * scale.features,
        'probe': 0,
    }.get(stage.kind, scale.test * scale.classes)
    return NUMBER_BYTES * numbers


class Costs:
    """Wall seconds of earlier stages: per epoch for ``train`` stages, in total for others.

    Read from all records of this user, and in a checkout also from the records that came with it.

    A stage is estimated from stages of the same kind on the same benchmark, backbone and batch size; without any such
    stage there is no estimate.

    Attributes:
        records: Number of records.
        rates: Floating-point operations per second in each network's training, by machine and precision.
    """

    def __init__(self) -> None:
        self.seconds: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.records = 0
        seen: set[str] = set()
        roots = (root for root in (results_root(), reference_root()) if root is not None)
        for path in (path for root in roots for path in root.glob('*/records/*.json')):
            try:
                record = read_record(path)
            except StoreError:
                continue  # the report names it
            self.records += 1
            for stage in record['stages']:
                if stage['fingerprint'] not in seen and (stage['kind'] != 'train' or stage['epochs']):
                    seen.add(stage['fingerprint'])
                    wall = stage['cost'].get('wall_seconds', 0.0) + stage['cost'].get('evaluation_seconds', 0.0)
                    epochs = stage['epochs'] if stage['kind'] == 'train' else 1
                    self.seconds[(stage['kind'], *_like(record['config']['benchmark']))].append(wall / epochs)
                    if stage['kind'] == 'train' and (seconds := _seconds_at_work(record, stage)):
                        images = epochs * sum(record['class_counts'])
                        rate = images * record['cost']['flops'] * (1 + BACKWARD) / seconds
                        self.rates[_machine_of(record)].append(rate)

    def of(self, graph: Graph, key: str) -> float | None:
        """Estimated seconds of the stage ``key``; None without earlier stages like it."""
        stage = graph.stages[key]
        known = self.seconds.get((stage.kind, *_like(graph.runs_of(key)[0].benchmark.resolved)))
        if not known:
            return None
        return median(known) * (stage.end - stage.begin if stage.kind == 'train' else 1)


def _seconds_at_work(record: Mapping[str, Any], stage: Mapping[str, Any]) -> float | None:
    """Seconds of training; on a CPU its CPU time per thread, since other processes may have used it too."""
    if record['environment']['device'] != 'cpu':
        return stage['cost'].get('wall_seconds')
    seconds = stage['cost'].get('cpu_seconds')
    return seconds and seconds / max(record['environment']['threads'], 1)


def _machine_of(record: Mapping[str, Any]) -> str:
    environment, precision = record['environment'], record['config']['benchmark']['recipe'].get('precision', 'fp32')
    threads = environment['threads']
    return f'{environment["processor"]}, {threads} thread{"s" * (threads > 1)}, {precision}'


def _like(benchmark: dict[str, Any]) -> tuple[Any, ...]:
    size = benchmark['data'].get('imbalance_factor')
    return benchmark['name'], size, str(sorted(benchmark['backbone'].items())), benchmark['recipe']['batch_size']

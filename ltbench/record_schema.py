"""What records and failures may hold: the type and range of every entry that anything reads, declared once.

Checked when one is written and when it is read. A dict to which methods, benchmarks or later versions add entries is
open: its further entries are plain data of any form, which are shown and compared as they are, and never used in a
computation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ltbench.declared import check, short
from ltbench.errors import LTBenchError
from ltbench.spec import parse_specs

SCHEMA_VERSION = 4
ROUNDING = 1e-9  # of a percentage: exp(log(100)) is a little more than 100
SAME = 1e-6  # of a percentage: two orders of the same sum over thousands of classes
DEEPEST = 16  # lists and objects within each other, of plain data

# ---------------------------------------------------------------------------------------------- values

Real = Annotated[float, Meta(ge=-1e39, le=1e39, description='a number that single precision can hold')]
Amount = Annotated[float, Meta(ge=0, le=1e39, description='a number, 0 or larger')]
Percent = Annotated[float, Meta(ge=-ROUNDING, le=100 + ROUNDING, description='a number from 0 to 100')]
Factor = Annotated[float, Meta(ge=1, le=1e12, description='a number from 1 to 1e12')]
Count = Annotated[int, Meta(ge=0, le=10**18, description='a whole number, 0 or larger')]
Images = Annotated[int, Meta(ge=0, le=10**9, description='a whole number from 0 to 1e9')]
AtLeastOne = Annotated[int, Meta(ge=1, le=10**9, description='a whole number from 1 to 1e9')]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1, description='a whole number from 0 to 2^63 - 1')]
Hash = Annotated[str, Meta(pattern=r'\A[0-9a-f]{1,64}\Z', description='1 to 64 hexadecimal digits')]
HashIfKnown = Annotated[str, Meta(pattern=r'\A[0-9a-f]{0,64}\Z', description='hexadecimal digits, or empty')]
Name = Annotated[str, Meta(pattern=r'\A[^/\x00-\x1f\x7f]{1,100}\Z', description='a name of 1 to 100 characters, no /')]
Line = Annotated[str, Meta(max_length=1000, description='text of at most 1000 characters')]
"""Text that figures show; with a longer one they would exceed the largest size of an image."""

# ---------------------------------------------------------------------------------------------- parts of a record


class Closed(Struct, forbid_unknown_fields=True):
    """A part whose entries are all known."""


class Groups(Closed):
    """Number of classes in each group."""

    many: Count
    medium: Count
    few: Count


class Bins(Closed):
    """15 bins of confidence, see :func:`ltbench.evaluation.metrics.reliability_bins`."""

    images: Annotated[list[Images], Meta(min_length=15, max_length=15, description='a list of 15 numbers')]
    confidence: Annotated[list[Percent | None], Meta(min_length=15, max_length=15, description='a list of 15 numbers')]
    accuracy: Annotated[list[Percent | None], Meta(min_length=15, max_length=15, description='a list of 15 numbers')]


class Reliability(Closed):
    """For all images and for each group; None for a group without images."""

    all: Bins | None
    many: Bins | None
    medium: Bins | None
    few: Bins | None


class Shares(Closed):
    """Percent of a group's images that are predicted as classes of each group, and that are correct."""

    many: Percent
    medium: Percent
    few: Percent
    correct: Percent


class Confusion(Closed):
    """Of the images of each group."""

    many: Shares | None
    medium: Shares | None
    few: Shares | None


class Shifted(Closed):
    """Accuracies under one test prior, see :func:`ltbench.evaluation.metrics.shifted_accuracy`."""

    plain: Percent
    from_uniform: Percent
    from_training: Percent


class Metrics(Struct):
    """Open: see :func:`ltbench.evaluation.evaluate`."""

    top1: Percent
    macro: Percent
    geometric_mean: Percent
    balanced_error: Percent
    nll: Amount | None  # None for predictions without probabilities
    ece: Percent | None
    many: Percent | None
    medium: Percent | None
    few: Percent | None
    ece_many: Percent | None
    ece_medium: Percent | None
    ece_few: Percent | None
    per_class: list[Percent | None]
    test_images: list[Images]
    predicted: list[Images]
    reliability: Reliability
    confusion: Confusion
    # older records do not have these; `ltbench eval --all` adds them if the logits exist
    worst_class: Percent | UnsetType = UNSET
    harmonic_mean: Percent | UnsetType = UNSET
    top5: Percent | UnsetType | None = UNSET
    auroc: Percent | UnsetType | None = UNSET
    shifted: dict[str, Shifted] | UnsetType = UNSET


class Part(Closed):
    """A part of the method, with all its options."""

    name: Line
    options: dict[str, Any]


class StageDone(Closed):
    """A stage of the run, and its cost."""

    kind: Line
    fingerprint: Hash
    epochs: Images
    cost: dict[str, Amount]


class Cost(Closed):
    """Cost of a run: of its network, and of all its stages."""

    parameters: Count
    flops: Count
    wall_seconds: Amount
    cpu_seconds: Amount
    images_per_second: Amount
    peak_memory_mb: Amount


class Backbone(Struct):
    """Open: arguments of the network."""

    type: Line


class Data(Struct):
    """Open: arguments of the data set."""

    root: str | None = None


class Recipe(Struct):
    """Open: optimizer, schedule, augmentation, ..."""

    epochs: AtLeastOne
    batch_size: AtLeastOne


class ResolvedBenchmark(Struct):
    """Open."""

    name: str
    preset: str
    data: Data
    backbone: Backbone
    recipe: Recipe
    overrides: dict[str, Any]
    caveat: Line = ''


class Optimizer(Struct):
    """Open."""

    paramwise: dict[str, Any] | None = None


class StageRecipe(Struct):
    """Open."""

    optimizer: Optimizer | None = None


class StageConfig(Struct):
    """Open: the whole config of a stage."""

    kind: str
    recipe: StageRecipe | None = None
    seed: Seed | None = None


class Imported(Struct):
    """Open: where a checkpoint came from."""

    source: str
    backbone: Backbone


class Submitted(Closed):
    """A model that was trained elsewhere; only its predictions are known."""

    name: Line
    file: str
    sha256: Hash
    kind: Literal['logits', 'predictions']
    claims: dict[str, Any]


class Config(Struct):
    """Open: the resolved benchmark and the configs of all stages; ``imported`` for a checkpoint that was not trained
    here, ``submitted`` for predictions; the ``probes`` that the method requests."""

    benchmark: ResolvedBenchmark
    stages: list[StageConfig]
    imported: Imported | UnsetType = UNSET
    submitted: Submitted | UnsetType = UNSET
    probes: list[Line] = []


class Environment(Struct):
    """Open: software and hardware, see :func:`ltbench.engine.environment.describe`."""

    ltbench: str
    python: str
    torch: str
    torchvision: str
    mmengine: str
    numpy: str
    processor: Line
    device: Line
    threads: Count
    git_commit: str | None
    instructions: Line = ''  # older records have them in the name of the processor


class Layer(Struct):
    """A BN layer over its channels."""

    name: Line
    weight_mean: Real
    weight_std: Amount
    bias_mean: Real
    bias_std: Amount


class LastLayer(Struct):
    """All values of the last BN layer."""

    name: Line
    weight: list[Real]
    bias: list[Real]


class BN(Struct):
    """Empty where no layer has a weight."""

    layers: list[Layer] = []
    last: LastLayer | UnsetType = UNSET


class Channels(Struct):
    """Channels of one kind: how many, and their response to images of rare classes."""

    channels: Count
    mean: Real
    std: Amount


class Strength(Struct):
    """Empty where there are no two groups."""

    rare_group: Literal['medium', 'few'] = 'few'
    frequent: Channels | UnsetType = UNSET
    rare: Channels | UnsetType = UNSET


class FeatureNorms(Struct):
    """By class; None for a class without test images."""

    mean: list[Amount | None]


class Analysis(Struct):
    """Open: what probes measured inside the network, see ``ltbench/probes``."""

    bn: BN | UnsetType = UNSET
    strength: Strength | UnsetType = UNSET
    feature_norms: FeatureNorms | UnsetType = UNSET


# ---------------------------------------------------------------------------------------------- wholes


class Record(Closed):
    """One run's result. All entries but the predictions are required, and no other is allowed."""

    schema: Literal[4]
    ltbench: str  # version of the software
    protocol: Count  # version of the computation
    benchmark: Name
    imbalance_factor: Factor | None
    setting: Line  # preset, and what was overridden by hand, for people
    table: Hash  # hash of what all its rows share: data, backbone, recipe and protocol, see ltbench.benchmark.table_of
    data: HashIfKnown  # fingerprint of the images and labels
    code: HashIfKnown  # of ltbench
    method: Line  # as typed, options included
    methods: Annotated[list[Part], Meta(min_length=1, description='a list of one part or more')]
    run_seed: Seed
    fingerprint: Hash  # of the last stage
    computation: Hash  # the same without the seed: runs that differ here were made by other code
    stages: Annotated[list[StageDone], Meta(min_length=1, description='a list of one stage or more')]
    config: Config
    class_names: list[str]
    class_counts: Annotated[list[Images], Meta(min_length=1, description='a list of one class or more')]
    groups: Groups
    metrics: Metrics
    curve: list[dict[str, Real | None]]  # by epoch: training loss, accuracy, learning rate, and scores where asked for
    analysis: Analysis
    chosen: dict[str, Any]  # values chosen on validation images
    warnings: list[str]  # notes on the run from its parts, plan and data
    cost: Cost
    environment: Environment
    checksum: Hash  # of all the rest
    predictions: Hash | UnsetType = UNSET  # of the file beside it that has them; older records have none


class Failure(Closed):
    """Description of a run that failed; the first seven entries as in a record."""

    benchmark: Name
    imbalance_factor: Factor | None
    setting: Line
    table: Hash
    method: Line
    run_seed: Seed
    fingerprint: Hash
    stage: Line  # kind of the one that failed
    reason: str


PLAIN_DATA = ('methods', 'config', 'chosen', 'environment')
"""Entries of a record that hold plain data of any shape."""


def check_record(record: Any) -> None:
    """Raise ValueError, naming the entry, unless ``record`` is a valid :class:`Record`.

    Args:
        record: As :func:`ltbench.declared.parse` reads it.
    """
    if not isinstance(record, dict):
        raise ValueError('not a JSON object')
    if record.get('schema') != SCHEMA_VERSION:
        raise ValueError(f'schema {short(record.get("schema"))}, this version of ltbench reads {SCHEMA_VERSION}')
    check(record, Record)
    for wrong in _disagreements(record):
        raise ValueError(wrong)


def check_failure(failure: Any) -> None:
    """The same for a :class:`Failure`."""
    if not isinstance(failure, dict):
        raise ValueError('not a JSON object')
    check(failure, Failure)


def _disagreements(record: Mapping[str, Any]) -> Iterator[str]:
    """Contradictions between entries, and errors that types cannot express; empty if there are none."""
    metrics, classes = record['metrics'], len(record['class_counts'])
    for name in ('per_class', 'test_images', 'predicted'):
        if len(metrics[name]) != classes:
            yield f'metrics.{name} has {len(metrics[name])} entries, class_counts has {classes}'
    if len(record['class_names']) != classes:
        yield f'class_names has {len(record["class_names"])} entries, class_counts has {classes}'
    if (number := sum(record['groups'].values())) != classes:
        yield f'groups has {number} classes, class_counts has {classes}'
    if not any(metrics['test_images']):
        yield 'metrics.test_images has no image'
    for place, (accuracy, images) in enumerate(zip(metrics['per_class'], metrics['test_images'], strict=False)):
        if (accuracy is None) != (images == 0):
            yield f'metrics.per_class[{place}] is {short(accuracy)}, for {images} test images'
    members_of = _members_of(tuple(record['class_counts']))
    for name, members in members_of.items():
        if record['groups'][name] != len(members):
            yield f'groups.{name} is {record["groups"][name]}, from class_counts it is {len(members)}'
    for name, score in _of_classes(metrics['per_class'], metrics['test_images'], members_of).items():
        if not _is_same(found := metrics.get(name, score), score):
            yield f'metrics.{name} is {short(found)}, from metrics.per_class it is {short(score)}'
    last = record['analysis'].get('bn', {}).get('last')
    if last and (len(last['weight']) != len(last['bias']) or not last['weight']):
        yield f'analysis.bn.last has {len(last["weight"])} weights and {len(last["bias"])} biases'
    norms = record['analysis'].get('feature_norms', {}).get('mean')
    if norms is not None and len(norms) != classes:
        yield f'analysis.feature_norms.mean has {len(norms)} entries, class_counts has {classes}'
    for place, point in enumerate(record['curve']):
        if type(epoch := point.get('epoch')) is not int or epoch < 0:
            yield f'curve[{place}].epoch is a whole number, 0 or larger, got {short(epoch)}'
    if not record['config'].keys() & {'imported', 'submitted'}:
        names = [part['name'] for part in record['methods']]
        if names != _parts_of(record['method']):
            yield f'methods has the parts {short(names)}, method is {short(record["method"])}'
    if _too_deep([record[name] for name in PLAIN_DATA]):
        name = next(name for name in PLAIN_DATA if _too_deep([record[name]]))
        yield f'{name} is nested more than {DEEPEST} deep'


def group_of(count: int) -> Literal['many', 'medium', 'few']:
    """The group of a class with so many training images: many > 100, medium 20 to 100, few < 20.

    The rule of Kang et al. (ICLR 2020, official code); the only one that gives ImageNet-LT's 385 / 479 / 136.
    """
    return 'many' if count > 100 else 'few' if count < 20 else 'medium'


@cache
def _members_of(class_counts: tuple[int, ...]) -> dict[str, list[int]]:
    """Classes of each group."""
    groups = list(map(group_of, class_counts))
    return {name: [place for place, group in enumerate(groups) if group == name] for name in ('many', 'medium', 'few')}


def _of_classes(
    per_class: Sequence[float | None], images: Sequence[int], members_of: Mapping[str, Sequence[int]]
) -> dict[str, float | None]:
    """The accuracies that result from those of the classes, see :func:`ltbench.evaluation.evaluate`."""
    seen = [accuracy for accuracy in per_class if accuracy is not None]
    macro = sum(seen) / len(seen)
    of_images = sum(accuracy * count for accuracy, count in zip(per_class, images, strict=True) if accuracy is not None)
    in_groups = {name: [per_class[place] for place in members] for name, members in members_of.items()}
    tested = {name: [each for each in found if each is not None] for name, found in in_groups.items()}
    return {
        'top1': of_images / sum(images),
        'macro': macro,
        'balanced_error': 100 - macro,
        'worst_class': min(seen),
        'geometric_mean': math.exp(sum(map(math.log, seen)) / len(seen)) if all(seen) else 0.0,
        'harmonic_mean': len(seen) / sum(1 / accuracy for accuracy in seen) if all(seen) else 0.0,
        **{name: sum(found) / len(found) if found else None for name, found in tested.items()},
    }


def _is_same(found: float | None, score: float | None) -> bool:
    return found is score if found is None or score is None else abs(found - score) <= SAME


@cache
def _parts_of(method: str) -> list[str] | None:
    """Names of the parts of a method as typed; None if it cannot be parsed."""
    try:
        return [spec.name for spec in parse_specs(method)]
    except (LTBenchError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # those of literal_eval
        return None


def _too_deep(values: Sequence[Any]) -> bool:
    """Whether lists and objects are nested more than :data:`DEEPEST` deep."""
    nested = list(values)
    for _ in range(DEEPEST):
        inside = [inner for value in nested for inner in (value.values() if type(value) is dict else value)]
        nested = [value for value in inside if type(value) is dict or type(value) is list]
    return bool(nested)

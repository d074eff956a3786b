"""What a benchmark may say: each message names the entry, what it may be, what it is and the near misses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta

from ltbench import registry
from ltbench.benchmark import load_benchmark
from ltbench.config import config_names, read_config
from ltbench.errors import UsageError
from ltbench.recipe import check_arguments, check_augmentation, check_contents, check_schedule


def contents() -> dict[str, Any]:
    return read_config('benchmarks', 'imagenet_lt')[0]


@pytest.mark.parametrize('name', config_names('benchmarks'))
def test_shipped_benchmarks_are_taken_as_they_are(name):
    """Nothing is converted: a number that became a float would print and sort otherwise."""
    given = read_config('benchmarks', name)[0]
    loaded = load_benchmark(name)
    assert repr((loaded.data, loaded.backbone, loaded.recipe)) == repr(
        tuple(given[s] for s in ('data', 'backbone', 'recipe'))
    )


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('recipe.epochs', 0, 'recipe.epochs of x is a whole number, 1 or larger, got 0'),
        ('recipe.epochs', 100_001, 'recipe.epochs of x is a whole number, at most 100000, got 100001'),
        ('recipe.devices', '2', "recipe.devices of x is a whole number, 1 or larger, got '2'"),
        ('recipe.devices', 1024, 'x: a batch of 512 cannot be divided among more devices'),
        ('recipe.precision', 'fp16', "unknown precision of x 'fp16': did you mean bf16 or amp_fp16 or fp32?"),
        ('recipe.optimizer.lr', float('nan'), 'recipe.optimizer.lr of x is a number, 0 or larger, got nan'),
        ('recipe.optimizer.lr', 2e6, 'recipe.optimizer.lr of x is a number, at most 1000000, got 2000000.0'),
        (
            'recipe.optimizer.paramwise',
            {'norm': 1},
            "paramwise of x is None or a dict, each entry a dict, each entry a number, 0 or larger, got {'norm': 1}",
        ),
        (
            'recipe.augmentation.resize',
            None,
            'recipe.augmentation.resize of x is a whole number, 1 or larger, got None',
        ),
        ('recipe.augmentation.color_jitter', [1], 'x is None or a list of numbers, 0 to 100 (4 of them), got [1]'),
        ('recipe.augmentation.prepared', 0, 'prepared of x is None or a whole number, 1 or larger, got 0'),
        (
            'recipe.augmentation.pre_resize',
            320,
            'x: pre_resize was removed; use prepared=256, which scales images once, not as JPEG',
        ),
        (
            'recipe.augmentation.resize',
            200,
            'x: test images with a shorter side of 200 (resize) are too small for 224 x 224 (center_crop): '
            'they would get a black border',
        ),
        ('recipe.schedule.warmup_epochs', 0.5, 'schedule.warmup_epochs of x is a whole number, 0 or larger, got 0.5'),
        ('recipe.schedule', [], 'recipe.schedule of x is a dict, got []'),
        ('recipe.epoch', 3, "unknown entry of recipe of x 'epoch': did you mean epochs?"),
        ('datas', {}, "unknown entry of benchmark x 'datas': did you mean data?"),
        ('has_validation', 1, 'has_validation of x is True or False, got 1'),
        ('caveat', None, 'caveat of x is text, got None'),
        (
            'presets',
            {'quick': {'epochs': 3}},
            "presets of x is a dict, each entry a dict, each entry a dict, got {'quick': {'epochs': 3}}",
        ),
        ('data.type', None, 'data.type of x is text, got None'),
        ('backbone', {'name': 'resnet10'}, 'backbone of x does not define type'),
        pytest.param('caveat', 10**5000, 'caveat of x is text, got a value too long to print', id='digits'),
    ],
)
def test_a_wrong_entry_is_named_with_what_it_may_be(path, value, message):
    tree = contents()
    *parents, last = path.split('.')
    inner = tree
    for key in parents:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(UsageError) as error:
        check_contents(tree, 'x')
    assert str(error.value).endswith(message)


@pytest.mark.parametrize(
    ('schedule', 'message'),
    [
        (dict(type='step', at=[0.5], gamma=[0.1, 0.1]), r'steps at \[0.5\] and the factors \[0.1, 0.1\]'),
        (dict(type='step', at=[0.9, 0.5], gamma=[0.1, 0.2]), 'one for each step, with the steps in order'),
        (dict(type='step', at=[0.5, 0.9]), 'a step schedule of x needs at'),
        (dict(type='cosine', warmup_from_zero=True), 'warmup_from_zero of x changes nothing without warmup_epochs'),
        (dict(type='constant', one_ahead=True), 'one_ahead of x is for a cosine schedule, not for constant'),
    ],
)
def test_schedules_that_cannot_be_meant_are_refused(schedule, message):
    with pytest.raises(UsageError, match=message):
        check_schedule(schedule, 'x')


def test_each_kind_of_images_has_its_augmentation():
    small, large = {'flip': True}, contents()['recipe']['augmentation']
    check_augmentation(small, False, 'x')
    check_augmentation(large, True, 'x')
    with pytest.raises(
        UsageError, match='images of x stay in files: recipe.augmentation is a dict of random_resized_crop'
    ):
        check_augmentation(small, True, 'x')
    with pytest.raises(
        UsageError, match='of x are held in memory: recipe.augmentation is a dict of crop_padding, flip, policies$'
    ):
        check_augmentation(large, False, 'x')


class Part:
    def __init__(
        self,
        size: Annotated[int, Meta(ge=1, le=10**6)],
        share: float | None = 0.5,
        sloppy: int = None,  # type: ignore[assignment]  # noqa: RUF013
        folder: Path = Path(),
        **more: Any,
    ) -> None: ...


@pytest.mark.parametrize(
    'arguments',
    [{'size': 0}, {'share': 1}, {'share': None}, {'sloppy': None}, {'folder': 'x'}, {'more': {}}, {'return': 1}],
)  # fmt: skip
def test_arguments_of_the_declared_types_pass(arguments):
    """Ranges are the part's own business, and so are types that no config can hold."""
    check_arguments(Part, 'Part', arguments)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'size': 2.5}, 'size of Part is a whole number, 1 or larger, got 2.5'),
        ({'size': None}, 'size of Part is a whole number, 1 or larger, got None'),
        ({'share': 'half'}, "share of Part is None or a number, got 'half'"),
        ({'sloppy': True}, 'sloppy of Part is a whole number, got True'),
    ],
)
def test_an_argument_of_another_type_is_named(arguments, message):
    with pytest.raises(UsageError) as error:
        check_arguments(Part, 'Part', arguments)
    assert str(error.value) == message


def test_a_part_whose_types_cannot_be_looked_up_takes_what_it_is_given():
    def part(size: 'Nowhere') -> None: ...  # noqa: F821, UP037

    check_arguments(part, 'part', {'size': None})


def test_every_part_is_built_with_arguments_of_its_types():
    with pytest.raises(UsageError, match="depth of CIFARResNet is a whole number, got '32'"):
        registry.build(registry.MODELS, {'type': 'CIFARResNet', 'depth': '32'}, in_channels=3)


def test_prepared_images_smaller_than_crops_are_noted():
    said = 'imagenet_lt: images prepared with a shorter side of 128 are enlarged to crops of 224'
    assert load_benchmark('imagenet_lt', overrides={'prepared': 128}).notes == [said]
    assert load_benchmark('imagenet_lt', overrides={'prepared': 224}).notes == []

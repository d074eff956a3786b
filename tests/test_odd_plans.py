"""Odd words on the command line and odd entries in a benchmark's file: carried out, or refused in one line."""

from __future__ import annotations

import copy
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from ltbench.benchmark import load_benchmark
from ltbench.config import read_config
from ltbench.errors import LTBenchError, UsageError
from ltbench.grid.planning import expand
from ltbench.spec import parse_assignments, parse_specs
from ltbench.suite import Suite, load_suite

PLANS = int(os.environ.get('ODD_PLANS', 80))
"""Of options, and as many of files; long form: `ODD_PLANS=2000 ODD_SEED=1 pytest -n 0 tests/test_odd_plans.py`."""
SEED = os.environ.get('ODD_SEED', '0')

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 7, 10**30, -0.0, 0.5, 1e308, -1e308, 1e-320, '', ' ', 'x' * 300, '/proc/1', '../..',
    '\udcff', '[/red]', '=1+1', '{{x}}', [], [1], [None], ['a', 2], {}, {'type': 'x'}, {'type': None}, {'a': {'b': []}},
]  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()):
    """Every entry of nested dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(tree: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy with one or two entries deleted, renamed, added or set to something odd."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 2))):
        *parents, last = chance.choice(list(places(tree)))
        inner: Any = tree
        for key in parents:
            inner = inner[key]
        kind = chance.choice(('set', 'set', 'set', 'delete', 'add'))
        if kind == 'set':
            inner[last] = copy.deepcopy(chance.choice(ODD))
        elif kind == 'delete':
            del inner[last]
        elif isinstance(inner, dict):
            inner[chance.choice(('lr', 'epochs', 'type', 'nothing', 'seed'))] = copy.deepcopy(chance.choice(ODD))
    return tree


def plan(benchmark: str, method: str = 'erm', options: dict[str, object] | None = None) -> str:
    """As `ltbench run --dry-run` does; what is said if that is refused."""
    try:
        expand(Suite('odd', (benchmark,), (parse_specs(method),), (0,)), options)
    except LTBenchError as error:
        said = str(error)
        assert said.strip()
        assert '\n' not in said.strip()
        return said
    return ''


def refused(benchmark: str, method: str = 'erm') -> str:
    said = plan(benchmark, method)
    assert said, 'it was planned'
    return said


def written(contents: dict[str, Any], folder: Path, number: int) -> str:
    path = folder / f'odd{number}.py'
    lines = [f'{key} = {value!r}' for key, value in contents.items() if isinstance(key, str) and key.isidentifier()]
    path.write_bytes('\n'.join(lines).encode('utf-8', 'backslashreplace'))
    return str(path)


@pytest.mark.parametrize('name', ['digits_lt', 'cifar10_lt', 'folder_lt', 'imagenet_lt'])
def test_an_odd_benchmark_file_is_planned_or_refused_in_words(name, tmp_path, sandbox):
    contents, _ = read_config('benchmarks', name)
    chance = random.Random(SEED + name)
    for number in range(PLANS // 4):
        plan(written(changed(contents, chance), tmp_path, number))


def test_an_odd_option_is_planned_or_refused_in_words(sandbox):
    chance = random.Random(SEED)
    benchmark = load_benchmark('digits_lt')
    tree = {'data': benchmark.data, 'backbone': benchmark.backbone, 'recipe': benchmark.recipe}
    keys = ['.'.join(path) for path in places(tree) if all(isinstance(key, str) for key in path)]
    keys += ['nothing', 'recipe', 'recipe.', '.', '', 'data..type', 'erm.tau', 'nbn.scope']
    for _ in range(PLANS):
        key, value = chance.choice(keys), chance.choice(ODD)
        try:
            options = parse_assignments([f'{key}={value}'])
        except LTBenchError:
            continue
        plan('digits_lt', options=options)


def test_an_odd_suite_file_is_planned_or_refused_in_words(tmp_path, sandbox):
    contents: dict[str, Any] = {
        'benchmarks': ['digits_lt', 'digits_lt(epochs=3)'],
        'methods': ['erm', {'type': 'nbn+la_loss', 'nbn.scope': 'all'}, 'crt'],
        'seeds': [0, 1],
        'preset': 'paper',
        'ablate': ['nbn.scope'],
    }
    chance = random.Random(SEED)
    for number in range(PLANS // 4):
        path = written(changed(contents, chance), tmp_path, number)
        try:
            expand(load_suite(path))
        except LTBenchError as error:
            assert str(error).strip()
            assert '\n' not in str(error).strip()


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('benchmarks = [3]', 'cannot read 3: expected a name, with options in brackets'),
        ('methods = [None]', 'cannot read None: expected a name'),
        ("methods = [{1: 'erm'}]", "cannot read {1: 'erm'}: options have names"),
        ("methods = [{'type': None}]", 'cannot read None: expected a name'),
        ('seeds = [-1]', 'seeds of suite odd are whole numbers from 0 to 2^63 - 1, got [-1]'),
        ('seeds = [True]', 'seeds of suite odd are whole numbers from 0 to 2^63 - 1, got [True]'),
        ("seeds = '01'", "suite odd needs a list seeds, got '01'"),
        ('preset = 3', 'preset of suite odd is text, got 3'),
        ('ablate = [3]', 'ablate of suite odd is a list of options, got [3]'),
        ('seed = [1]', "unknown entry of suite odd 'seed': did you mean seeds?"),
    ],
)
def test_a_wrong_entry_of_a_suite_is_named(entry, message, tmp_path):
    path = tmp_path / 'odd.py'
    path.write_text(f"benchmarks = ['digits_lt']\nmethods = ['erm']\nseeds = [0]\n{entry}\n")
    with pytest.raises(UsageError) as error:
        load_suite(str(path))
    assert message in str(error.value)


WRONG = [
    ('recipe=None', 'recipe of digits_lt is a dict, got None'),
    (
        'recipe={}',
        'recipe of digits_lt does not define epochs, batch_size, optimizer, schedule, augmentation, precision',
    ),
    ('data={}', 'data of digits_lt does not define type'),
    ('data=None', 'data of digits_lt is a dict, got None'),
    (f'epochs={10**30}', f'recipe.epochs of digits_lt is a whole number, at most 100000, got {10**30}'),
    ('epochs=10**30', "recipe.epochs of digits_lt is a whole number, 1 or larger, got '10**30'"),
    ('epochs=-1', 'recipe.epochs of digits_lt is a whole number, 1 or larger, got -1'),
    ('epochs=2.0', 'recipe.epochs of digits_lt is a whole number, 1 or larger, got 2.0'),
    ('batch_size=True', 'recipe.batch_size of digits_lt is a whole number, 1 or larger, got True'),
    ('n_max=None', 'n_max of DigitsLT is a whole number, 1 or larger, got None'),
    ('n_max=0', 'n_max is a whole number, 1 or larger, got 0'),
    ('split_seed=-1', 'split_seed is a whole number, 0 to 4294967295, got -1'),
    (f'split_seed={2**32}', f'split_seed is a whole number, 0 to 4294967295, got {2**32}'),
    ('test_per_class=-0.0', 'test_per_class of DigitsLT is a whole number, 1 or larger, got -0.0'),
    ('test_per_class=0', 'test_per_class is a whole number, 1 or larger, got 0'),
    ('imbalance_factor=None', 'imbalance_factor of DigitsLT is a number, 1 or larger, got None'),
    (f'imbalance_factor={10**40}', 'imbalance_factor is at most 1e+09'),
    (f'imbalance_factor={10**400}', 'imbalance_factor of DigitsLT is a number, at most 1000000000, got 1000'),
    ('imbalance_factor=True', 'data.imbalance_factor of digits_lt is a number, as 40, got True'),
    ('profile=xp', "unknown profile 'xp': did you mean exp?"),
    ('precision=None', "recipe.precision of digits_lt is 'fp32' or 'bf16' or 'amp_bf16' or 'amp_fp16', got None"),
    ('lr=many', "recipe.optimizer.lr of digits_lt is a number, 0 or larger, got 'many'"),
    ('momentum=2', 'recipe.optimizer.momentum of digits_lt is a number, 0 to 1, got 2'),
    ("optimizer={'type': 'SGD'}", 'recipe.optimizer of digits_lt does not define lr'),
    ('optimizer.type=None', 'recipe.optimizer.type of digits_lt is text, got None'),
    ('schedule.type=cosin', "unknown schedule.type of digits_lt 'cosin': did you mean cosine?"),
    ("schedule={'typ': 'step'}", "unknown entry of recipe.schedule of digits_lt 'typ': did you mean type?"),
    (
        'schedule.type=step',
        'a step schedule of digits_lt needs at (shares of the epochs) and gamma (a factor): -o "sched',
    ),
    (
        "schedule={'type': 'step', 'at': [2], 'gamma': 1}",
        'schedule.at of digits_lt is None or a list of numbers, 0 to 1',
    ),
    ("augmentation={'flipp': True}", "unknown entry of recipe.augmentation of digits_lt 'flipp': did you mean flip?"),
    ("augmentation={'policies': ['Cutout']}", "is None or a list of dicts with a type, got ['Cutout']"),
    ("augmentation={'policies': [{'type': 'Cutuot'}]}", "unknown augmentation policy 'Cutuot': did you mean Cutout"),
    ("augmentation={'policies': [{'type': 'Cutout', 'side': 0.5}]}", 'Cutout is None or a whole number, got 0.5'),
    ('flip=yes', "recipe.augmentation.flip of digits_lt is True or False, got 'yes'"),
    (
        "augmentation={'random_resized_crop': 8, 'resize': 8, 'center_crop': 8}",
        'a dict of crop_padding, flip, policies',
    ),
    ('depth=None', 'depth of CIFARResNet is a whole number, got None'),
    ('data.type=digitslt', "unknown dataset 'digitslt': did you mean DigitsLT"),
    (f'crop_padding={"9" * 5000}', 'recipe.augmentation.crop_padding of digits_lt is a whole number, 0 or larger, got'),
]


@pytest.mark.parametrize(('option', 'message'), WRONG, ids=[option[:40] for option, _ in WRONG])
def test_what_a_benchmark_cannot_be_is_refused_with_what_it_may_be(option, message, sandbox):
    assert message in refused(f'digits_lt({option})')


@pytest.mark.parametrize(
    ('root', 'message'),
    [
        ('None', 'root of FolderLT is text, got None'),
        ('x' * 300, 'is not a folder, neither here nor in the data folder'),
        ('/proc/1', '/proc/1/'),
        ('/dev/null', '/dev/null is not a folder'),
        ("''", 'pass one: -b "folder_lt(root=/path/to/images)"'),
    ],
    ids=['None', 'too long', 'proc', 'device', 'empty'],
)
def test_no_root_is_a_traceback(root, message, sandbox):
    assert message in refused(f'folder_lt(root={root})')
    if root != "''":
        assert root in refused(f'imagenet_lt(root={root})')


@pytest.mark.parametrize(
    'benchmark', ['.', '..', '../digits_lt', '/proc/1', 'digits_lt.py', '()', '+', '', 'digits_lt(']
)
def test_no_name_of_a_benchmark_is_a_traceback(benchmark, sandbox):
    assert re.match(r"(unknown benchmark|no such file|cannot read|'')", refused(benchmark))


@pytest.mark.parametrize(
    ('method', 'message'),
    [
        ('../erm', "unknown method '../erm': did you mean erm?"),
        ('.', "unknown method '.': known: "),
        ('..', "unknown method '..': known: "),
        ('./erm', "unknown method './erm': did you mean erm or ema?"),
        ('erm.', "unknown method 'erm.': did you mean erm or ema?"),
        ('os', "unknown method 'os': "),
        ('/proc/1', "unknown method '/proc/1': "),
        ('a' * 300, "unknown method 'aaa"),
        ('', 'a name is missing'),
        ('+', 'a name is missing'),
        ('erm(', "cannot read 'erm(': expected NAME"),
        ('\udcff', r"cannot read '\udcff': expected NAME"),
        ('nbn(scope=3)', "unknown value for option scope of nbn '3': known: all, last_stage, whole_last_stage"),
    ],
)
def test_no_name_of_a_method_is_a_traceback(method, message, sandbox):
    assert message in refused('digits_lt', method)

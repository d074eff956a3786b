"""Odd words on the command line and odd entries in a benchmark's file: carried out, or refused in one line."""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from typing import Any

import pytest

from ltbench import cli
from ltbench.config import Suite, load_benchmark, read_config
from ltbench.errors import LTBenchError
from ltbench.grid.run import expand

PLANS = int(os.environ.get('ODD_PLANS', 300))
"""Of each kind; the long form is `ODD_PLANS=2000 pytest -n 0 tests/test_odd_plans.py`."""

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


def plan(benchmark: str, method: str = 'erm') -> None:
    """As `ltbench run --dry-run` does."""
    try:
        expand(Suite('odd', (benchmark,), (method,), (0,)))
    except LTBenchError as error:
        assert str(error).strip()
        assert '\n' not in str(error).strip()


def written(contents: dict[str, Any], folder: Path, number: int) -> str:
    path = folder / f'odd{number}.py'
    lines = [f'{key} = {value!r}' for key, value in contents.items() if isinstance(key, str) and key.isidentifier()]
    path.write_bytes('\n'.join(lines).encode('utf-8', 'backslashreplace'))
    return str(path)


@pytest.mark.parametrize('name', ['digits_lt', 'cifar10_lt', 'folder_lt', 'imagenet_lt'])
def test_an_odd_benchmark_file_is_planned_or_refused_in_words(name, tmp_path, sandbox):
    contents, _ = read_config('benchmarks', name)
    chance = random.Random(name)
    for number in range(PLANS // 4):
        plan(written(changed(contents, chance), tmp_path, number))


def test_an_odd_option_is_planned_or_refused_in_words(sandbox):
    chance = random.Random(0)
    benchmark = load_benchmark('digits_lt')
    tree = {'data': benchmark.data, 'backbone': benchmark.backbone, 'recipe': benchmark.recipe}
    keys = ['.'.join(path) for path in places(tree) if all(isinstance(key, str) for key in path)]
    keys += ['nothing', 'recipe', 'recipe.', '.', '', 'data..type', 'erm.tau', 'nbn.scope']
    for _ in range(PLANS):
        key, value = chance.choice(keys), chance.choice(ODD)
        try:
            options = cli._assignments([f'{key}={value}'])
            expand(Suite('odd', ('digits_lt',), ('erm',), (0,)), options)
        except LTBenchError as error:
            assert str(error).strip(), (key, value)


@pytest.mark.parametrize(
    'benchmark',
    [
        'digits_lt(n_max=None)', 'digits_lt(split_seed=-1)', 'digits_lt(test_per_class=-0.0)', 'folder_lt(root=None)',
        'digits_lt(imbalance_factor=None)', f'folder_lt(root={"x" * 300})', 'folder_lt(root=/proc/1)', '.', '..',
        'digits_lt(', 'digits_lt()', '()', '+', 'digits_lt(a)', 'digits_lt(a=)', "digits_lt(a='", 'digits_lt(type=os)',
        'digits_lt(type=DigitsLT)', 'digits_lt(epochs=10**30)', f'digits_lt(epochs={10**30})', 'digits_lt(lr=nan)',
        'digits_lt(optimizer=None)', 'digits_lt(schedule=None)', 'digits_lt(augmentation=None)', 'digits_lt(type=None)',
        'digits_lt(n_max=1e308)', f'digits_lt(imbalance_factor={10**400})', 'digits_lt(recipe=None)',
        'digits_lt(data={})', '../x',
    ],
)  # fmt: skip
def test_what_was_a_traceback_is_a_sentence(benchmark, sandbox):
    plan(benchmark)


@pytest.mark.parametrize(
    'method', ['../erm', '.', '..', '', '+', 'erm+', 'erm(', 'os', 'nbn(scope=3)', '\udcff', 'a' * 300]
)
def test_no_name_of_a_method_is_a_traceback(method, sandbox):
    plan('digits_lt', method)

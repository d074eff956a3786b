"""What names a computation: every field that can change a result moves it, spelling does not."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltbench import fingerprint as module
from ltbench.config import Benchmark
from ltbench.fingerprint import fingerprint, foreign_code
from ltbench.method import make_plan
from ltbench.registry import METHODS, MODELS
from ltbench.stage import Stage

# ------------------------------------------------------------------------------------------------ plain data


def test_a_fingerprint_is_the_sha256_of_compact_sorted_json() -> None:
    """Pinned, so that stores and records outlive versions of Python and of this file."""
    expected = hashlib.sha256(b'{"a":[true,null,"x"],"b":1,"c":0.1}').hexdigest()
    assert fingerprint({'c': 0.1, 'b': 1.0, 'a': (True, None, 'x')}) == expected


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(plain)
def test_spelling_does_not_matter(value: Any) -> None:
    assert fingerprint(respelt(value)) == fingerprint(value)


def respelt(value: Any) -> Any:
    """The same value: keys the other way round, tuples for lists, floats for whole numbers."""
    if isinstance(value, dict):
        return {key: respelt(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return tuple(respelt(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    return value


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (1, True),  # equal to Python, but flip=1 and flip=True are not both a bool
        (0, False),
        (1, '1'),
        (None, 'null'),
        (0, None),
        ([], {}),
        ([], None),
        (['a', 'b'], ['b', 'a']),  # order is meaning in a list
        ([1, [2]], [1, 2]),
        ({'a': 1}, {'a': 1, 'b': None}),
        (0.1, math.nextafter(0.1, 1)),  # the last bit counts
        (1e-4, 2e-4),
    ],
)
def test_different_values_differ(one: Any, other: Any) -> None:
    assert fingerprint({'x': one}) != fingerprint({'x': other})


@pytest.mark.parametrize(
    'value',
    [
        {1, 2},
        b'bytes',
        Path('path'),
        np.array([1]),
        np.int64(1),
        np.float32(0.5),
        torch.ones(1),
        torch.float32,
        object(),
        len,
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_a_type_error(value: Any) -> None:
    """Its text may hold an address or hide its contents."""
    with pytest.raises(TypeError, match='plain data'):
        fingerprint({'deep': [{'inside': value}]})


def test_keys_are_strings() -> None:
    """JSON would turn 1 into '1', and two configs into one."""
    with pytest.raises(TypeError, match='only string keys'):
        fingerprint({'deep': {1: 'a'}})


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_numbers_that_json_lacks_are_refused(value: float) -> None:
    with pytest.raises((TypeError, ValueError)):
        fingerprint({'x': value})


# ------------------------------------------------------------------------------------------------ stages


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a config that is no container, or an empty one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    if not items:
        yield path
    for key, item in items:
        yield from leaves(item, (*path, key))


def thawed(value: Any) -> Any:
    """A deep copy in dicts and lists."""
    if isinstance(value, dict):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, list | tuple) else copy.copy(value)


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 1.25 + 1
    return {'type': 'Other'} if value is None else f'{value}_'


def parent_of(config: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        config = config[key]
    return config


def all_stages(benchmark: Benchmark) -> list[Stage]:
    """Stages of every kind, with every slot filled somewhere."""
    methods = ('nbn+ldam_drw', 'resample_class_balanced+crt', 'lws', 'la_posthoc')
    return [stage for method in methods for stage in make_plan(method, benchmark, 'f' * 64, 0).stages()]


def test_every_field_of_a_stage_moves_its_fingerprint(benchmark: Benchmark) -> None:
    kinds, seen = set(), set()
    for stage in all_stages(benchmark):
        kinds.add(stage.kind)
        for path in leaves(stage.config):
            seen.add((stage.kind, path[0]))
            config = thawed(stage.config)
            parent = parent_of(config, path)
            parent[path[-1]] = changed(parent[path[-1]])
            assert dataclasses.replace(stage, config=config).fingerprint != stage.fingerprint, path
            del parent[path[-1]]
            assert dataclasses.replace(stage, config=config).fingerprint != stage.fingerprint, path
    assert kinds == {'train', 'features', 'head', 'posthoc'}
    # the allow-list itself: a field taken away makes one run of two; one added changes every fingerprint
    fields = {
        'train': 'benchmark data backbone recipe seed head normalization rectification history',
        'features': 'epochs batch_size sampler augmentation bn seed',
        'head': 'head loss class_weights constraint optimizer schedule seed',
        'posthoc': 'step choose',
    }
    assert seen == {(kind, name) for kind, names in fields.items() for name in names.split()}


def test_history_holds_every_slot_that_may_change(benchmark: Benchmark) -> None:
    (stage,) = make_plan('erm', benchmark, 'f' * 64, 0).stages()
    assert set(stage.config['history'][0]) == {'until', 'loss', 'class_weights', 'sampler', 'mixing'}


def test_spelling_of_a_stage_does_not_matter(benchmark: Benchmark) -> None:
    for stage in all_stages(benchmark):
        config = respelt(thawed(stage.config))
        assert repr(config) != repr(stage.config)
        assert dataclasses.replace(stage, config=config).fingerprint == stage.fingerprint


def test_kind_and_parents_move_a_fingerprint(benchmark: Benchmark) -> None:
    train, features, head = make_plan('crt', benchmark, 'f' * 64, 0).stages()
    assert dataclasses.replace(features, kind='head').fingerprint != features.fingerprint
    other = make_plan('crt', benchmark, 'e' * 64, 0).stages()  # other pixels, the same config otherwise
    assert [stage.config for stage in other[1:]] == [features.config, head.config]
    ours = {stage.fingerprint for stage in (train, features, head)}
    assert not ours & {stage.fingerprint for stage in other}


def test_where_a_value_is_chosen_moves_a_fingerprint(benchmark: Benchmark) -> None:
    (step,) = make_plan('la_posthoc', benchmark, 'f' * 64, 0).stages()[1:]
    others = [make_plan('erm', benchmark, letter * 64, 0).stages()[0] for letter in 'ab']
    tuned = [dataclasses.replace(step, tuned_on=stage).fingerprint for stage in (None, *others)]
    assert len({step.fingerprint, *tuned}) == 3


def test_protocol_version_moves_every_fingerprint(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [stage.fingerprint for stage in all_stages(benchmark)]
    monkeypatch.setattr('ltbench.stage.PROTOCOL_VERSION', module.PROTOCOL_VERSION + 1)
    assert not set(before) & {stage.fingerprint for stage in all_stages(benchmark)}


def test_what_only_labels_a_run_stays_out(benchmark: Benchmark) -> None:
    """The preset's name, the list of overrides and the docstring say how a config came about, not what it is."""
    labelled = dataclasses.replace(benchmark, preset='quick', overrides={'recipe.epochs': 200}, doc='Text.')
    ours, theirs = (make_plan('ldam_drw', each, 'f' * 64, 0).stages() for each in (benchmark, labelled))
    assert [stage.fingerprint for stage in ours] == [stage.fingerprint for stage in theirs]


def test_seeds_share_nothing_that_is_trained(benchmark: Benchmark) -> None:
    one, other = (
        {stage.fingerprint for stage in make_plan('crt', benchmark, 'f' * 64, seed).stages()} for seed in (0, 1)
    )
    assert len(one | other) == 6


# ------------------------------------------------------------------------------------------------ code of methods

LOSS = '''"""A plug-in."""

import torch

from ltbench.method import Method
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS

HALF = 0.5


@MODELS.register_module(name='PluginLoss')
class PluginLoss(Loss):
    """A loss."""

    factor: torch.Tensor

    def per_sample(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Losses."""
        # twice the logit
        return helper(logits)[:, 0] * 2


def helper(logits):
    return logits * HALF


@METHODS.register_module(name='plugin_method')
class PluginMethod(Method):
    """A method."""

    def apply(self, plan):
        return plan.replace(loss=dict(type='PluginLoss'))
'''


@pytest.fixture
def code_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The code hash of the loss in a plug-in with this source."""
    for registry in (METHODS, MODELS):
        monkeypatch.setattr(registry, '_module_dict', dict(registry.module_dict))

    def read(source: str) -> dict[str, str]:
        path = tmp_path / f'plugin_{hashlib.sha256(source.encode()).hexdigest()[:12]}.py'
        path.write_text(source, encoding='utf-8')
        for registry, name in ((METHODS, 'plugin_method'), (MODELS, 'PluginLoss')):
            registry.module_dict.pop(name, None)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        plugin = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, plugin)
        spec.loader.exec_module(plugin)
        return foreign_code({'history': [{'loss': {'type': 'PluginLoss'}}]})

    return read


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('* 2', '* 3'),
        ('* HALF', '/ HALF'),  # a helper outside of the class
        ('HALF = 0.5', 'HALF = 0.25'),  # a constant of the module
        ('[:, 0]', '[:, 1]'),
        ('return helper', 'logits = logits.abs()\n        return helper'),
    ],
)
def test_code_that_computes_moves_the_hash(code_of: Any, old: str, new: str) -> None:
    assert LOSS.count(old) == 1
    assert code_of(LOSS.replace(old, new)) != code_of(LOSS)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('# twice the logit', '# the logit, doubled'),
        ('"""Losses."""', '"""What each image costs."""'),
        ('        """Losses."""\n', ''),
        ('"""A plug-in."""', '"""A plug-in for the tests."""'),
        ('    factor: torch.Tensor\n', ''),
        (' -> torch.Tensor', ''),
        ('return plan.replace(loss', 'return plan.cut(at=0.5).after(loss'),  # in the config already
        ('0] * 2', '0]  *  (2)'),
    ],
)
def test_code_that_does_not_compute_leaves_the_hash(code_of: Any, old: str, new: str) -> None:
    assert LOSS.count(old) == 1
    assert code_of(LOSS.replace(old, new)) == code_of(LOSS) != {}


def test_parts_of_ltbench_are_covered_by_the_protocol_version(benchmark: Benchmark) -> None:
    (erm,) = make_plan('erm', benchmark, 'f' * 64, 0).stages()
    assert foreign_code(erm.config) == {}
    ldam = make_plan('ldam', benchmark, 'f' * 64, 0).stages()[0]
    assert set(foreign_code(ldam.config)) == {'LDAMLoss'}  # the cosine head is ltbench's own


def test_code_is_part_of_the_stage_it_is_used_in(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, adjusted = (make_plan(method, benchmark, 'f' * 64, 0).stages()[0] for method in ('erm', 'la_loss'))
    before = plain.fingerprint, adjusted.fingerprint
    monkeypatch.setattr(module, '_module_code', lambda path: 'edited')
    after = [dataclasses.replace(stage).fingerprint for stage in (plain, adjusted)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_code_of_a_base_class_in_another_method_file_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """RIDELoss derives from LDAMLoss: what changes the one changes the other, and nothing else."""
    losses = ('RIDELoss', 'LDAMLoss', 'FocalLoss')
    before = [foreign_code({'type': name})[name] for name in losses]
    hashed = module._module_code
    monkeypatch.setattr(module, '_module_code', lambda path: 'edited' if path.endswith('ldam.py') else hashed(path))
    after = [foreign_code({'type': name})[name] for name in losses]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True, False]

"""What names a computation: every field that can change a result moves it, spelling does not."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib
import importlib.util
import math
import re
import shutil
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltbench import fingerprint as module
from ltbench import source
from ltbench.benchmark import Benchmark
from ltbench.errors import UsageError
from ltbench.fingerprint import fingerprint
from ltbench.method import make_plan
from ltbench.registry import METHODS, MODELS, SAMPLERS
from ltbench.source import engine_code, foreign_code
from ltbench.stage import IDENTITY_OF_DATA, Stage

HOME = Path(__file__).parents[1]

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
            was = parent[path[-1]]
            parent[path[-1]] = changed(was)
            # how images were chosen is no part of it: which they are is in the data's own fingerprint
            counts = path[0] != 'data' or path[1] in IDENTITY_OF_DATA
            assert (dataclasses.replace(stage, config=config).fingerprint != stage.fingerprint) == counts, path
            del parent[path[-1]]
            counts = counts and not (was is None and len(path) < 4)  # a slot that is not there is an empty one
            assert (dataclasses.replace(stage, config=config).fingerprint != stage.fingerprint) == counts, path
    assert kinds == {'train', 'features', 'head', 'posthoc'}
    # the allow-list itself: a field taken away makes one run of two; one added changes every fingerprint
    fields = {
        'train': 'data backbone recipe seed head normalization rectification views objective partner_sampler update '
        'average teach history',
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


def test_parts_of_ltbench_are_covered_by_the_lock(benchmark: Benchmark) -> None:
    (erm,) = make_plan('erm', benchmark, 'f' * 64, 0).stages()
    assert foreign_code(erm.config) == {}
    ldam = make_plan('ldam', benchmark, 'f' * 64, 0).stages()[0]
    assert set(foreign_code(ldam.config)) == {'LDAMLoss'}  # the cosine head is ltbench's own


def test_code_is_part_of_the_stage_it_is_used_in(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, adjusted = (make_plan(method, benchmark, 'f' * 64, 0).stages()[0] for method in ('erm', 'la_loss'))
    before = plain.fingerprint, adjusted.fingerprint
    edit(monkeypatch, '')
    after = [dataclasses.replace(stage).fingerprint for stage in (plain, adjusted)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_code_of_a_base_class_in_another_method_file_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """RIDELoss derives from LDAMLoss: what changes the one changes the other, and nothing else."""
    losses = ('RIDELoss', 'LDAMLoss', 'FocalLoss')
    before = [foreign_code({'type': name})[name] for name in losses]
    edit(monkeypatch, 'ldam.py')
    after = [foreign_code({'type': name})[name] for name in losses]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True, False]


def edit(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """As if files with such names had been edited."""
    hashed = source._code_of_file.__wrapped__
    monkeypatch.setattr(source, '_code_of_part', source._code_of_part.__wrapped__)
    monkeypatch.setattr(
        source, '_code_of_file', lambda path, *rest: 'edited' if path.endswith(ending) else hashed(path, *rest)
    )


# ------------------------------------------------------------------------------------------------ code anywhere


class Package:
    """A plug-in package of several modules, installed where a test wants it, read again after each edit."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder / 'tail_losses', monkeypatch
        monkeypatch.syspath_prepend(str(folder))
        self.folder.mkdir(parents=True)
        self.files = {
            '__init__.py': '',
            'loss.py': (
                'from ltbench.method import Method\nfrom ltbench.models.losses import Loss\n'
                'from ltbench.registry import METHODS, MODELS\nfrom . import helper\nfrom .deep.er import twice\n\n'
                "@MODELS.register_module(name='TailLoss')\nclass TailLoss(Loss):\n"
                '    def per_sample(self, logits, labels):\n'
                '        return twice(helper.half(logits[:, 0])) * TailMethod.FACTOR\n\n'
                "@METHODS.register_module(name='tail')\nclass TailMethod(Method):\n    FACTOR = 1\n"
                "    def apply(self, plan):\n        return plan.replace(loss=dict(type='TailLoss'))\n"
            ),
            'helper.py': 'def half(x):\n    return x / 2\n',
            'deep/__init__.py': '',
            'deep/er.py': 'def twice(x):\n    from .lazy import TWO\n    return x * TWO\n',
            'deep/lazy.py': 'TWO = 2\n',
            'unused.py': 'X = 1\n',
        }

    def code(self, name: str = '', old: str = '', new: str = '') -> str:
        """The hash of the loss, with one file edited."""
        for path, text in self.files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text.replace(old, new) if path == name and old else text)
        for loaded in [name_ for name_ in sys.modules if name_.partition('.')[0] == 'tail_losses']:
            del sys.modules[loaded]
        for registry, part in ((METHODS, 'tail'), (MODELS, 'TailLoss')):
            self.monkeypatch.setattr(registry, '_module_dict', dict(registry.module_dict))
            registry.module_dict.pop(part, None)
        for cached in (
            source._code_of_part,
            source._file_of,
            source._imports,
            source._identifiers,
            source._code_of_file,
        ):
            cached.cache_clear()
        importlib.invalidate_caches()
        importlib.import_module('tail_losses.loss')
        return foreign_code({'type': 'TailLoss'})['TailLoss']


@pytest.fixture(params=['site-packages', 'checkout'])
def package(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    folder = tmp_path / ('lib/python3.11/site-packages' if request.param == 'site-packages' else 'src')
    monkeypatch.setattr(sys, 'base_prefix', str(tmp_path))  # a checkout below the interpreter's prefix
    yield Package(folder, monkeypatch)
    for loaded in [name_ for name_ in sys.modules if name_.partition('.')[0] == 'tail_losses']:
        del sys.modules[loaded]


@pytest.mark.parametrize(
    ('name', 'old', 'new'),
    [
        ('loss.py', '[:, 0]', '[:, 1]'),
        ('loss.py', 'FACTOR = 1', 'FACTOR = 2'),  # a constant of the Method class, which the loss reads
        ('loss.py', 'FACTOR = 1', 'FACTOR = 1.0'),
        ('helper.py', '/ 2', '/ 3'),  # from . import helper
        ('deep/er.py', '* TWO', '+ TWO'),  # from .deep.er import twice
        ('deep/lazy.py', 'TWO = 2', 'TWO = 3'),  # imported when it is called, not yet when it is planned
        ('deep/lazy.py', 'TWO = 2', 'TWO = True'),
        ('__init__.py', '', ''),
    ],
)
def test_code_of_an_installed_plug_in_counts(package: Package, name: str, old: str, new: str) -> None:
    before = package.code()
    if name == '__init__.py':  # runs before any module of the package
        package.files[name] = 'import torch\ntorch.set_default_dtype(torch.float64)\n'
    after = package.code(name, old, new)
    torch.set_default_dtype(torch.float32)
    assert after != before


@pytest.mark.parametrize('what', ['title', 'family'])
def test_what_figures_call_a_method_counts_for_nothing(package: Package, what: str) -> None:
    """Not even in a Method class whose constants a loss reads."""
    assert package.code('loss.py', '    FACTOR = 1\n', f"    {what} = 'ours'\n    FACTOR = 1\n") == package.code()


HEADER = """from torch import nn
from ltbench.method import Method
from ltbench.registry import METHODS, MODELS, SAMPLERS
"""
IN_A_FUNCTION = "@MODELS.register_module(name='TailLoss')\nclass TailLoss(nn.Module):\n    def forward(self):\n"


@pytest.mark.parametrize(
    ('files', 'edited'),
    [
        pytest.param(
            {
                'loss.py': "from .make import make\nMODELS.register_module(name='TailLoss', module=make(1))\n",
                'make.py': 'def make(g):\n    class Loss(nn.Module):\n        G = g\n    return Loss\n',
            },
            ('loss.py', 'make(1)', 'make(2)'),
            id='made by a function of another module',
        ),
        pytest.param(
            {
                'loss.py': "from .make import of\n@MODELS.register_module(name='TailLoss')\n@of(1)\ndef f(): ...\n",
                'make.py': 'def of(g):\n    def wrap(f):\n        return lambda: g\n    return wrap\n',
            },
            ('loss.py', 'of(1)', 'of(2)'),
            id='decorator of another module that replaces',
        ),
        pytest.param(
            {
                'loss.py': "@METHODS.register_module(name='tail')\nclass Tail(Method):\n"
                "    @MODELS.register_module(name='TailLoss')\n    class Loss(nn.Module):\n        G = 1\n"
            },
            ('loss.py', 'G = 1', 'G = 2'),
            id='within its Method',
        ),
        pytest.param(
            {
                'loss.py': "@METHODS.register_module(name='tail')\nclass Tail(Method): ...\n"
                "@MODELS.register_module(name='TailLoss')\nclass Tail(nn.Module):\n    G = 1\n"
            },
            ('loss.py', 'G = 1', 'G = 2'),
            id='called as its Method',
        ),
        pytest.param(
            {
                'loss.py': f'{IN_A_FUNCTION}        from tail_space.inner.sub import G\n',
                '../tail_space/inner/sub.py': 'G = 1\n',
            },
            ('../tail_space/inner/sub.py', 'G = 1', 'G = 2'),
            id='folder without a file, imported late',
        ),
        pytest.param(
            {
                'loss.py': f"{IN_A_FUNCTION}        import importlib as i; i.import_module('.sub', __package__)\n",
                'sub.py': 'G = 1\n',
            },
            ('sub.py', 'G = 1', 'G = 2'),
            id='imported by a call',
        ),
    ],
)  # fmt: skip
def test_code_counts_however_a_part_is_made(
    package: Package, files: dict[str, str], edited: tuple[str, str, str]
) -> None:
    package.files = {'__init__.py': '', **{name: HEADER * (name != 'sub.py') + text for name, text in files.items()}}
    before = package.code()
    assert package.code() == before
    assert package.code(*edited) != before


def test_a_name_in_two_registries_stands_for_both(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SAMPLERS, '_module_dict', dict(SAMPLERS.module_dict))
    package.code()
    assert foreign_code({'type': 'LinearHead'}) == {}
    SAMPLERS.register_module(name='LinearHead', module=MODELS.get('TailLoss'))
    assert list(foreign_code({'type': 'LinearHead'})) == ['LinearHead']


def test_a_name_that_is_given_back_leaves_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = foreign_code({'type': 'LDAMLoss'})
    there = MODELS.module_dict['LDAMLoss']
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))
    MODELS.register_module(name='LDAMLoss', module=type('Other', (), {}), force=True)
    MODELS.module_dict['LDAMLoss'] = there
    assert foreign_code({'type': 'LDAMLoss'}) == before


def test_a_module_that_is_gone_is_named(package: Package) -> None:
    package.code()
    helper = package.folder / 'helper.py'
    helper.unlink()
    source._code_of_part.cache_clear()
    source._imports.cache_clear()
    source._identifiers.cache_clear()
    with pytest.raises(UsageError, match=r'helper\.py was imported but cannot be read \(No such file'):
        foreign_code({'type': 'TailLoss'})


def test_what_an_installed_plug_in_does_not_use_leaves_its_code(package: Package) -> None:
    before = package.code()
    assert package.code('unused.py', 'X = 1', 'X = 2') == before
    assert package.code('loss.py', 'return plan', 'return  plan') == before
    package.files['loss.py'] = package.files['loss.py'].replace(
        'import METHODS, MODELS', 'import METHODS, MODELS, SAMPLERS'
    )
    assert package.code() == before  # a name that nothing uses
    assert (
        package.code('loss.py', 'ltbench.models.losses', 'ltbench.models.classifier') == before
    )  # ours, wherever it is


def test_the_same_code_elsewhere_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = []
    for place in ('site-packages', 'elsewhere'):
        with monkeypatch.context() as patch:
            codes.append(Package(tmp_path / place, patch).code())
    assert codes[0] == codes[1]


def test_compiled_modules_count_byte_by_byte(package: Package) -> None:
    """A module that only the loss's function imports: nothing here can load it, and nothing needs to."""
    package.files['helper.py'] = 'def half(x):\n    from . import fast\n    return fast.half(x)\n'
    binary = package.folder / f'fast{importlib.machinery.EXTENSION_SUFFIXES[0]}'
    found = []
    for contents in (b'\x7fELF one', b'\x7fELF two', b'\x7fELF one'):
        binary.write_bytes(contents)
        found.append(package.code())
    assert found[0] == found[2] != found[1]


def test_a_module_may_have_another_encoding(package: Package) -> None:
    package.code()
    text = "# -*- coding: latin-1 -*-\nNAME = 'caf\u00e9'\ndef half(x):\n    return x / 2\n"
    del package.files['helper.py']
    (package.folder / 'helper.py').write_bytes(text.encode('latin-1'))
    before = package.code()
    (package.folder / 'helper.py').write_bytes(text.replace('caf', 'tabl').encode('latin-1'))
    assert package.code() != before


def test_code_that_is_in_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed into a notebook: what it computes could change without a trace."""
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))
    notebook = types.ModuleType('a_notebook')
    monkeypatch.setitem(sys.modules, 'a_notebook', notebook)
    exec('class Typed:\n    pass\nTyped.__module__ = "a_notebook"', notebook.__dict__)
    MODELS.register_module(name='Typed', module=notebook.Typed)
    with pytest.raises(UsageError, match='Typed is in no readable file'):
        foreign_code({'type': 'Typed'})


def test_a_part_in_the_running_script_is_refused_since_workers_do_not_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))
    main = sys.modules['__main__']
    monkeypatch.setattr(main, 'Typed', type('Typed', (), {'__module__': '__main__'}), raising=False)
    MODELS.register_module(name='Typed', module=main.Typed)
    with pytest.raises(UsageError, match='Typed is defined in the running script or notebook.* name that as a plug-in'):
        foreign_code({'type': 'Typed'})


def test_parts_that_another_package_registers_with_mmengine_count(package: Package) -> None:
    """mmpretrain's networks are found through the parent of our registry, and are no dependency of ours."""
    package.files['loss.py'] = (
        'from mmengine.registry import MODELS\nfrom torch import nn\n'
        "@MODELS.register_module(name='TailLoss', force=True)\nclass TailLoss(nn.Module):\n    SCALE = 1\n"
    )
    package.monkeypatch.setattr(MODELS.parent, '_module_dict', dict(MODELS.parent.module_dict))
    assert package.code() != package.code('loss.py', 'SCALE = 1', 'SCALE = 2')


def test_every_declared_dependency_is_known() -> None:
    """And nothing else is taken for unchanging."""
    project = tomllib.loads((HOME / 'pyproject.toml').read_text())['project']
    extras = project['optional-dependencies']
    named = [*project['dependencies'], *extras['ray'], *extras['slurm'], *extras['track']]
    declared = {re.split('[<>=~!\\[]', text)[0].strip().replace('-', '_') for text in named}
    called = {'scikit_learn': 'sklearn', 'opencv_python_headless': 'cv2', 'pillow': 'PIL'}
    assert {called.get(name, name) for name in declared} == source.DEPENDENCIES


# ------------------------------------------------------------------------------------------------ code of the engine


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hash of a copy of the engine, with one file edited."""
    shutil.copytree(HOME / 'ltbench', tmp_path / 'ltbench', ignore=shutil.ignore_patterns('__pycache__'))

    def code(name: str = '', old: str = '', new: str = '') -> str:
        monkeypatch.setattr(source, 'ROOT_OF_PACKAGE', tmp_path / 'ltbench')
        source._code_of_file.cache_clear()
        path = tmp_path / 'ltbench' / name
        if name:
            text = path.read_text()
            assert text.count(old) >= 1
            path.write_text(text.replace(old, new))
        found = engine_code.__wrapped__()
        if name:
            path.write_text(text)
        return found

    return code


def test_the_engine_code_is_what_computes(engine: Any) -> None:
    before = engine()
    assert before == engine_code()  # wherever it lies
    assert engine('models/normalization.py', 'EPSILON = 1e-6', 'EPSILON = 1e-5') != before
    assert engine('engine/optim.py', 'lr * (epoch + 1) / warmup', 'lr * epoch / warmup') != before
    assert engine('data/profiles.py', 'half = num_classes // 2', 'half = num_classes / 2') != before
    assert engine('seeding.py', "'mixing': 3", "'mixing': 5") != before
    assert engine('models/normalization.py', '# added to the norm', '# is added to the norm') == before
    assert engine('report/frame.py', 'DECIMALS = 9', 'DECIMALS = 8') == before

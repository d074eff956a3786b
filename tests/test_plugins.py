"""Plug-in files: what is read when, what is refused, and that nothing of ours is changed by one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import ltbench
from ltbench import plugins
from ltbench.data.samplers import InstanceBalanced
from ltbench.errors import UsageError
from ltbench.grid.planning import plan_selection
from ltbench.grid.selection import Selection
from ltbench.models.losses import CrossEntropyLoss, Loss
from ltbench.registry import METHODS, MODELS
from ltbench.source import foreign_code

PLUG_IN = """
from ltbench.method import Method
from ltbench.models.losses import CrossEntropyLoss, Loss
from ltbench.registry import METHODS, MODELS

@MODELS.register_module()
class EditedLoss(CrossEntropyLoss):
    def per_sample(self, logits, labels):
        return super().per_sample(logits * 2, labels)

@METHODS.register_module(name='edited')
class Edited(Method):
    '''It is edited (a test).'''
    def apply(self, plan):
        return plan.replace(loss=dict(type='EditedLoss'))
"""
CHANGED = 'mine.py has changed since it was imported: restart the kernel'


@pytest.fixture
def write(sandbox, monkeypatch):
    """Write a file into the working directory; what is loaded is gone after the test."""
    for registry in plugins.REGISTRIES:
        registry.import_from_location()  # else what it imports first would be gone as well
        monkeypatch.setattr(registry, '_module_dict', dict(registry.module_dict))
    for name in ('_loaded', '_broken'):
        monkeypatch.setattr(plugins, name, dict(getattr(plugins, name)))
    monkeypatch.setattr(sys, 'path', [*sys.path])
    before = set(sys.modules)

    def write(text: str, name: str = 'mine.py') -> str:
        Path(name).write_text(text)
        return name

    yield write
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], '__file__', None) or '').startswith(str(sandbox)):
            del sys.modules[name]


def reason(path: str) -> str:
    """Why a file is not loaded."""
    return str(plugins.load([path])[str(Path(path).resolve())])


def code() -> dict[str, str]:
    return foreign_code({'loss': {'type': 'EditedLoss'}})


# ---------------------------------------------------------------------------------------------- edited files


def test_a_file_that_was_edited_is_refused_until_it_is_as_it_was_imported(write, monkeypatch):
    monkeypatch.setattr('ltbench.grid.executors.fork_server.fork_server', lambda: None)
    path = write(PLUG_IN)
    assert plugins.load([path]) == {}
    write(PLUG_IN.replace('* 2', '* 3'))
    with pytest.raises(UsageError, match=CHANGED):
        plugins.check_unchanged()
    with pytest.raises(UsageError, match=CHANGED):
        ltbench.run(methods='edited', plugins=path)
    with pytest.raises(UsageError, match=CHANGED):
        ltbench.plan('edited')
    assert plugins.load([path]) == {}  # as a worker does, whose command was given the file as it was
    write(PLUG_IN)
    plugins.check_unchanged()


def test_what_a_plug_in_imports_counts_as_the_plug_in(write):
    write('FACTOR = 2\n', 'helper_of_edited.py')
    path = write(f'from helper_of_edited import FACTOR\n{PLUG_IN}')
    assert plugins.load([path]) == {}
    write('FACTOR = 3\n', 'helper_of_edited.py')
    with pytest.raises(UsageError, match=r'helper_of_edited\.py has changed since it was imported'):
        plugins.check_unchanged()


def test_code_that_only_workers_import_is_read_again(write):
    """It is in no memory of ours, so the new code has a new name, and nothing has to be restarted."""
    write('FACTOR = 2\n', 'lazy_of_edited.py')
    path = write(PLUG_IN.replace('return super', 'from lazy_of_edited import FACTOR\n        return super'))
    plugins.load([path])
    before = code()
    write('FACTOR = 3\n', 'lazy_of_edited.py')
    plugins.check_unchanged()
    assert code() != before


def test_a_built_in_method_that_was_edited_is_refused(monkeypatch):
    [(path, _)] = plugins._loaded['methods/focal.py'].items()
    assert path.name == 'focal.py'
    monkeypatch.setitem(plugins._loaded, 'methods/focal.py', {path: 'what it was'})
    with pytest.raises(UsageError, match=r'methods/focal\.py has changed since it was imported'):
        plugins.check_unchanged()


def test_a_file_that_did_not_load_is_tried_again_with_all_that_it_imports(write):
    write(PLUG_IN, 'parts_of_edited.py')
    path = write('import parts_of_edited\n1 / 0\n')
    assert reason(path) == 'division by zero'
    assert 'EditedLoss' not in MODELS.module_dict
    write('import parts_of_edited\n')
    assert plugins.load([path]) == {}
    assert 'EditedLoss' in MODELS.module_dict


# ---------------------------------------------------------------------------------------------- refused


def test_a_file_that_was_named_and_does_not_load_ends_what_plans(write, monkeypatch, capsys):
    path = write('import nothing_of_that_name')
    selection = Selection(methods=('erm',), options={'epochs': 1})
    said = r"mine\.py does not load: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    with pytest.raises(UsageError, match=said):
        plan_selection(selection, [path])
    assert plugins.not_loaded() == []  # said once
    monkeypatch.setenv('LTBENCH_PLUGINS', path)
    plan_selection(selection)
    assert "No module named 'nothing_of_that_name'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="unknown method 'edited'"):
        plan_selection(Selection(methods=('edited',)))
    with pytest.raises(UsageError, match=said):
        plan_selection(selection, [path])


@pytest.mark.parametrize(
    ('line', 'cls', 'attribute', 'said'),
    [
        ('CrossEntropyLoss.per_sample = EditedLoss.per_sample', CrossEntropyLoss, 'per_sample', 'CrossEntropyLoss'),
        ('Loss.mean = lambda *_: 0', Loss, 'mean', 'Loss'),  # what registered ones derive from
        ('CrossEntropyLoss.mean = Loss.weight', CrossEntropyLoss, 'mean', 'CrossEntropyLoss'),  # had none of its own
        ('del CrossEntropyLoss.per_sample', CrossEntropyLoss, 'per_sample', 'CrossEntropyLoss'),
        ("CrossEntropyLoss.per_sample = 1\nraise ValueError('not today')", CrossEntropyLoss, 'per_sample', ''),
        (
            'from ltbench.data.samplers import InstanceBalanced\nInstanceBalanced.__iter__ = list',
            InstanceBalanced, '__iter__', 'InstanceBalanced',
        ),
    ],
)  # fmt: skip
def test_a_part_of_ours_stays_as_it_is(write, line: str, cls: Any, attribute: str, said: str):
    before = dict(vars(cls))
    path = write(f'{PLUG_IN}\n{line}\n')
    assert (f'it changes {said}.{attribute}; derive your own class' if said else 'not today') in reason(path)
    assert dict(vars(cls)) == before
    assert 'edited' not in METHODS.module_dict


def test_what_python_keeps_in_a_class_is_no_change(write):
    lines = 'import copy\ncopy.deepcopy(CrossEntropyLoss([2, 1]))\nCrossEntropyLoss.__annotations__\n'
    assert plugins.load([write(PLUG_IN + lines)]) == {}


@pytest.mark.parametrize('name', ['a+b', 'my method', '', 'x(y)', 'x(y=1)', ' x', 'x\n'])
def test_a_method_whose_name_cannot_be_typed_is_refused(write, name):
    path = write(PLUG_IN.replace("'edited'", repr(name)))
    assert f'the name of its method {name!r} cannot be typed' in reason(path)
    assert name not in METHODS.module_dict


@pytest.mark.parametrize('name', ['x', 'my_method-2', 'ours/v1.5', 'größer'])
def test_other_names_are_allowed(write, name):
    assert plugins.load([write(PLUG_IN.replace("'edited'", repr(name)))]) == {}
    assert name in METHODS.module_dict

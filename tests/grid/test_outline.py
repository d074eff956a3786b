"""Remembered plans: the same graph as the planned one, and only while nothing it came from has changed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from PIL import Image

from ltbench.errors import DataError
from ltbench.grid import outline as outline_module
from ltbench.grid import planning
from ltbench.grid.answer import Answers
from ltbench.grid.outline import outline
from ltbench.grid.recording import identity_of
from ltbench.grid.selection import Selection
from ltbench.places import cache_root

METHODS = ('erm', 'drw', 'crt', 'distill', 'tau_norm', 'la_posthoc', 'nbn+crt')
ASKED = Selection(benchmarks=('digits_lt', 'digits_lt(imbalance_factor=10)'), methods=METHODS, seeds=(0, 1),
                  options={'epochs': 6, 'batch_size': 32}, scale_lr=True)  # fmt: skip


def described(found):
    graph = found.graph
    return {
        'suite': found.suite, 'notes': found.notes, 'broken': dict(found.broken),
        'runs': [(str(run), identity_of(run), run.data, [s.fingerprint for s in run.stages]) for run in graph.runs],
        'probes': [(run.measured_by, run.ends) for run in graph.runs],
        'benchmarks': [run.benchmark.resolved for run in graph.runs],
        'stages': {key: (stage.kind, [p.fingerprint for p in stage.parents]) for key, stage in graph.stages.items()},
        'begin': {key: (stage.begin, stage.end) for key, stage in graph.stages.items() if stage.kind == 'train'},
        'urgency': graph.urgency, 'devices': {key: stage.devices for key, stage in graph.stages.items()},
    }  # fmt: skip


def unplannable(*_: object, **__: object) -> None:
    raise AssertionError('planned again')


def test_what_was_planned_before_is_what_is_planned(sandbox, monkeypatch):
    planned = described(outline(ASKED))
    assert len(planned['stages']) > len(METHODS)
    with monkeypatch.context() as patch:
        patch.setattr(planning, 'plan_selection', unplannable)
        assert described(outline(ASKED)) == planned
        with pytest.raises(AssertionError, match='planned again'):
            outline(Selection(benchmarks=('digits_lt',)))


def test_probes_are_remembered(sandbox, monkeypatch):
    suite = sandbox / 'measured.py'
    suite.write_text("benchmarks = ['digits_lt']\nmethods = ['erm', 'crt']\nseeds = [0]\nprobes = ['feature_norms']\n")
    memory = Answers(cache_root(), 'ab' * 32)  # a file of one's own has none
    monkeypatch.setattr(outline_module, 'cached_answers', lambda *_: memory)
    planned = described(outline(Selection(str(suite))))
    assert all(len(ends) == 2 for _, ends in planned['probes'])
    monkeypatch.setattr(planning, 'plan_selection', unplannable)
    assert described(outline(Selection(str(suite)))) == planned


def test_a_user_without_a_home_has_no_memory(sandbox, monkeypatch):
    """As in a container that is run under a number."""
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setattr(Path, 'home', classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError('no home'))))
    assert described(outline(ASKED))['runs']
    assert list(sandbox.iterdir()) == []


def test_each_command_plans_with_what_is_on_disk(sandbox):
    """In a notebook one process gives many."""

    def add(number):
        for name in ('ant', 'bee'):
            path = sandbox / 'images' / name / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (8, 8), (25 * number, 0, 0)).save(path)

    for number in range(6):
        add(number)
    asked = Selection(benchmarks=(f'folder_lt(root={sandbox / "images"}, image_size=8)',))
    planned = [(outline(asked).graph.runs[0].data, planning.plan_selection(asked)[1].graph.runs[0].data)]
    add(6)
    planned += [(outline(asked).graph.runs[0].data, planning.plan_selection(asked)[1].graph.runs[0].data)]
    assert [of_outline == of_plan for of_outline, of_plan in planned] == [True, True]
    assert planned[0] != planned[1]


def test_of_two_folders_the_one_that_is_missing_is_told(sandbox):
    for name, number in itertools.product(('ant', 'bee'), range(9)):
        path = sandbox / 'here' / name / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (25 * number, 0, 0)).save(path)
    texts = tuple(f'folder_lt(root={sandbox / name}, image_size=8)' for name in ('here', 'gone', 'lost'))
    found = outline(Selection(benchmarks=texts))
    assert [bool(run.data) for run in found.graph.runs] == [True, False, False]
    assert [scale is not None for scale in found.scales] == [True, False, False]
    assert [name in line for name, line in zip(('gone', 'lost'), found.lacking, strict=True)] == [True, True]


def test_benchmarks_that_lack_the_same_data_are_all_named_once(sandbox):
    (sandbox / 'copied.py').write_text("_base_ = 'folder_lt'\n")
    texts = tuple(f'{name}(root=gone, image_size={size})' for name in ('folder_lt', 'copied.py') for size in (8, 16))
    lines = outline(Selection(benchmarks=texts)).lacking
    assert [line.partition(' is shown')[0] for line in lines] == ['note: folder_lt', 'note: copied']
    assert len({line.partition(': ')[2].partition(': ')[2] for line in lines}) == 1
    with pytest.raises(DataError) as error:
        planning.plan_selection(Selection(benchmarks=texts, skip_missing=True))
    assert lines[0].endswith(f': {error.value}')


def test_a_damaged_or_unwritable_memory_is_none(sandbox, monkeypatch):
    planned = described(outline(ASKED))
    (file,) = sandbox.glob('.cache/ltbench/answers/*.json')
    file.write_bytes(file.read_bytes().replace(b'erm', b'drw'))
    assert described(outline(ASKED)) == planned
    monkeypatch.setenv('XDG_CACHE_HOME', '/proc/nowhere')
    assert described(outline(ASKED)) == planned

"""A finished grid that is asked for again: answered at once while nothing has changed, looked at again where it has."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltbench.grid import answer as answer_module
from ltbench.grid import selection as selection_module
from ltbench.grid.answer import Answers, question_of, show
from ltbench.grid.planning import choose_suite, expand
from ltbench.grid.recording import identity_of
from ltbench.grid.selection import Selection
from ltbench.method import Method, build_method
from ltbench.places import ENTRY_POINT_GROUP
from ltbench.record import results_root, write_record
from ltbench.registry import METHODS
from ltbench.store import MANIFEST, Store

RUN = 'ab' * 32
SHOWN = ['one line', {'title': 'a table', 'columns': ['method'], 'rows': [['erm']]}]


def asked_for(selection: Selection, figures: bool) -> str | None:
    return question_of('run', selection, figures)


@pytest.fixture
def kept(sandbox) -> Answers:
    """The answer to a question that has one record, one report, one artifact and one file of data."""
    for name in ('records/a.json', 'leaderboard.csv', 'figures/groups.png', 'tracking/now'):
        path = sandbox / 'results' / 'digits' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('as it was')
    (sandbox / 'data.csv').write_text('as it was')
    store = Store()
    store.publish(RUN, {}, lambda folder: None)
    answers = Answers(store.root, asked_for(Selection('digits'), True))
    answers.keep(SHOWN, [Path('data.csv'), store.folder(RUN) / MANIFEST], [results_root() / 'digits'])
    return answers


def test_what_was_shown_is_shown_again(kept):
    assert kept.find()['content'] == SHOWN
    assert not kept.is_outdated()


@pytest.mark.parametrize('changed', ['data.csv', 'configs/benchmarks/made.py'])
def test_what_is_edited_while_a_command_works_is_not_kept(sandbox, monkeypatch, changed):
    for path in (sandbox / 'data.csv', sandbox / 'configs' / 'benchmarks' / 'made.py'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('as it was')
    monkeypatch.setattr(answer_module, 'configs_root', lambda: sandbox / 'configs')
    answers = Answers(Store().root, asked_for(Selection('digits'), True))
    answers.watch([Path('data.csv')])
    edit(sandbox / changed)
    answers.keep(SHOWN, [Path('data.csv')])
    assert answers.find() is None
    answers = Answers(Store().root, asked_for(Selection('digits'), True))
    answers.keep(SHOWN, [Path('data.csv')])
    assert answers.find() is not None


def test_another_checkout_does_not_answer_for_this_one(sandbox, monkeypatch):
    here = asked_for(Selection('digits'), True)
    monkeypatch.setattr(answer_module, 'ROOT_OF_PACKAGE', sandbox / 'other' / 'ltbench')
    assert asked_for(Selection('digits'), True) != here


def edit(path: Path) -> None:
    text, times = path.read_text(), (path.stat().st_atime, path.stat().st_mtime)
    path.write_text(text[::-1])
    os.utime(path, times)  # the same size and time as before


def remove(path: Path) -> None:
    path.unlink()


def add(path: Path) -> None:
    (path.parent / f'another{path.suffix}').write_text('new')


@pytest.mark.parametrize('change', [edit, remove, add])
@pytest.mark.parametrize('name', ['records/a.json', 'leaderboard.csv', 'figures/groups.png'])
def test_an_output_that_is_not_as_it_was_is_made_again(kept, sandbox, change, name):
    change(sandbox / 'results' / 'digits' / name)
    assert kept.find() is None
    assert kept.is_outdated()


@pytest.mark.parametrize('change', [edit, remove])
def test_other_data_are_another_answer(kept, sandbox, change):
    change(sandbox / 'data.csv')
    assert kept.find() is None


def test_a_lost_or_renewed_artifact_is_looked_for_the_long_way(kept):
    Store().set_aside(RUN)
    assert kept.find() is None
    Store().publish(RUN, {}, lambda folder: None)
    assert kept.find() is None


def test_other_code_and_other_libraries_are_another_answer(kept, monkeypatch):
    read = kept.find()['read']
    for name in (
        'ltbench/grid/graph.py',
        'ltbench/report/page_files/page.css',
        'methods/erm.py',
        'configs/suites/digits.py',
    ):
        assert sum(path.endswith(f'/{name}') for path in read) == 1, name
    monkeypatch.setattr(answer_module, '_libraries', lambda: {'matplotlib': '0'})
    assert kept.find() is None


def test_a_damaged_answer_is_none(kept):
    kept.path.write_text(kept.path.read_text().replace('one line', 'two line'))
    assert kept.find() is None
    assert kept.is_outdated()


def test_what_trackers_write_and_what_is_half_written_changes_nothing(kept, sandbox):
    (sandbox / 'results/digits/tracking/now').write_text('more')
    (sandbox / 'results/digits/records/.b.json.~0123abcd').write_text('half')
    assert kept.find() is not None


@pytest.mark.parametrize('name', ['mine.py', './digits', 'mine.py(lr=1)'])
def test_files_of_ones_own_are_always_looked_at(sandbox, name):
    assert asked_for(Selection(name), True) is None
    assert asked_for(Selection('digits', benchmarks=(name,)), True) is None
    assert asked_for(Selection('digits', methods=(f'erm+{name}',)), True) is None


def test_another_question_has_another_answer(sandbox, monkeypatch):
    asked = [
        asked_for(Selection('digits'), True), asked_for(Selection('digits'), False), asked_for(Selection(), True),
        asked_for(Selection('digits', seeds=(1,)), True), asked_for(Selection('digits', methods=('erm',)), True),
        asked_for(Selection('digits', options={'epochs': 5}), True),
        asked_for(Selection('digits', options={'epochs': '5'}), True),
        asked_for(Selection('digits', preset='quick'), True), asked_for(Selection('digits', scale_lr=True), True),
    ]  # fmt: skip
    monkeypatch.setenv('LTBENCH_DATA', 'elsewhere')
    asked.append(asked_for(Selection('digits'), True))
    monkeypatch.chdir('/')
    asked.append(asked_for(Selection('digits'), True))
    assert None not in asked
    assert len(set(asked)) == len(asked)
    for name in ('LTBENCH_PLUGINS', 'LTBENCH_CONFIGS'):
        with monkeypatch.context() as patch:
            patch.setenv(name, 'elsewhere')
            assert asked_for(Selection('digits'), True) is None


def test_plug_ins_that_are_installed_are_always_looked_at(sandbox, monkeypatch):
    monkeypatch.setattr(selection_module, 'entry_points', lambda group: [group])
    assert ENTRY_POINT_GROUP == 'ltbench.methods'
    assert asked_for(Selection('digits'), True) is None


def test_a_store_that_cannot_be_written_keeps_nothing_and_stops_nobody(kept, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(30, 'Read-only file system')

    kept.path.unlink()
    monkeypatch.setattr(answer_module, 'write_document', refuse)
    kept.keep(SHOWN)
    assert kept.find() is None


@pytest.mark.slow
def test_a_finished_digits_suite_takes_two_and_a_half_seconds_of_cpu(ltbench, sandbox, recorded):
    """With its report; nothing is drawn again, and what somebody edited or removed is."""
    suite = choose_suite(Selection('digits'))
    graph = expand(suite).graph
    for run in graph.runs:
        identity = {key: value for key, value in identity_of(run).items() if key not in ('method', 'run_seed')}
        path = recorded(str(run.method), run.seed, 'digits', key=run.fingerprint, **identity)
        parts = [(spec.name, build_method(spec, run.benchmark).values) for spec in run.method]
        record = json.loads(path.read_text()) | {'methods': [{'name': name, 'options': of} for name, of in parts]}
        write_record(path, {key: value for key, value in record.items() if key != 'checksum'})
    ltbench('run', 'digits', figures=True)
    made = contents(sandbox / 'results')
    assert sum(name.endswith('.png') for name in made) > 3
    command = [sys.executable, '-m', 'ltbench.cli', 'run', 'digits']
    with (sandbox / 'out.txt').open('w') as out:
        child = subprocess.Popen(command, cwd=sandbox, stdout=out, stderr=out)
        _, code, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(code)
    printed = (sandbox / 'out.txt').read_text()
    assert child.returncode == 0, printed
    assert f'Everything is found: {len(graph.runs)} runs, nothing to train.' in printed
    assert printed.count('erm') == 1  # perhaps beside another name: made records are of one computation
    logging.getLogger('ltbench').info('%.2f s of CPU', usage.ru_utime + usage.ru_stime)
    assert usage.ru_utime + usage.ru_stime <= 2.5, usage
    assert contents(sandbox / 'results') == made
    figure = next(sandbox.glob('results/digits/figures/groups-*.png'))
    for verb in ('run', 'report'):
        figure.unlink()
        (sandbox / 'results/digits/leaderboard.csv').write_text('edited')
        ltbench(verb, 'digits', figures=True)
        assert {name: text for name, (text, _) in contents(sandbox / 'results').items()} == {
            name: text for name, (text, _) in made.items()
        }


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file."""
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_method_that_somebody_registered_makes_all_answers_unknown(sandbox, monkeypatch):
    """As by a script that imports us: no file of ours says what it computes."""
    assert asked_for(Selection('digits'), True) is not None
    monkeypatch.setitem(METHODS.module_dict, 'mine', Method)
    assert asked_for(Selection('digits'), True) is None


def test_no_name_is_cut_where_the_terminal_is_narrow():
    from rich.console import Console

    console = Console(width=40, record=True, file=io.StringIO())
    show(
        [{'title': 't', 'columns': ['method', 'top1'], 'rows': [['resample_class_balanced' * 2, '90.9 ± 2.1']]}],
        console,
    )
    assert 'resample_class_balanced' * 2 in ''.join(console.export_text().replace('90.9 ± 2.1', '').split())

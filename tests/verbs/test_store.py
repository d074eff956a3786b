"""What `store gc` removes, and above all what it leaves alone; `store verify` that has something to verify."""

from __future__ import annotations

import io
import os
import time
import types
from pathlib import Path

import pytest
from rich.console import Console

from ltbench.errors import StoreError, UsageError
from ltbench.record import read_record
from ltbench.store import Store
from ltbench.verbs import store as storekeeping

KEY, OTHER = 'ab' * 32, 'cd' * 32
OLD = time.time() - 30 * 86_400


@pytest.fixture
def store(sandbox) -> Store:
    store = Store()
    for key in (KEY, OTHER):
        store.publish(key, {'kind': 'train'}, lambda folder: (folder / 'a.txt').write_text('x') and None)
    return store


def age(folder):
    for path in (*folder.rglob('*'), folder):
        os.utime(path, (OLD, OLD))


def kept(store: Store) -> set[str]:
    return set(store.fingerprints())


def test_what_no_record_rests_on_goes_and_the_rest_stays(store, recorded, capsys):
    recorded(key=KEY)  # its record names the stages of a template, and itself
    age(store.folder(OTHER))
    record_of_key = storekeeping._uses_of_artifacts()
    assert record_of_key[OTHER] == 0
    storekeeping.clean_store(7, yes=True)
    assert OTHER not in kept(store)
    assert KEY in kept(store)  # younger than seven days


def test_without_any_record_nothing_is_unused(store, capsys):
    """A wrong LTBENCH_RESULTS made every artifact unused."""
    for key in (KEY, OTHER):
        age(store.folder(key))
    storekeeping.clean_store(7, yes=True)
    assert kept(store) == {KEY, OTHER}
    assert 'No record was found in' in capsys.readouterr().out


def test_a_folder_that_is_no_store_is_left_alone(sandbox, monkeypatch):
    """`LTBENCH_STORE= ltbench store gc --yes` removed ./work/thesis."""
    thesis = sandbox / 'work' / 'thesis'
    thesis.mkdir(parents=True)
    (thesis / 'chapter.tex').write_text('years')
    age(sandbox / 'work')
    monkeypatch.setenv('LTBENCH_STORE', '')
    with pytest.raises(UsageError, match='set but empty'):
        storekeeping.clean_store(7, yes=True)
    monkeypatch.setenv('LTBENCH_STORE', '.')
    with pytest.raises(StoreError, match='is not marked as a store'):
        storekeeping.clean_store(7, yes=True)
    assert (thesis / 'chapter.tex').read_text() == 'years'


def test_only_what_bears_a_fingerprint_is_ever_removed(store, recorded):
    recorded(key=KEY)
    theirs = [
        store.root / 'work' / 'thesis', store.root / 'damaged' / 'notes', store.root / 'artifacts' / 'ab' / '.hidden',
        store.root / 'work' / KEY[:12], store.root / 'work' / (KEY + 'x'),
    ]  # fmt: skip
    ours = [
        store.root / 'work' / OTHER, store.root / 'damaged' / f'{OTHER}.0123abcd',
        store.root / 'artifacts' / 'cd' / f'.{OTHER}.~0123abcd',
    ]  # fmt: skip
    for folder in (*theirs, *ours):
        folder.mkdir(parents=True)
        (folder / 'file').write_text('x')
        age(folder)
    elsewhere = store.root.parent / 'elsewhere'
    elsewhere.mkdir()
    (elsewhere / 'file').write_text('x')
    link = store.root / 'work' / ('ef' * 32)
    link.symlink_to(elsewhere)
    age(elsewhere)
    storekeeping.clean_store(7, yes=True)
    assert [folder.exists() for folder in theirs] == [True] * len(theirs)
    assert [folder.exists() for folder in ours] == [False] * len(ours)
    assert (elsewhere / 'file').exists()


def test_what_a_process_is_publishing_stays(store, recorded):
    recorded(key=KEY)
    claim = store.claim('ef' * 32)
    half = store.root / 'artifacts' / 'ef' / f'.{"ef" * 32}.~0123abcd'
    half.mkdir(parents=True)
    age(half)
    storekeeping.clean_store(0, yes=True)
    assert half.is_dir()
    claim.release()
    storekeeping.clean_store(0, yes=True)
    assert not half.exists()


def test_what_is_recorded_while_the_question_is_there_stays(store, recorded, monkeypatch):
    (stage, *_) = read_record(recorded(key=KEY))['stages']
    age(store.folder(OTHER))
    monkeypatch.setattr(
        storekeeping, 'make_console', lambda: types.SimpleNamespace(is_terminal=True, print=lambda *_, **__: None)
    )
    monkeypatch.setattr('typer.confirm', lambda *_, **__: recorded(seed=1, stages=[stage | {'fingerprint': OTHER}]))
    storekeeping.clean_store(7, yes=False)
    assert OTHER in kept(store)


def test_what_was_written_deep_inside_counts(store, recorded):
    """mmengine's folder in a work folder is two levels deep, and the only one that changes for hours."""
    recorded(key=KEY)
    work = store.work(OTHER)
    (work / 'mmengine' / 'logs').mkdir(parents=True)
    (work / 'mmengine' / 'logs' / 'now.txt').write_text('x')
    for path in (work, work / 'mmengine', work / 'mmengine' / 'logs'):
        os.utime(path, (OLD, OLD))
    storekeeping.clean_store(7, yes=True)
    assert work.exists()


def test_to_verify_nothing_is_an_error(sandbox):
    with pytest.raises(StoreError, match='nothing was verified; is LTBENCH_STORE right'):
        storekeeping.verify_store()


def test_a_broken_manifest_or_a_vanished_folder_stops_no_list(store, capsys):
    (store.folder(KEY) / 'manifest.json').write_text('{')
    storekeeping.show_store()
    assert '1 artifacts' in capsys.readouterr().out
    assert kept(store) == {OTHER}


def test_what_vanishes_while_it_is_looked_at_stops_nothing(store, monkeypatch):
    """Of a stage in the making: its checkpoints come and go."""
    folder, lstat = store.folder(KEY), Path.lstat
    age(folder)

    def vanishing(path):
        if path.name == 'a.txt':
            raise FileNotFoundError(path)
        return lstat(path)

    whole = storekeeping._size(folder)
    monkeypatch.setattr(Path, 'lstat', vanishing)
    assert storekeeping._size(folder) == whole - 1
    assert storekeeping._age(folder) == pytest.approx(30, abs=0.1)
    assert storekeeping._age(store.root / 'gone') == storekeeping._size(store.root / 'gone') == 0


def test_the_results_that_decide_are_named_before_anything_is_removed(store, recorded, capsys):
    """Records in another folder may rest on what goes."""
    results = recorded(key=KEY).parents[2]
    storekeeping.clean_store(7, yes=True)
    assert f'or a record in {results} uses it' in capsys.readouterr().out
    age(store.folder(OTHER))
    with pytest.raises(UsageError, match='nothing was removed'):
        storekeeping.clean_store(7, yes=False)
    assert f'No record in {results} uses these artifacts.' in capsys.readouterr().out
    assert OTHER in kept(store)


def test_a_narrow_terminal_cuts_no_fingerprint(store, monkeypatch):
    console = Console(file=io.StringIO(), width=40)
    monkeypatch.setattr(storekeeping, 'make_console', lambda: console)
    storekeeping.show_store()
    shown = console.file.getvalue()
    width = 1 + len(shown.split()[0])
    first = ''.join(line[:width].strip() for line in shown.splitlines())
    assert '…' not in shown
    assert KEY[:12] in first and OTHER[:12] in first

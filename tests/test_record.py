"""Records are what they were when they were written, or they are named."""

from __future__ import annotations

import json
import shutil
from ast import literal_eval

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import make_record, write

from ltbench.errors import StoreError
from ltbench.record import (
    RecordIndex,
    read_failures,
    read_record,
    read_records,
    record_name,
    set_superseded_aside,
    write_failure,
    write_record,
)


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_RESULTS', str(tmp_path / 'results'))
    return tmp_path / 'results'


def test_what_is_written_is_read():
    record = make_record()
    read = read_record(write(record))
    assert {key: value for key, value in read.items() if key != 'checksum'} == record


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda text: text.replace('"run_seed": 0', '"run_seed": 1'), 'changed after it was written'),
        (lambda text: text[:200], 'is no valid record'),
        (lambda text: text.replace('"schema": 4', '"schema": 3'), 'schema 3, this version of ltbench reads 4'),
        (lambda text: '[]', 'not a JSON object'),
        (lambda text: '\udcff', 'is no valid record'),
    ],
)
def test_damage_is_named(change, said):
    path = write(make_record())
    path.write_bytes(change(path.read_text()).encode(errors='surrogateescape'))
    with pytest.raises(StoreError, match=said) as raised:
        read_record(path)
    assert str(path) in str(raised.value)
    assert read_records('made') == ({}, {path: str(raised.value)})


def test_layout_is_no_damage():
    path = write(make_record())
    path.write_text(json.dumps(json.loads(path.read_text())))
    read_record(path)


def test_a_copy_is_no_second_run():
    path = write(make_record())
    copy = path.with_name(path.name.replace('-s0-', '-s1-'))
    shutil.copy(path, copy)
    records, wrong = read_records('made')
    assert list(records) == [path]
    assert f'recorded as {path.name}' in wrong[copy]


def test_a_failure_is_kept_until_the_run_succeeds(results):
    record, other = make_record(setting='paper'), make_record(setting='quick')
    for failed in (record, other):
        write_failure('made', failed, 'train', 'the loss is nan')
    assert [failure['reason'] for failure in read_failures('made')[0]] == ['the loss is nan'] * 2
    write(record | {'fingerprint': 'f' * 64})  # other code
    assert [failure['setting'] for failure in read_failures('made')[0]] == ['quick']
    (path,) = results.glob('made/failed/*')
    path.write_text('{}')
    failures, wrong = read_failures('made')
    assert failures == []
    assert list(wrong) == [path]
    assert path.name in wrong[path]


def instead_of(record):
    return RecordIndex('made').instead_of(record_name(record), record)


def test_what_other_code_recorded_is_known_however_its_file_is_laid_out():
    old, new = (make_record(setting='quick, a="b"', fingerprint=digit * 64) for digit in 'ab')
    path = write(old)
    assert instead_of(new) == (path, [])
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert instead_of(new) == (path, [])
    assert instead_of(new | {'setting': 'quick'}) == (None, [])
    path.write_text(path.read_text()[:-20])
    assert instead_of(new) == (None, [])
    write(old)
    path.write_text(path.read_text()[:-20])
    assert instead_of(new) == (None, [])


def test_what_is_recorded_of_other_data_takes_no_place():
    """Neither instead of a run, nor set aside by it; and a failure there is none of here."""
    fish, birds = (make_record(data=name, fingerprint=name[0] * 64) for name in ('fish', 'birds'))
    path = write(fish)
    write_failure('made', fish, 'train', 'lost')
    by_other_code, elsewhere = instead_of(birds)
    assert by_other_code is None
    assert [(one['data'], one['table']) for one in elsewhere] == [(fish['data'], fish['table'])]
    assert set_superseded_aside(write(birds), birds) == []
    assert path.is_file()
    assert len(read_failures('made')[0]) == 1
    newer = fish | {'fingerprint': 'e' * 64, 'computation': 'e' * 64}
    assert [moved.name for moved in set_superseded_aside(write(newer), newer)] == [path.name]
    assert read_failures('made')[0] == []


def test_the_same_artifact_is_another_record_in_another_table():
    """A method may set what the recipe says, so that two recipes come to one computation."""
    one, other = make_record(), make_record(recipe={'epochs': 99})
    assert one['fingerprint'] == other['fingerprint']
    assert write(one) != write(other)
    assert len(read_records('made')[0]) == 2


LEAVES = st.sampled_from([
    ('backbone', 'depth', 20), ('backbone', 'width', 2.0), ('recipe', 'epochs', 2), ('recipe', 'batch_size', 64),
    ('recipe', 'optimizer', {'type': 'SGD', 'lr': 0.05}), ('recipe', 'schedule', {'type': 'cosine'}),
    ('recipe', 'augmentation', {}), ('recipe', 'precision', 'bf16'), ('recipe', 'devices', 2),
    ('data', None, 'fish'), ('protocol', None, 2),
])  # fmt: skip


@given(st.sets(LEAVES.map(repr), max_size=4), st.sets(LEAVES.map(repr), max_size=4))
def test_tables_are_the_same_where_all_that_they_stand_for_is(first, second):
    """What is changed in one field alone is of another table, whatever else is changed in both."""

    def made(changes):
        changed = {'backbone': {}, 'recipe': {}}
        for section, key, value in map(literal_eval, sorted(changes)):
            changed |= {section: changed[section] | {key: value} if key else value}
        return make_record(**changed)

    assert (made(first)['table'] == made(second)['table']) == (first == second)


def test_an_incomplete_record_is_not_written(tmp_path):
    record = make_record()
    del record['metrics']
    with pytest.raises(ValueError, match='metrics'):
        write_record(tmp_path / 'x.json', record)
    assert not list(tmp_path.iterdir())

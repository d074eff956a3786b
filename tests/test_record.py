"""Records are what they were when they were written, or they are named."""

from __future__ import annotations

import json
import shutil

import pytest
from made_records import make_record, write

from ltbench.errors import StoreError
from ltbench.record import Recorded, read_failures, read_record, read_records, record_name, write_failure, write_record


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
        (lambda text: text.replace('"schema": 3', '"schema": 2'), 'schema 2, this version of ltbench reads 3'),
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


def test_what_other_code_recorded_is_known_however_its_file_is_laid_out(results):
    old, new = (make_record(setting='quick, a="b"', fingerprint=digit * 64) for digit in 'ab')
    path = write(old)
    name = record_name(new)
    assert Recorded('made').instead_of(name, new['setting']) == path
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert Recorded('made').instead_of(name, new['setting']) == path
    assert Recorded('made').instead_of(name, 'quick') is None
    path.write_text(path.read_text()[:-20])
    assert Recorded('made').instead_of(name, new['setting']) is None
    write(old)
    path.write_text(path.read_text()[:-20])
    assert Recorded('made').instead_of(name, new['setting']) is None


def test_an_incomplete_record_is_not_written(tmp_path):
    record = make_record()
    del record['metrics']
    with pytest.raises(ValueError, match='metrics'):
        write_record(tmp_path / 'x.json', record)
    assert not list(tmp_path.iterdir())

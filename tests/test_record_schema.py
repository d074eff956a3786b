"""What a record may hold: the entry that does not fit is named, when it is written and when it is read."""

from __future__ import annotations

import json
import re
import socket
import time
from os import mkfifo
from pathlib import Path

import pytest
from made_records import make_record, write

from ltbench.declared import SHOWN, parse
from ltbench.errors import StoreError
from ltbench.record import (
    InvalidRecordError,
    checksum,
    is_valid,
    read_failures,
    read_record,
    write_failure,
    write_record,
)
from ltbench.record_schema import check_record

COMMITTED = sorted((Path(__file__).parents[1] / 'results').glob('*/records/*.json'))


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_RESULTS', str(tmp_path / 'results'))
    return tmp_path / 'results'


def put(record, *keys_and_value):
    *keys, last, value = keys_and_value
    inside = record
    for key in keys:
        inside = inside[key]
    inside[last] = value


def sealed(path: Path, record) -> Path:
    """Written as by somebody who knows how."""
    path.write_text(json.dumps(record | {'checksum': checksum(record)}))
    return path


ODD = [
    (('metrics', 'top1', None), 'metrics.top1 is a number from 0 to 100, got null'),
    (('metrics', 'top1', 100.5), 'metrics.top1 is a number from 0 to 100, got 100.5'),
    (('metrics', 'few', -1), 'metrics.few is a number from 0 to 100 or null, got -1'),
    (('metrics', 'nll', 'low'), 'metrics.nll is a number, 0 or larger or null, got "low"'),
    (('metrics', 'per_class', 2, True), 'metrics.per_class[2] is a number from 0 to 100 or null, got true'),
    (('metrics', 'per_class', 2, None), 'metrics.per_class[2] is null, for 50 test images'),
    (('metrics', 'top1', 74.01), 'metrics.top1 is 74.01, from metrics.per_class it is 72.0'),
    (('metrics', 'macro', 74), 'metrics.macro is 74, from metrics.per_class it is 72.0'),
    (('metrics', 'balanced_error', 2), 'metrics.balanced_error is 2, from metrics.per_class it is 28.0'),
    (('metrics', 'many', 90.0), 'metrics.many is 90.0, from metrics.per_class it is 88.0'),
    (('metrics', 'medium', 0), 'metrics.medium is 0, from metrics.per_class it is 64.0'),
    (('metrics', 'few', None), 'metrics.few is null, from metrics.per_class it is 48.0'),
    (('metrics', 'worst_class', 44.1), 'metrics.worst_class is 44.1, from metrics.per_class it is 44.0'),
    (('metrics', 'geometric_mean', 73.9), 'metrics.geometric_mean is 73.9, from metrics.per_class it is 69.56'),
    (('metrics', 'harmonic_mean', 73.9), 'metrics.harmonic_mean is 73.9, from metrics.per_class it is 67.07'),
    (('metrics', 'per_class', 0, 60.0), 'metrics.top1 is 72.0, from metrics.per_class it is 67.0'),
    (('metrics', 'test_images', 0, 100), 'metrics.top1 is 72.0, from metrics.per_class it is 75.1'),
    (('class_counts', 3, 100), 'groups.many is 4, from class_counts it is 3'),
    (('groups', {'many': 2, 'medium': 4, 'few': 2}), 'groups.many is 2, from class_counts it is 4'),
    (('metrics', 'test_images', [50] * 7), 'metrics.test_images has 7 entries, class_counts has 8'),
    (('metrics', 'reliability', 'all', 'images', []), 'metrics.reliability.all.images is a list of 15 numbers, got []'),
    (('metrics', 'confusion', 'many', 'correct', 1e9), 'metrics.confusion.many.correct is a number from 0 to 100'),
    (('groups', 'many', 5), 'groups has 9 classes, class_counts has 8'),
    (('groups', 'all', 5), 'groups.all is not a known entry'),
    (('class_names', ['a']), 'class_names has 1 entries, class_counts has 8'),
    (('class_counts', 0, -5), 'class_counts[0] is a whole number from 0 to 1e9, got -5'),
    (('class_counts', 0, 5000.0), 'class_counts[0] is a whole number from 0 to 1e9, got 5000.0'),
    (('class_counts', []), 'class_counts is a list of one class or more, got []'),
    (('curve', 1, 'loss', 'x'), 'curve[1].loss is a number that single precision can hold or null, got "x"'),
    (('curve', 1, 'epoch', 0.5), 'curve[1].epoch is a whole number, 0 or larger, got 0.5'),
    (('analysis', 'bn', 'last', 'weight', 3, 1e308), 'analysis.bn.last.weight[3] is a number that single precision'),
    (('analysis', 'bn', 'last', 'weight', [1.0]), 'analysis.bn.last has 1 weights and 16 biases'),
    (('analysis', 'strength', 'rare_group', 'many'), 'analysis.strength.rare_group is "medium" or "few", got "many"'),
    (('analysis', 'feature_norms', {'mean': [1.0]}), 'analysis.feature_norms.mean has 1 entries, class_counts has 8'),
    (('analysis', 'feature_norms', {'mean': [-1.0]}), 'analysis.feature_norms.mean[0] is a number, 0 or larger'),
    (('config', 'probes', 'bn_vectors'), 'config.probes is a list, got "bn_vectors"'),
    (('cost', 'wall_seconds', '1 h'), 'cost.wall_seconds is a number, 0 or larger, got "1 h"'),
    (('stages', 0, 'cost', 'wall_seconds', None), 'stages[0].cost.wall_seconds is a number, 0 or larger, got null'),
    (('stages', []), 'stages is a list of one stage or more, got []'),
    (('environment', 'threads', 'one'), 'environment.threads is a whole number, 0 or larger, got "one"'),
    (('environment', 'device', None), 'environment.device is text of at most 1000 characters, got null'),
    (('config', 'benchmark', 'recipe', 'epochs', 0), 'config.benchmark.recipe.epochs is a whole number from 1 to 1e9'),
    (('config', 'benchmark', 'backbone', None), 'config.benchmark.backbone is an object, got null'),
    (('config', 'stages', 0, 'recipe', []), 'config.stages[0].recipe is an object or null, got []'),
    (('config', 'imported', None), 'config.imported is an object, got null'),
    (('methods', 0, 'name', 'other'), 'methods has the parts ["other"], method is "erm"'),
    (('method', 'a++b'), 'methods has the parts ["erm"], method is "a++b"'),
    (('chosen', {'tau': [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}), 'chosen is nested more than 16 deep'),
    (('run_seed', 2**63), 'run_seed is a whole number from 0 to 2^63 - 1, got 9223372036854775808'),
    (('imbalance_factor', 0.5), 'imbalance_factor is a number from 1 to 1e12 or null, got 0.5'),
    (('benchmark', '../x'), 'benchmark is a name of 1 to 100 characters, no /, got "../x"'),
    (('table', 'x'), 'table is 1 to 64 hexadecimal digits, got "x"'),
    (('setting', 'x' * 2000), f'setting is text of at most 1000 characters, got "{"x" * (SHOWN - 2)}…'),
    (('schema', True), 'schema is 4, got true'),
    (('warnings', ['\ud800']), 'warnings[0] is text with invalid Unicode, got "\\ud800"'),
    (('metrics', 'ece', float('nan')), 'metrics.ece is nan, not a finite number'),
    (('cost', 'flops', float('inf')), 'cost.flops is inf, not a finite number'),
    (('extra', 1), 'extra is not a known entry'),
    (('a\n\x1b', 1), 'a\\n\\x1b is not a known entry'),
]


@pytest.mark.parametrize(('change', 'said'), ODD, ids=lambda value: value if isinstance(value, str) else '')
def test_an_entry_that_does_not_fit_is_named(tmp_path, change, said):
    record = make_record()
    put(record, *change)
    if change == ('schema', True):
        said = 'schema true, this version of ltbench reads 4'
    with pytest.raises(InvalidRecordError) as written:
        write_record(tmp_path / 'x.json', record)
    assert not list(tmp_path.iterdir())
    assert said in str(written.value)
    path = sealed(tmp_path / 'x.json', record)
    with pytest.raises(StoreError) as read:
        read_record(path)
    assert str(read.value).startswith(f'{path} is no valid record: {said}')
    assert '\n' not in str(read.value)


def test_a_missing_entry_is_named_at_whatever_depth(tmp_path):
    for keys in (('metrics', 'top1'), ('environment', 'torch'), ('config', 'benchmark', 'data'), ('cost',)):
        record = make_record()
        inside = record
        for key in keys[:-1]:
            inside = inside[key]
        del inside[keys[-1]]
        with pytest.raises(StoreError, match=re.escape(f'{".".join(keys)} is missing')):
            read_record(sealed(tmp_path / 'x.json', record))


def test_open_parts_may_hold_more(tmp_path):
    record = make_record()
    record['environment']['cuda'] = {'driver': [1, 2, None]}
    record['analysis']['new'] = {'deep': [[1.5]]}
    record['metrics']['new'] = 1.0
    record['config']['stages'][0]['of_a_plugin'] = [{'type': 'X'}]
    assert read_record(sealed(tmp_path / 'x.json', record))['analysis']['new'] == {'deep': [[1.5]]}


def test_rounding_is_no_error():
    """exp(log(100)) is a little more than 100."""
    record = make_record(hits=[50] * 8)
    record['metrics']['geometric_mean'] = 100.00000000000004
    read_record(write(record))


def test_what_no_json_holds_is_named_when_written(tmp_path):
    record = make_record()
    record['chosen'] = {'tau': object()}
    with pytest.raises(InvalidRecordError, match='not JSON serializable'):
        write_record(tmp_path / 'x.json', record)


def test_every_committed_record_fits():
    assert len(COMMITTED) > 300
    for path in COMMITTED:
        read_record(path)


def test_numbers_are_read_as_python_reads_them():
    text = COMMITTED[0].read_bytes()
    assert repr(parse(text)) == repr(json.loads(text))
    assert parse(b'[1, 1.0, -0.0, 1e22, 123456789012345678901234567890]') == [1, 1.0, -0.0, 1e22, int('1234567890' * 3)]


@pytest.mark.parametrize('text', [b'', b'{', b'\xff', b'[' * 100_000, b'{"a": 1} x', b'NaN', b'[1e999]', b'"\\ud800"'])
def test_what_is_no_json_is_named(tmp_path, text):
    path = tmp_path / 'x.json'
    path.write_bytes(text)
    with pytest.raises(StoreError, match='is no valid record: '):
        read_record(path)


FAILURES = [
    (('reason', None), 'reason is text, got null'),
    (('run_seed', -1), 'run_seed is a whole number from 0 to 2^63 - 1, got -1'),
    (('imbalance_factor', 'x'), 'imbalance_factor is a number from 1 to 1e12 or null, got "x"'),
    (('method', 1), 'method is text of at most 1000 characters, got 1'),
    (('extra', 1), 'extra is not a known entry'),
]


@pytest.mark.parametrize(('change', 'said'), FAILURES)
def test_an_odd_failure_is_named(results, change, said):
    write_failure('made', make_record(), 'train', 'lost')
    (path,) = results.glob('made/failed/*')
    failure = json.loads(path.read_text())
    put(failure, *change)
    path.write_text(json.dumps(failure))
    assert read_failures('made') == ([], {path: f'{path} is damaged: {said}'})


def test_an_error_that_is_no_unicode_is_kept(results):
    write_failure('made', make_record(), 'train', 'no file caf\udce9')
    assert [failure['reason'] for failure in read_failures('made')[0]] == [r'no file caf\udce9']


@pytest.mark.parametrize('kind', ['FIFO', 'socket', 'folder', 'device'])
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path, monkeypatch, results, kind):
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    folder = results / 'made' / 'failed'
    folder.mkdir(parents=True)
    path = folder / 'x.json'
    if kind == 'FIFO':
        mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind('s')
        Path('s').rename(path)
    started = time.monotonic()
    with pytest.raises(StoreError, match=f'x.json is no valid record: it is a .*{kind}.*, no regular file'):
        read_record(path)
    assert not is_valid(path)
    failures, wrong = read_failures('made')
    assert failures == []
    assert 'no regular file' in wrong[path]
    assert time.monotonic() - started < 5


def test_reading_costs_little_more_than_the_checksum():
    """What is checked takes less time than what is read and summed up."""
    texts = [path.read_bytes() for path in COMMITTED[:40]]
    records = [parse(text) for text in texts]

    def seconds(function, values):
        started = time.process_time()
        for value in values:
            function(value)
        return time.process_time() - started

    pairs = [(seconds(check_record, records), seconds(checksum, records)) for _ in range(5)]
    assert min(checked for checked, _ in pairs) < min(summed for _, summed in pairs)

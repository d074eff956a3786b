"""What lies where records and reports should: named, never waited for, and never taken for success."""

from __future__ import annotations

import os
import sys

import pytest
from made_records import make_record, write

from ltbench.cli import main
from ltbench.console import make_console
from ltbench.errors import StoreError, UsageError
from ltbench.grid.cost import Costs
from ltbench.record import RecordIndex, record_name
from ltbench.report import figures, read_suite
from ltbench.report.excerpt import Places
from ltbench.report.reading import conflicts
from ltbench.spec import parse_specs
from ltbench.suite import Suite
from ltbench.verbs.find import find_run
from ltbench.verbs.report import report
from ltbench.verbs.run import _show_report


def exit_code(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['ltbench', *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_fifo_among_records_and_failures_is_named(results, monkeypatch, capsys):
    good = write(make_record('erm', 0))
    fifos = [good.with_name('x.json'), results / 'made' / 'failed' / 'y.json']
    fifos[1].parent.mkdir()
    for path in fifos:
        os.mkfifo(path)
    assert exit_code(monkeypatch, 'report', 'made', '--no-figures') == 4
    said = capsys.readouterr().err
    assert all(f'{path} is ' in said for path in fifos)
    assert said.count('it is a FIFO, no regular file') == 2
    assert exit_code(monkeypatch, 'report', 'made', '--no-figures', '--leave-out') == 0
    assert exit_code(monkeypatch, 'compare', 'made/x', good.stem) == 4
    assert exit_code(monkeypatch, 'ls', 'runs') == 4
    with pytest.raises(UsageError, match='unknown run'):
        find_run('abcdef0')  # looks into every record for a fingerprint
    Costs()
    with pytest.raises(UsageError, match='cannot read .* it is a FIFO, no regular file'):
        Places(fifos[0], 'made')


def test_status_does_not_wait_for_a_fifo():
    """It looks at records of the same run by other code."""
    record = make_record()
    name = record_name(record | {'fingerprint': 'e' * 64})
    path = write(record)
    path.unlink()
    os.mkfifo(path.with_name(name))
    assert RecordIndex('made').instead_of(record_name(record), record) == (None, [])


def test_a_name_that_is_no_unicode_is_shown_with_escapes(results):
    good = write(make_record('erm', 0))
    (results / 'made' / 'records' / os.fsdecode(b'caf\xe9.json')).write_text('{}')
    with pytest.raises(StoreError, match=r'caf\\xe9.json is no valid record'):
        read_suite('made')
    build = read_suite('made', leave_out=True)
    assert [record['method'] for record in build.records] == ['erm']
    report('made', figures=False, leave_out=True)
    for name in ('made/README.md', 'made/leaderboard.md', 'index.html'):
        assert 'xe9.json' in (results / name).read_text(), name
    assert good.is_file()


@pytest.mark.parametrize('name', ['leaderboard.csv', 'published.csv'])
def test_a_report_that_cannot_be_written_is_no_success(results, monkeypatch, capsys, name):
    """Whoever asked for it: `report`, or `run` at its end."""
    write(make_record('erm', 0))
    (results / 'made' / name / 'inside').mkdir(parents=True)
    assert exit_code(monkeypatch, 'report', 'made', '--no-figures') == 4
    assert 'ltbench: cannot write report in ' in capsys.readouterr().err
    suite = Suite('made', ('cifar10_lt',), (parse_specs('erm'),), (0,))
    wrong, _ = _show_report(suite, True, False, make_console(), ['a table'])
    assert wrong.exit_code == 4
    assert 'no report: cannot write report in ' in capsys.readouterr().out


def test_figures_that_cannot_be_written_are_no_success(results, monkeypatch):
    monkeypatch.setattr(figures, 'draw_all', lambda *_, **__: [])
    write(make_record('erm', 0))
    (results / 'made' / 'figures').write_text('a file')
    assert exit_code(monkeypatch, 'report', 'made') == 4


def test_records_unlike_most_of_their_table_are_named(results):
    paths = [write(make_record('erm', seed)) for seed in range(3)]
    other = make_record('a', 0, counts=(5000, 1500, 400, 121, 60, 30, 15, 5))
    odd = write(other | {'table': make_record()['table'], 'class_names': [f'other {c}' for c in range(8)]})
    with pytest.raises(StoreError) as raised:
        read_suite('made')
    first, *_ = str(raised.value).splitlines()
    assert first.startswith(f'{odd} is in a table (a on cifar10_lt, paper) whose 4 records differ in class_counts')
    assert not any(str(path) in str(raised.value) for path in paths)
    assert len(read_suite('made', leave_out=True).records) == 3


def test_where_two_differ_both_are_named():
    one, other = make_record('nbn', 0), make_record('nbn', 1)
    other['analysis']['bn']['last'] |= {'weight': [1.0], 'bias': [1.0]}
    wrong = conflicts({write(one): one, write(other): other})
    assert len(wrong) == 2
    assert all('whose 2 records differ in analysis.bn.last.weight (channels)' in said for said in wrong.values())


def test_a_checkpoint_that_was_imported_takes_no_time_to_train(monkeypatch, tmp_path):
    record = make_record()
    record['config']['imported'] = {'source': 'nbn', 'backbone': {'type': 'CIFARResNet', 'depth': 32}}
    record['stages'] = [record['stages'][0] | {'kind': 'imported', 'epochs': 0, 'cost': {'evaluation_seconds': 1.0}}]
    write(record)
    assert Costs().records == 1

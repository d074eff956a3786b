"""A run whose record does not fit its schema fails alone, and the entry is named."""

from __future__ import annotations

from made_records import make_record

from ltbench.console import make_console
from ltbench.record import read_records, record_path, write_record
from ltbench.store import Store
from ltbench.tracking import Tracking
from ltbench.verbs import run as drive


def test_a_bad_record_stops_no_other_run(monkeypatch, sandbox, capsys):
    bad, good = make_record('erm', 0), make_record('erm', 1)
    bad['metrics']['top1'] = float('nan')

    def record_run(record, store, path):
        write_record(path, record)
        return record

    monkeypatch.setattr(drive, 'record_run', record_run)
    finished = [(record, record_path('made', record)) for record in (bad, good)]
    unscored = {}
    written = drive._record(finished, Store(), make_console(), Tracking([], 'made'), unscored)
    assert [record['run_seed'] for record, _ in written] == [1]
    assert len(read_records('made')[0]) == 1
    assert list(unscored) == [id(bad)]
    assert 'no valid record of erm: metrics.top1 is nan, not a finite number' in unscored[id(bad)]
    assert 'it cannot be scored' in capsys.readouterr().out

"""The report as files: the same bytes, nothing dropped in silence, and every file that is not right is named."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from made_records import make_record, write

from ltbench.errors import StoreError, UsageError
from ltbench.record import write_failure
from ltbench.report import build_report, read_suite
from ltbench.report.frame import runs_frame
from ltbench.report.latex import escape
from ltbench.report.tables import csv, leaderboard


def everything(results):
    return {path.name: path.read_bytes() for path in results.glob('made/*') if path.is_file()}


def test_the_same_records_make_the_same_bytes(results):
    for method in ('erm', 'a', 'nbn(scope=all)'):
        for seed in (0, 1):
            write(make_record(method, seed))
    build_report('made', figures=False, with_latex=True)
    first = everything(results)
    for path in results.glob('made/*'):
        if path.name != 'records':
            path.unlink()
    build_report('made', figures=False, with_latex=True)
    assert everything(results) == first
    assert set(first) == {
        'leaderboard.csv', 'leaderboard.md', 'statistics.csv', 'README.md', 'leaderboard-cifar10_lt-if100.tex',
        'ablation_nbn.csv', 'published.csv', 'index.html',
    }  # fmt: skip
    assert str(results).encode() not in b''.join(first.values())


def test_failed_runs_and_empty_groups_are_shown(results):
    write(make_record('erm', counts=(5000, 1500), hits=[40, 30]))
    write_failure('made', make_record('gone', 3), 'train', 'the loss\nis nan')
    write_failure('made', make_record('gone', 3, setting='quick'), 'train', 'lost')
    build_report('made', figures=False)
    rows = (results / 'made/leaderboard.csv').read_text().splitlines()
    assert rows[1].startswith('cifar10_lt,100,paper,1,erm,1,0,,70.0000,,')
    assert rows[2].startswith('cifar10_lt,100,paper,,gone,0,1,,,')
    assert set(rows[2].split(',')[8:]) == {''}
    text = (results / 'made/leaderboard.md').read_text()
    assert '- gone, seed 3, stage train: the loss is nan' in text
    assert 'No run of this table has succeeded' in text
    assert '8: 4 many' not in text
    assert 'Classes: 2: 2 many (> 100), 0 medium (20 to 100), 0 few (< 20)' in text


def test_versions_never_share_a_table():
    frame = runs_frame([make_record('erm', 0, benchmark_version=2), make_record('erm', 1), make_record('a', 0)])
    board = leaderboard(frame)
    assert board[['setting', 'method', 'n_seeds']].to_numpy().tolist() == [
        ['paper', 'erm', 1],
        ['paper, benchmark version 1', 'a', 1],
        ['paper, benchmark version 1', 'erm', 1],
    ]


def test_every_bad_file_is_named_or_left_out(results, monkeypatch, capsys):
    good = write(make_record('erm', 0))
    edited = write(make_record('erm', 1))
    edited.write_text(edited.read_text().replace('"run_seed": 1', '"run_seed": 9'))
    cut = write(make_record('erm', 2))
    cut.write_text(cut.read_text()[:300])
    old = write(make_record('erm', 3))
    old.write_text(json.dumps(json.loads(old.read_text()) | {'schema': 1}))
    copy = good.with_name(good.name.replace('-s0-', '-s7-'))
    shutil.copy(good, copy)
    twice = [write(make_record('a', 0)), write(make_record('a', 0, fingerprint='f' * 64))]
    mixed = [write(make_record('b', 0)), write(make_record('b', 1, computation='e' * 64))]
    bad = {edited, cut, old, copy, *twice, *mixed}
    with pytest.raises(StoreError) as raised:
        build_report('made', figures=False)
    lines = str(raised.value).splitlines()
    assert len(lines) == len(bad) + 1
    assert all(sum(str(path) in line for line in lines) == 1 for path in bad)
    assert str(good) not in str(raised.value)

    from ltbench.cli import main

    monkeypatch.setattr(sys, 'argv', ['ltbench', 'report', 'made', '--no-figures'])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    monkeypatch.setattr(sys, 'argv', ['ltbench', 'report', 'made', '--no-figures', '--leave-out'])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().err.count('left out: ') == len(bad)
    text = (results / 'made/leaderboard.md').read_text()
    assert '8 files left out' in text
    assert all(path.name in text for path in bad)
    assert read_suite('made', leave_out=True).records[0]['method'] == 'erm'


def test_an_unknown_suite_has_near_misses():
    write(make_record(), 'digits')
    with pytest.raises(UsageError, match='did you mean digits'):
        build_report('digit')
    with pytest.raises(UsageError, match='suites with records: digits'):
        build_report('nbn_ablation')


def test_methods_of_one_computation_keep_their_own_record(results):
    """Balanced softmax is logit adjustment at 1: their last stages have the same fingerprint."""
    write(make_record('a', 0, fingerprint='f' * 64, chosen={'tau': 1.5}))
    write(make_record('b', 0, fingerprint='f' * 64))
    build_report('made', figures=False)
    assert 'values chosen on validation images: a (tau).' in (results / 'made/leaderboard.md').read_text()


def test_latex_is_escaped_and_marks_the_best(results):
    write(make_record('nbn_x', 0, hits=[50] * 8))
    write(make_record('erm', 0, hits=[5] * 8))
    build_report('made', figures=False, with_latex=True)
    text = (results / 'made/leaderboard-cifar10_lt-if100.tex').read_text()
    assert r'nbn\_x & 1 & \textbf{100.0 [100.0, 100.0]} &' in text
    assert text.count(r'\textbf') == 1
    assert escape('a_b%{c}\\') == r'a\_b\%\{c\}\textbackslash{}'


def test_csv_writes_small_p_values_and_nothing_for_nothing():
    import pandas as pd

    text = csv(pd.DataFrame({'p': [1.23456e-7, None], 'difference': [1 / 3, None], 'parameters': [464154.0, None]}))
    assert text == 'p,difference,parameters\n1.235e-07,0.3333,464154\n,,\n'


def test_a_caveat_stands_at_every_table(results):
    record = make_record()
    record['config']['benchmark']['caveat'] = 'Re-encoded at 95 %; not comparable.'
    write(record)
    build_report('made', figures=False, with_latex=True)
    made = everything(results)
    assert b'**Re-encoded at 95 %; not comparable.**' in made['leaderboard.md']
    caption = next(line for line in made['leaderboard-cifar10_lt-if100.tex'].splitlines() if b'caption' in line)
    assert caption.endswith(rb'Re-encoded at 95 \%; not comparable.}')


@pytest.mark.parametrize(('suite', 'run'), [('made', False), ('digits', True)])
def test_only_a_declared_suite_is_run_by_its_name(results, suite, run):
    write(make_record(), suite)
    build_report(suite, figures=False)
    for name in ('README.md', 'index.html'):
        said = (results / suite / name).read_text()
        assert f'ltbench report {suite}' in said
        assert (f'ltbench run {suite}' in said) == run

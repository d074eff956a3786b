"""The report as files: the same bytes, nothing dropped in silence, and every file that is not right is named."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sys

import pytest
from made_records import all_classes, make_record, write

from ltbench.errors import StoreError, UsageError
from ltbench.record import write_failure
from ltbench.report import read_suite
from ltbench.report.escaping import in_latex, in_markdown
from ltbench.report.frame import runs_frame
from ltbench.report.statistics import against, mean_ranks
from ltbench.report.tables import csv, leaderboard
from ltbench.verbs.report import report


def everything(results):
    return {path.name: path.read_bytes() for path in results.glob('made/*') if path.is_file()}


def test_the_same_records_make_the_same_bytes(results):
    for method in ('erm', 'a', 'nbn(scope=all)'):
        for seed in (0, 1):
            write(make_record(method, seed))
    report('made', figures=False, latex=True)
    first = everything(results)
    for path in results.glob('made/*'):
        if path.name != 'records':
            path.unlink()
    report('made', figures=False, latex=True)
    assert everything(results) == first
    assert set(first) == {
        'leaderboard.csv', 'leaderboard.md', 'runs.csv', 'statistics.csv', 'published.csv', 'ablation_nbn.csv',
        'README.md', 'leaderboard-cifar10_lt-if100.tex',
    }  # fmt: skip
    assert str(results).encode() not in b''.join(first.values())


def test_failed_runs_and_empty_groups_are_shown(results):
    two = {'counts': (5000, 1500), 'hits': [40, 30]}
    write(make_record('erm', **two))
    write_failure('made', make_record('gone', 3, **two), 'train', 'the loss\nis nan')
    write_failure('made', make_record('gone', 3, setting='quick'), 'train', 'lost')
    report('made', figures=False)
    rows = (results / 'made/leaderboard.csv').read_text().splitlines()
    assert re.match(r'cifar10_lt,100,paper,[0-9a-f]{16},1,erm,,1,0,,,,,70.0000,,', rows[1])
    assert re.match(r'cifar10_lt,100,paper,[0-9a-f]{16},,gone,,0,1,,,', rows[2])
    assert set(rows[2].rpartition('gone,,0,1,')[2].split(',')) == {''}
    text = (results / 'made/leaderboard.md').read_text()
    assert '- gone, seed 3, stage train: the loss is nan' in text
    assert 'No run of this table has succeeded' in text
    assert '8: 4 many' not in text
    assert 'Classes: 2: 2 many (> 100), 0 medium (20 to 100), 0 few (< 20)' in text


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
        report('made', figures=False)
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
        report('digit')
    with pytest.raises(UsageError, match='suites with records: digits'):
        report('nbn_ablation')


def test_methods_of_one_computation_keep_their_own_record(results):
    """Balanced softmax is logit adjustment at 1: their last stages have the same fingerprint."""
    write(make_record('a', 0, fingerprint='f' * 64, chosen={'tau': 1.5}))
    write(make_record('b', 0, fingerprint='f' * 64))
    report('made', figures=False)
    assert 'values chosen on validation images: a (tau).' in (results / 'made/leaderboard.md').read_text()


def test_latex_is_escaped_and_marks_the_best(results):
    write(make_record('nbn_x', 0, hits=[50] * 8))
    write(make_record('erm', 0, hits=[5] * 8))
    report('made', figures=False, latex=True)
    text = (results / 'made/leaderboard-cifar10_lt-if100.tex').read_text()
    assert r'nbn\_x & 1 & \textbf{100.0 [99.0, 100.0]} &' in text
    assert text.count(r'\textbf') == 1
    assert in_latex('a_b%{c}\\') == r'a\_b\%\{c\}\textbackslash{}'


def test_csv_writes_small_p_values_and_nothing_for_nothing():
    import pandas as pd

    text = csv(pd.DataFrame({'p': [1.23456e-7, None], 'difference': [1 / 3, None], 'parameters': [464154.0, None]}))
    assert text == 'p,difference,parameters\n1.235e-07,0.3333,464154\n,,\n'


@pytest.mark.parametrize('place', ['index.html', 'made/README.md'])
def test_a_file_of_somebody_else_is_not_replaced(results, place):
    write(make_record('erm'))
    (results / place).write_text('my home page')
    with pytest.raises(StoreError, match=f'{place} was not written by ltbench.*LTBENCH_RESULTS'):
        report('made', figures=False)
    assert (results / place).read_text() == 'my home page'
    (results / place).unlink()
    for _ in range(2):
        report('made', figures=False)


def test_a_picture_of_somebody_else_stays_among_the_figures(results):
    write(make_record('erm'))
    folder = results / 'made' / 'figures'
    folder.mkdir()
    (folder / 'my_plot.png').write_text('mine')
    (folder / 'leaderboard-of_records_that_are_gone.png').write_text('ours')
    report('made')
    assert (folder / 'my_plot.png').read_text() == 'mine'
    assert not (folder / 'leaderboard-of_records_that_are_gone.png').exists()


def test_figures_for_a_paper_have_a_folder_of_their_own(results, monkeypatch):
    from ltbench.cli import main
    from ltbench.report import figures

    monkeypatch.setattr(figures, 'FIGURES', {'groups': figures.FIGURES['groups']})
    for method in ('erm', 'crt', 'ldam'):
        write(make_record(method))
    (results / 'made' / 'paper').mkdir()
    (results / 'made' / 'paper' / 'groups-old.pdf').write_bytes(b'')
    monkeypatch.setattr(sys, 'argv', ['ltbench', 'report', 'made', '--no-figures', '--paper', '--show', 'crt,erm'])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    files = {path.name for path in (results / 'made' / 'paper').iterdir()}
    drawn = {f'groups-cifar10_lt-if100-{width}.{kind}' for width in figures.WIDTHS for kind in ('pdf', 'svg')}
    assert files == {*drawn, 'captions.md'} and not (results / 'made' / 'figures').exists()
    drawing = (results / 'made' / 'paper' / 'groups-cifar10_lt-if100-text.svg').read_text()
    assert 'cRT</text>' in drawing and 'LDAM' not in drawing


def test_what_a_full_disk_leaves_is_whole(results, monkeypatch):
    write(make_record('erm', 0))
    report('made')
    first = {path: path.read_bytes() for path in results.rglob('*') if path.is_file()}
    write(make_record('a', 0))

    def full(_picture, path, **_):
        path.write_bytes(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('PIL.Image.Image.save', full)
    with pytest.raises(StoreError, match='the disk is full'):
        report('made')
    left = {path: path.read_bytes() for path in results.rglob('*') if path.is_file() and '-a-' not in path.name}
    assert left == first


def test_tables_of_records_that_are_gone_go_too(results):
    write(make_record('erm', 0))
    nbn = write(make_record('nbn', 0, options={'normalize': 'both'}))
    report('made', figures=False)
    assert (results / 'made/ablation_nbn.csv').exists()
    nbn.unlink()
    report('made', figures=False)
    assert not (results / 'made/ablation_nbn.csv').exists()


def test_nothing_is_said_of_runs_that_only_failed(results):
    write_failure('made', make_record('a|b<c>', 3), 'train', 'lost')
    report('made')
    readme = (results / 'made/README.md').read_text()
    assert '0 runs, 1 failed, of 1 method in 1 table (benchmark' in readme
    assert 'Versions' not in readme
    assert 'Mean ranks' not in (results / 'made/leaderboard.md').read_text()


def test_markdown_shows_methods_as_typed(results):
    write(make_record('m(a="p|<b>*_x_")', 0))
    report('made', figures=False)
    assert r'| m(a="p\|\<b>\*\_x\_") |' in (results / 'made/leaderboard.md').read_text()
    assert in_markdown('resample_class_balanced(bias_init=zeros)') == 'resample_class_balanced(bias_init=zeros)'
    assert 'nan' not in (results / 'made/leaderboard.md').read_text()


def test_a_tie_is_not_broken_by_the_order_of_additions(results):
    """(83.6 + 90.8 + 95.8) / 3 and (82.4 + 88.2 + 99.6) / 3 are the same mean, but not the same float."""
    for method, scores in {'a': (83.6, 90.8, 95.8), 'b': (82.4, 88.2, 99.6)}.items():
        for seed, score in enumerate(scores):
            record = make_record(method, seed)
            write(record | {'metrics': record['metrics'] | all_classes(score)})
    frame = runs_frame(read_suite('made').records)
    assert leaderboard(frame)['rank'].tolist() == [1, 1]
    assert mean_ranks(frame).mean_ranks.tolist() == [1.5, 1.5]
    assert set(against(frame)['against']) == {'a'}


def test_each_group_has_a_latex_table_of_its_own(results):
    for setting in ('paper, a=[1]', 'paper, a=(1)'):
        write(make_record('erm', 0, setting=setting))
    report('made', figures=False, latex=True)
    assert len(list(results.glob('made/*.tex'))) == 2


def test_a_caveat_stands_at_every_table(results):
    record = make_record()
    record['config']['benchmark']['caveat'] = 'Re-encoded at 95 %; not comparable.'
    write(record)
    report('made', figures=False, latex=True)
    made = everything(results)
    assert b'**Re-encoded at 95 %; not comparable.**' in made['leaderboard.md']
    caption = next(line for line in made['leaderboard-cifar10_lt-if100.tex'].splitlines() if b'caption' in line)
    assert caption.endswith(rb'Re-encoded at 95 \%; not comparable.}')


@pytest.mark.parametrize(('suite', 'run'), [('made', False), ('digits', True)])
def test_only_a_declared_suite_is_run_by_its_name(results, suite, run):
    write(make_record(), suite)
    report(suite, figures=False)
    for name in (f'{suite}/README.md', 'index.html'):
        said = (results / name).read_text()
        assert f'ltbench report {suite}' in said
        assert (f'ltbench run {suite}' in said) == run

"""Short tables: in the suite's README, and in the places that any Markdown file has for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from made_records import make_record, write

from ltbench.errors import UsageError
from ltbench.record import write_failure
from ltbench.report import Report, read_suite, write_report
from ltbench.report.excerpt import MARK, Places, excerpts
from ltbench.report.frame import runs_frame
from ltbench.report.statistics import against
from ltbench.report.tables import leaderboard

HOME = Path(__file__).parents[2]


@pytest.fixture
def made(results):
    for seed in (0, 1):
        write(make_record('erm', seed))
        write(make_record('a', seed, setting='quick, n_max=500'))
    return read_suite('made')


def test_a_file_has_the_figures_and_tables_it_has_places_for(made, results):
    file = results.parent / 'docs' / 'notes.md'
    file.parent.mkdir()
    other = '<!-- ltbench other/table -->\r\nstays\n<!-- /ltbench -->'
    file.write_bytes(
        f'before\n<!-- ltbench made/cifar10_lt-if100-quick__n_max=500 --> \nold | table\n<!-- /ltbench -->\n{other}\n'
        '<!-- ltbench made/cifar10_lt-if100 -->\n<!-- /ltbench -->\r\nafter\n'.encode()
    )
    for figures in (False, True, True):
        write_report(Report(made), figures=figures, into=file)
        text = file.read_bytes().decode()
        first, foreign, last = blocks(text)
        assert '| a | 2 | 71.0 ± 1.4 | 87.0' in first
        assert '| erm | 2 | 71.0 ± 1.4 | 87.0' in last
        assert foreign == '\nstays\n'
        assert 'old | table' not in text
        link = '(../results/made/figures/leaderboard-cifar10_lt-if100-quick__n_max=500.png)'
        assert (link in first) == figures
        assert text.startswith('before\n')
        assert text.endswith('-->\r\nafter\n')
    assert (file.parent / link.strip('()')).is_file()


def test_settings_that_no_file_name_tells_apart_have_a_table_each(results):
    for tag in ('a b', 'a_b'):
        write(make_record(setting=f'paper, tag={tag}', data=tag))
    write_report(Report(read_suite('made')), figures=False)
    text = (results / 'made' / 'README.md').read_text()
    assert text.count('tag=a b)**') == text.count('tag=a_b)**') == 1


def blocks(text):
    marks = list(MARK.finditer(text))
    return [text[start.end() : end.start()] for start, end in zip(marks[::2], marks[1::2], strict=True)]


def test_short_tables_tell_what_is_missing(results):
    two = {'counts': (5000, 1500), 'hits': [40, 30]}
    write(make_record('erm', **two))
    write_failure('made', make_record('erm', 1, **two), 'train', 'the loss is nan')
    write_failure('made', make_record('gone', setting='quick'), 'train', 'lost')
    write_report(Report(read_suite('made')))
    readme = (results / 'made/README.md').read_text()
    assert '| method | seeds | top-1 | many |\n' in readme
    assert '| erm | 1 (1 failed) | 70.0 [' in readme
    assert 'for one seed the 95 % interval over test images in brackets' in readme
    assert '± standard deviation' not in readme
    assert '| gone | 0 (1 failed) |\n' in readme
    assert readme.count('.png') == 1  # nothing is drawn of the table without results


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'cannot read'),
        ('nothing', 'has no place for made: write a line <!-- ltbench made/TABLE -->'),
        ('<!-- ltbench made/cifar10_lt-if10 -->\n<!-- /ltbench -->', "unknown table of made 'cifar10_lt-if10'"),
        ('a\n<!-- ltbench made/cifar10_lt-if100 -->\nno end', 'line 2: <!-- ltbench made/cifar10_lt-if100 --> has no'),
        (
            '<!-- ltbench made/cifar10_lt-if100 -->\nmine\n<!-- ltbench made/cifar10_lt-if100 -->\n<!-- /ltbench -->',
            'line 3',
        ),
        ('<!-- /ltbench -->', 'line 1: <!-- /ltbench --> has no matching line'),
        ('<!-- ltbench -->\n<!-- /ltbench -->', 'line 1: <!-- ltbench --> has no matching line, or no SUITE/TABLE'),
    ],
)
def test_what_cannot_be_filled_is_said_before_anything_is_written(made, results, tmp_path, text, message):
    file = tmp_path / 'README.md'
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=message):
        write_report(Report(made), into=file)
    assert text is None or file.read_text() == text
    assert [path.name for path in (results / 'made').iterdir()] == ['records']


def test_the_findings_show_what_the_committed_records_hold(monkeypatch):
    """`ltbench report SUITE --into docs/findings.md` makes it again."""
    monkeypatch.setenv('LTBENCH_RESULTS', str(HOME / 'results'))
    text = (HOME / 'docs/findings.md').read_text()
    suites = {mark[2] for mark in MARK.finditer(text) if mark[2]}
    assert suites
    for suite in suites:
        _skip_if_made_here(suite)
        results = read_suite(suite)
        frame = runs_frame(results.records)
        board = leaderboard(frame, results.failures, against(frame))
        drawn = {path.name for path in (HOME / 'results' / suite / 'figures').iterdir()}
        tables = excerpts(results, board, HOME / 'docs', drawn)
        for name, start, end in Places(HOME / 'docs/findings.md', suite).found:
            assert text[start:end] == f'\n{tables[name]}\n'
            assert '.png)' in tables[name]


def _skip_if_made_here(suite):
    """`ltbench run` in a checkout makes the suite's records anew; on another processor they have other decimals."""
    changed = subprocess.run(
        ['git', 'status', '--porcelain', '--', f'results/{suite}/records'], cwd=HOME, capture_output=True, text=True
    )
    if changed.stdout.strip():
        pytest.skip(f'the records of {suite} are not the committed ones: they were made anew here')

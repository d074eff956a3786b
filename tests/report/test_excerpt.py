"""Short tables: in the suite's README, and in the places that any Markdown file has for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_records import make_record, write

from ltbench.errors import UsageError
from ltbench.report import read_suite, write_report
from ltbench.report.excerpt import BLOCK, excerpts, put_into
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
    other = '<!-- ltbench other/table -->\nstays\n<!-- /ltbench -->'
    file.write_text(
        f'before\n<!-- ltbench made/cifar10_lt-if100-quick__n_max=500 -->\nold | table\n<!-- /ltbench -->\n{other}\n'
        '<!-- ltbench made/cifar10_lt-if100 -->\n<!-- /ltbench -->\nafter\n'
    )
    for _ in range(2):
        write_report(made, figures=False, into=file)
        text = file.read_text()
        first, foreign, last = (match[3] for match in BLOCK.finditer(text))
        assert '| a | 2 | 71.0 ± 1.4 | 87.0' in first
        assert '| erm | 2 | 71.0 ± 1.4 | 87.0' in last
        assert foreign == 'stays\n'
        assert 'old | table' not in text
        assert '(../results/made/figures/leaderboard-cifar10_lt-if100-quick__n_max=500.png)' in first
        assert text.startswith('before\n')
        assert text.endswith('-->\nafter\n')


def test_a_group_that_no_class_is_in_has_no_column(results):
    write(make_record('erm', counts=(5000, 1500), hits=[40, 30]))
    write_report(read_suite('made'), figures=False)
    readme = (results / 'made/README.md').read_text()
    assert '| method | seeds | top-1 | many |' in readme
    assert '.png' not in readme


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'cannot read'),
        ('nothing', 'has no place for made: write a line <!-- ltbench made/cifar10_lt-if100 -->'),
        (
            '<!-- ltbench made/cifar10_lt-if10 -->\n<!-- /ltbench -->',
            "unknown table of made 'cifar10_lt-if10'",
        ),
        ('<!-- ltbench made/cifar10_lt-if100 -->\nno end', 'has no place for made'),
    ],
)
def test_what_cannot_be_filled_is_said(made, tmp_path, text, message):
    file = tmp_path / 'README.md'
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=message):
        put_into(file, made, leaderboard(runs_frame(made.records)))
    assert text is None or file.read_text() == text


def test_the_readme_shows_what_the_committed_records_hold(monkeypatch):
    """`ltbench report SUITE --into README.md` makes it again."""
    monkeypatch.setenv('LTBENCH_RESULTS', str(HOME / 'results'))
    found = list(BLOCK.finditer((HOME / 'README.md').read_text()))
    assert found
    for match in found:
        results = read_suite(match[1])
        frame = runs_frame(results.records)
        board = leaderboard(frame, results.failures, against(frame))
        assert match[3] == excerpts(results, board, HOME)[match[2]] + '\n'
        assert all((HOME / path).is_file() for path in _figures(match[3]))


def _figures(text: str) -> list[str]:
    return [line.split('](')[1].rstrip(')') for line in text.splitlines() if line.startswith('![')]

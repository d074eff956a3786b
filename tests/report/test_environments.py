"""Rows of other versions of torch, devices or instructions are marked, and a strict report refuses them."""

from __future__ import annotations

import csv
import sys

import pytest
from made_records import make_record, write

from ltbench.errors import StoreError
from ltbench.report import Report, read_suite
from ltbench.report.environments import footnotes, marks_of
from ltbench.report.frame import environment_of
from ltbench.verbs.report import report

AVX2, AVX512 = ({'instructions': text} for text in ('AVX2', 'AVX512, AVX512_BF16, AMX'))
H100 = {'device': 'NVIDIA H100 80GB HBM3', 'instructions': 'AVX2'}


@pytest.mark.parametrize(
    ('environment', 'said'),
    [
        (AVX512, 'torch 2.14.1, cpu (AVX512, AVX512_BF16, AMX)'),
        ({'processor': 'AMD EPYC (AVX2)'}, 'torch 2.14.1, cpu (AVX2)'),  # as older records have it
        ({'processor': 'AMD EPYC'}, 'torch 2.14.1, cpu (instructions unknown)'),
        ({'processor': 'Intel(R) Xeon(R)'}, 'torch 2.14.1, cpu (instructions unknown)'),
        (H100 | {'torch': '2.11.0+cu130'}, 'torch 2.11.0+cu130, NVIDIA H100 80GB HBM3'),
    ],
)
def test_what_decides_the_last_bits_is_named(environment, said):
    assert environment_of(make_record(environment=environment)) == said


def mixed():
    """Four runs with AVX2, one with AVX512 and one on a GPU."""
    write(make_record('erm', 0, environment=AVX2))
    write(make_record('erm', 1, environment=AVX2))
    write(make_record('a', 0, environment=AVX2))
    write(make_record('a', 1, environment=AVX512))
    write(make_record('b', 0, environment=AVX2))
    write(make_record('b', 1, environment=AVX512))
    return write(make_record('b', 2, environment=H100))


def test_rows_with_runs_from_elsewhere_are_marked():
    mixed()
    board = Report(read_suite('made')).board
    assert dict(zip(board['method'], marks_of(board), strict=True)) == {'erm': '', 'a': '†', 'b': '†‡'}
    assert footnotes(board) == [
        '† with runs on torch 2.14.1, cpu (AVX512, AVX512_BF16, AMX); unmarked: on torch 2.14.1, cpu (AVX2).',
        '‡ with runs on torch 2.14.1, NVIDIA H100 80GB HBM3; unmarked: on torch 2.14.1, cpu (AVX2).',
    ]


def test_what_is_of_one_environment_has_no_mark(results):
    """Of each table by itself."""
    write(make_record('erm', 0, environment=AVX2))
    write(make_record('erm', 0, environment=AVX512, setting='quick'))
    report('made', figures=False, latex=True, strict=True)
    assert '†' not in (results / 'made/leaderboard.md').read_text()
    assert 'textdagger' not in (results / 'made/leaderboard-cifar10_lt-if100.tex').read_text()


def test_the_marks_and_what_they_mean_are_in_all_that_is_made(results):
    mixed()
    report('made', figures=False, latex=True)
    for name in ('leaderboard.md', 'README.md'):
        text = (results / 'made' / name).read_text()
        assert '| b†‡ |' in text
        assert '‡ with runs on torch 2.14.1, NVIDIA H100 80GB HBM3; unmarked: on' in text
    page = (results / 'index.html').read_text()
    assert '"name":"B†‡"' in page
    assert page.count('‡ with runs on') == 1
    latex = (results / 'made/leaderboard-cifar10_lt-if100.tex').read_text()
    assert r'b\textdagger{}\textdaggerdbl{} & 3 &' in latex
    assert r'\textdaggerdbl{} with runs on torch 2.14.1, NVIDIA H100' in latex
    with (results / 'made/leaderboard.csv').open() as file:
        told = {row['method']: row['environments'] for row in csv.DictReader(file)}
    assert told['erm'] == 'torch 2.14.1, cpu (AVX2)'
    assert told['a'] == 'torch 2.14.1, cpu (AVX2) (1 run); torch 2.14.1, cpu (AVX512, AVX512_BF16, AMX) (1 run)'


def test_a_strict_report_names_what_it_refuses(results, monkeypatch, capsys):
    from ltbench.cli import main

    elsewhere = mixed()
    monkeypatch.setattr(sys, 'argv', ['ltbench', 'report', 'made', '--no-figures', '--strict'])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4  # three records, and what to do
    line = next(line for line in said if str(elsewhere) in line)
    assert '(cifar10_lt, imbalance factor 100 (paper)) whose runs have 3 environments' in line
    assert (
        'this one has torch 2.14.1, NVIDIA H100 80GB HBM3 (1 run), most have torch 2.14.1, cpu (AVX2) (4 runs)' in line
    )
    assert [path.name for path in (results / 'made').iterdir()] == ['records']


def test_a_strict_report_leaves_nothing_out(results):
    write(make_record('erm', 0))
    broken = write(make_record('erm', 1))
    broken.write_text('{')
    with pytest.raises(StoreError, match=f'left out: {broken}'):
        report('made', figures=False, leave_out=True, strict=True)
    report('made', figures=False, leave_out=True)

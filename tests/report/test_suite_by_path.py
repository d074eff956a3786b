"""A suite that is given by the path of its file: its report is that of its name, and keeps what the file says."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from made_records import make_record, write

from ltbench.benchmark import load_benchmark
from ltbench.errors import UsageError
from ltbench.grid.planning import choose_suite
from ltbench.grid.selection import Selection
from ltbench.report import Report, read_suite
from ltbench.report.readme import commands
from ltbench.suite import load_suite
from ltbench.verbs.report import report

SUITE = """'''Of a test.'''
benchmarks, methods, seeds = ['digits_lt'], ['erm', 'nbn', 'nbn(normalize=weight)'], [0]
preset = 'paper'
ablate = ['nbn.normalize']
"""


@pytest.fixture
def suite(tmp_path, results, monkeypatch) -> Path:
    """Records of a suite whose file lies in a folder with a space in its name."""
    monkeypatch.chdir(tmp_path)
    path = Path('my files', 'mine.py')
    path.parent.mkdir()
    path.write_text(SUITE)
    for method, values in (('nbn', {}), ('nbn(normalize=weight)', {'normalize': 'weight'})):
        record = make_record(method, 0)
        record['methods'] = [{'name': 'nbn', 'options': {'normalize': 'both', **values}}]
        write(record, 'mine')
    return path


def test_its_report_compares_what_its_file_says(suite, results):
    report(str(suite), figures=False)
    assert (results / 'mine' / 'ablation_nbn.normalize.csv').is_file()
    readme = (results / 'mine' / 'README.md').read_text()
    assert "ltbench run 'my files/mine.py'" in readme
    assert "ltbench report 'my files/mine.py'" in readme


def test_the_report_of_its_name_is_that_of_its_records(suite, results):
    by_name, by_path = read_suite('mine'), read_suite(str(suite))
    assert by_name.records == by_path.records
    assert by_name.folder == by_path.folder == results / 'mine'
    assert commands(by_name) == ['ltbench report mine']


def test_runs_of_another_setting_are_made_by_a_command_of_their_own(results):
    for method, seed in (('erm', 1), ('nbn(normalize=weight)', 0)):
        record = make_record(method, seed)
        benchmark = load_benchmark('digits_lt(epochs=2)')
        record |= {'benchmark': 'digits_lt', 'imbalance_factor': 40, 'setting': benchmark.setting}
        record['config']['benchmark'] = benchmark.resolved
        write(record, 'digits')
    found = read_suite('digits')
    run, rebuild = commands(found, Report(found).coverage)
    assert rebuild == 'ltbench report digits'
    words = shlex.split(run)
    assert words[:4] == ['ltbench', 'run', 'digits', '-b']
    assert words[5:] == ['-m', 'erm', '-m', 'nbn(normalize=weight)', '--seeds', '0,1']
    assert load_benchmark(words[4]).resolved == benchmark.resolved
    for record in found.records:
        record['setting'] = 'paper'
    assert commands(found, Report(found).coverage) == ['ltbench run digits', 'ltbench report digits']


def test_a_run_of_it_reports_under_its_path(suite):
    chosen = choose_suite(Selection(suite=str(suite), seeds=(3,)))
    assert (chosen.name, chosen.source, chosen.seeds) == ('mine', str(suite), (3,))
    assert (chosen.preset, chosen.doc) == ('paper', 'Of a test.')
    assert choose_suite(Selection(suite='digits')).source == ''
    assert str(load_suite(str(suite)).methods[2]) == 'nbn(normalize=weight)'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (None, 'no such file: my files/mine.py'),
        ('ablate = [', 'my files/mine.py does not load: SyntaxError'),
        ('ablate = [f()]', "does not load: NameError: name 'f' is not defined"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(suite, text, said):
    suite.unlink()
    if text is not None:
        suite.write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        report(str(suite), figures=False)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'recorded', 'said'),
    [
        ('digits_lt', (), '`ltbench run -b digits_lt` makes some'),
        ('digits_lt', ('digits',), 'did you mean digits?'),
        ('Digits', ('digits',), 'did you mean digits?'),
        ('digits', (), 'run `ltbench run digits` first'),
        ('cifar10', ('mine',), 'did you mean .*cifar10_lt.*; suites with records: mine'),
        ('places_lt', ('mine',), '`ltbench run -b places_lt` makes some; suites with records: mine'),
        ('qqqq', (), '`ltbench ls suites` lists all'),
    ],
)
def test_a_suite_without_records_is_advised_of_one_that_exists(results, name, recorded, said):
    for suite in recorded:
        write(make_record('erm', 0), suite)
    with pytest.raises(UsageError, match=said) as error:
        read_suite(name)
    assert 'ltbench run digits_lt' not in str(error.value)  # a benchmark is no suite

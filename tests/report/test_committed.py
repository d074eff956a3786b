"""The committed report: what `ltbench report` makes of the committed records.

Tables are the same byte for byte; pictures depend on the machine and on matplotlib, and are only there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltbench.report.page import CHUNK

HOME = Path(__file__).parents[2]
RESULTS = HOME / 'results'
SUITES = sorted(path.parent.name for path in RESULTS.glob('*/records'))
HEAVY = re.compile(r'\| +torch\b')


def report(suite: str, results: str, folder: Path, *options: str, **environment: str) -> dict[str, bytes]:
    """Run it as a user does, with nothing but the records, in ``folder``; all files it makes."""
    made = folder / 'results' / suite
    shutil.copytree(RESULTS / suite / 'records', made / 'records')
    environment = {**os.environ, 'LTBENCH_RESULTS': results, 'PYTHONPATH': str(HOME), **environment}
    command = [sys.executable, '-X', 'importtime', '-m', 'ltbench.cli', 'report', suite, *options]
    ended = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    assert not HEAVY.findall(ended.stderr)
    return contents_of(made)


def contents_of(suite: Path) -> dict[str, bytes]:
    """All files but records and pictures, and what the page of all suites says of this one."""
    files = {path.name: path.read_bytes() for path in suite.iterdir() if path.is_file()}
    (shown,) = [
        each for each in CHUNK.finditer((suite.parent / 'index.html').read_bytes()) if each[1] == suite.name.encode()
    ]
    return files | {'index.html': shown[0]}


@pytest.mark.slow
@pytest.mark.parametrize('suite', SUITES)
def test_the_committed_records_make_the_committed_report(suite: str, tmp_path: Path):
    """Without torch; and every picture that a README shows is drawn and committed."""
    made, committed = report(suite, 'results', tmp_path), contents_of(RESULTS / suite)
    assert made.keys() == committed.keys()
    for name in committed:
        assert made[name] == committed[name], name
    for picture in re.findall(r'\]\((figures/[^)]*)\)', (RESULTS / suite / 'README.md').read_text()):
        assert (RESULTS / suite / picture).is_file() and (tmp_path / 'results' / suite / picture).is_file()


# an x86 CPU that knows no more than SSE3; elsewhere they change nothing
OLD_CPU = {'OPENBLAS_CORETYPE': 'Prescott', 'NPY_DISABLE_CPU_FEATURES': 'X86_V3 X86_V4'}


@pytest.mark.slow
def test_where_it_is_made_changes_no_byte(tmp_path: Path):
    """In any folder, named absolutely or not, whatever the order of sets and the CPU."""
    (tmp_path / 'here').mkdir()
    (tmp_path / 'there').mkdir()
    relative = report('digits', 'results', tmp_path / 'here', '--no-figures', PYTHONHASHSEED='1')
    there = str(tmp_path / 'there' / 'results')
    absolute = report('digits', there, tmp_path / 'there', '--no-figures', PYTHONHASHSEED='2', **OLD_CPU)
    assert relative.keys() == absolute.keys()
    assert [name for name in relative if relative[name] != absolute[name]] == []


@pytest.mark.slow
def test_intervals_are_the_same_on_an_older_cpu(tmp_path: Path):
    made = report('fashion_mnist', 'results', tmp_path, '--no-figures', **OLD_CPU)
    assert made['leaderboard.csv'] == (RESULTS / 'fashion_mnist' / 'leaderboard.csv').read_bytes()

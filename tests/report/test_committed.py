"""The committed report: what `ltbench report` makes of the committed records, byte for byte."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
DIGITS = HOME / 'results' / 'digits'
HEAVY = re.compile(r'\| +(torch|mmengine)\b')


def report(results: str, folder: Path, hash_seed: str) -> dict[str, bytes]:
    """Run it as a user does, with nothing but the records, in ``folder``; all files it makes."""
    made = folder / 'results' / 'digits'
    shutil.copytree(DIGITS / 'records', made / 'records')
    environment = os.environ | {'LTBENCH_RESULTS': results, 'PYTHONHASHSEED': hash_seed, 'PYTHONPATH': str(HOME)}
    command = [sys.executable, '-X', 'importtime', '-m', 'ltbench.cli', 'report']
    ended = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    assert not HEAVY.findall(ended.stderr)
    return contents_of(made)


def contents_of(suite: Path) -> dict[str, bytes]:
    files = (path for path in suite.rglob('*') if path.is_file() and path.parent.name != 'records')
    return {str(path.relative_to(suite)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_the_committed_records_make_the_committed_report(tmp_path: Path):
    """In any folder, named absolutely or not, whatever the order of sets, and without torch and mmengine."""
    (tmp_path / 'here').mkdir()
    (tmp_path / 'there').mkdir()
    relative = report('results', tmp_path / 'here', '1')
    absolute = report(str(tmp_path / 'there' / 'results'), tmp_path / 'there', '2')
    assert relative.keys() == absolute.keys()
    assert [name for name in relative if relative[name] != absolute[name]] == []
    committed = contents_of(DIGITS)
    assert committed.keys() == relative.keys()
    drawn_here = f'Matplotlib v{version("matplotlib")},' in (DIGITS / 'figures/groups-digits_lt-if40.svg').read_text()
    for name in committed:
        if drawn_here or not name.startswith(('figures/', 'index.html')):
            assert relative[name] == committed[name], name

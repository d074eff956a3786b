"""What the wheel holds, and whose `methods` is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

HOME = Path(__file__).parents[1]


def test_wheel_holds_both_packages_and_the_configs_and_nothing_else(tmp_path):
    code = (
        f'import os; os.chdir({str(HOME)!r}); from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})'
    )
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
    (wheel,) = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split('/')[0] for name in names}
    assert {name for name in top if not name.endswith('.dist-info')} == {'ltbench', 'methods'}
    for kind in ('benchmarks', 'suites'):
        for path in (HOME / 'configs' / kind).glob('*.py'):
            assert f'ltbench/configs/{kind}/{path.name}' in names
    assert {'ltbench/report/published.csv', 'ltbench/report/page_files/page.html'} <= set(names)


def test_a_foreign_methods_package_is_refused_by_name(tmp_path):
    (tmp_path / 'methods').mkdir()
    (tmp_path / 'methods' / '__init__.py').write_text('')
    result = subprocess.run(
        [sys.executable, '-m', 'ltbench.cli', 'ls', 'methods'], cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{HOME}'}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1
    assert str(tmp_path / 'methods') in result.stderr
    assert str(HOME / 'methods') in result.stderr
    assert 'Traceback' not in result.stderr

"""What the wheel holds, and whose `methods` is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp('wheel')
    code = f'import os; os.chdir({str(HOME)!r}); from hatchling.build import build_wheel; build_wheel({str(folder)!r})'
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
    return next(folder.glob('*.whl'))


def test_wheel_holds_both_packages_and_the_configs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split('/')[0] for name in names}
    assert {name for name in top if not name.endswith('.dist-info')} == {'ltbench', 'methods'}
    for kind in ('benchmarks', 'suites'):
        for path in (HOME / 'configs' / kind).glob('*.py'):
            assert f'ltbench/configs/{kind}/{path.name}' in names
    assert {'ltbench/report/published.csv', 'ltbench/report/page_files/index.html'} <= set(names)


FINGERPRINTS = """
import json, ltbench
from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.method import make_plan
from ltbench.source import engine_code
plugins.load()
found = {name: load_benchmark(name) for name in ('digits_lt', 'imagenet_lt')}
plans = {f'{b} {m}': make_plan(m, found[b], 'f' * 64, 0) for b in found for m in plugins.method_names()}
last = {name: plan.stages()[-1].fingerprint for name, plan in plans.items()}
print(json.dumps([ltbench.__file__, engine_code(), last]))
"""


def test_checkout_and_wheel_give_every_method_the_same_fingerprint(wheel, tmp_path):
    """So an artifact is found, and a record is the same run, however ltbench was installed."""
    installed = tmp_path / 'lib' / 'site-packages'
    zipfile.ZipFile(wheel).extractall(installed)
    found = []
    for place in (HOME, installed):
        result = subprocess.run(
            [sys.executable, '-c', FINGERPRINTS], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(place)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        file, *rest = json.loads(result.stdout)
        assert Path(file).is_relative_to(place)
        found.append(rest)
    assert found[0] == found[1]
    assert len(found[0][1]) > 60


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

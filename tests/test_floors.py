"""Imports run downwards only: cli -> grid, report -> engine, methods -> models, data, evaluation -> ... -> registry."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
FLOORS = [
    {'cli'},
    {'verbs'},
    {'grid'},
    {'report', 'tracking'},
    {'engine'},
    {'methods'},
    {'models', 'data', 'evaluation', 'plugins'},
    {'method'},
    {'plan'},
    {'stage'},
    {'record'},
    {'record_schema'},
    {'config'},
    {'store', 'fingerprint', 'source'},
    {'claims'},
    {'sealed'},
    {'registry', 'console', 'seeding', 'places', 'declared'},
    {'recipe'},
    {'errors'},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def part_of(path: Path) -> str:
    inside = path.relative_to(HOME)
    return 'methods' if inside.parts[0] == 'methods' else Path(inside.parts[1]).stem


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != 'ltbench' else [f'ltbench.{alias.name}' for alias in node.names]
        for name in names:
            root, *rest = name.split('.')
            if root == 'methods':
                yield 'methods'
            elif root == 'ltbench' and rest and rest[0] != '__version__':
                yield rest[0]


FILES = sorted((*HOME.glob('ltbench/**/*.py'), *HOME.glob('methods/*.py')))


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_no_import_runs_upwards(path):
    if path == HOME / 'ltbench' / '__init__.py':
        return
    mine = part_of(path)
    for other in imports(path):
        if other != mine:
            assert FLOOR[mine] < FLOOR[other], other


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_nothing_is_checked_by_an_assertion(path):
    """`python -O` leaves them out. Those that only tell mypy of a type stay in methods, whose code names results."""
    found = [ast.unparse(node.test) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert all(part_of(path) == 'methods' and test.endswith(' is not None') for test in found), found


def test_the_engine_names_no_method():
    names = {path.stem for path in HOME.glob('methods/*.py') if path.stem not in ('__init__', 'erm')}
    for path in (
        path for part in ('engine', 'models', 'data', 'evaluation') for path in HOME.glob(f'ltbench/{part}/**/*.py')
    ):
        strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not names & strings, path


def test_the_report_imports_neither_torch_nor_mmengine():
    import subprocess
    import sys

    code = "import sys, ltbench.report, ltbench.report.figures; assert not {'torch', 'mmengine'} & sys.modules.keys()"
    subprocess.run([sys.executable, '-c', code], check=True)


def test_listing_methods_imports_no_engine():
    """mmengine's models bring torch's distributed training along: half a second that no list needs."""
    import subprocess
    import sys

    code = "import sys; from ltbench.verbs.ls import list_things; list_things('methods', [])\n"
    code += "assert 'mmengine.model' not in sys.modules"
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


def test_other_lists_import_no_torch():
    import subprocess
    import sys

    for what in ('benchmarks', 'suites', 'runs'):
        code = f"import sys; from ltbench.verbs.ls import list_things; list_things('{what}', [])\n"
        code += "assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)

"""Imports run downwards only: cli -> grid, report -> engine, methods -> models, data, evaluation -> ... -> registry."""

from __future__ import annotations

import ast
import os
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
FLOORS = [
    {'cli', 'face'},
    {'verbs'},
    {'grid'},
    {'report', 'tracking'},
    {'engine'},
    {'methods'},
    {'probes'},
    {'models', 'data', 'evaluation', 'plugins'},
    {'method'},
    {'plan'},
    {'stage'},
    {'record'},
    {'record_schema'},
    {'benchmark', 'suite'},
    {'config', 'spec'},
    {'store', 'fingerprint', 'source'},
    {'claims'},
    {'sealed'},
    {'registry', 'console', 'seeding', 'places', 'method_files', 'declared', 'processes'},
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


def test_what_carries_methods_out_names_none():
    names = {path.stem for path in HOME.glob('methods/*.py') if path.stem not in ('__init__', 'erm')}
    for part in ('engine', 'probes', 'models', 'data', 'evaluation'):
        for path in HOME.glob(f'ltbench/{part}/**/*.py'):
            assert not names & strings_of(path), path


def test_what_lies_beside_a_method_is_named_by_methods_alone():
    beside = {
        node.name
        for path in HOME.glob('methods/*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not any('METHODS' in ast.unparse(item) for item in node.decorator_list)
    }
    assert len(beside) > 10
    for path in HOME.glob('ltbench/**/*.py'):
        assert not beside & strings_of(path), path


def strings_of(path: Path):
    return {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}


def test_no_modules_import_each_other():
    """Also not by way of others, and not where an import is put off or is for types alone.

    Only the package itself is passed over: all that it offers is imported when it is asked for.
    """
    modules = {
        '.'.join(path.relative_to(HOME).with_suffix('').parts).removesuffix('.__init__'): path
        for path in FILES if path.is_relative_to(HOME / 'ltbench') and path != HOME / 'ltbench' / '__init__.py'
    }  # fmt: skip
    wanted = {name: {other for other in named(path) if other in modules} - {name} for name, path in modules.items()}
    TopologicalSorter(wanted).prepare()  # raises where there is a circle, and shows it


def named(path: Path):
    """Modules that a file imports: ``from a import b`` is ``a.b`` where that is one, else ``a``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = HOME / Path(*node.module.split('.'), alias.name)
                is_module = inside.is_dir() or inside.with_suffix('.py').exists()
                yield f'{node.module}.{alias.name}' if is_module else node.module


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


def test_importing_the_package_imports_nothing_heavy():
    import subprocess
    import sys

    code = 'import sys, ltbench; dir(ltbench)\n'
    code += "heavy = {'torch', 'pandas', 'mmengine', 'numpy', 'rich', 'typer'} & sys.modules.keys()\n"
    code += 'assert not heavy, heavy\n'
    code += "ours = {name for name in sys.modules if name.startswith('ltbench')}\n"
    code += "assert ours == {'ltbench'}, ours"
    subprocess.run([sys.executable, '-c', code], check=True)


def test_records_and_scores_need_no_torch():
    import subprocess
    import sys

    code = 'import sys, ltbench; ltbench.evaluate([[1.0, 0.0]], [0], [5, 1])\n'
    code += "frame = ltbench.records('digits'); assert len(frame) == 24, frame\n"
    code += "assert not {'torch', 'mmengine'} & sys.modules.keys()"
    environment = {**os.environ, 'LTBENCH_RESULTS': str(HOME / 'results')}
    subprocess.run([sys.executable, '-c', code], check=True, env=environment)


def drawing() -> str:
    """The floors, with what each imports of those below."""
    lines = []
    for names in FLOORS:
        for name in sorted(names):
            files = [path for path in FILES if part_of(path) == name and path != HOME / 'ltbench' / '__init__.py']
            below = sorted({other for path in files for other in imports(path)} - {name}, key=lambda part: FLOOR[part])
            lines.append(f'{FLOOR[name]:2}  {name:14} {len(files):3} files  -> {" ".join(below)}')
    return '\n'.join(lines)


if __name__ == '__main__':
    print(drawing())  # noqa: T201

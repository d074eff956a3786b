"""What README and documentation tell people to type: every command is parsed, and tutorials are carried out."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ltbench import cli
from ltbench.config import config_names
from ltbench.grid.selection import Selection, check_names
from ltbench.method_files import built_in_methods
from ltbench.spec import parse_assignments, parse_seeds

ROOT = Path(__file__).parents[1]
GENERATED = {'methods', 'reproduce', 'gallery', '_build', 'record_fields.md', 'figures.md'}
PAGES = [
    *(ROOT / name for name in ('README.md', 'results/README.md', 'CONTRIBUTING.md')),
    *(
        page
        for page in sorted((ROOT / 'docs').rglob('*.md'))
        if page.relative_to(ROOT / 'docs').parts[0] not in GENERATED
    ),
]
EXECUTED = [page for page in PAGES if page.read_text(encoding='utf-8').startswith('---\nexecuted: true\n---\n')]
BLOCK = re.compile(r'^```(bash|python)( skip)?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
FIRST_LINE = re.compile(r'# (\w+\.py)\n')
LINK = re.compile(r'\]\(([^)\s#]+)(?:#[^)\s]*)?\)')
NAMES = {'FILE', 'RUN', 'SUITE', 'BENCHMARK', 'NAME', 'METHOD', 'my_method', 'tempered_prior', 'supervised_contrast'}
"""Of what a reader puts in, or has just written."""


def _commands() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        for language, _, block in BLOCK.findall(text):
            if language == 'bash':
                found += [(page, line) for line in block.splitlines()]
        found += [(page, code) for code in re.findall(r'`(ltbench [^`\n]+)`', text)]
    return [(page, part.strip()) for page, line in found for part in line.partition('  #')[0].split('&&')]


@pytest.mark.parametrize(
    ('page', 'command'), [pytest.param(p, c, id=f'{p.stem}: {c}') for p, c in dict.fromkeys(_commands()) if c]
)
def test_a_command_is_understood(page, command):
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r'[A-Z_]+=\S*', words[0]):
        words = words[1:]
    if not words or words[0] != 'ltbench':
        return
    try:
        verb, values = _parsed(words[1:])
    except typer.Exit:  # --version
        return
    if verb in ('run', 'status'):
        parse_seeds(values['seeds'] or ()), parse_assignments(values['option'] or ())
        methods = tuple(name for name in values['method'] or () if not _named_by_the_reader(name))
        benchmarks = tuple(values['benchmark'] or ())
        if not any(_named_by_the_reader(name) for name in [values['suite'], *benchmarks]):
            check_names(Selection(values['suite'], benchmarks, methods, preset=values['preset']))
    for key, known in _known(verb).items():
        name = values.get(key)
        for each in re.split(r'\+', name if isinstance(name, str) else ''):
            each = each.partition('(')[0]
            assert not each or each in known or _named_by_the_reader(each), f'{each} is no {key}'


def _parsed(words: list[str]) -> tuple[str, dict[str, object]]:
    """The verb and the values of its parameters, as the command line reads them; nothing is carried out."""
    command, context = typer.main.get_command(cli.app), None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        if not hasattr(command, 'resolve_command'):
            return str(command.name), context.params
        rest = [*context._protected_args, *context.args]
        if not rest:
            return str(command.name), {}
        _, command, words = command.resolve_command(context, rest)


def _named_by_the_reader(name: str | None) -> bool:
    return bool(name) and (name.endswith('.py') or any(word in re.split(r'\W', name) for word in NAMES))


def _known(verb: str) -> dict[str, set[str]]:
    suites, benchmarks, methods = set(config_names('suites')), set(config_names('benchmarks')), set(built_in_methods())
    return {
        'report': {'suite': suites},
        'show': {'name': suites | benchmarks | methods},
        'get': {'benchmark': benchmarks},
        'check': {'benchmark': benchmarks},
        'score': {'benchmark': benchmarks},
    }.get(verb, {})


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r'```.*?```|`[^`\n]*`', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    for target in LINK.findall(text):
        if not re.match(r'\w+:', target):
            assert (page.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize('page', EXECUTED, ids=lambda page: page.stem)
def test_a_page_can_be_followed(page, tmp_path):
    """In order, in an empty folder: files are saved, commands and Python carried out."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith('LTBENCH_')}
    environment |= {'PYTHONPATH': str(ROOT), 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    typed = []
    for language, skipped, block in BLOCK.findall(page.read_text(encoding='utf-8')):
        if skipped:
            continue
        if language == 'bash':
            _carry_out(['bash', '-euc', block], tmp_path, environment)
        elif name := FIRST_LINE.match(block):
            (tmp_path / name[1]).write_text(block, encoding='utf-8')
        else:
            typed.append(block)
    if typed:  # the cells of a notebook share their variables
        (tmp_path / 'cells.py').write_text('\n'.join(typed), encoding='utf-8')
        _carry_out([sys.executable, 'cells.py'], tmp_path, environment)
    assert typed or list(tmp_path.glob('results/local/*/leaderboard.csv'))


def _carry_out(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f'{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}'

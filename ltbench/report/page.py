"""All suites of a results folder in one HTML file that needs nothing else: no network, no server, no other file.

The page holds what the last report of each suite found. A report replaces the data of its own suite and keeps those of
the others, so that it reads only its own records.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from ltbench.benchmark import load_benchmark
from ltbench.config import config_names
from ltbench.record import SUITE
from ltbench.report.escaping import in_script
from ltbench.report.families import FAMILIES, NONE, family_of
from ltbench.report.frame import TableKey
from ltbench.report.names import title_of
from ltbench.sealed import contents_of, locked, write_atomically
from ltbench.suite import load_suite

FILE = 'index.html'
MARK = b'<title>ltbench results</title>'
"""What every such page holds."""
FORMAT = 2
"""Of the data that the page's script reads; data of another format are dropped, and rebuilt by the next reports."""
MISSION = 'full'
"""The suite whose benchmarks and methods are on the map whether they were run or not."""
LOCK = '.index.lock'
"""Locked while the page is written; the file stays beside it."""
CHUNK = re.compile(
    rb'<script type="application/json" data-format="%d" data-suite="([^"]+)">.*?</script>\n'
    rb'<script type="application/json" data-runs="\1">.*?</script>' % FORMAT,
    re.DOTALL,
)


def write_page(root: Path, suite: str, tables: Mapping[str, Any], runs: Mapping[str, Any]) -> Path:
    """Put a suite into ``root/index.html``; return that path.

    Args:
        root: The folder of all suites' results.
        suite: Name of the suite.
        tables: Of :func:`ltbench.report.page_data.tables`.
        runs: Of :func:`ltbench.report.page_data.runs`.
    """
    path = root / FILE
    with locked(root / LOCK):
        chunks = {
            name: chunk
            for name, chunk in _chunks(path).items()
            if SUITE.fullmatch(name) and (root / name / 'records').is_dir()
        }
        named = html.escape(suite)
        tag = '<script type="application/json"'
        chunks[suite] = (
            f'{tag} data-format="{FORMAT}" data-suite="{named}">{in_script(tables)}</script>\n'
            f'{tag} data-runs="{named}">{in_script(runs)}</script>'
        )
        write_atomically(path, _page({name: chunks[name] for name in sorted(chunks)}))
    return path


def _chunks(path: Path) -> dict[str, str]:
    """The data of each suite in the page; nothing if there is no page, or one of another format."""
    if not path.is_file():
        return {}
    return {html.unescape(found[1].decode()): found[0].decode() for found in CHUNK.finditer(contents_of(path))}


def _page(chunks: Mapping[str, str]) -> str:
    loader = jinja2.PackageLoader('ltbench.report', 'page_files')
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    css, script = (loader.get_source(environment, name)[0] for name in ('page.css', 'page.js'))
    return environment.get_template('index.html').render(
        suites=list(chunks),
        chunks=list(chunks.values()),
        todo=in_script(_to_do() | {'families': _looks()}),
        css=css,
        script=script,
    )


def _looks() -> list[dict[str, str]]:
    """How families look on the page, in the order of its legends; that of no family has no name."""
    return [
        {'name': name, 'title': look.title, 'light': look.light, 'dark': look.dark, 'outline': look.outline}
        for name, look in {**FAMILIES, '': NONE}.items()
    ]


def _to_do() -> dict[str, Any]:
    """The four benchmarks and the standard methods, which the map shows whether they were run or not."""
    if MISSION not in config_names('suites'):
        return {'tables': [], 'methods': []}
    suite = load_suite(MISSION)
    benchmarks = [load_benchmark(text, suite.preset) for text in suite.benchmarks]
    factors = [benchmark.data.get('imbalance_factor') for benchmark in benchmarks]
    keys = [
        TableKey(benchmark.name, None if factor is None else float(factor), benchmark.setting, '')
        for benchmark, factor in zip(benchmarks, factors, strict=True)
    ]
    return {
        'tables': [{'benchmark': key.benchmark, 'factor': key.imbalance_factor, 'title': key.title} for key in keys],
        'methods': [
            {'method': str(method), 'name': title_of(str(method)), 'family': family_of(str(method))}
            for method in suite.all_methods
        ],
    }

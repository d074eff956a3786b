"""The verb `ls`: list methods, benchmarks, suites, figures or recorded runs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich.table import Table

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.config import config_names
from ltbench.console import make_console, say
from ltbench.errors import EXIT_FAILED, UsageError, unknown
from ltbench.grid.answer import cached_answers
from ltbench.record import read_record, results_root
from ltbench.registry import METHODS
from ltbench.suite import load_suite


@dataclass(frozen=True)
class Filter:
    """Which recorded runs are listed; an empty field selects all.

    Attributes:
        suite: Name of the suite.
        benchmarks: Names, or patterns like ``cifar*``.
        methods: As recorded, options included, or patterns like ``*nbn*``.
        seeds: Run seeds.
    """

    suite: str | None = None
    benchmarks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def list_things(
    what: str,
    plugin_files: Iterable[str],
    write: Callable[[str], None] | None = None,
    wanted: Filter = Filter(),
) -> int:
    """Print one line for each thing of a kind; or ``write`` all their details as JSON.

    Args:
        what: ``'methods'``, ``'benchmarks'``, ``'suites'``, ``'figures'`` or ``'runs'``.
        plugin_files: Files with methods.
        write: Takes the text for programs; then nothing is printed.
        wanted: Which runs to list.

    Returns:
        0; or 1 if a plug-in did not load, so that its methods are missing.

    Raises:
        UsageError: If the kind is unknown, something else than runs is filtered, or no recorded run has such a name.
    """
    kinds = {
        'methods': _methods, 'benchmarks': _benchmarks, 'suites': _suites, 'figures': _figures,
        'runs': lambda: _runs(wanted),
    }  # fmt: skip
    if what not in kinds:
        raise unknown('thing to list', what, kinds)
    if what != 'runs' and wanted != Filter():
        raise UsageError(f'SUITE, -b, -m and --seeds filter runs, not {what}: ltbench ls runs')
    rows = _cached_methods(list(plugin_files)) if what == 'methods' else kinds[what]()
    console = make_console()
    if write is not None:
        write(json.dumps(rows, indent=1) + '\n')
    elif rows:
        table = Table(box=None)
        for name, value in rows[0].items():
            if not isinstance(value, dict):
                table.add_column(name, overflow='fold')  # nothing is cut
        for row in rows:
            table.add_row(*(str(value) for value in row.values() if not isinstance(value, dict)))
        console.print(table)
    else:
        kind = 'such runs' if wanted != Filter() else what
        say(f'there are no {kind}' + (f' in {results_root()}' if what == 'runs' else ''))
    not_loaded = plugins.not_loaded()
    for line in not_loaded:
        say(line)
    return EXIT_FAILED if not_loaded else 0


Rows = list[dict[str, Any]]


def _cached_methods(plugin_files: list[str]) -> Rows:
    """The rows of all methods, from a cache as long as no code has changed; with plug-ins they are not cached."""
    answers = None if plugin_files else cached_answers('ls methods')
    if answers is not None and (answer := answers.find()) is not None:
        return json.loads(answer['content'])
    plugins.load(plugin_files)
    rows = _methods()
    if answers is not None and not plugins.not_loaded():
        answers.keep(json.dumps(rows))  # as text: the order of columns counts
    return rows


def _methods() -> Rows:
    from ltbench.grid.shares import stages_and_shares

    described = stages_and_shares(plugins.method_names())
    rows = []
    for name in plugins.method_names():
        method = METHODS.module_dict[name]
        doc = inspect.getdoc(method) or ''
        options = {
            key: {'default': option.default, 'help': option.help, 'on': dict(option.on)}
            for key, option in method.options().items()
        }
        rows.append(
            {
                'method': name,
                'what it does': doc.partition('\n')[0],
                'paper': paper_of(doc),
                'stages': described[name][0],
                'shares': described[name][1],
                'options': options,
            }
        )
    return rows


def paper_of(doc: str) -> str:
    """Authors, venue and year of the first paper that a docstring names, like ``Cao et al., NeurIPS 2019``."""
    authors = re.search(r"[A-Z][\w'-]+(?: et al\.| and [A-Z]\w+)", doc)
    venue = re.search(r'(?:[A-Z][A-Za-z]*\s)+(?:19|20)\d\d', doc)
    return ', '.join(' '.join(found[0].split()) for found in (authors, venue) if found)


def _benchmarks() -> Rows:
    return [
        {
            'benchmark': name,
            'what it is': ' '.join(load_benchmark(name).doc.partition('\n\n')[0].partition(': ')[2].split()),
        }
        for name in config_names('benchmarks')
    ]


def _suites() -> Rows:
    rows = []
    for name in config_names('suites'):
        suite = load_suite(name)
        rows.append({'suite': name, 'runs': suite.number_of_runs, 'what it is': suite.doc.partition('\n')[0]})
    return rows


def _figures() -> Rows:
    from ltbench.report.figures import FIGURES, OTHERS  # import matplotlib

    kinds = {name: kind.says for name, kind in FIGURES.items()} | OTHERS
    return [{'figure': name, 'what it shows': says} for name, says in kinds.items()]


def _runs(wanted: Filter) -> Rows:
    rows = []
    for path, record in _chosen(wanted).items():
        rows.append(
            {
                'suite': path.parts[-3],
                'benchmark': record['benchmark'],
                'IF': record['imbalance_factor'],
                'setting': record['setting'],
                'table': record['table'][:6],
                'method': record['method'],
                'seed': record['run_seed'],
                'top-1': round(record['metrics']['top1'], 2),
                'fingerprint': record['fingerprint'][:12],
            }
        )
    return rows


def _chosen(wanted: Filter) -> dict[Path, Mapping[str, Any]]:
    """The selected records, by file; a name that no recorded run has is an error."""
    paths = sorted(results_root().glob('*/records/*.json'))
    _refuse_unknown('recorded suite', [wanted.suite] if wanted.suite else [], {path.parts[-3] for path in paths})
    paths = [path for path in paths if wanted.suite is None or _matches(path.parts[-3], wanted.suite)]
    records: dict[Path, Mapping[str, Any]] = {path: read_record(path) for path in paths}
    for key, names in (('benchmark', wanted.benchmarks), ('method', wanted.methods)):
        _refuse_unknown(f'recorded {key}', names, {record[key] for record in records.values()})
        if names:
            records = {p: r for p, r in records.items() if any(_matches(r[key], name) for name in names)}
    return {p: r for p, r in records.items() if not wanted.seeds or r['run_seed'] in wanted.seeds}


def _refuse_unknown(noun: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = {*known}
    for name in names:
        if known and not any(_matches(one, name) for one in known):
            raise unknown(noun, name, known)


def _matches(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern. Brackets are literal, since options of methods contain many."""
    return name == pattern or fnmatchcase(name, pattern.replace('[', '[[]'))

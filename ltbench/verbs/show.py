"""The verb `show`: describe one method, benchmark or suite."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ltbench import plugins
from ltbench.benchmark import Benchmark, load_benchmark
from ltbench.config import config_names, leaves, read_config
from ltbench.console import make_console, say
from ltbench.data import load_data
from ltbench.errors import DataError, UsageError, unknown
from ltbench.evaluation.metrics import describe_groups
from ltbench.grid.answer import cached_answers
from ltbench.grid.explain import explain, in_words, lines_of, wrapped
from ltbench.grid.selection import Selection, has_plug_ins
from ltbench.method import Option
from ltbench.method_files import built_in_methods
from ltbench.recipe import WORDS
from ltbench.record import read_records, reference_root, results_root
from ltbench.registry import DATASETS, METHODS, lookup
from ltbench.report.tidy import tidy
from ltbench.spec import Specs, parse_specs
from ltbench.suite import Suite, load_suite
from ltbench.verbs.ls import paper_of

WIDEST = 80  # columns of text, on any screen
PLACES = 12  # so many class counts are shown; of more, only the largest and smallest

Thing = dict[str, Any]


def show(name: str, benchmark: str, plugin_files: Iterable[str], write: Callable[[str], None] | None = None) -> None:
    """Print what a name means; or ``write`` it as a JSON list, since a suite and a benchmark may have the same name.

    Args:
        name: A method, with options or several joined by +; a benchmark, with options; or a suite.
        benchmark: The benchmark on which a method's plan is shown.
        plugin_files: Files with methods.
        write: Takes the text for programs; nothing is printed then.

    Raises:
        UsageError: If the name is unknown; similar names of all three kinds are listed.
    """
    things = list(_things(name, benchmark, list(plugin_files)))
    if write is not None:
        write(json.dumps(things, indent=1) + '\n')
    else:
        console = make_console()
        width = min(console.width, WIDEST)
        for number, thing in enumerate(things):
            lines = [*([''] if number else []), *_TEXTS[thing['kind']](thing, width)]
            console.print('\n'.join(lines), highlight=False, soft_wrap=True)
    for line in plugins.not_loaded():
        say(line)


def _things(name: str, benchmark: str, plugin_files: list[str]) -> Iterator[Thing]:
    specs = parse_specs(name)
    methods = _method_names(plugin_files)
    is_method = all(spec.name in methods for spec in specs)
    if is_method:
        method = _cached_method(specs, benchmark, plugin_files)
        rows, others = _recorded(str(specs), [spec.name for spec in specs])
        yield {'kind': 'method', 'name': name, **method, 'recorded': rows, 'recorded_with_more': others}
    is_benchmark = not specs[1:] and specs[0].name in config_names('benchmarks')
    if is_benchmark:
        yield {'kind': 'benchmark', 'name': name, **_benchmark(name)}
    is_suite = not specs[1:] and not specs[0].options and specs[0].name in config_names('suites')
    if is_suite:
        yield {'kind': 'suite', 'name': name, **_suite(name)}
    if not (is_method or is_benchmark or is_suite):
        names = {*methods, *config_names('benchmarks'), *config_names('suites')}
        unknown_name = next((spec.name for spec in specs if spec.name not in names), None)
        if unknown_name is None:
            raise UsageError(f'{name!r} joins names that are not all methods, or sets options of a suite')
        raise unknown('method, benchmark or suite', unknown_name, names)


# ---------------------------------------------------------------------------------------------- methods


def _method_names(plugin_files: list[str]) -> frozenset[str]:
    """Names of all methods. Plug-ins are loaded if there are any; our own files are not, as they would import torch."""
    if plugin_files or has_plug_ins() or not built_in_methods():
        plugins.load(plugin_files)
        return frozenset(plugins.method_names())
    return frozenset(built_in_methods())


def _cached_method(specs: Specs, benchmark: str, plugin_files: list[str]) -> Thing:
    """The description of a method, from a cache as long as no code has changed; with plug-ins it is not cached."""
    selection = Selection(benchmarks=(benchmark,), methods=(str(specs),))
    answers = None if plugin_files else cached_answers('show', selection)
    if answers is not None and (answer := answers.find()) is not None:
        return json.loads(answer['content'])
    plugins.load(plugin_files)
    method = _method(specs, benchmark)
    if answers is not None and not plugins.not_loaded():
        answers.keep(json.dumps(method))  # as text: the order of options counts
    return method


def _method(specs: Specs, benchmark: str) -> Thing:
    parts = []
    for spec in specs:
        cls = lookup(METHODS, spec.name)
        doc = inspect.getdoc(cls) or ''
        options = {key: _option(option) for key, option in cls.options().items()}
        parts.append({'name': spec.name, 'doc': doc, 'paper': paper_of(doc), 'options': options})
    return {'parts': parts, 'plan': explain(specs, load_benchmark(benchmark)).to_json()}


def _option(option: Option) -> dict[str, Any]:
    return {'default': option.default, 'values': _values(option), 'on': dict(option.on), 'help': option.help}


def _values(option: Option) -> str:
    """The allowed values, in words."""
    if option.choices is not None:
        return _either([str(choice) for choice in option.choices])
    kind = WORDS.get(float if option.words else type(option.default), 'anything')
    low_high = '' if option.between is None else f' from {option.between[0]} to {option.between[1]}'
    return _either([kind + low_high, *map(str, option.words)])


def _either(words: list[str]) -> str:
    return ' or '.join([', '.join(words[:-1]), words[-1]]) if words[1:] else words[0]


def _recorded(name: str, parts: list[str]) -> tuple[list[dict[str, Any]], int]:
    """The rows of the method in all suites; and how many rows combine it with others, or have other options."""
    frames = []
    for root in (root for root in (results_root(), reference_root()) if root is not None):
        records = {path: record for path, record in _all_records(root).items() if _has(record, parts)}
        if records:
            frames.append(tidy(records).assign(results=str(root)))
    if not frames:
        return [], 0
    key = ['results', 'suite', 'benchmark', 'imbalance_factor', 'setting', 'table', 'method']
    rows = pd.concat(frames).groupby(key, dropna=False)['top1'].agg(['mean', 'std', 'count']).reset_index()
    exact = rows[rows['method'] == name]
    shown = exact.drop(columns='method').rename(columns={'mean': 'top1_mean', 'std': 'top1_std', 'count': 'seeds'})
    plain: list[dict[str, Any]] = [
        {str(column): None if pd.isna(value) else value for column, value in row.items()}
        for row in shown.to_dict('records')
    ]
    return plain, len(rows) - len(exact)


@cache
def _all_records(root: Path) -> dict[Path, Mapping[str, Any]]:
    """The records of all suites, read once."""
    found: dict[Path, Mapping[str, Any]] = {}
    for folder in sorted(root.glob('*/records')):
        records, wrong = read_records(folder.parent.name, root)
        for reason in wrong.values():
            say(f'left out: {reason}')
        found |= records
    return found


def _has(record: Mapping[str, Any], parts: list[str]) -> bool:
    return {*parts} <= {method['name'] for method in record['methods']}


def _method_text(thing: Thing, width: int) -> Iterator[str]:
    for part in thing['parts']:
        yield from _heading(f'{part["name"]}: a method' + (f' ({part["paper"]})' if part['paper'] else ''), width)
        yield from _paragraphs(part['doc'], width)
        yield ''
        yield 'options' if part['options'] else 'options: none'
        for name, option in part['options'].items():
            yield from wrapped(f'{name} = {option["default"]}: {option["values"]}', width, 2)
            if option['help']:
                yield from wrapped(option['help'], width, 6)
            for where, value in option['on'].items():
                yield from wrapped(f'on {where}: {value}', width, 6)
        yield ''
    yield from lines_of(thing['plan'], width)
    yield ''
    rows, others = thing['recorded'], thing['recorded_with_more']
    title = 'recorded top-1 in %, mean ± std over seeds' if rows else f'recorded: nothing in {results_root()}'
    yield from wrapped(title, width)
    for row in rows:
        deviation = '' if row['top1_std'] is None else f' ± {row["top1_std"]:.1f}'
        factor = '' if row['imbalance_factor'] is None else f' IF {row["imbalance_factor"]:g}'
        seeds = f'{row["seeds"]} seed{"" if row["seeds"] == 1 else "s"}'
        where = f'{row["benchmark"]}{factor} ({row["setting"]}), {row["results"]}/{row["suite"]}'
        yield from wrapped(f'{row["top1_mean"]:.1f}{deviation}, {seeds}: {where}', width, 2)
    if others:
        noun = 'row' if others == 1 else 'rows'
        yield from wrapped(f'{others} more {noun} with other options or combined with other methods:', width, 2)
        yield f'      ltbench ls runs -m "*{"*".join(part["name"] for part in thing["parts"])}*"'


# ---------------------------------------------------------------------------------------------- benchmarks, suites


def _benchmark(name: str) -> Thing:
    found = load_benchmark(name)
    presets = read_config('benchmarks', found.name)[0].get('presets', {})
    return {
        'doc': found.doc.removeprefix(f'{found.name}: '),
        'data_set': lookup(DATASETS, found.data['type']).title,
        **{section: dict(getattr(found, section)) for section in ('data', 'backbone', 'recipe')},
        'presets': {preset: dict(leaves(changes)) for preset, changes in presets.items()},
        'has_validation': found.has_validation,
        'caveat': found.caveat,
        **_counts(found),
    }


def _counts(benchmark: Benchmark) -> Thing:
    """Training images per class and classes per group; or why they are unknown."""
    try:
        counts = load_data(benchmark.data).class_counts
    except DataError as error:
        return {'class_counts': None, 'groups': None, 'data_missing': str(error)}
    return {'class_counts': counts, 'groups': dict(describe_groups(counts))}


def _benchmark_text(thing: Thing, width: int) -> Iterator[str]:
    yield from _heading(
        f'{thing["name"]}: a benchmark' + (f' on {thing["data_set"]}' if thing['data_set'] else ''), width
    )
    yield from _paragraphs(thing['doc'], width)
    if thing['caveat']:
        yield from wrapped(f'caveat: {thing["caveat"]}', width)
    yield ''
    for section in ('data', 'backbone'):
        yield from wrapped(f'{section}: {in_words(thing[section])}', width)
    yield 'recipe'
    for key, value in thing['recipe'].items():
        yield from wrapped(f'{key}: {in_words(value)}', width, 2)
    yield 'presets' if thing['presets'] else 'presets: none but paper, the recipe above'
    for preset, changes in thing['presets'].items():
        settings = ', '.join(f'{key}={in_words(value)}' for key, value in changes.items())
        yield from wrapped(f'{preset}: {settings}', width, 2)
    if thing['has_validation']:
        yield from wrapped('values are chosen on its validation part', width)
    counts = thing['class_counts']
    if counts is None:
        yield from wrapped(f'training images per class: not known without the data; {thing["data_missing"]}', width)
        return
    ends = sorted(counts, reverse=True)
    few = ends if len(ends) <= PLACES else [*ends[: PLACES // 2], '...', *ends[-PLACES // 2 :]]
    groups = ', '.join(f'{count} {name}' for name, count in thing['groups'].items())
    yield from wrapped(
        f'training images: {sum(counts)} in {len(counts)} classes of {", ".join(map(str, few))}; classes: {groups}',
        width,
    )


def _suite(name: str) -> Thing:
    suite: Suite = load_suite(name)
    return {
        'doc': suite.doc,
        'benchmarks': list(suite.benchmarks),
        'methods': list(map(str, suite.all_methods)),
        'seeds': list(suite.seeds),
        'preset': suite.preset,
        'runs': suite.number_of_runs,
        'recorded': len(list((results_root() / suite.name / 'records').glob('*.json'))),
    }


def _suite_text(thing: Thing, width: int) -> Iterator[str]:
    yield from _heading(f'{thing["name"]}: a suite', width)
    yield from _paragraphs(thing['doc'], width)
    yield ''
    yield from wrapped(f'{thing["runs"]} runs, {thing["recorded"]} records; preset {thing["preset"] or "paper"}', width)
    yield from wrapped(f'seeds: {", ".join(map(str, thing["seeds"]))}', width)
    for noun in ('benchmarks', 'methods'):
        yield noun
        for name in thing[noun]:
            yield from wrapped(name, width, 2)


# ---------------------------------------------------------------------------------------------- text


def _heading(text: str, width: int) -> list[str]:
    return [*wrapped(text, width), '']


def _paragraphs(doc: str, width: int) -> Iterator[str]:
    """A docstring, with each paragraph wrapped to the width."""
    for number, paragraph in enumerate(re.split(r'\n\s*\n', doc.strip())):
        if number:
            yield ''
        yield from wrapped(' '.join(paragraph.replace('``', '`').split()), width, hang=0)


_TEXTS: dict[str, Callable[[Thing, int], Iterator[str]]] = {
    'method': _method_text, 'benchmark': _benchmark_text, 'suite': _suite_text,
}  # fmt: skip

"""Pages made from the code and the committed results: one for each method and suite, and the entries of a record."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.config import config_names
from ltbench.errors import UsageError
from ltbench.method import make_plan
from ltbench.record_schema import Record
from ltbench.report import Report, read_suite
from ltbench.report.families import FAMILIES, NONE, family_of
from ltbench.report.figures import FIGURES, OTHERS, draw_all
from ltbench.suite import load_suite
from ltbench.verbs.show import show

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / 'results'
ON = 'cifar10_lt'  # the benchmark on which plans are shown
HABITS = """\
Where a published code does otherwise than its paper, and accuracy depends on it, that is an option, as in
`disalign(start=code)` or `weight_balancing(loss=bce, project=epoch, schedule=code)`. ImbSAM is `sam(eta=20)`. The
released network of NBN with three experts is `nbn(scope=whole_last_stage, scalar=expert, rectify_logits=True)` joined
by a plus with `ride(expert_width=1.0, heads=linear, loss=free)`.
"""
GALLERY = 'digits'
"""The suite whose figures show what each kind looks like."""


def write_pages(docs: Path) -> None:
    """Write the generated pages into a folder; what has not changed keeps its time."""
    os.environ['LTBENCH_RESULTS'] = str(RESULTS)
    plugins.load()
    names = plugins.method_names()
    clashes = _clashes(names)
    shown = {name: _shown(name, 'method') for name in names}
    pages = {f'methods/{name}.md': '\n'.join(_method(shown[name], clashes[name])) for name in names}
    pages['methods/index.md'] = '\n'.join(_methods(shown))
    suites = config_names('suites')
    pages |= {f'reproduce/{name}.md': '\n'.join(_suite(_shown(name, 'suite'))) for name in suites}
    pages['reproduce/index.md'] = '\n'.join(_suites(suites))
    pages['record_fields.md'] = '\n'.join(_record())
    pages['figures.md'] = '\n'.join(_figures(docs / 'gallery'))
    for name, text in pages.items():
        path = docs / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding='utf-8') != text:
            path.write_text(text, encoding='utf-8')
    for folder in ('methods', 'reproduce'):
        for path in (docs / folder).glob('*.md'):
            if f'{folder}/{path.name}' not in pages:
                path.unlink()


def _shown(name: str, kind: str) -> Mapping[str, Any]:
    found: list[str] = []
    show(name, ON, [], found.append)
    return next(thing for thing in json.loads(found[0]) if thing['kind'] == kind)


def _clashes(names: Iterable[str]) -> dict[str, list[str]]:
    """Of each method, those that it cannot be combined with, in whatever order."""
    benchmark = load_benchmark(ON)

    def combine(first: str, second: str) -> bool:
        try:
            make_plan(f'{first}+{second}', benchmark, '', 0)
        except UsageError:
            return False
        return True

    names = list(names)
    return {
        one: [other for other in names if other != one and not (combine(one, other) or combine(other, one))]
        for one in names
    }


# ---------------------------------------------------------------------------------------------- methods


def _method(thing: Mapping[str, Any], clashes: list[str]) -> Iterator[str]:
    (part,) = thing['parts']
    name = part['name']
    yield f'# {name}\n'
    yield _prose(part['doc']) + '\n'
    yield f'```bash\nltbench run -b {ON} -m {name}\nltbench show {name}\n```\n'
    yield '## Options\n'
    if part['options']:
        yield from _table(
            ('option', 'default', 'values', 'what it is'),
            [
                (f'`{key}`', f'`{option["default"]}`', option['values'], '; '.join(_help(option)))
                for key, option in part['options'].items()
            ],
        )
    else:
        yield 'None.\n'
    yield f'## What differs from plain training\n\nOn `{ON}`.\n'
    plan = thing['plan']
    for number, step in enumerate(plan['stages'], start=1):
        yield f'{number}. {step["kind"]}: {step["what"]}' + (' (the one of `erm`)' if step['shared'] else '')
    yield ''
    if plan['differences']:
        yield from _table(
            ('', 'erm', name),
            [(each['where'], _code(each['plain']), _code(each['here'])) for each in plan['differences']],
        )
    yield '## Combining\n'
    if clashes:
        listed = ', '.join(f'[`{other}`]({other}.md)' for other in clashes)
        yield f'`{name}+OTHER` and `OTHER+{name}` are both refused for: {listed}.\n'
    else:
        yield f'`{name}+OTHER` or `OTHER+{name}` works with every other method.\n'
    yield '## Recorded results\n'
    yield from _recorded(thing)


def _help(option: Mapping[str, Any]) -> Iterator[str]:
    if option['help']:
        yield option['help']
    for where, value in option['on'].items():
        yield f'`{value}` on `{where}`'


def _recorded(thing: Mapping[str, Any]) -> Iterator[str]:
    if not thing['recorded']:
        yield 'None yet.\n'
        return
    yield 'Top-1 in %, mean ± standard deviation over seeds. Each stands beside other methods in its suite.\n'
    rows = []
    for row in thing['recorded']:
        deviation = '' if row['top1_std'] is None else f' ± {row["top1_std"]:.1f}'
        factor = '' if row['imbalance_factor'] is None else f', imbalance factor {row["imbalance_factor"]:g}'
        where = f'{row["benchmark"]}{factor} ({row["setting"]})'
        rows.append(
            (f'[{row["suite"]}](../reproduce/{row["suite"]}.md)', where, f'{row["top1_mean"]:.1f}{deviation}',
             row['seeds'])
        )  # fmt: skip
    yield from _table(('suite', 'table', 'top-1', 'seeds'), rows)


def _methods(shown: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield '# Methods\n'
    yield f'{len(shown)} methods, each one file of `methods/`. They are combined by a plus: `nbn+balanced_softmax`.\n'
    yield HABITS
    for family, look in {**FAMILIES, '': NONE}.items():
        parts = {name: thing['parts'][0] for name, thing in shown.items() if family_of(name) == family}
        if parts:
            yield f'## {look.title}\n'
            yield from _table(
                ('method', 'what it does', 'paper'),
                [
                    (f'[`{name}`]({name}.md)', part['doc'].partition('\n')[0].replace('``', '`'), part['paper'])
                    for name, part in parts.items()
                ],
            )
    yield from _toctree(shown)


# ---------------------------------------------------------------------------------------------- suites


def _suite(thing: Mapping[str, Any]) -> Iterator[str]:
    name = thing['name']
    yield f'# {name}\n'
    yield _prose(thing['doc']) + '\n'
    preset = '' if thing['preset'] is None else f' Preset `{thing["preset"]}`.'
    yield f'{thing["runs"]} runs; seeds {", ".join(map(str, thing["seeds"]))}.{preset}\n'
    yield f'```bash\nltbench run {name} --dry-run\nltbench run {name}\nltbench report {name}\n```\n'
    yield '## Benchmarks and methods\n'
    for noun in ('benchmarks', 'methods'):
        yield f'{noun.capitalize()}: {", ".join(map(_code, thing[noun]))}.\n'
    yield '## Measured\n'
    committed = RESULTS / name / 'README.md'
    if not committed.is_file():
        yield 'Nothing is recorded in this repository.\n'
        return
    text = committed.read_text(encoding='utf-8').partition('\n')[2]
    text = re.sub(r'(!?\[[^\]]*\]\()(?!https?:)', rf'\g<1>../../results/{name}/', text)
    yield text.strip() + '\n'


def _suites(names: Iterable[str]) -> Iterator[str]:
    names = list(names)
    yield '# Reproduce\n'
    yield 'A suite is a grid of runs. Each page has its command, what it costs, and what was measured with it.\n'
    rows = []
    for name in names:
        suite = load_suite(name)
        recorded = len(list((RESULTS / name / 'records').glob('*.json')))
        rows.append((f'[{name}]({name}.md)', suite.number_of_runs, recorded, suite.doc.partition('\n')[0]))
    yield from _table(('suite', 'runs', 'recorded here', 'what it is'), rows)
    yield from _toctree(names)


# ---------------------------------------------------------------------------------------------- figures


def _figures(folder: Path) -> Iterator[str]:
    """Each kind with a picture, drawn of a committed suite."""
    report = Report(read_suite(GALLERY))
    drawn = draw_all(report.results.records, report.frame, folder, report.board, processes=1)
    yield '# Figures\n'
    yield f"""\
`ltbench report SUITE` draws what the records hold into `results/SUITE/figures/`. For a paper, `--paper` writes PDF and
SVG at column (3.25 in) and text width (6.75 in) without titles, which go to `captions.md`; `--show` chooses methods:

```bash
ltbench report {GALLERY} --paper --show erm,la_loss,nbn
```
"""
    for name, kind in FIGURES.items():
        yield f'## {name}\n\n{kind.says}: {kind.reads}.\n'
        yield from (f'![{kind.says}](gallery/{path.name})\n' for path in drawn if path.name.startswith(f'{name}-'))
    for name, says in OTHERS.items():
        yield f'## {name}\n\n{says}.\n'


# ---------------------------------------------------------------------------------------------- records


def _record() -> Iterator[str]:
    yield '---\norphan: true\n---\n'
    yield '# Entries of a record\n'
    yield f'{(Record.__doc__ or "").strip()}\n'
    required = {field.encode_name for field in msgspec.structs.fields(Record) if field.required}
    rows = [
        (f'`{field.encode_name}`', _kind(field.type), 'yes' if field.encode_name in required else '')
        for field in msgspec.structs.fields(Record)
    ]
    yield from _table(('entry', 'what it is', 'required'), rows)


def _kind(annotation: Any) -> str:
    """A type in words: its own description, or its name."""
    for extra in getattr(annotation, '__metadata__', ()):
        if getattr(extra, 'description', None):
            return extra.description
    inner = [each for each in get_args(annotation) if each not in (type(None), msgspec.UnsetType)]
    if hasattr(annotation, '__metadata__'):
        return _kind(inner[0])
    origin = getattr(annotation, '__origin__', None)
    if origin in (list, dict, tuple):
        return f'{origin.__name__} of {" to ".join(map(_kind, inner))}' if inner else origin.__name__
    if inner:
        return ' or '.join(dict.fromkeys(map(_kind, inner)))
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return (annotation.__doc__ or '').partition('\n')[0]
    return str(getattr(annotation, '__name__', annotation))


# ---------------------------------------------------------------------------------------------- Markdown


def _table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    columns = list(columns)
    yield f'| {" | ".join(columns)} |'
    yield '|---' * len(columns) + '|'
    for row in rows:
        yield '| ' + ' | '.join(str(cell).replace('|', '\\|').replace('\n', ' ') for cell in row) + ' |'
    yield ''


def _toctree(names: Iterable[str]) -> Iterator[str]:
    yield '```{toctree}\n:hidden:\n'
    yield from names
    yield '```'


def _prose(doc: str) -> str:
    """A docstring as Markdown: code in one pair of backticks, addresses as links."""
    text = re.sub(r'\n(Differs\w*:)', r'\n\n**\1**', doc.replace('``', '`'))
    return re.sub(r'(?<![<(`])(https?://[^\s,;)]+[^\s,;).])', r'<\1>', text)


def _code(text: str) -> str:
    return f'`{text}`'

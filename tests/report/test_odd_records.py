"""Records and failures with an odd entry and a valid seal: reported, or the file is named with the entry.

Every entry of real records, at whatever depth, is deleted or replaced by each of :data:`ODD`; the record is sealed
again and lies under its own name among good ones. A few of these, always the same, are tried at each run of the tests.
The long form tries as many as one likes, draws the figures of every fortieth, and compares and lists it too:

    ODD_RECORDS=1400 python -m pytest -n 0 -q tests/report/test_odd_records.py
"""

from __future__ import annotations

import copy
import csv
import json
import os
import random
import re
import sys
import traceback
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ltbench.errors import LTBenchError, StoreError
from ltbench.grid.cost import Costs
from ltbench.record import checksum, read_record, record_name
from ltbench.record_schema import Failure
from ltbench.report import Report, read_suite, write_report
from ltbench.report.escaping import FORMULA, NUMBER

RECORDS = Path(__file__).parents[2] / 'results' / 'fashion_mnist' / 'records'
ROW = 'fashion_mnist_lt-if100-{}-s{}-*.json'
PLAIN, NBN = ROW.format('erm', 0), ROW.format('nbn', 0)
BESIDE = [ROW.format(method, seed) for method in ('erm', 'nbn') for seed in (1, 2)]

SAMPLE = int(os.environ.get('ODD_RECORDS', '20'))
IS_LONG = 'ODD_RECORDS' in os.environ
DRAWN = 40  # one in so many, in the long form

DELETED = object()
ODD: list[Any] = [
    DELETED, None, True, 0, -1, 0.5, 7, 1e308, -1e308, 10**30, float('nan'), float('inf'), '', [], {}, [[]],
    {'a': None}, 'word', '\ud800', '\x00\x1b[31m', 'x' * 1500, '../../etc', '[/x]', '[bold',
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "=cmd|' /C calc'!A0", '@x', '+1+1', '-2+3', '\tx',
    '\\input{x}', '$\\frac{$', 'a$b$', 'a|b\nc|d', '![x](javascript:alert(1))', '[x]: javascript:alert(1)',
    '`x` **y** ~~z~~', '# x', '__proto__', '\u202eabc', '{0}', '%s', '_x',
]  # fmt: skip
DEEP: Any = 1
for _ in range(60):
    DEEP = [DEEP]
ODD.append(DEEP)

Place = tuple[Any, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every entry, at whatever depth; of a list the first, second and last."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list):
        for place in sorted({*range(len(value))} & {0, 1, len(value) - 1}):
            yield from places(value[place], (*at, place))


def changed(value: Any, at: Place, odd: Any) -> Any:
    """A copy with something else in one place."""
    if not at:
        return {} if odd is DELETED else copy.deepcopy(odd)
    value = copy.deepcopy(value)
    inside = value
    for key in at[:-1]:
        inside = inside[key]
    if odd is DELETED:
        del inside[at[-1]]
    else:
        inside[at[-1]] = odd
    return value


def one(pattern: str) -> Path:
    (found,) = [path for path in RECORDS.glob(pattern) if read_record(path)['setting'] == 'quick']
    return found


class Elements(HTMLParser):
    """Names of all elements of a page, and of the attributes that run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.dangerous = 0, set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == 'script'
        self.dangerous |= {name for name, _ in attributes if name.startswith('on')}
        self.dangerous |= {value for _, value in attributes if (value or '').strip().startswith('javascript:')}


def check_report(folder: Path) -> None:
    """Nothing in it is markup, a formula or a command that a record brought along."""
    page = Elements((folder.parent / 'index.html').read_text())
    assert (page.scripts, page.dangerous) == (4, set())
    for path in folder.glob('*.csv'):
        with path.open(newline='') as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1, path
        formulas = [cell for row in rows for cell in row if cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)]
        assert formulas == [], path
    for path in folder.glob('*.md'):
        text = path.read_text()
        assert not re.search(r'(?<!\\)<(script|img)', text), path
        assert not re.search(r'(?<!\\)\](\(|: ?)javascript', text), path
        columns = [len(re.findall(r'(?<!\\)\|', line)) for line in text.splitlines() if line.startswith('|')]
        assert all(columns), path
    for path in folder.glob('*.tex'):
        assert '\\input' not in path.read_text(), path


def report(results: Path, figures: bool) -> None:
    results_of_suite = read_suite('odd')
    write_report(Report(results_of_suite), figures=figures, with_latex=True)
    check_report(results / 'odd')


def try_out(results: Path, odd_file: Path, entry: str, number: int) -> str:
    """What became of it: ``'reported'``, or ``'named'`` with the file and the entry."""
    figures = IS_LONG and number % DRAWN == 0
    try:
        report(results, figures)
    except StoreError as error:
        said = str(error)
        assert odd_file.name in said
        if 'is no valid record' in said or 'is damaged' in said:
            assert entry in said or 'JSON object' in said, said
        left = read_suite('odd', leave_out=True)
        assert odd_file in left.left_out
        assert len(left.records) >= 2
        return 'named'
    Costs()
    if figures:
        from ltbench.verbs.compare import show_comparison
        from ltbench.verbs.ls import list_things

        list_things('runs', [], as_json=False)
        if odd_file.parent.name == 'records':
            other = next(path for path in odd_file.parent.iterdir() if path != odd_file)
            try:
                show_comparison(str(odd_file), str(other))
            except LTBenchError as error:
                assert odd_file.stem in str(error)
    return 'reported'


@pytest.fixture(scope='module')
def good() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in map(one, BESIDE)}


def try_all(results: Path, folder: str, good: dict[str, bytes], content: Any, count: int, seed: int) -> None:
    """Try some of all odd entries of a record or failure; none may end in a traceback."""
    everything = [(at, odd) for at in places(content) for odd in ODD]
    chosen = random.Random(seed).sample(everything, min(count, len(everything)))
    for name, text in good.items():
        (results / 'odd' / 'records').mkdir(parents=True, exist_ok=True)
        (results / 'odd' / 'records' / name).write_bytes(text)
    became, wrong = [], []
    for number, (at, odd) in enumerate(chosen):
        path = write_odd(results / 'odd' / folder, changed(content, at, odd), at)
        try:
            became.append(try_out(results, path, str(at[0]) if at else '', number))
        except Exception as error:  # noqa: BLE001 - all are shown at the end
            last = traceback.extract_tb(error.__traceback__)[-1]
            wrong.append(f'{at} = {odd!r}: {type(error).__name__} in {last.filename}:{last.lineno}: {error}')
        path.unlink()
    counts = f'{became.count("reported")} reported, {became.count("named")} named, {len(wrong)} tracebacks'
    sys.stdout.write(f'{folder}: {len(chosen)} odd: {counts}\n')
    assert not wrong, '\n'.join(wrong)
    assert {'reported', 'named'} == set(became)


def write_odd(folder: Path, content: Any, at: Place) -> Path:
    """Seal a record again and write it under its own name, where one can be made of it."""
    name = 'odd.json'
    try:
        if 'checksum' in content and at != ('checksum',):
            content['checksum'] = checksum(content)
        name = record_name(content)
    except (TypeError, KeyError, ValueError, AttributeError):
        pass
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name if '/' not in name and name.isprintable() and len(name) < 200 else 'odd.json')
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(('pattern', 'share'), [(PLAIN, 0.4), (NBN, 0.5)], ids=['plain', 'nbn'])
def test_a_record_with_an_odd_entry_is_reported_or_named(results, good, pattern, share):
    try_all(results, 'records', good, read_record(one(pattern)), int(SAMPLE * share), 1)


def test_a_failure_with_an_odd_entry_is_reported_or_named(results, good):
    record = read_record(one(PLAIN))
    failure = {name: record[name] for name in Failure.__struct_fields__[:7]}
    failure |= {'run_seed': 9, 'stage': 'train', 'reason': 'the loss became nan'}
    try_all(results, 'failed', good, failure, SAMPLE // 2, 3)

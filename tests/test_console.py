"""What a transfer of bytes shows; foreign text, and streams that take none."""

from __future__ import annotations

import errno
import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from ltbench import console
from ltbench.benchmark import load_benchmark
from ltbench.grid.graph import Graph, Run
from ltbench.grid.status import StageState
from ltbench.method import make_plan
from ltbench.spec import parse_specs
from ltbench.verbs.view import LiveView, PlainView


def test_elsewhere_one_line_and_then_one_a_minute(monkeypatch, capsys):
    clock = iter([100.0, 110.0, 159.0, 161.0, 200.0, 222.0])
    monkeypatch.setattr(console.time, 'monotonic', lambda: next(clock))
    with console.transfer('downloading x', 10_000_000, done=4_000_000) as advance:
        for _ in range(5):
            advance(610_000)
    assert capsys.readouterr().err.splitlines() == [
        'downloading x (10.0 MB, 4.0 MB already here)',
        '  5.8 MB of 10.0 MB, 30.0 kB/s, 2 min left',  # 1,830,000 bytes in 61 s, 4,170,000 to come
        '  7.0 MB of 10.0 MB, 25.0 kB/s, 2 min left',
    ]


def test_on_a_terminal_a_bar(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(console, 'make_console', lambda stderr: terminal)
    with console.transfer('downloading [x]', 10_000_000, done=4_000_000) as advance:
        advance(1_000_000)
    assert 'downloading [x]' in terminal.file.getvalue()
    assert '5.0/10.0 MB' in terminal.file.getvalue()


class Narrow(io.TextIOWrapper):
    """A terminal of ASCII alone."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding='ascii')


HOSTILE = [
    '[/data/x] is missing',
    '[bold]x[/bold] [link=file:///x]',
    ':smile: [red]',
    'a lone surrogate \udcff',
    'caf\u00e9 \u00b1',
]


@pytest.mark.parametrize('text', HOSTILE)
def test_foreign_text_is_shown_as_it_is_and_ends_nothing(text, monkeypatch):
    """An error of a method, a path, a class name: in a line, in a table, on a terminal that lacks its characters."""
    for stream in (Narrow(), io.TextIOWrapper(io.BytesIO(), encoding='utf-8')):
        monkeypatch.setattr(sys, 'stdout', stream)
        shown = console.make_console()
        shown.print(text)
        table = Table('x', title=text)
        table.add_row(text)
        shown.print(table)
        stream.flush()
        expected = text.encode(stream.encoding, 'backslashreplace')
        assert stream.buffer.getvalue().count(expected) == 3


def test_a_full_or_closed_stream_ends_nothing(monkeypatch):
    class Full(io.StringIO):
        encoding = 'utf-8'

        def write(self, text):
            raise OSError(errno.ENOSPC, 'No space left on device')

    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        monkeypatch.setattr(sys, 'stderr', stream)
        console.say('what is being done')


def test_a_live_table_takes_foreign_text(monkeypatch):
    """It ended the grid with an error about markup."""
    benchmark = load_benchmark('digits_lt')
    graph = Graph([Run(benchmark, parse_specs('erm'), 0, make_plan('erm', benchmark, '', 0))])
    (key,) = graph.stages
    stream = io.StringIO()
    monkeypatch.setattr(stream, 'isatty', lambda: True)
    monkeypatch.setattr(sys, 'stdout', stream)
    for view in (LiveView, PlainView):
        with view(graph, [key], console.make_console()) as shown:
            for text in HOSTILE:
                shown.update({key: StageState('failed', text)})
    assert '[/data/x] is missing' in stream.getvalue()


@pytest.mark.parametrize(
    ('name', 'shown'),
    [('a\nb', r'a\nb'), ('\x00', r'\x00'), ('\udcff', r'\xff'), ('x\ud800', r'x\ud800'), (b'\xff', r'\xff')],
)
def test_a_name_is_printable_whatever_is_in_it(name, shown):
    assert console.printable(name) == shown


def test_a_notebook_gets_plain_text_on_its_standard_output(monkeypatch, capsys):
    """Else each line is an output of its own there, beside and not among what is printed, and %%capture misses it."""
    monkeypatch.setattr('rich.console._is_jupyter', lambda: True)
    notebook = console.make_console()
    sys.stdout.write('before\n')
    notebook.print('a line of a run', highlight=False, soft_wrap=True)
    sys.stdout.write('after\n')
    assert capsys.readouterr().out == 'before\na line of a run\nafter\n'
    assert not notebook.is_terminal  # so no table is redrawn in place

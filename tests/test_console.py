"""What a transfer of bytes shows."""

from __future__ import annotations

import io

from rich.console import Console

from ltbench import console


def test_elsewhere_one_line_and_then_one_a_minute(monkeypatch, capsys):
    clock = iter([100.0, 110.0, 159.0, 161.0, 200.0, 222.0])
    monkeypatch.setattr(console.time, 'monotonic', lambda: next(clock))
    with console.transfer('downloading x', 10_000_000, done=4_000_000) as advance:
        for _ in range(5):
            advance(610_000)
    assert capsys.readouterr().err.splitlines() == [
        'downloading x (10.0 MB, 4.0 MB of it are here already)',
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

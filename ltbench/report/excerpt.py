"""The short form of a suite's tables, each with its figure: for the suite's own README, and for any Markdown file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from ltbench.errors import UsageError, unknown
from ltbench.record import origin_of
from ltbench.report.cells import WITHIN, marked, named, resolution
from ltbench.report.environments import footnotes, marks_of
from ltbench.report.escaping import in_markdown
from ltbench.report.frame import by_table, caveats, slugs
from ltbench.report.reading import SuiteResults
from ltbench.report.text import rows_to_markdown, selection_of
from ltbench.sealed import contents_of, explained, write_atomically

COLUMNS = {'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few'}
SAFE = '/=+,'  # in the address of a figure
MARK = re.compile(r'(?m)^<!-- (/?)ltbench(?: ([^\s/]+)/(\S+))? -->[ \t]*\r?$')
"""Where an excerpt goes: between ``<!-- ltbench SUITE/TABLE -->`` and ``<!-- /ltbench -->``, each on its own line."""


class Places:
    """A Markdown file's places for the tables of one suite.

    Args:
        file: The file.
        suite: Name of the suite.

    Raises:
        UsageError: If the file cannot be read, has no place for the suite, or one without an end.
    """

    def __init__(self, file: Path, suite: str) -> None:
        self.file, self.suite = file.resolve(), suite
        try:
            self.text = contents_of(self.file).decode()  # line endings stay as they are
        except (OSError, ValueError) as error:
            raise UsageError(f'cannot read {file}: {error}') from error
        marks = list(MARK.finditer(self.text))
        for number, mark in enumerate(marks):
            opens, expected = not mark[1], number % 2 == 0
            if opens != expected or (opens and (mark[2] is None or number + 1 == len(marks))):
                line = self.text.count('\n', 0, mark.start()) + 1
                raise UsageError(f'{file}, line {line}: {mark[0].strip()} has no matching line, or no SUITE/TABLE')
        # the table's name, and where what is between its marks begins and ends
        self.found = [
            (start[3], start.end(), end.start())
            for start, end in zip(marks[::2], marks[1::2], strict=True)
            if start[2] == suite
        ]
        if not self.found:
            raise UsageError(
                f'{file} has no place for {suite}: write a line <!-- ltbench {suite}/TABLE --> and one '
                '<!-- /ltbench -->; for TABLE see the names of figures, leaderboard-TABLE.png'
            )

    def check(self, tables: Collection[str]) -> None:
        """Raise UsageError, with near misses, for a table that does not exist."""
        for name, _, _ in self.found:
            if name not in tables:
                raise unknown(f'table of {self.suite}', name, tables)

    def fill(self, tables: Mapping[str, str]) -> None:
        """Rewrite the file; text outside of the suite's marks stays as it is.

        Raises:
            StoreError: If it cannot be written.
        """
        text = self.text
        for name, start, end in reversed(self.found):
            text = f'{text[:start]}\n{tables[name]}\n{text[end:]}'
        with explained(self.file.name, self.file.parent):
            write_atomically(self.file, text)


def table_names(board: pd.DataFrame) -> list[str]:
    """Names of a leaderboard's tables, as they are in file names."""
    return slugs(key for key, _ in by_table(board, sort=False))


def excerpts(results: SuiteResults, board: pd.DataFrame, beside: Path, drawn: Collection[str]) -> dict[str, str]:
    """Figure, caveat and scores of each table, as Markdown, by its name.

    Args:
        results: The suite.
        board: Its leaderboard, of :func:`ltbench.report.tables.leaderboard`, with tests.
        beside: The folder of the file to fill; links to figures are relative to it.
        drawn: Names of the files in the suite's ``figures/``.
    """
    caveat_of = caveats(results.records)
    found = {}
    for name, (key, rows) in zip(table_names(board), by_table(board, sort=False), strict=True):
        title = key.title
        foreign = [run for run in results.records if run['benchmark'] == key.benchmark and origin_of(run) != 'trained']
        shown = [run for run in foreign if run['method'] in set(rows['method'])]
        parts = [f'**{in_markdown(title)}**; {_how_to_read(rows)}']
        parts += [f'**{in_markdown(caveat_of[key.benchmark])}**'] if key.benchmark in caveat_of else []
        parts += [f'Not trained here: {selection_of(shown)}.'] if shown else []
        if f'leaderboard-{name}.png' in drawn:
            path = os.path.relpath(results.folder / 'figures' / f'leaderboard-{name}.png', beside)
            parts.append(f'![Top-1 of methods, {in_markdown(title)}]({quote(Path(path).as_posix(), SAFE)})')
        found[name] = '\n\n'.join([*parts, _table(rows)])
    return found


def _how_to_read(rows: pd.DataFrame) -> str:
    parts = ['accuracy in %']
    if (rows['n_seeds'] > 1).any():
        parts.append('mean ± standard deviation over seeds')
    if (rows['n_seeds'] == 1).any():
        parts.append('for one seed the 95 % interval over test images in brackets')
    marks = f' Bold: the best; {WITHIN}: within noise of it. {resolution(rows)}' if rows['best'].any() else ''
    return ', '.join(parts) + '.' + marks


def _table(rows: pd.DataFrame) -> str:
    scores = [column for column in COLUMNS if rows[f'{column}_mean'].notna().any()]
    table = []
    for row, sign in zip(rows.to_dict('records'), marks_of(rows), strict=True):
        failed = f' ({row["n_failed"]} failed)' if row['n_failed'] else ''
        cells = {'method': in_markdown(named(row)) + sign, 'seeds': f'{row["n_seeds"]}{failed}'}
        table.append(cells | {COLUMNS[column]: marked(row, column) for column in scores})
    return '\n\n'.join([rows_to_markdown(table), *map(in_markdown, footnotes(rows))])

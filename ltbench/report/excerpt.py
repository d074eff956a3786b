"""The short form of a suite's tables, each with its figure: for the suite's own README, and for any Markdown file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ltbench.errors import UsageError, unknown
from ltbench.report.frame import GROUP, caveats, slug, title
from ltbench.report.reading import SuiteResults
from ltbench.report.text import plain, rows_to_markdown, score
from ltbench.store import explained, write_atomically

COLUMNS = {'top1': 'top-1', 'many': 'many', 'medium': 'medium', 'few': 'few'}
HOW_TO_READ = (
    '; accuracy in %, mean ± standard deviation over seeds. Bold: the best and what a paired test cannot tell from it.'
)
BLOCK = re.compile(r'(?m)^<!-- ltbench ([^\s/]+)/(\S+) -->\n(.*?)^<!-- /ltbench -->$', flags=re.DOTALL)
"""Where an excerpt goes: between ``<!-- ltbench SUITE/TABLE -->`` and ``<!-- /ltbench -->``, each on its own line."""


def excerpts(results: SuiteResults, board: pd.DataFrame, beside: Path, figures: bool = True) -> dict[str, str]:
    """Figure, caveat and scores of each table, as Markdown, by the name that the table has in file names.

    Args:
        results: The suite.
        board: Its leaderboard, of :func:`ltbench.report.tables.leaderboard`, with tests.
        beside: The folder of the file it is for; links to figures begin there.
        figures: Whether there are any.
    """
    said = caveats(results.records)
    found = {}
    for group, rows in board.groupby(GROUP, sort=False, dropna=False):
        name, shown = slug(*group), title(*group)
        scores = [column for column in COLUMNS if rows[f'{column}_mean'].notna().any()]
        table = [
            {'method': plain(row['method']), 'seeds': row['n_seeds']}
            | {
                COLUMNS[column]: f'**{score(row, column)}**' if column == 'top1' and row['best'] else score(row, column)
                for column in scores
            }
            for row in rows.to_dict('records')
        ]
        parts = [f'**{plain(shown)}**{HOW_TO_READ}']
        if group[0] in said:
            parts.append(f'**{said[group[0]]}**')
        if figures:
            path = os.path.relpath(results.folder / 'figures' / f'leaderboard-{name}.png', beside)
            parts.append(f'![Top-1 of methods, {shown}]({Path(path).as_posix()})')
        found[name] = '\n\n'.join([*parts, rows_to_markdown(table)])
    return found


def put_into(file: Path, results: SuiteResults, board: pd.DataFrame) -> None:
    """Bring every block of a suite in a Markdown file up to date, see :data:`BLOCK`.

    Raises:
        UsageError: If the file cannot be read, has no block of the suite, or names a table that there is not.
        StoreError: If it cannot be written.
    """
    try:
        text = file.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'cannot read {file}: {error}') from error
    tables = excerpts(results, board, file.absolute().parent)
    names = [match[2] for match in BLOCK.finditer(text) if match[1] == results.suite]
    if not names:
        example = f'<!-- ltbench {results.suite}/{next(iter(tables))} -->'
        raise UsageError(f'{file} has no place for {results.suite}: write a line {example} and one <!-- /ltbench -->')
    for name in names:
        if name not in tables:
            raise unknown(f'table of {results.suite}', name, tables)
    with explained(file.name, file.parent):
        write_atomically(file, BLOCK.sub(lambda match: _filled(match, results.suite, tables), text))


def _filled(match: re.Match[str], suite: str, tables: Mapping[str, str]) -> str:
    if match[1] != suite:
        return match[0]
    return f'<!-- ltbench {suite}/{match[2]} -->\n{tables[match[2]]}\n<!-- /ltbench -->'

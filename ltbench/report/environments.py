"""Environments of runs: rows of a table whose environments differ are marked, and ``--strict`` refuses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from ltbench.errors import StoreError
from ltbench.record import record_name
from ltbench.report.cells import counted
from ltbench.report.frame import by_table
from ltbench.report.reading import SuiteResults

MARKS = ('†', '‡', '§', '¶', '‖')
"""Marks of the environments of a table other than its main one; of further ones, doubled."""


def marks_of(board: pd.DataFrame) -> pd.Series:
    """The mark of each row of a leaderboard: one for each environment of its runs that is not its table's main one.

    The main environment is that of most runs of the table; of several, the first by name.
    """
    marks = pd.Series('', index=board.index)
    for _, rows in by_table(board):
        signs = _signs(rows)
        marks[rows.index] = [
            ''.join(sign for name, sign in signs.items() if name in row) for row in rows['environments']
        ]
    return marks


def footnotes(rows: pd.DataFrame) -> list[str]:
    """What the marks of a table's rows mean, a sentence each; none where all runs have one environment.

    Args:
        rows: Of one table of a leaderboard.
    """
    signs = _signs(rows)
    main = next((name for name, sign in signs.items() if not sign), '')
    return [f'{sign} with runs on {name}; unmarked: on {main}.' for name, sign in signs.items() if sign]


def _signs(rows: pd.DataFrame) -> dict[str, str]:
    """Mark of each environment of a table's runs, the main one, which has none, first."""
    runs: Counter[str] = Counter()
    for row in rows['environments']:
        runs.update(row)
    main, *others = _most_first(runs) or ['']
    signs = {name: MARKS[n % len(MARKS)] * (n // len(MARKS) + 1) for n, name in enumerate(others)}
    return {main: ''} | signs


def as_text(row: Mapping[str, int]) -> str:
    """The environments of a row, and how many runs each has where there are several."""
    several = len(row) > 1
    return '; '.join(name + f' ({counted(row[name], "run")})' * several for name in _most_first(row))


def check_strictly(results: SuiteResults, frame: pd.DataFrame) -> None:
    """Refuse results that should not be published.

    Args:
        results: The suite.
        frame: Of :func:`ltbench.report.frame.runs_frame`, of its records.

    Raises:
        StoreError: If a file was left out, or the runs of a table have several environments; each such file has a
            separate line.
    """
    wrong = [f'left out: {reason}' for reason in results.left_out.values()]
    for key, rows in by_table(frame):
        counts = Counter(rows['environment'])
        main, *others = _most_first(counts)
        for row in rows[rows['environment'].isin(others)].to_dict('records'):
            path = results.folder / 'records' / record_name(results.records[row['record']])
            wrong.append(
                f'{path} is in a table ({key.title}) whose runs have {len(counts)} environments: this one '
                f'has {row["environment"]} ({counted(counts[row["environment"]], "run")}), '
                f'most have {main} ({counted(counts[main], "run")})'
            )
    if wrong:
        mend = 'run them again in one environment, or report without --strict, which marks them'
        raise StoreError('\n'.join([*wrong, f'not reported, because of --strict: {mend}']))


def _most_first(runs: Mapping[str, int]) -> list[str]:
    return sorted(runs, key=lambda name: (-runs[name], name))

"""Records to tables and figures. Reads nothing but records, and imports no torch."""

from __future__ import annotations

from pathlib import Path

from ltbench.errors import StoreError, UsageError
from ltbench.record import read_records, results_root
from ltbench.report import tables
from ltbench.store import explained


def build_report(suite: str) -> list[Path]:
    """Rebuild everything in ``results/SUITE/`` but the records; return the paths of the files made.

    Raises:
        UsageError: If the suite has no records.
        StoreError: If a record is not valid, two records are of the same run, or nothing can be written.
    """
    from ltbench.report import figures

    folder = results_root() / suite
    records = _records(suite)
    frame = tables.runs_frame(records)
    board = tables.leaderboard(frame)
    with explained('report', folder, 'LTBENCH_RESULTS'):
        (folder / 'leaderboard.csv').write_text(tables.csv(board), encoding='utf-8')
        (folder / 'leaderboard.md').write_text(tables.markdown(board, suite), encoding='utf-8')
        drawn = figures.draw_all(records, frame, folder / 'figures')
        return [folder / 'leaderboard.csv', folder / 'leaderboard.md', *drawn]


def leaderboard_of(suite: str) -> tables.pd.DataFrame:
    """The leaderboard of a suite as a data frame, see :func:`ltbench.report.tables.leaderboard`."""
    return tables.leaderboard(tables.runs_frame(_records(suite)))


def _records(suite: str) -> list[dict]:
    found, wrong = read_records(suite)
    if wrong:
        raise StoreError('\n'.join(wrong.values()))
    records = list(found.values())
    if not records:
        raise UsageError(f'no records in {results_root() / suite / "records"}; run `ltbench run {suite}` first')
    return records

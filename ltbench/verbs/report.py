"""The verb `report`: the tables and figures of a suite, rebuilt from its records. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltbench.console import say
from ltbench.record import suite_name
from ltbench.report import Report, read_suite, write_report
from ltbench.spec import pieces


def report(
    suite: str,
    figures: bool = True,
    latex: bool = False,
    ablate: Sequence[str] = (),
    leave_out: bool = False,
    strict: bool = False,
    into: Path | None = None,
    paper: bool = False,
    show: str = '',
) -> list[Path]:
    """Rebuild everything in ``results/SUITE/`` but the records; print what is left out; return the files made.

    Args:
        suite: Its name, or the path of its file.
        figures: Whether to draw.
        latex: Also write the leaderboard as LaTeX tables.
        ablate: Options, ``METHOD.option``, for an ablation of each, in addition to those of the suite.
        leave_out: Leave out invalid or conflicting records, instead of raising.
        strict: Raise if a table mixes environments or a file was left out.
        into: A Markdown file with places for short tables, see :mod:`ltbench.report.excerpt`.
        paper: Also write every figure as PDF and SVG into ``results/SUITE/paper/``, at the widths of a column and of
            the text, without titles.
        show: Methods that the figures show, in this order, as recorded and separated by commas; '' for all.

    Raises:
        UsageError: If the suite has no records or its name is a path, or no record has such an option or method.
        StoreError: If a record is not valid or in conflict with another, or nothing can be written.
    """
    results = read_suite(suite if suite.endswith('.py') else suite_name(suite), leave_out)
    for reason in results.left_out.values():
        say(f'left out: {reason}')
    return write_report(Report(results), figures, latex, ablate, into, strict, paper, pieces(show, ','))

"""Records to tables and figures. Reads nothing but records, and imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ltbench.report import latex, statistics, tables, text
from ltbench.report.reading import SuiteResults, read_suite
from ltbench.store import explained

__all__ = ['SuiteResults', 'build_report', 'leaderboard_of', 'read_suite', 'write_report']


def build_report(
    suite: str, figures: bool = True, with_latex: bool = False, ablate: Sequence[str] = (), leave_out: bool = False
) -> list[Path]:
    """Read a suite's records and rebuild everything in ``results/SUITE/`` but them; return the paths of the files made.

    Args:
        suite: Its name.
        figures: Whether to draw.
        with_latex: Also write the leaderboard as LaTeX tables.
        ablate: Options, ``METHOD.option``, to make an ablation of each.
        leave_out: As in :func:`ltbench.report.reading.read_suite`.

    Raises:
        UsageError: If the suite has no records, or no record has such an option.
        StoreError: If a record is not valid or in conflict with another, or nothing can be written.
    """
    return write_report(read_suite(suite, leave_out), figures, with_latex, ablate)


def write_report(
    results: SuiteResults, figures: bool = True, with_latex: bool = False, ablate: Sequence[str] = ()
) -> list[Path]:
    """Rebuild everything in ``results/SUITE/`` from records that were read; see :func:`build_report`."""
    frame = tables.runs_frame(results.records)
    tests, ranks = statistics.against(frame), statistics.mean_ranks(frame)
    board = tables.leaderboard(frame, results.failures, tests)
    contents = {
        'leaderboard.csv': tables.csv(board),
        'leaderboard.md': text.markdown(results, board, tests, ranks, frame),
        'statistics.csv': tables.csv(tests),
    }
    if with_latex:
        contents |= latex.latex(board)
    ablations = {option: _ablation(results, option) for option in ablate}
    contents |= {f'ablation_{option.replace(".", "_")}.csv': tables.csv(found) for option, found in ablations.items()}
    with explained('report', results.folder, 'LTBENCH_RESULTS'):
        made = []
        for name, said in contents.items():
            made.append(results.folder / name)
            made[-1].write_text(said, encoding='utf-8')
        if figures:
            from ltbench.report.figures import critical, draw_all, save, style

            made += draw_all(results.records, frame, results.folder / 'figures', board)
            if ranks.nemenyi is not None:
                with style():
                    made += save(critical.draw(ranks), results.folder / 'figures', 'critical_difference')
        readme = results.folder / 'README.md'
        readme.write_text(text.readme(results, [*contents, *(['figures/'] if figures else [])]), encoding='utf-8')
    return [*made, readme]


def leaderboard_of(results: SuiteResults) -> pd.DataFrame:
    """The leaderboard of a suite as a data frame, see :func:`ltbench.report.tables.leaderboard`."""
    return tables.leaderboard(tables.runs_frame(results.records), results.failures)


def _ablation(results: SuiteResults, option: str) -> pd.DataFrame:
    from ltbench.report.ablation import ablate

    return ablate(results.records, option)

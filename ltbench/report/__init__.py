"""Records to tables and figures. Reads nothing but records, and imports no torch."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ltbench.report import ablation, latex, page, published, statistics, tables, text
from ltbench.report.reading import SuiteResults, read_suite
from ltbench.report.statistics import Ranks
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
    beside = published.beside(results.records)
    ablations = {name: ablation.part_ablation(results.records, name) for name in ablation.ABLATIONS}
    ablations |= {option: ablation.ablate(results.records, option) for option in ablate}
    ablations = {name: table for name, table in ablations.items() if len(table)}
    leaderboard_text = text.markdown(results, board, tests, ranks, frame)
    sections = [published.markdown(beside, results.records)]
    sections += [ablation.markdown(table, name) for name, table in ablations.items()]
    contents = {
        'leaderboard.csv': tables.csv(board),
        'leaderboard.md': '\n'.join([leaderboard_text, *filter(None, sections)]),
        'statistics.csv': tables.csv(tests),
    }
    if len(beside):
        contents['published.csv'] = published.csv(beside)
    contents |= {f'ablation_{name}.csv': ablation.csv(table) for name, table in ablations.items()}
    if with_latex:
        contents |= latex.latex(board)
    drawn: list[Path] = []
    captions: dict[str, str] = {}
    with explained('report', results.folder, 'LTBENCH_RESULTS'):
        if figures:
            gc.freeze()  # figures are full of cycles, and the records need not be looked through with them
            try:
                drawn, captions = _draw(results, frame, board, ranks)
            finally:
                gc.unfreeze()
        contents['index.html'] = page.page(
            page.Contents(
                suite=results.suite,
                commands=[f'ltbench run {results.suite}', f'ltbench report {results.suite}'],
                records=results.records,
                leaderboard=board,
                failures=results.failures,
                left_out=list(results.left_out.values()),
                statistics=tests,
                ranks=text.said_of_ranks(ranks),
                mean_ranks=ranks.mean_ranks.rename('mean_rank').rename_axis('method').reset_index(),
                published=beside,
                ablations=ablations,
                figures=[path.relative_to(results.folder) for path in drawn],
                captions=captions,
                settings=frame.sort_values('record')['setting'].tolist(),
            )
        )
        contents['README.md'] = text.readme(results, [*contents, *(['figures/'] if figures else [])])
        for name, said in contents.items():
            (results.folder / name).write_text(said, encoding='utf-8')
    return [*(results.folder / name for name in contents), *drawn]


def leaderboard_of(results: SuiteResults) -> pd.DataFrame:
    """The leaderboard of a suite as a data frame, see :func:`ltbench.report.tables.leaderboard`."""
    return tables.leaderboard(tables.runs_frame(results.records), results.failures)


def _draw(
    results: SuiteResults, frame: pd.DataFrame, board: pd.DataFrame, ranks: Ranks
) -> tuple[list[Path], dict[str, str]]:
    """Draw all figures, remove those of earlier records; return the files, and what each kind of figure shows."""
    from ltbench.report import figures

    folder = results.folder / 'figures'
    drawn = figures.draw_all(results.records, frame, folder, board)
    with figures.style():
        for name, declared in ablation.ABLATIONS.items():
            drawn += figures.draw_ablation(
                ablation.part_differences(results.records, name), declared.part, folder, name
            )
        if ranks.nemenyi is not None:
            drawn += figures.save(figures.critical.draw(ranks), folder, 'critical_difference')
    for path in {*folder.glob('*.png'), *folder.glob('*.svg')} - {*drawn}:
        path.unlink()
    return drawn, {name: drawing.says for name, drawing in figures.FIGURES.items()} | figures.OTHER_CAPTIONS

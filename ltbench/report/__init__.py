"""Records to tables and figures. Reads nothing but records, and imports no torch."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ltbench.errors import StoreError
from ltbench.record import record_name
from ltbench.report import ablation, latex, page, page_data, published, readme, statistics, tables, text
from ltbench.report.environments import check_strictly
from ltbench.report.escaping import in_file_name
from ltbench.report.excerpt import Places, excerpts, table_names
from ltbench.report.frame import caveats
from ltbench.report.reading import SuiteResults, read_suite
from ltbench.report.suite import Report
from ltbench.report.tidy import tidy
from ltbench.sealed import contents_of, explained, temporary, write_atomically

KINDS = ('png', 'svg', 'pdf')
"""File formats of figures."""

__all__ = ['Report', 'SuiteResults', 'read_suite', 'write_report']


def write_report(
    report: Report,
    figures: bool = True,
    with_latex: bool = False,
    ablate: Sequence[str] = (),
    into: Path | None = None,
    strict: bool = False,
    paper: bool = False,
    show: Sequence[str] = (),
) -> list[Path]:
    """Rebuild everything in ``results/SUITE/`` except the records; return the written files.

    Args:
        report: The suite's tables.
        figures: Whether to draw.
        with_latex: Also write the leaderboard as LaTeX tables.
        ablate: Options, ``METHOD.option``, to ablate in addition to those that the suite declares.
        into: A Markdown file with places for short tables, see :mod:`ltbench.report.excerpt`.
        strict: Refuse what :func:`ltbench.report.environments.check_strictly` finds, before anything is written.
        paper: Also write every figure as PDF and SVG into ``paper/``.
        show: Methods that figures show, in this order, see :func:`ltbench.report.figures.draw_all`.

    Raises:
        UsageError: If no record has such an option or method.
        StoreError: If nothing can be written, or ``strict`` refuses.
    """
    results, frame = report.results, report.frame
    if strict:
        check_strictly(replace(results, records=report.as_recorded), frame)
    tests, ranks, board = report.tests, statistics.mean_ranks(frame), report.board
    places = None if into is None else Places(into, results.suite)
    if places is not None:
        places.check(table_names(board))
    beside, order = published.beside(results.records), published.orders(results.records)
    differences = {name: ablation.part_differences(results.records, name) for name in ablation.ABLATIONS}
    ablations = {name: ablation.summarise(table) for name, table in differences.items()}
    declared = report.suite.ablate if report.suite is not None and results.records else ()
    ablations |= {option: ablation.ablate(results.records, option, required=False) for option in declared}
    ablations |= {option: ablation.ablate(results.records, option) for option in ablate}
    ablations = {name: table for name, table in ablations.items() if len(table)}
    leaderboard_text = text.markdown(results, board, tests, ranks, frame, report.coverage)
    sections = [published.markdown(beside, order, results.records)]
    sections += [ablation.markdown(table, name) for name, table in ablations.items()]
    contents = {
        'leaderboard.csv': tables.csv(board),
        'leaderboard.md': '\n'.join([leaderboard_text, *filter(None, sections)]),
        'runs.csv': tables.csv(tidy({Path(record_name(run)): run for run in report.as_recorded}).drop(columns='suite')),
        'statistics.csv': tables.csv(tests),
    }
    if len(beside):
        contents['published.csv'] = tables.csv(beside)
    if len(order):
        contents['published_order.csv'] = tables.csv(order)
    contents |= {f'ablation_{in_file_name(name)}.csv': tables.csv(table) for name, table in ablations.items()}
    if with_latex:
        contents |= latex.latex(board, caveats(results.records))
    _check_places(results.folder)
    drawn: list[Path] = []
    for_paper: list[Path] = []
    with explained('report', results.folder, 'LTBENCH_RESULTS'):
        if figures or paper:
            from ltbench.report.figures import draw_all

            what = {'intervals': board, 'ablations': differences, 'ranks': ranks, 'show': show}
            draw = partial(draw_all, results.records, frame, **what)
            drawn = _replace_figures(results.folder / 'figures', draw) if figures else []
            for_paper = _replace_figures(results.folder / 'paper', partial(draw, paper=True)) if paper else []
        files = [*contents, *(['figures/'] if figures else [])]
        names = {path.name for path in drawn}
        short = excerpts(results, board, results.folder, names).values()
        contents['README.md'] = readme.readme(results, files, short, report.coverage)
        for name, content in contents.items():
            write_atomically(results.folder / name, content)
        optional = (f'ablation_{in_file_name(name)}.csv' for name in (*ablation.ABLATIONS, *declared))
        for name in {'published.csv', 'published_order.csv', *optional} - {*contents}:
            (results.folder / name).unlink(missing_ok=True)  # made from records that are no longer here
        shown = page_data.tables(report, beside, order, ablations)
        index = page.write_page(results.folder.parent, results.suite, shown, page_data.runs(report))
    if places is not None:
        places.fill(excerpts(results, board, places.file.parent, names))
    return [*(results.folder / name for name in contents), index, *drawn, *for_paper]


def _check_places(folder: Path) -> None:
    """Check that the files that a report replaces were written by a report.

    Raises:
        StoreError: If one was not; it is named.
    """
    for path, mark in ((folder / 'README.md', b'ltbench report'), (folder.parent / page.FILE, page.MARK)):
        if path.is_file() and (there := contents_of(path)).strip() and mark not in there:
            raise StoreError(
                f'{path} was not written by ltbench, and a report would replace it: rename it, or keep results in '
                'another folder (LTBENCH_RESULTS)'
            )


def _replace_figures(folder: Path, draw: Callable[[Path], list[Path]]) -> list[Path]:
    """Replace earlier figures by new ones; return the files.

    The earlier ones stay until all new ones are drawn, so that a full disk or Ctrl-C leaves no half-written file.
    """
    from ltbench.report.figures import FIGURES, OTHERS

    drawing = temporary(folder)
    gc.freeze()  # figures create many reference cycles; the garbage collector need not scan the records for them
    try:
        drawn = draw(drawing)
        folder.mkdir(exist_ok=True)
        drawn = [path.replace(folder / path.name) for path in drawn]
    finally:
        gc.unfreeze()
        shutil.rmtree(drawing, ignore_errors=True)
    earlier = {path for name in (*FIGURES, *OTHERS) for kind in KINDS for path in folder.glob(f'{name}*.{kind}')}
    for path in earlier - {*drawn}:
        path.unlink(missing_ok=True)  # if two reports run at once, all figures are those of the last one
    return drawn

"""The leaderboard as LaTeX tables, ready to paste."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ltbench.report.cells import named, resolution, score, scores_of
from ltbench.report.environments import footnotes, marks_of
from ltbench.report.escaping import in_latex
from ltbench.report.frame import by_table, slugs

CAPTION = (
    'accuracy and ECE in \\%, mean $\\pm$ standard deviation over seeds (ddof = 1), or for one seed the 95\\,\\% '
    'interval over test images; last epoch, test set. Bold: the best top-1; gray circle: within noise of it.'
)


def latex(board: pd.DataFrame, caveats: Mapping[str, str]) -> dict[str, str]:
    """A table for each group, by file name; ``\\usepackage{booktabs,xcolor}`` is all they need.

    Metrics that add nothing are left out; a method without a successful run has dashes. The caption explains the marks.

    Args:
        board: Of :func:`ltbench.report.tables.leaderboard`.
        caveats: Of :func:`ltbench.report.frame.caveats`.
    """
    files: dict[str, str] = {}
    tables = list(by_table(board, sort=False))
    for label, (key, rows) in zip(slugs(key for key, _ in tables), tables, strict=True):
        files[f'leaderboard-{label}.tex'] = _table(key.title, label, rows, caveats.get(key.benchmark, ''))
    return files


def _table(name: str, label: str, rows: pd.DataFrame, caveat: str) -> str:
    shown = scores_of(rows)
    body = [
        ' & '.join([in_latex(named(row) + sign), str(row['n_seeds']), *_cells(row, shown)]) + r' \\'
        for row, sign in zip(rows.to_dict('records'), marks_of(rows), strict=True)
    ]
    notes = [resolution(rows), caveat, *footnotes(rows)]
    lines = [
        r'% \usepackage{booktabs,xcolor}',
        r'\begin{table}',
        r'\centering',
        rf'\caption{{{in_latex(name)}: {CAPTION}{"".join(f" {in_latex(text)}" for text in notes if text)}}}',
        rf'\label{{tab:{label}}}',
        rf'\begin{{tabular}}{{lr{"c" * len(shown)}}}',
        r'\toprule',
        ' & '.join(['method', '$n$', *shown.values()]) + r' \\',
        r'\midrule',
        *body,
        r'\bottomrule',
        r'\end{tabular}',
        r'\end{table}',
    ]
    return '\n'.join(lines) + '\n'


def _cells(row: Mapping[str, Any], metrics: Mapping[str, str]) -> list[str]:
    marks = {'best': r'\textbf{%s}', 'within noise': r'%s\,\textcolor{gray}{$\circ$}'}
    mark = {'top1': marks.get(row['best'], '%s')}
    return [mark.get(metric, '%s') % (score(row, metric, r'$\pm$') or '--') for metric in metrics]

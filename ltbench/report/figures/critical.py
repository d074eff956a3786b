"""The critical-difference diagram: mean ranks of methods over tables, those that are not told apart joined by a bar."""

from __future__ import annotations

from collections.abc import Iterable

import scikit_posthocs
from matplotlib.figure import Figure

from ltbench.report.figures.style import add_title
from ltbench.report.statistics import ALPHA, Ranks


def draw(ranks: Ranks, caveats: Iterable[str] = ()) -> Figure:
    """Draw the diagram of Demšar (JMLR 2006).

    Args:
        ranks: Of :func:`ltbench.report.statistics.mean_ranks`.
        caveats: What all figures of the benchmarks have to say.

    Raises:
        ValueError: If the ranks have no test: there is nothing that a bar could say.
    """
    if ranks.nemenyi is None or ranks.friedman is None:
        raise ValueError(f'no critical-difference diagram: {ranks.note}')
    methods = len(ranks.mean_ranks)
    figure = Figure(figsize=(8, 1.8 + 0.22 * methods))  # none of pyplot's, which a notebook would show
    axes = figure.subplots()
    # as if none were told apart, where Friedman's test does not tell any apart
    p_values = ranks.nemenyi if ranks.friedman[1] < ALPHA else ranks.nemenyi.clip(lower=1.0)
    scikit_posthocs.critical_difference_diagram(
        ranks.mean_ranks,
        p_values,
        alpha=ALPHA,
        ax=axes,
        label_fmt_left='{label} ({rank:.2f})',
        label_fmt_right='({rank:.2f}) {label}',
        color_palette=dict.fromkeys(ranks.mean_ranks.index, 'black'),
    )
    axes.grid(False)
    add_title(
        figure,
        f'Mean ranks in top-1 over {len(ranks.tables)} tables',
        f'1 is best; a bar joins methods that are not told apart (Nemenyi at {ALPHA}: ranks differ by less than '
        f'{ranks.critical_difference:.2f}; Friedman p = {ranks.friedman[1]:.2g}).',
        *caveats,
    )
    return figure

"""The critical-difference diagram: mean ranks over tables; a bar joins methods that do not differ significantly."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import scikit_posthocs

from ltbench.report.figures.accuracy import Drawn
from ltbench.report.figures.style import LINE, sheet
from ltbench.report.statistics import ALPHA, Ranks


def draw(ranks: Ranks, names: Mapping[str, str], width: float) -> Drawn:
    """Draw the diagram of Demšar (JMLR 2006).

    Args:
        ranks: Of :func:`ltbench.report.statistics.mean_ranks`.
        names: To show, by method.
        width: In inches.

    Raises:
        ValueError: If the ranks have no test, so that no bar can be drawn.
    """
    if ranks.nemenyi is None or ranks.friedman is None:
        raise ValueError(f'no critical-difference diagram: {ranks.note}')
    names = {method: fill(name, int(4 * width), break_long_words=False) for method, name in names.items()}
    shown = ranks.mean_ranks.rename(names)
    lines = 1 + max(name.count('\n') for name in shown.index)
    figure, [[axes]] = sheet(width, 0.8 + LINE * lines * (len(shown) / 2 + 3))
    # where Friedman's test is not significant, no pair is
    p_values = ranks.nemenyi if ranks.friedman[1] < ALPHA else ranks.nemenyi.clip(lower=1.0)
    scikit_posthocs.critical_difference_diagram(
        shown,
        p_values.rename(index=names, columns=names),
        alpha=ALPHA,
        ax=axes,
        label_fmt_left='{label} ({rank:.2f})',
        label_fmt_right='({rank:.2f}) {label}',
        color_palette=dict.fromkeys(shown.index, 'black'),
    )
    axes.grid(False)
    return Drawn(
        figure,
        f'{len(ranks.tables)} tables; 1 is best; Nemenyi at {ALPHA}: ranks differ by less than '
        f'{ranks.critical_difference:.2f}; Friedman p = {ranks.friedman[1]:.2g}',
    )

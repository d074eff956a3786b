"""How figures look: sizes, colours, legends. Positions are left to matplotlib's constrained layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ltbench.report.families import FAMILIES, NONE, look_of
from ltbench.report.frame import BASELINE

WIDTHS = {'column': 3.25, 'text': 6.75}
"""Inches of a column and of the text of a paper in two columns."""

DPI = 150  # of pictures for a screen
TEXT = 8  # points
LINE = 0.135  # inches, of text
LETTERS = 17  # in an inch of text, at least
INK, PALE = '0.1', '0.55'
MARKERS = ('o', 's', 'D', '^', 'v', 'P', 'X', '*')
DASHES: tuple[Any, ...] = ('-', (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 1, 2, 1)), (0, (2, 2)))
GROUP_LOOKS: dict[str, dict[str, Any]] = {
    'many': {'color': '#0b6fb0', 'marker': 'o'},
    'medium': {'color': '#b0601a', 'marker': 's'},
    'few': {'color': '#9b2f6b', 'marker': '^'},
}
"""Looks of many, medium and few, here and on the page."""

SHADES = (0, -0.6, 0.45, -0.3)
"""Shades of successive lines of one family: how far towards black (below 0) or white."""

GROUP_HATCHES = {'many': '', 'medium': '////', 'few': '....'}


@contextmanager
def style() -> Iterator[None]:
    """The context in which to draw and save figures."""
    look: Any = {
        'svg.hashsalt': 'ltbench',
        'svg.fonttype': 'none',
        'pdf.fonttype': 42,  # TrueType: many journals take no Type 3
        'text.parse_math': False,  # a name with two $ is no formula
        'font.size': TEXT,
        'axes.labelsize': TEXT,
        'axes.titlesize': TEXT,
        'xtick.labelsize': TEXT - 0.5,
        'ytick.labelsize': TEXT - 0.5,
        'legend.fontsize': TEXT - 0.5,
        'figure.titlesize': TEXT,
        'legend.frameon': False,
        'axes.edgecolor': '0.6',
        'grid.linewidth': 0.6,
        'hatch.linewidth': 0.6,
        'lines.linewidth': 1.3,
        'lines.markersize': 4,
        'errorbar.capsize': 1.5,
    }
    with sns.axes_style('whitegrid'), mpl.rc_context(look):
        yield


def sheet(width: float, height: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Figure, np.ndarray]:
    """A figure of a size in inches, and its ``[rows, columns]`` axes; ``shared`` are those of ``Figure.subplots``."""
    figure = Figure(figsize=(width, height), layout='constrained')  # not by pyplot: a notebook would show it
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def row_sheet(names: Sequence[str], width: float, columns: int = 1) -> tuple[Figure, list[Axes], np.ndarray]:
    """Axes side by side with a row for each name, the first on top; and the places of the rows, in inches."""
    names = [fill(name, int(5.6 * width)) for name in names]
    heights = np.array([0.08 + 0.115 * (name.count('\n') + 1) for name in names])
    figure, [panels] = sheet(width, 0.6 + 0.2 * (columns > 1) + heights.sum(), columns=columns)
    places = heights.cumsum() - heights / 2
    for axes in panels:
        axes.set(ylim=(heights.sum(), 0), yticks=[])
        axes.grid(axis='y', visible=False)
        axes.locator_params(axis='x', nbins=max(3, int(1.4 * width / columns)))
    panels[0].set_yticks(places, names)
    return figure, list(panels), places


def legend(figure: Figure, *panels: Axes) -> None:
    """One legend for all panels, under them, with each label once; the figure grows by its height."""
    entries = {label: one for axes in panels for one, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if not entries:
        return
    room = figure.get_figwidth() * LETTERS
    labels = [fill(label, int(room) - 8) for label in entries]
    wide = max(len(line) for label in labels for line in label.split('\n')) + 9  # with its line, and a gap
    columns = max(1, min(len(labels), int(room / wide)))
    figure.legend(list(entries.values()), labels, loc='outside lower center', ncols=columns, columnspacing=1.2)
    lines = -(-len(labels) // columns) * max(label.count('\n') + 1 for label in labels)
    grow(figure, LINE * lines + 0.1)


def add_title(figure: Figure, *texts: str) -> None:
    """Texts above everything, each on a new line; the figure grows by their height."""
    title = '\n'.join(fill(text, int(figure.get_figwidth() * LETTERS)) for text in texts)
    figure.suptitle(title, x=0.01, ha='left')
    grow(figure, LINE * (title.count('\n') + 1) + 0.05)


def title_panel(figure: Figure, axes: Axes, text: str, room: float, loc: Literal['left', 'center'] = 'center') -> None:
    """A title over one panel, in so many inches; the figure grows by its lines after the first."""
    axes.set_title(fill(text, int(LETTERS * room)), loc=loc, pad=3)
    grow(figure, LINE * axes.get_title(loc).count('\n'))


def plain_log(axis: Axis) -> None:
    """A log axis with few ticks, and numbers as they are: matplotlib would set powers of ten as formulas."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axis.set_major_formatter('{x:g}')
    axis.set_minor_formatter(NullFormatter())


def grow(figure: Figure, height: float) -> None:
    """Make a figure taller by so many inches."""
    figure.set_figheight(figure.get_figheight() + height)


def looks(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of the line of each method; the baseline's are the same in all figures.

    The colour is that of its family, in one of :data:`SHADES` where others of the family are among the methods.
    """
    others = [method for method in methods if method != BASELINE]
    families = [look_of(method) for method in others]
    colours = [_shade(family.light, families[:place].count(family)) for place, family in enumerate(families)]
    return {BASELINE: {'color': 'black', 'marker': 'o', 'linestyle': '-'}} | _line_looks(others, colours)


def looks_of_options(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each label that is no method."""
    every = sns.color_palette('colorblind')
    palette = [every[number] for number in (0, 1, 2, 3, 4, 5, 9)]  # the others are grey, or too pale for a line
    return _line_looks(labels, [palette[number % len(palette)] for number in range(len(labels))])


def _shade(colour: str, number: int) -> tuple[float, float, float]:
    """A shade of a colour; that of number 0 is the colour itself."""
    share = SHADES[number % len(SHADES)]
    end = 1.0 if share > 0 else 0.0
    red, green, blue = (part + abs(share) * (end - part) for part in to_rgb(colour))
    return red, green, blue


def _line_looks(labels: Sequence[str], colours: Sequence[Any]) -> dict[str, dict[str, Any]]:
    return {
        label: {
            'color': colour,
            'marker': MARKERS[1 + number % (len(MARKERS) - 1)],
            'linestyle': DASHES[1 + number % (len(DASHES) - 1)],
        }
        for number, (label, colour) in enumerate(zip(labels, colours, strict=True))
    }


def family_legend(figure: Figure, axes: Axes, methods: Sequence[str]) -> None:
    """The legend of axes whose points have the looks of families, with those of the methods."""
    present = {look_of(method) for method in methods}
    for family in (*FAMILIES.values(), NONE):
        if family in present:
            axes.plot([], [], ls='', marker=family.marker, color=family.light, label=family.title)
    legend(figure, axes)

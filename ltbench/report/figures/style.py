"""How figures look and how they are saved: one place for sizes, colours, titles and files.

Axes are placed in inches by hand: an automatic layout would draw everything several times.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image

from ltbench.report.escaping import in_svg

DPI = 150
TEXT = 8.5  # points, of everything but the title
TITLE = 9.5
INK, PALE = '0.1', '0.55'
MARKERS = ('o', 's', 'D', '^', 'v', 'P', 'X', '*')
DASHES: tuple[Any, ...] = ('-', (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 1, 2, 1)), (0, (2, 2)))
HATCHES = ('', '////', '....', '\\\\\\\\')
BASELINE = 'erm'
PANEL_GAP = 0.3  # inches, between axes of one row
NAME_PAD = 7  # points, between axes and the names of rows
SNAPPED = 200  # bars; matplotlib snaps paths of at most 1024 points to pixels


@contextmanager
def style() -> Iterator[None]:
    """Draw and save inside of this: the look, and what makes the same figure the same bytes."""
    look: Any = {
        'svg.hashsalt': 'ltbench',
        'svg.fonttype': 'none',
        'text.parse_math': False,  # a name with two $ is no formula
        'savefig.dpi': DPI,
        'font.size': TEXT,
        'axes.labelsize': TEXT,
        'axes.titlesize': TEXT,
        'xtick.labelsize': TEXT,
        'ytick.labelsize': TEXT,
        'legend.fontsize': TEXT,
        'legend.frameon': False,
        'axes.edgecolor': '0.6',
        'grid.linewidth': 0.6,
        'hatch.linewidth': 0.6,
        'axes.titley': 1.0,  # where titles are anyway; else all tick labels are measured to find out
        'lines.linewidth': 1.4,
        'lines.markersize': 4.5,
    }
    with sns.axes_style('whitegrid'), mpl.rc_context(look):
        yield


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` (150 dpi) and ``name.svg`` into a folder that exists; the same bytes for the same figure."""
    paths = [folder / f'{name}.png', folder / f'{name}.svg']
    _place_empty_labels(figure)
    _align_with_pixels(figure)
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # without alpha (all is opaque) and at level 3: smaller files than savefig's, in half the time
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert('RGB')
    picture.save(paths[0], dpi=(DPI, DPI), compress_level=3)
    with mpl.rc_context({'svg.hashsalt': 'ltbench', 'svg.fonttype': 'none'}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    paths[1].write_bytes(in_svg(buffer.getvalue()))
    return paths


def _align_with_pixels(figure: Figure) -> None:
    """Move the edges of axes by less than a pixel, off the middle between two pixels.

    What lies midway is drawn on one side or the other as the last bit of a float falls, which is not the same on every
    CPU. A fifth of a pixel beyond a whole one, neither the edges nor ticks at simple fractions of an axis lie there.
    """
    size = DPI * figure.get_size_inches()
    for axes in figure.axes:
        corners = axes.get_position().get_points() * size
        (left, bottom), (right, top) = (np.floor(corners + 0.501) + 0.2) / size
        axes.set_position((left, bottom, right - left, top - bottom))


def canvas(
    widths: Sequence[float],
    heights: Sequence[float],
    *,
    left: float = 0.6,
    bottom: float = 0.5,
    gap: tuple[float, float] = (0.6, 0.5),
    right: float = 0.15,
    top: float = 0.1,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of axes, row by row from the top; all sizes in inches, ``gap`` between columns and rows."""
    width = left + sum(widths) + gap[0] * (len(widths) - 1) + right
    height = bottom + sum(heights) + gap[1] * (len(heights) - 1) + top
    figure = Figure(figsize=(width, height))
    grid: list[list[Axes]] = []
    y = height - top
    for tall in heights:
        y -= tall
        x, row = left, []
        for wide in widths:
            row.append(figure.add_axes((x / width, y / height, wide / width, tall / height)))
            x += wide + gap[0]
        y -= gap[1]
        grid.append(row)
    return figure, grid


def row_canvas(methods: Sequence[str], widths: Sequence[float], top: float = 0.05) -> tuple[Figure, list[Axes]]:
    """Axes side by side with a row a method, the first on top; names are on the left, as long as they are."""
    names = [broken(method) for method in methods]
    row = 0.1 + 0.135 * max(name.count('\n') + 1 for name in names)
    figure, [panels] = canvas(
        widths, [max(row * len(names), 0.5)], left=0.2 + max(map(text_width, names)), gap=(PANEL_GAP, 0.0), top=top
    )
    for axes in panels:
        axes.set(ylim=(len(names) - 0.5, -0.5), yticks=[])
    # texts where tick labels would be: a tick is five artists, measured and drawn one by one
    transform, vertical, horizontal = panels[0].get_yaxis_text1_transform(NAME_PAD)
    for number, name in enumerate(names):
        panels[0].text(0, number, name, transform=transform, va=vertical, ha=horizontal)
    return figure, panels


def draw_bars(axes: Axes, lefts: np.ndarray, lengths: np.ndarray, **look: Any) -> None:
    """Horizontal bars in rows 0, 1, ...; none where the length is NaN. One artist, many times as fast as one a bar."""
    places = np.arange(len(lengths))
    corners = np.stack(
        [
            np.stack([x, places + y], axis=1)
            for x, y in zip((lefts, lefts + lengths, lefts + lengths, lefts), (-0.37, -0.37, 0.37, 0.37), strict=True)
        ],
        axis=1,
    )
    # one path of many bars: a hatch is drawn anew for each path; of too many, they would not be snapped to pixels
    known = corners[~np.isnan(lengths)]
    pieces = [known[start : start + SNAPPED] for start in range(0, len(known), SNAPPED)]
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    outlines = [
        Outline(np.concatenate([piece, piece[:, :1]], axis=1).reshape(-1, 2), codes * len(piece)) for piece in pieces
    ]
    axes.add_collection(PathCollection(outlines, linewidths=0, **look), autolim=False)


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int | None = None) -> None:
    """A legend under everything; the figure grows by its height, and gets as many columns as it has room for."""
    if not labels:
        return
    widths = [text_width(label) + 0.65 for label in labels]
    width = figure.get_size_inches()[0]
    fitting = len(labels) if sum(widths) < width - 0.2 else int((width - 0.2) / max(widths))
    columns = max(1, min(columns or len(labels), fitting))
    lines = -(-len(labels) // columns)
    grow(figure, bottom=0.17 * lines + 0.12)
    figure.legend(
        handles, labels, loc='lower left', bbox_to_anchor=(0.1 / width, 0.0), ncols=columns, borderaxespad=0.2,
        borderpad=0.2, labelspacing=0.3, columnspacing=1.2, handlelength=2.6,
    )  # fmt: skip


def add_title(figure: Figure, first: str, *others: str) -> None:
    """Put a title above everything, wrapped to the width of the figure, which grows by its height."""
    width = figure.get_size_inches()[0] - 0.2
    lines = []
    for number, text in enumerate((first, *others)):
        size = TITLE if number == 0 else TEXT
        average = text_width(text, size, 'bold' if number == 0 else 'normal') / max(len(text), 1)
        text = text.replace('< ', '<\N{NO-BREAK SPACE}')
        lines += [(line, size, number == 0) for line in wrap(text, max(20, int(0.97 * width / max(average, 0.01))))]
    grow(figure, top=0.165 * len(lines) + 0.14)
    wide, tall = figure.get_size_inches()
    for number, (line, size, is_first) in enumerate(lines):
        figure.text(
            0.1 / wide, 1 - (0.08 + 0.165 * number) / tall, line, va='top', fontsize=size,
            color=INK if is_first else '0.3', weight='bold' if is_first else 'normal',
        )  # fmt: skip


def plain_log(axis: Axis) -> None:
    """Numbers of a log axis as they are, where matplotlib would set powers of ten as formulas, which takes its time."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axis.set_minor_formatter(NullFormatter())


def grow(figure: Figure, *, top: float = 0.0, bottom: float = 0.0) -> None:
    """Add inches above and below the axes of a figure, which keep their sizes."""
    width, height = figure.get_size_inches()
    total = height + top + bottom
    figure.set_size_inches(width, total)
    for axes in figure.axes:
        box = axes.get_position()
        axes.set_position((box.x0, (box.y0 * height + bottom) / total, box.width, box.height * height / total))


def looks(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of the line of each method; the baseline's are the same in all figures."""
    palette = [colour for number, colour in enumerate(sns.color_palette('colorblind')) if number != 7]  # 7 is grey
    found: dict[str, dict[str, Any]] = {}
    others = [method for method in methods if method != BASELINE]
    for number, method in enumerate(others):
        found[method] = {
            'color': palette[number % len(palette)],
            'marker': MARKERS[1 + number % (len(MARKERS) - 1)],
            'linestyle': DASHES[1 + number % (len(DASHES) - 1)],
        }
    return found | {BASELINE: {'color': 'black', 'marker': 'o', 'linestyle': '-'}}


def colours(count: int) -> list[tuple[float, float, float]]:
    """So many colours that the colour-blind can tell apart, at most ten."""
    return list(sns.color_palette('colorblind', count))


def broken(name: str, longest: int = 36) -> str:
    """A long method name in several lines, broken after a ``+`` or a comma."""
    lines = ['']
    for piece in (
        name.replace('+', '+\0').replace(', ', ', \0').replace(',', ',\0').replace(',\0 \0', ', \0').split('\0')
    ):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > longest:
            lines.append('')
        lines[-1] += piece
    return '\n'.join(line.rstrip() for line in lines)


def _place_empty_labels(figure: Figure) -> None:
    """Give axis labels without text a place, which matplotlib would look for by measuring all tick labels."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not axis.get_label_text():
                axis.set_label_coords(0, 0)


@cache
def text_width(text: str, size: float = TEXT, weight: str = 'normal') -> float:
    """Width in inches of the longest line of a text, at a size in points."""
    font = FontProperties(size=size, weight=weight)
    return max(text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.split('\n')) / 72

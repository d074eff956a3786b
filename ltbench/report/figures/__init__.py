"""Records to figures: PNG for the page and READMEs, PDF and SVG at the widths of a paper."""
# ruff: noqa: E402 - matplotlib is imported in one way, before what draws with it

from __future__ import annotations

import gc
import io
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ltbench.processes import isolated
from ltbench.report.headless import import_matplotlib

import_matplotlib()

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ltbench.report.ablation import ABLATIONS
from ltbench.report.escaping import in_svg
from ltbench.report.figures import ablation, accuracy, calibration, comparison, critical, inside, training
from ltbench.report.figures.accuracy import Drawn
from ltbench.report.figures.material import FigureData, materials, over_factors
from ltbench.report.figures.style import DPI, WIDTHS, add_title, style
from ltbench.report.frame import by_table, caveats, slugs
from ltbench.report.names import display_names, in_titles
from ltbench.report.statistics import Ranks

__all__ = ['FIGURES', 'OTHERS', 'Kind', 'draw_all']

ALONE = 24  # figures; so many or fewer are drawn faster in one process
SPREAD = 'mean and one standard deviation over seeds (ddof 1; none for one seed)'
MEANS = 'means over seeds'


@dataclass(frozen=True)
class Kind:
    """A kind of figure: how it is drawn and what it says.

    Attributes:
        draw: From data and a width in inches to a figure; None where the data hold nothing to draw.
        says: What it shows, in a line.
        reads: How seeds are shown, and what else a reader has to know.
        factors: Whether it is drawn once for all imbalance factors of a benchmark.
    """

    draw: Callable[[FigureData, float], Drawn | None]
    says: str
    reads: str
    factors: bool = False


FIGURES: Mapping[str, Kind] = {
    'leaderboard': Kind(accuracy.leaderboard, 'Top-1 of methods', f'a point is a seed; {SPREAD}'),
    'groups': Kind(accuracy.groups, 'Accuracy of many-, medium- and few-shot classes', SPREAD),
    'per_class': Kind(
        accuracy.per_class, 'Accuracy of each class minus that of ERM', f'paired by seed, {SPREAD}; head to tail'
    ),
    'imbalance': Kind(comparison.imbalance, 'Top-1 against imbalance factor', SPREAD, factors=True),
    'cost': Kind(comparison.cost, 'Top-1 against training cost, relative to ERM', f'paired by seed, {SPREAD}'),
    'reliability': Kind(
        calibration.reliability,
        'Reliability: accuracy against confidence',
        '15 bins, images of all seeds together, the area of a point is its share of them; bins with fewer than '
        f'{calibration.LEAST} images left out; dotted: confidence equals accuracy',
    ),
    'confusion': Kind(
        calibration.confusion,
        'Images of the tail that are predicted as wrong classes',
        'means over seeds, whiskers one standard deviation of many-shot (ddof 1; none for one seed)',
    ),
    'training': Kind(training.curves, 'Training curves', SPREAD),
    'bn_vectors': Kind(
        inside.bn_vectors,
        'Effective weight and bias of the last BN layer',
        'above sorted (mean over seeds; flat is even), below as a histogram (channels of all seeds)',
    ),
    'bn_layers': Kind(
        inside.bn_layers,
        'Effective weight and bias of BN layers',
        f'mean and standard deviation over channels, {MEANS}',
    ),
    'strength': Kind(
        inside.strength,
        'Feature strength of frequent- and rare-specific channels',
        'our own operational definition: channel k is rare-specific if the mean over rare classes of '
        '(m_ck - mean_c m_ck) W_ck is larger than that over frequent ones (m: class means of the test features, W: '
        f'classifier); {SPREAD}',
    ),
    'bn_scale': Kind(inside.scale, 'Learned scalar of normalised BN over training', SPREAD),
    'feature_norms': Kind(inside.feature_norms, 'Length of the features of test images by class', MEANS),
}
"""Every figure that is drawn of a table, in order, by the name that its files begin with."""

OTHERS = {
    'critical_difference': 'Mean ranks in top-1 over tables; a bar joins methods that do not differ significantly',
    **{f'ablation_{name}': f'What {in_titles(one.part)} changes, paired by seed' for name, one in ABLATIONS.items()},
}
"""What figures show that are not drawn of one table."""

INTERVALS = 'mean and 95 % t interval over seeds, small points are seeds; right of the line is better'


@dataclass(frozen=True)
class Task:
    """One figure to draw: its name, what it is of, and what its caption says beside the figure's own note."""

    file: str
    draw: Callable[..., Drawn | None]
    of: str
    says: str
    caveat: str = ''


def draw_all(
    records: Sequence[Mapping[str, Any]],
    frame: pd.DataFrame,
    folder: Path,
    intervals: pd.DataFrame | None = None,
    ablations: Mapping[str, pd.DataFrame] | None = None,
    ranks: Ranks | None = None,
    paper: bool = False,
    show: Sequence[str] = (),
    processes: int | None = None,
) -> list[Path]:
    """Draw every figure that the records hold, for each table; return the files.

    Args:
        records: Those that the frame was made of.
        frame: From :func:`ltbench.report.frame.runs_frame`.
        folder: Where the files go; made if it does not exist.
        intervals: Rows with the columns of a group, ``method``, ``top1_low`` and ``top1_high`` in percent; shown for
            methods with one seed. None: such methods have no interval.
        ablations: Differences of :func:`ltbench.report.ablation.part_differences`, by name of the ablation.
        ranks: Of :func:`ltbench.report.statistics.mean_ranks`.
        paper: PDF and SVG at each of :data:`~ltbench.report.figures.style.WIDTHS` and without titles, which are in
            ``captions.md`` then; instead of PNG.
        show: Methods to show, in this order; empty for all. Ablations and ranks stay whole.
        processes: How many draw; default: one a core if there is much to draw.

    Raises:
        UsageError: If a method to show has no run; with near misses.
    """
    found = materials(records, frame, intervals, show)
    folder.mkdir(parents=True, exist_ok=True)
    caveat_of = caveats(records)
    tasks = [*_tasks(found), *_tasks(over_factors(found)), *_ablation_tasks(ablations or {}, caveat_of)]
    if ranks is not None and ranks.nemenyi is not None:
        name, draw = 'critical_difference', partial(critical.draw, ranks, display_names(records))
        tasks.append(Task(name, draw, OTHERS[name], '', ' '.join(caveat_of.values())))
    if processes is None:
        processes = min(os.cpu_count() or 1, 8) if len(tasks) > ALONE else 1
    if processes == 1:
        drawn = [_carry_out(task, folder, paper) for task in tasks]
    else:
        # not forked: the caller may have threads; freeze: the garbage collector skips what was imported
        with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn'), gc.freeze) as pool:
            with isolated(PYTHONSAFEPATH='1', MPLBACKEND='agg'):
                drawing = pool.map(_carry_out, tasks, repeat(folder), repeat(paper))  # starts the processes
            drawn = list(drawing)
    paths = [path for made in drawn for path in made]
    captions = [made[path] for made in drawn for path in list(made)[:1]]
    if paper:
        paths.append(folder / 'captions.md')
        paths[-1].write_text('\n\n'.join(['# Captions', *captions, '']))
    return paths


def _carry_out(task: Task, folder: Path, paper: bool) -> dict[Path, str]:
    """Draw one figure; the files, with their caption."""
    made: dict[Path, str] = {}
    for suffix, width in WIDTHS.items() if paper else [('', WIDTHS['text'])]:
        with style():
            drawn = task.draw(width=width)
            if drawn is None:
                return {}
            says = '; '.join(filter(None, (task.says, drawn.note))) + '.'
            says = says[0].upper() + says[1:]
            if paper:
                caption = ' '.join(filter(None, (f'`{task.file}`: {task.of}. {says}', task.caveat)))
                made |= dict.fromkeys(_save_for_paper(drawn.figure, folder / f'{task.file}-{suffix}'), caption)
            else:
                add_title(drawn.figure, task.of, says, *filter(None, [task.caveat]))
                made[_save_for_screen(drawn.figure, folder / f'{task.file}.png')] = ''
    return made


def _save_for_screen(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, with a palette: a quarter of the bytes."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert('RGB')
    picture = picture.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True, dpi=(DPI, DPI))
    return path


def _save_for_paper(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PDF and SVG, laid out once."""
    pdf, svg = path.with_name(f'{path.name}.pdf'), path.with_name(f'{path.name}.svg')
    figure.savefig(pdf, metadata={'CreationDate': None})
    figure.set_layout_engine('none')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None})
    svg.write_bytes(in_svg(buffer.getvalue()))
    return [pdf, svg]


def _ablation_tasks(ablations: Mapping[str, pd.DataFrame], caveat_of: Mapping[str, str]) -> Iterator[Task]:
    """A figure for each group of an ablation."""
    for name, differences in ablations.items():
        found = list(by_table(differences[differences['is_compared']])) if len(differences) else []
        for slug, (key, rows) in zip(slugs(key for key, _ in found), found, strict=True):
            of = f'{OTHERS[f"ablation_{name}"]}: {key.title}'
            draw = partial(ablation.draw, rows, ABLATIONS[name].part)
            yield Task(f'ablation_{name}-{slug}', draw, of, INTERVALS, caveat_of.get(key.benchmark, ''))


def _tasks(found: Sequence[FigureData]) -> Iterator[Task]:
    """The figures of each group of runs."""
    for data, slug in zip(found, slugs(data.key for data in found), strict=True):
        for name, kind in FIGURES.items():
            if kind.factors == data.factors:
                seeds = data.seeds()
                of = f'{kind.says}: {data.title}, {seeds}'
                reads = kind.reads.replace(SPREAD, 'one seed, so no deviation') if seeds == '1 seed' else kind.reads
                yield Task(f'{name}-{slug}', partial(kind.draw, data), of, reads, data.caveat)

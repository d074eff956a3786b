"""Records to figures, PNG and SVG; the same bytes for the same records, however many processes draw."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd

from ltbench.processes import isolated
from ltbench.report.ablation import ABLATIONS
from ltbench.report.figures import ablation, accuracy, calibration, comparison, critical, inside, training
from ltbench.report.figures.accuracy import Drawn
from ltbench.report.figures.material import Material, by_top1, chosen_methods, materials, over_factors, related_methods
from ltbench.report.figures.style import add_title, save, style
from ltbench.report.frame import by_table, caveats

__all__ = [
    'FIGURES', 'OTHER_CAPTIONS', 'Drawing', 'by_top1', 'chosen_methods', 'critical', 'draw_all',
    'related_methods', 'save', 'style',
]  # fmt: skip

ALONE = 24  # figures; to draw fewer takes less time than to start processes


@dataclass(frozen=True)
class Drawing:
    """A kind of figure: how it is drawn and what it says.

    Attributes:
        draw: Material to figure; None where the material holds nothing to draw.
        says: What points, lines and bars mean, for the title.
        deviation: What shows the standard deviation over seeds, where something does.
        factors: Whether it is drawn once for all imbalance factors of a benchmark.
        averaged: Whether it shows means over seeds and no deviation.
    """

    draw: Callable[[Material], Drawn | None]
    says: str
    deviation: str = ''
    factors: bool = False
    averaged: bool = False


FIGURES: Mapping[str, Drawing] = {
    'leaderboard': Drawing(accuracy.leaderboard, 'Top-1 of methods', 'whiskers'),
    'groups': Drawing(accuracy.groups, 'Accuracy by training images of the class', 'whiskers'),
    'per_class': Drawing(accuracy.per_class, 'Accuracy of classes against their training images', averaged=True),
    'imbalance': Drawing(comparison.imbalance, 'Top-1 against imbalance factor', 'whiskers', factors=True),
    'cost': Drawing(comparison.cost, 'Top-1 against training cost', averaged=True),
    'reliability': Drawing(
        calibration.reliability,
        'Reliability in 15 bins of confidence, images of all seeds together; bins with fewer '
        f'than {calibration.LEAST} left out above; dotted: confidence equals accuracy',
    ),
    'confusion': Drawing(
        calibration.confusion,
        'Images of the tail that are taken for wrong classes',
        'whiskers (of many-shot)',
    ),
    'training': Drawing(training.curves, 'Training curves', 'band'),
    'bn_vectors': Drawing(
        inside.bn_vectors,
        'Effective weight and bias of the last BN layer: above sorted (mean over seeds; flat is even), below as a '
        'histogram (channels of all seeds)',
    ),
    'bn_layers': Drawing(
        inside.bn_layers,
        'Effective weight and bias of BN layers: mean and standard deviation over channels',
        averaged=True,
    ),
    'strength': Drawing(
        inside.strength,
        'Feature strength. Our own operational definition: channel k is rare-specific if '
        'the mean over rare classes of (m_ck - mean_c m_ck) W_ck is larger than that over frequent ones (m: class '
        'means of the test features, W: classifier)',
        'whiskers',
    ),
    'bn_scale': Drawing(inside.scale, 'Learned scalar of normalised BN over training', 'band'),
    'feature_norms': Drawing(
        inside.feature_norms,
        'Mean length of the features of test images against training images of the class',
        averaged=True,
    ),
}
"""Every figure that is drawn, in order, by the name that its files begin with."""


OTHER_CAPTIONS = {
    'critical_difference': 'Mean ranks in top-1 over tables; a bar joins methods that are not told apart',
    'ablation_nbn': 'Parts of NBN: difference to the same without it, paired by seed',
}
"""What figures show that are not drawn from one group of runs."""


def draw_all(
    records: Sequence[Mapping[str, Any]],
    frame: pd.DataFrame,
    folder: Path,
    intervals: pd.DataFrame | None = None,
    processes: int | None = None,
    ablations: Mapping[str, pd.DataFrame] | None = None,
) -> list[Path]:
    """Draw every figure that the records hold, for each table; return the files.

    Args:
        records: Those that the frame was made of.
        frame: From :func:`ltbench.report.tables.runs_frame`.
        folder: Where the files go; made if it does not exist.
        intervals: Rows with the columns of a group, ``method``, ``top1_low`` and ``top1_high`` in percent; shown for
            methods with one seed. None: such methods have no interval.
        processes: That draw; default: one a core if there is much to draw. Changes no byte.
        ablations: Of declared ablations, what :func:`ltbench.report.ablation.part_differences` gives, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = materials(records, frame, intervals)
    tasks = [*_tasks([*found, *over_factors(found)]), *_ablation_tasks(ablations or {}, caveats(records))]
    if processes is None:
        processes = min(os.cpu_count() or 1, 8) if len(tasks) > ALONE else 1
    if processes == 1:
        drawn = [_carry_out(task, folder) for task in tasks]
    else:
        # not forked: whoever calls may have threads; freeze: collecting garbage need not look at what was imported
        with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn'), gc.freeze) as pool:
            with isolated(PYTHONSAFEPATH='1'):
                drawing = pool.map(_carry_out, tasks, repeat(folder))  # starts the processes
            drawn = list(drawing)
    return [path for paths in drawn for path in paths]


Task = tuple[Any, ...]
"""A function and its first arguments; the last one is the folder. It returns the files."""


def _carry_out(task: Task, folder: Path) -> list[Path]:
    function, *arguments = task
    with style():
        return function(*arguments, folder)


def _ablation_tasks(ablations: Mapping[str, pd.DataFrame], said: Mapping[str, str]) -> Iterator[Task]:
    """A figure for each group of an ablation that has a row without the part."""
    for name, differences in ablations.items():
        for key, rows in by_table(differences) if len(differences) else ():
            if rows['difference'].notna().any():
                part = ABLATIONS[name].part
                yield (
                    _draw_ablation,
                    rows,
                    part,
                    key.title,
                    said.get(key.benchmark, ''),
                    f'ablation_{name}-{key.slug}',
                )


def _draw_ablation(rows: pd.DataFrame, part: str, of: str, caveat: str, file: str, folder: Path) -> list[Path]:
    return save(ablation.draw(rows, part, of, caveat), folder, file)


def _tasks(found: Sequence[Material]) -> Iterator[Task]:
    """The figures of each group of runs."""
    for material, text in zip(found, _slugs(found), strict=True):
        for name, drawing in FIGURES.items():
            if drawing.factors == material.factors:
                yield _draw, material, name, f'{name}-{text}'


def _draw(material: Material, name: str, file: str, folder: Path) -> list[Path]:
    drawn = FIGURES[name].draw(material)
    if drawn is None:
        return []
    note = f'. {drawn.note[0].upper()}{drawn.note[1:]}.' if drawn.note else '.'
    add_title(
        drawn.figure,
        f'{material.title}, {material.seeds()}',
        FIGURES[name].says + _spread(material, name) + note,
        *filter(None, [material.caveat]),
    )
    return save(drawn.figure, folder, file)


def _spread(material: Material, name: str) -> str:
    shown_by = FIGURES[name].deviation
    if not shown_by:
        return '. Means over seeds' if FIGURES[name].averaged and material.seeds() != '1 seed' else ''
    if material.seeds() == '1 seed':
        return '. One seed each, so no deviation'
    return f'. Mean over seeds, {shown_by} one standard deviation (ddof 1; none for one seed)'


def _slugs(found: Sequence[Material]) -> list[str]:
    """A part of a file name for each, no two alike."""
    plain = [material.key.slug for material in found]
    return [
        text if len(text) <= 120 and plain.count(text) == 1 else f'{text[:120]}-{_hash(material)}'
        for text, material in zip(plain, found, strict=True)
    ]


def _hash(material: Material) -> str:
    key = repr((*material.key[:3], material.factors, material.source))
    return hashlib.sha256(key.encode()).hexdigest()[:8]

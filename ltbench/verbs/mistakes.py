"""The verb `eval RUN --predictions`: the wrong predictions of a recorded run. Imports no torch."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from ltbench.console import make_console, printable
from ltbench.errors import LTBenchError, UsageError
from ltbench.evaluation.predictions import Predictions
from ltbench.sealed import write_atomically
from ltbench.store import Store
from ltbench.verbs.find import RecordedRun, find_run, how_to_make, known_predictions

COLUMNS = ('image', 'name', 'class', 'predicted', 'p_class', 'p_predicted', 'label', 'predicted_label')
"""Columns of the CSV: position in the order of the test images, file name if there is one, names of the right and the
predicted class, their probabilities if known, and their labels as numbers."""
SHOWN = 20  # one screen


def show_predictions(text: str, target: Path | None = None) -> None:
    """Print the most confident mistakes of the run that ``text`` names, or write all its test images to a CSV file.

    The order is that of :func:`worst_first`.

    Args:
        text: As in :func:`~ltbench.verbs.find.find_run`.
        target: The CSV file, with :data:`COLUMNS`.

    Raises:
        UsageError: If the text names no run or several, the file cannot be written, or no predictions are known.
        StoreError: If the record, its predictions or its logits are damaged, or the predictions are lost.
    """
    run, store = find_run(text), Store()
    found = known_predictions(run, store)
    if found is None:
        raise UsageError(
            f'the predictions of {run.name} are not beside its record, and its logits are not in {store.root}; '
            f'make them with: {how_to_make(run)}'
        )
    names, note = _image_names(run)
    order = worst_first(found)
    wrong = int((~found.right).sum())
    lines = [
        f'{run}  [{run.name}]',
        *([f'note: {note}'] if note else []),
        f'{wrong:,} of {len(found):,} test images are misclassified.',
    ]
    shown = order[: min(wrong, SHOWN)]
    if target is not None:
        _write(target, _rows(run, found, names, order))
        lines.append(f'all test images, most confident mistakes first: {printable(target)}')
    elif len(shown):
        which = 'most confident' if found.p_predicted is not None else 'first'
        lines.append(f'The {len(shown)} {which} of these; --csv FILE writes every image.')
    console = make_console()
    console.print('\n'.join(lines), highlight=False, soft_wrap=True)
    if target is None and len(shown):
        console.print(_table(list(_rows(run, found, names, shown))))


def worst_first(found: Predictions) -> np.ndarray:
    """Test images ``[N]``: mistakes, the most confident first, then correct ones, the least confident first; each in
    the order of the test images if probabilities are not known."""
    if found.p_predicted is None:
        return np.argsort(found.right, kind='stable')
    return np.lexsort((np.where(found.right, found.p_predicted, -found.p_predicted), found.right))


Row = tuple[int | str, ...]


def _rows(run: RecordedRun, found: Predictions, names: Sequence[str] | None, images: np.ndarray) -> Iterator[Row]:
    """:data:`COLUMNS` of some images."""
    classes = [str(name) for name in run.record['class_names']]
    for image in images.tolist():
        label, predicted = int(found.labels[image]), int(found.predicted[image])
        p = [f'{values[image]:.3g}' if values is not None else '' for values in (found.p_right, found.p_predicted)]
        name = names[image] if names is not None else ''
        yield image, name, classes[label], classes[predicted], *p, label, predicted


def _table(rows: Sequence[Row]) -> Table:
    has = [name for place, name in enumerate(COLUMNS[:6]) if any(row[place] != '' for row in rows)]
    table = Table(*has, box=None)
    for row in rows:
        table.add_row(*(printable(str(row[COLUMNS.index(name)])) for name in has))
    return table


def _write(target: Path, rows: Iterator[Row]) -> None:
    from ltbench.report.escaping import in_csv  # imports pandas, which the table does not need

    rows = ((*row[:2], *(in_csv(str(name)) for name in row[2:4]), *row[4:]) for row in rows)
    text = io.StringIO()
    csv.writer(text).writerows((COLUMNS, *rows))
    contents = text.getvalue().encode('utf-8', 'surrogateescape')
    try:
        if target.exists() and not target.is_file():  # a pipe or /dev/stdout: must not be replaced
            target.write_bytes(contents)
        else:
            write_atomically(target.resolve(), contents)  # the target of a link
    except OSError as error:
        raise UsageError(f'cannot write {printable(target)}: {error.strerror or error}') from error


def _image_names(run: RecordedRun) -> tuple[list[str] | None, str]:
    """File names of the test images, if they have any and the data are here; and a note on why they are missing."""
    from ltbench.data import FileSplit, load_data

    try:
        data = load_data(run.record['config']['benchmark']['data'])
        if not isinstance(data.test, FileSplit):
            return None, ''
        if data.fingerprint != run.record['data']:
            return None, f'{data.title} has other contents than when the run was made, so images have no names here'
    except LTBenchError as error:
        return None, f'without names of images: {error}'
    return [os.fsdecode(name) for name in data.test.names], ''

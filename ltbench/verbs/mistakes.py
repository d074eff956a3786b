"""The verb `eval RUN --predictions`: what a recorded run took its test images for. Imports no torch."""

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
"""Of the CSV: place in the order of the test images, file name where there is one, names of the right and the predicted
class, their probabilities where these are known, and their numbers."""
SHOWN = 20  # a screenful


def show_predictions(text: str, target: Path | None = None) -> None:
    """Print the surest mistakes of the run that ``text`` names, or write all its test images to a CSV file.

    The order is that of :func:`worst_first`.

    Args:
        text: As in :func:`~ltbench.verbs.find.find_run`.
        target: The CSV file, with :data:`COLUMNS`.

    Raises:
        UsageError: If no one run is meant, the file cannot be written, or no predictions are known.
        StoreError: If the record, its predictions or its logits are damaged, or the predictions are lost.
    """
    run, store = find_run(text), Store()
    found = known_predictions(run, store)
    if found is None:
        raise UsageError(
            f'the predictions of {run.name} are neither kept with its record nor are its logits in {store.root}; '
            f'this makes them: {how_to_make(run)}'
        )
    names, note = _image_names(run)
    order = worst_first(found)
    wrong = int((~found.right).sum())
    lines = [
        f'{run}  [{run.name}]',
        *([f'note: {note}'] if note else []),
        f'{wrong:,} of {len(found):,} test images are taken for another class.',
    ]
    shown = order[: min(wrong, SHOWN)]
    if target is not None:
        _write(target, _rows(run, found, names, order))
        lines.append(f'all test images, the surest mistakes first: {printable(target)}')
    elif len(shown):
        sure = 'surest' if found.p_predicted is not None else 'first'
        lines.append(f'The {len(shown)} {sure} of these; --csv FILE writes every image.')
    console = make_console()
    console.print('\n'.join(lines), highlight=False, soft_wrap=True)
    if target is None and len(shown):
        console.print(_table(list(_rows(run, found, names, shown))))


def worst_first(found: Predictions) -> np.ndarray:
    """Test images ``[N]``: mistakes by the probability of the predicted class, then the right ones, the least sure
    first; in the order of the test images where probabilities are not known."""
    if found.p_predicted is None:
        return np.argsort(found.right, kind='stable')
    return np.lexsort((np.where(found.right, found.p_predicted, -found.p_predicted), found.right))


Row = tuple[int | str, ...]


def _rows(run: RecordedRun, found: Predictions, names: Sequence[str] | None, images: np.ndarray) -> Iterator[Row]:
    """:data:`COLUMNS` of some images."""
    classes = [str(name) for name in run.record['class_names']]
    for image in images.tolist():
        label, predicted = int(found.labels[image]), int(found.predicted[image])
        of = [f'{values[image]:.3g}' if values is not None else '' for values in (found.p_right, found.p_predicted)]
        name = names[image] if names is not None else ''
        yield image, name, classes[label], classes[predicted], *of, label, predicted


def _table(rows: Sequence[Row]) -> Table:
    has = [name for place, name in enumerate(COLUMNS[:6]) if any(row[place] != '' for row in rows)]
    table = Table(*has, box=None)
    for row in rows:
        table.add_row(*(printable(str(row[COLUMNS.index(name)])) for name in has))
    return table


def _write(target: Path, rows: Iterator[Row]) -> None:
    from ltbench.report.escaping import in_csv  # pandas, which the table needs not

    rows = ((*row[:2], *(in_csv(str(name)) for name in row[2:4]), *row[4:]) for row in rows)
    text = io.StringIO()
    csv.writer(text).writerows((COLUMNS, *rows))
    contents = text.getvalue().encode('utf-8', 'surrogateescape')
    try:
        if target.exists() and not target.is_file():  # a pipe or /dev/stdout: nothing may take its place
            target.write_bytes(contents)
        else:
            write_atomically(target.resolve(), contents)  # of a link, what it points to
    except OSError as error:
        raise UsageError(f'cannot write {printable(target)}: {error.strerror or error}') from error


def _image_names(run: RecordedRun) -> tuple[list[str] | None, str]:
    """File names of the test images, where they have any and the data are here; and what is to be said of that."""
    from ltbench.data import FileSplit, load_data

    try:
        data = load_data(run.record['config']['benchmark']['data'])
        if not isinstance(data.test, FileSplit):
            return None, ''
        if data.fingerprint != run.record['data']:
            return None, f'{data.title} has other contents than those of the run, so its images have no names here'
    except LTBenchError as error:
        return None, f'without names of images: {error}'
    return [os.fsdecode(name) for name in data.test.names], ''

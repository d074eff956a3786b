"""The verb `score`: a record of predictions made outside ltbench, under this protocol. Trains nothing."""

from __future__ import annotations

import csv
import glob
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from ltbench import __version__
from ltbench.benchmark import Benchmark
from ltbench.console import make_console, printable
from ltbench.data import FileSplit, LongTailData, load_data
from ltbench.errors import StoreError, UsageError, unknown
from ltbench.evaluation import evaluate, evaluate_predictions
from ltbench.evaluation.metrics import describe_groups, in_words
from ltbench.evaluation.predictions import Predictions, write_with_predictions
from ltbench.fingerprint import PROTOCOL_VERSION, fingerprint
from ltbench.record import ROW, SCHEMA_VERSION, read_record, record_path, set_superseded_aside

KEYS = ('logits', 'predictions', 'labels', 'names')
"""Keys of an npz file; the columns of a CSV are ``name``, ``label``, and ``prediction`` or one a class: ``0``, ..."""
BEGINNINGS = {'.npy': b'\x93NUMPY', '.npz': b'PK'}
LARGEST = 1e30
"""Largest absolute value of a logit: beyond it probabilities become NaN."""
SUM_TO_ONE = 1e-2  # tolerance, for probabilities in half precision
SHOWN = 3  # names in a message
_T = TypeVar('_T', int, float)


@dataclass(frozen=True)
class Submission:
    """Contents of a file, row by row.

    Attributes:
        logits: ``[N, C]``, or None.
        predictions: ``[N]`` classes, if there are no logits.
        labels: ``[N]``, if the file has them: to compare the order.
        names: Names of images, if the file has them: rows may then be in any order.
        lines: Line number of each row in a text file, for messages; 1 is the first.
    """

    logits: np.ndarray | None
    predictions: np.ndarray | None
    labels: np.ndarray | None = None
    names: list[str] | None = None
    lines: list[int] | None = None

    def __len__(self) -> int:
        return len(self.logits if self.logits is not None else self.predictions if self.predictions is not None else ())

    def row(self, number: int) -> str:
        """Name of a row in a message."""
        return f'row {number}' if self.lines is None else f'line {self.lines[number]}'

    def take(self, rows: np.ndarray) -> Submission:
        """Some rows, in this order."""
        logits, predictions, labels = (
            None if part is None else part[rows] for part in (self.logits, self.predictions, self.labels)
        )
        names, lines = (None if part is None else [part[row] for row in rows] for part in (self.names, self.lines))
        return Submission(logits, predictions, labels, names, lines)


def score(
    path: Path,
    benchmark: Benchmark,
    name: str,
    seed: int = 0,
    claims: Mapping[str, Any] | None = None,
    suite: str = 'submitted',
) -> Path:
    """Score a file, write its record to ``results/SUITE/records``, and print the metrics.

    Args:
        path: ``.npz``, ``.npy`` or ``.csv``, see :func:`read_submission`.
        benchmark: Gives test images and groups.
        name: Name of the method, for people.
        seed: Seed of the training.
        claims: Facts about the training: recipe, backbone, URL; stored unchecked.
        suite: Where the record goes.

    Returns:
        The record's path.

    Raises:
        UsageError: If the file does not fit the benchmark's test images; the row is named. If the same file was
            scored under another seed.
        DataError: If the data are missing or damaged.
        StoreError: If the record cannot be written.
    """
    if not re.fullmatch(r'[^\x00-\x1f\x7f()+,]{1,80}', name) or name != name.strip():
        raise UsageError(f'--name is 1 to 80 characters without brackets, commas and +, got {name!r}')
    data = load_data(benchmark.data)
    found = in_test_order(path, read_submission(path, data.num_classes), data)
    labels = np.asarray(data.test.labels)
    if found.logits is not None:
        metrics = evaluate(found.logits, labels, data.class_counts)
        predictions = Predictions.of_logits(found.logits, labels)
    else:
        metrics = evaluate_predictions(np.asarray(found.predictions), labels, data.class_counts)
        predictions = Predictions.of_classes(np.asarray(found.predictions), labels)
    record = _record(path, benchmark, data, name, seed, claims or {}, metrics, found)
    target = record_path(suite, record)
    _check_new(path, target, record)
    write_with_predictions(target, record, predictions)
    superseded = set_superseded_aside(target, record)
    console = make_console()
    for warning in record['warnings']:
        console.print(f'note: {warning}', style='yellow', highlight=False, soft_wrap=True)
    where = f'{benchmark.name} ({record["setting"]}) / {record["method"]}'
    console.print(f'{where}  {in_words(metrics, 2)}', highlight=False)
    for moved in superseded:
        console.print(
            f'{moved.name}, with the same name and seed or with other claims, is superseded: moved to {moved.parent}',
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f'record: {target}', highlight=False, soft_wrap=True)
    return target


# ---------------------------------------------------------------------------------------------- reading


def read_submission(path: Path, classes: int) -> Submission:
    """Read a file of scores; nothing in it is executed.

    Args:
        path: ``.npy``: logits ``[N, C]`` or predicted classes ``[N]``. ``.npz``: ``logits`` or ``predictions``, and
            optionally ``labels`` and ``names``. ``.csv``: a header, then one line per image: ``prediction``, or one
            logit per class in the columns ``0`` to ``C - 1``; optionally ``label`` and ``name``.
        classes: C.

    Raises:
        UsageError: If it is none of these; the line or entry is named.
    """
    readers, suffix = {'.npy': _read_npy, '.npz': _read_npz, '.csv': _read_csv}, path.suffix.lower()
    if suffix not in readers:
        raise UsageError(f'{printable(path)}: expected a file called .npz, .npy or .csv')
    if not path.is_file():  # reading a pipe would wait for ever
        raise UsageError(f'{printable(path)} is {"no file" if path.exists() else "missing"}')
    try:
        with path.open('rb') as file:  # numpy looks at the contents, not at the suffix
            if not file.read(6).startswith(BEGINNINGS.get(suffix, b'')):
                raise ValueError(f'it does not hold what numpy writes into {suffix} files')
        found = readers[suffix](path, classes)
    except (OSError, EOFError, BadZipFile, UnicodeDecodeError, csv.Error, ValueError, MemoryError) as error:
        raise UsageError(f'{printable(path)} cannot be read: {printable(str(error))}') from error
    if found.logits is not None:
        _check_logits(path, found, found.logits)
    if found.predictions is not None:
        _check_classes(path, found, found.predictions, 'prediction', classes)
    if found.labels is not None:
        _check_classes(path, found, found.labels, 'label', classes)
    return found


def _read_npy(path: Path, classes: int) -> Submission:
    return _of_arrays(path, {_kind_of(array := np.load(path, allow_pickle=False)): array}, classes)


def _kind_of(array: np.ndarray) -> str:
    return 'predictions' if array.ndim == 1 else 'logits'


def _read_npz(path: Path, classes: int) -> Submission:
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            if key not in KEYS:
                raise unknown(f'entry of {printable(path)}', key, KEYS)
        return _of_arrays(path, {key: file[key] for key in file.files}, classes)


def _of_arrays(path: Path, arrays: Mapping[str, np.ndarray], classes: int) -> Submission:
    if ('logits' in arrays) == ('predictions' in arrays):
        raise UsageError(f'{printable(path)} needs either logits or predictions')
    logits, predictions, labels, names = (arrays.get(key) for key in KEYS)
    if logits is not None and (logits.ndim != 2 or logits.dtype.kind not in 'fiu' or logits.shape[1] != classes):
        raise UsageError(
            f'{printable(path)}: logits are numbers [N, {classes}], got {logits.dtype} {list(logits.shape)}'
        )
    for key, array in (('predictions', predictions), ('labels', labels)):
        if array is not None and (array.ndim != 1 or array.dtype.kind not in 'iu'):
            raise UsageError(f'{printable(path)}: {key} are whole numbers [N], got {array.dtype} {list(array.shape)}')
    if names is not None and (names.ndim != 1 or names.dtype.kind not in 'US'):
        raise UsageError(f'{printable(path)}: names are texts [N], got {names.dtype} {list(names.shape)}')
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ', '.join(f'{count} {key}' for key, count in lengths.items())
        raise UsageError(f'{printable(path)} has {counts}: expected one of each per image')
    texts = None if names is None else [os.fsdecode(each) if names.dtype.kind == 'S' else str(each) for each in names]
    return Submission(logits, predictions, labels, texts)


def _read_csv(path: Path, classes: int) -> Submission:
    with path.open(encoding='utf-8-sig', newline='') as file:
        rows = csv.reader(file)
        header = [cell.strip() for cell in next(rows, [])]
        of_classes = [str(number) for number in range(classes)]
        scores = [cell for cell in header if cell not in ('name', 'label')]
        if len(set(header)) < len(header) or (scores != ['prediction'] and sorted(scores) != sorted(of_classes)):
            got = printable(', '.join(cell or "''" for cell in header[:8])) or 'nothing'
            raise UsageError(
                f'{printable(path)}: the first line names the columns: prediction, or 0 to {classes - 1} for logits of '
                f'the classes, and optionally name and label; got {got}'
            )
        place_of = {title: place for place, title in enumerate(header)}
        whole: dict[str, list[int]] = {title: [] for title in ('prediction', 'label') if title in place_of}
        names: list[str] = []
        logits: list[np.ndarray] = []  # parsed row by row: the text of a large set would fill the memory
        lines: list[int] = []
        for row in rows:
            if not row:
                continue
            where = f'{printable(path)}: line {rows.line_num}'
            if len(row) != len(header):
                raise UsageError(f'{where} has {len(row)} cells, the first line {len(header)}')
            lines.append(rows.line_num)
            if 'name' in place_of:
                names.append(row[place_of['name']])
            for title, values in whole.items():
                values.append(_number(where, title, row[place_of[title]], int))
            if 'prediction' not in whole:
                logits.append(np.array([_number(where, title, row[place_of[title]], float) for title in of_classes]))
    of_images = {title: np.array(values, np.int64) for title, values in whole.items()}
    scored = None if 'prediction' in whole else np.array(logits).reshape(-1, classes)
    return Submission(
        scored,
        of_images.get('prediction'),
        of_images.get('label'),
        names if 'name' in place_of else None,
        lines,
    )


def _number(where: str, title: str, cell: str, kind: type[_T]) -> _T:
    try:
        number = kind(cell)
    except ValueError:
        wanted = 'a whole number' if kind is int else 'a number'
        raise UsageError(f'{where}, {title}: expected {wanted}, got {printable(cell[:40])!r}') from None
    if kind is int and not -(2**63) <= number < 2**63:
        raise UsageError(f'{where}, {title}: {cell[:40]} is no class')
    return number


def _check_logits(path: Path, found: Submission, logits: np.ndarray) -> None:
    usable = np.abs(logits).max(axis=1).astype(np.float64) <= LARGEST  # false for NaN too
    if not usable.all():
        row = found.row(int(np.flatnonzero(~usable)[0]))
        raise UsageError(f'{printable(path)}: {row} has a logit that is not finite, or beyond {LARGEST:g}')
    if len(logits) and (logits >= 0).all() and (np.abs(logits.sum(axis=1, dtype=np.float64) - 1) < SUM_TO_ONE).all():
        raise UsageError(
            f'{printable(path)}: each row sums to 1, so these are probabilities; give logits, or the logarithms of the '
            'probabilities: np.log(np.maximum(p, 1e-30))'
        )


def _check_classes(path: Path, found: Submission, values: np.ndarray, what: str, classes: int) -> None:
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if len(wrong):
        raise UsageError(
            f'{printable(path)}: {found.row(int(wrong[0]))} has {what} {values[wrong[0]]}; '
            f'classes are 0 to {classes - 1}'
        )


# ---------------------------------------------------------------------------------------------- order


def in_test_order(path: Path, found: Submission, data: LongTailData) -> Submission:
    """The rows in the order of the test images: sorted by name if the file has names, else unchanged.

    Raises:
        UsageError: If the images are not the test images, or labels show another order.
    """
    labels = np.asarray(data.test.labels)
    if found.names is not None:
        if not isinstance(data.test, FileSplit):
            raise UsageError(
                f'{printable(path)} has names, and images of {data.title} have none: put the rows in the order of the '
                'test images and leave the names out'
            )
        found = found.take(_places(path, found, data.test))
    elif len(found) != len(labels):
        raise UsageError(f'{printable(path)} has {len(found):,} rows, {data.title} has {len(labels):,} test images')
    if found.labels is not None and (wrong := np.flatnonzero(found.labels != labels)).size:
        row = int(wrong[0])
        where = f'image {found.names[row]}' if found.names is not None else found.row(row)
        raise UsageError(
            f'{printable(path)}: {where} has label {found.labels[row]}, in the test list it is {labels[row]} '
            f'({len(wrong):,} of {len(labels):,} differ): images or classes are in another order'
        )
    return found


def _places(path: Path, found: Submission, test: FileSplit) -> np.ndarray:
    """Row of each test image."""
    names = found.names or []
    row_of = {name: row for row, name in enumerate(names)}
    if len(row_of) < len(names):
        ordered = sorted(names)
        twice = next(name for name, after in pairwise(ordered) if name == after)
        raise UsageError(f'{printable(path)} names {printable(twice)} more than once')
    listed = [os.fsdecode(name) for name in test.names]
    missing = [name for name in listed if name not in row_of]
    if missing or len(listed) < len(names):
        known = set(listed)
        more = [name for name in names if name not in known]
        problems = [f'lacks {len(missing):,} test images ({_some(missing)})'] if missing else []
        problems += [f'has {len(more):,} unknown ones ({_some(more)})'] if more else []
        raise UsageError(f'{printable(path)} {" and ".join(problems)}; use the names of the test list')
    return np.array([row_of[name] for name in listed])


def _some(names: Sequence[str]) -> str:
    return printable(', '.join(names[:SHOWN])) + (', ...' if len(names) > SHOWN else '')


# ---------------------------------------------------------------------------------------------- record


def _check_new(path: Path, target: Path, record: Mapping[str, Any]) -> None:
    """Reject a file that already has a record in the same row under another seed: it would count as two trainings."""
    for old in sorted(target.parent.glob(f'{glob.escape(target.stem.rpartition("-s")[0])}-s*.json')):
        try:
            other = read_record(old)
        except StoreError:
            continue  # the report names it
        same_row = all(other[key] == record[key] for key in ROW) and other['run_seed'] != record['run_seed']
        if same_row and other['config'].get('submitted', {}).get('sha256') == record['config']['submitted']['sha256']:
            raise UsageError(
                f'{printable(path)}: the same file was scored as seed {other["run_seed"]}: give the predictions of '
                f'another training, or remove {printable(old)} if that seed was wrong'
            )


def _record(
    path: Path,
    benchmark: Benchmark,
    data: LongTailData,
    name: str,
    seed: int,
    claims: Mapping[str, Any],
    metrics: Mapping[str, Any],
    found: Submission,
) -> dict[str, Any]:
    """The record, with a name that no method can have, and in a separate setting and table."""
    import torch

    from ltbench.engine.environment import describe

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kind = 'logits' if found.logits is not None else 'predictions'
    submitted = {'name': name, 'file': path.name, 'sha256': digest, 'kind': kind, 'claims': dict(claims)}
    key = fingerprint({'kind': 'submitted', 'data': data.fingerprint, 'sha256': digest, 'name': name, 'seed': seed})
    computation = fingerprint({'kind': 'submitted', 'data': data.fingerprint, 'name': name, 'claims': dict(claims)})
    environment = describe(torch.device('cpu'), torch.get_num_threads())
    warnings = ['submitted: the training is not verified; test images may have been used to choose something']
    if found.labels is None and found.names is None:
        first, last = map(printable, (data.class_names[0], data.class_names[-1]))
        warnings.append(
            f'neither labels nor names in the file: its order is not checked; class 0 is {first}, the last is {last}'
        )
    if kind == 'predictions':
        warnings.append('predictions without logits: there is no calibration, NLL, top-5 or AUROC')
    return {
        'schema': SCHEMA_VERSION,
        'ltbench': __version__,
        'protocol': PROTOCOL_VERSION,
        'benchmark': benchmark.name,
        'data': data.fingerprint,
        'code': environment['code'],
        'table': benchmark.table(data.fingerprint),
        'imbalance_factor': benchmark.data.get('imbalance_factor'),
        'setting': f'submitted, {benchmark.setting}',
        'method': f'submitted:{name}',
        'methods': [{'name': f'submitted:{name}', 'options': dict(claims)}],
        'run_seed': seed,
        'fingerprint': key,
        'computation': computation,
        'stages': [{'kind': 'submitted', 'fingerprint': key, 'epochs': 0, 'cost': {}}],
        'config': {'benchmark': benchmark.resolved, 'stages': [], 'submitted': submitted},
        'class_names': list(data.class_names),
        'class_counts': data.class_counts,
        'groups': describe_groups(data.class_counts),
        'metrics': dict(metrics),
        'analysis': {},
        'curve': [],
        'chosen': {},
        'warnings': [*warnings, *data.notes],
        'cost': dict.fromkeys(
            ('parameters', 'flops', 'wall_seconds', 'cpu_seconds', 'images_per_second', 'peak_memory_mb'), 0
        ),
        'environment': environment,
    }

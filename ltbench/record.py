"""One run's result: one JSON file, complete in itself, sealed by a checksum. Written once, read by the report.

The predictions for the test images are in a file beside it (:mod:`ltbench.evaluation.predictions`), whose checksum it
holds. A run that failed has no result; a separate small file describes the failure until the run succeeds.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ltbench.console import printable
from ltbench.declared import parse
from ltbench.errors import StoreError, UsageError
from ltbench.fingerprint import fingerprint
from ltbench.places import ROOT_OF_PACKAGE, place
from ltbench.record_schema import SCHEMA_VERSION, check_failure, check_record
from ltbench.sealed import contents_of, explained, write_atomically

__all__ = [
    'IDENTITY', 'ROW', 'SCHEMA_VERSION', 'SUITE', 'InvalidRecordError', 'RecordIndex', 'checksum', 'cost_of',
    'is_valid', 'origin_of', 'predictions_path', 'read_failures', 'read_record', 'read_records', 'record_name',
    'record_path', 'reference_root', 'results_root', 'set_superseded_aside', 'suite_name', 'write_failure',
    'write_record',
]  # fmt: skip

IDENTITY = ('benchmark', 'imbalance_factor', 'setting', 'table', 'method', 'run_seed', 'fingerprint')
"""Fields that identify a run."""
SUITE = re.compile(r'[^/\\\x00-\x1f.][^/\\\x00-\x1f]*')
"""Allowed names of suites: those of folders, without a path and not hidden."""


class InvalidRecordError(StoreError, ValueError):
    """A record or failure to be written does not fit its schema; the message names the entry."""


def results_root() -> Path:
    """Where records and reports go: ``$LTBENCH_RESULTS``, default ``./results/local``, which git ignores.

    The other folders in ``results`` of a checkout are reference results of this software, which no run changes.
    """
    return place('LTBENCH_RESULTS', 'results/local')


def reference_root() -> Path | None:
    """The reference results of a checkout; None in an installation, or if ``$LTBENCH_RESULTS`` says which results
    count."""
    reference = ROOT_OF_PACKAGE.parent / 'results'
    return None if os.environ.get('LTBENCH_RESULTS') or not reference.is_dir() else reference


def origin_of(record: Mapping[str, Any]) -> str:
    """``'trained'`` here, ``'imported'`` as a checkpoint, or ``'submitted'`` as predictions."""
    return next((origin for origin in ('imported', 'submitted') if origin in record['config']), 'trained')


OF_TRAINING = ('wall_seconds', 'cpu_seconds', 'images_per_second')


def cost_of(record: Mapping[str, Any], name: str) -> float | None:
    """A cost of a run; None if unknown: all of submitted predictions, that of training of an imported checkpoint."""
    origin = origin_of(record)
    is_unknown = origin == 'submitted' or (origin == 'imported' and name in OF_TRAINING)
    return None if is_unknown else record['cost'][name]


def record_path(suite: str, record: Mapping[str, Any]) -> Path:
    """``results/SUITE/records/`` and :func:`record_name`.

    Raises:
        UsageError: If that would be in another folder.
    """
    return results_root() / suite_name(suite) / 'records' / record_name(record)


def suite_name(text: str) -> str:
    """The name of a suite as typed, without the ``/`` that a shell adds to the name of a folder.

    Raises:
        UsageError: If a folder cannot have this name, or it is a path.
    """
    name = text.rstrip('/')
    if not SUITE.fullmatch(name):
        raise UsageError(f'a suite has the name of its folder in {results_root()}, without a path; got {text!r}')
    return name


def predictions_path(path: Path) -> Path:
    """Path of the predictions that belong to a record, see :mod:`ltbench.evaluation.predictions`."""
    return path.with_suffix('.predictions.npz')


def record_name(record: Mapping[str, Any]) -> str:
    """``BENCHMARK-ifN-METHOD-sSEED-HASH.json``.

    The hash distinguishes what the readable part does not: settings, tables, options and code.
    """
    method = re.sub(r'[^A-Za-z0-9_+.=-]+', '_', record['method'])[:80].strip('_')
    identity = fingerprint([record['fingerprint'], record['method'], record['setting'], record['table']])[:8]
    factor = f'-if{record["imbalance_factor"]:g}' if record['imbalance_factor'] is not None else ''
    return f'{record["benchmark"]}{factor}-{method}-s{record["run_seed"]}-{identity}.json'


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Check a record against the schema, seal it and write it; an earlier failure of the same run is removed.

    Raises:
        StoreError: If it cannot be written.
        InvalidRecordError: If an entry is missing, unknown, of another type or beyond its range; it is named.
    """
    try:
        text = _as_json({**record, 'checksum': checksum(record)})
        check_record(parse(text.encode()))  # as it will be read
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecordError(f'no valid record of {record.get("method")}: {printable(str(error))}') from error
    with explained(f'record {path.name}', path.parent, 'LTBENCH_RESULTS'):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        for failure in _failures_of(path, record):
            failure.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any]:
    """Read and check one record.

    Raises:
        StoreError: If the file is unreadable, truncated, of another schema or changed by hand; the message names it,
            and the entry that is wrong.
    """
    try:
        record = parse(contents_of(path))
        check_record(record)
        if not _is_sealed(record):
            raise ValueError('its checksum does not fit: it was changed after it was written')
    except (OSError, ValueError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        raise StoreError(f'{printable(path)} is no valid record: {printable(str(error))}') from error
    return record


def checksum(record: Mapping[str, Any]) -> str:
    """Sha256 over all fields but the checksum itself, whatever the layout of the file."""
    return _sum(record, _SORTED)


def _is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether the checksum is right. Entries of our own files are sorted: the order as read is tried first."""
    return record['checksum'] == _sum(record, _AS_READ) or record['checksum'] == checksum(record)


def _sum(record: Mapping[str, Any], encoder: json.JSONEncoder) -> str:
    rest = {key: value for key, value in record.items() if key != 'checksum'}
    return hashlib.sha256(encoder.encode(rest).encode()).hexdigest()


_SORTED, _AS_READ = json.JSONEncoder(sort_keys=True), json.JSONEncoder()


def write_failure(suite: str, identity: Mapping[str, Any], stage: str, reason: str) -> None:
    """Record that a run failed, in ``results/SUITE/failed/``; ``identity`` as in a record.

    Raises:
        StoreError: If it cannot be written.
        InvalidRecordError: If an entry is not what it should be; it is named.
    """
    path = record_path(suite, identity)
    path = path.parent.parent / 'failed' / path.name
    # foreign text: invalid Unicode is written as escapes
    details = {'stage': stage, 'reason': reason.encode('utf-8', 'backslashreplace').decode()}
    try:
        text = _as_json({name: identity[name] for name in IDENTITY} | details)
        check_failure(parse(text.encode()))
    except (TypeError, ValueError) as error:
        raise InvalidRecordError(f'no valid failure of {identity.get("method")}: {printable(str(error))}') from error
    with explained(f'failure {path.name}', path.parent, 'LTBENCH_RESULTS'):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)


def read_failures(suite: str) -> tuple[list[dict[str, Any]], dict[Path, str]]:
    """The failed runs of a suite in order of file name, and the damaged files, each with its problem."""
    failures, wrong = [], {}
    for path in sorted((results_root() / suite / 'failed').glob('*.json')):
        try:
            failure = parse(contents_of(path))
            check_failure(failure)
        except (OSError, ValueError, RecursionError) as error:
            wrong[path] = f'{printable(path)} is damaged: {printable(str(error))}'
        else:
            failures.append(failure)
    return failures, wrong


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + '\n'


def _failures_of(path: Path, record: Mapping[str, Any]) -> Iterator[Path]:
    """Failures of the run of a record, by any code. Their file names are cut and simplified: two runs may share one."""
    for failure in (path.parent.parent / 'failed').glob(f'{glob.escape(_without_hash(path.name))}-*.json'):
        found = _glance(failure)
        if found is not None and all(found[key] == record[key] for key in GLANCED):
            yield failure


GLANCED = ('setting', 'table', 'method')
"""Fields that are read without parsing a whole record or failure."""


def _glance(path: Path) -> dict[str, Any] | None:
    """These fields of a record or failure, and its data and protocol if it has them; None if a field is missing.

    A complete file in our own layout is not parsed as a whole: ten thousand would take seconds. The report names
    files that cannot be read.
    """
    try:
        text = contents_of(path).decode()
        found = {name: _line(text, name) for name in (*GLANCED, 'data', 'protocol')} if text.endswith('}\n') else {}
        if any(found.get(name) is None for name in GLANCED):
            found = json.loads(text)
        return {name: found[name] for name in GLANCED} | {name: found.get(name) for name in ('data', 'protocol')}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _line(text: str, name: str) -> Any:
    """The value of a field of the outermost object, written as :func:`write_record` does; None if there is none."""
    start = text.find(mark := f'\n "{name}": ')
    return None if start < 0 else json.loads(text[start + len(mark) : text.index('\n', start + 1)].rstrip(','))


ROW = ('benchmark', 'imbalance_factor', 'setting', 'table', 'method')
"""Fields that identify a row of a leaderboard."""


def set_superseded_aside(path: Path, record: Mapping[str, Any]) -> list[Path]:
    """Move earlier records of the same row that were made by other code, or have the same seed, to ``superseded/``;
    return their new paths.

    Their predictions are moved with them.
    """
    moved = []
    for old in set(path.parent.glob(f'{glob.escape(path.stem.rpartition("-s")[0])}-s*.json')) - {path}:
        try:
            other = read_record(old)
        except StoreError:
            continue  # the report names it
        is_superseded = other['computation'] != record['computation'] or other['run_seed'] == record['run_seed']
        if is_superseded and all(other[key] == record[key] for key in ROW):
            target = path.parent.parent / 'superseded' / old.name
            with explained(f'superseded record {old.name}', path.parent, 'LTBENCH_RESULTS'):
                target.parent.mkdir(exist_ok=True)
                with suppress(FileNotFoundError):  # another driver has moved it; there are no predictions
                    moved.append(old.replace(target))
                    predictions_path(old).replace(predictions_path(target))
    return moved


class RecordIndex:
    """The records of a suite by their file names, for questions that do not need their contents.

    Args:
        suite: Name of the suite.
    """

    def __init__(self, suite: str) -> None:
        self.folder = results_root() / suite / 'records'
        self.by_run: dict[str, list[str]] = {}
        for name in sorted(path.name for path in self.folder.glob('*.json')):
            self.by_run.setdefault(_without_hash(name), []).append(name)

    def has(self, name: str) -> bool:
        """Whether there is a record of this name (:func:`record_name`), readable or not."""
        return name in self.by_run.get(_without_hash(name), [])

    def instead_of(self, name: str, record: Mapping[str, Any]) -> tuple[Path | None, list[dict[str, Any]]]:
        """Similar records to use or mention if a run has no record.

        Args:
            name: Name that its record would have, :func:`record_name`.
            record: The fields that identify the run, see :data:`IDENTITY`.

        Returns:
            A record made by other code; and ``table``, ``data`` and ``protocol`` of each record in another table, which
            was made with other data, backbone, recipe or protocol.
        """
        if self.has(name):
            return None, []
        same_run = [self.folder / other for other in self.by_run.get(_without_hash(name), [])]
        found = {path: fields for path in same_run if (fields := _glance(path)) is not None}
        found = {
            path: fields for path, fields in found.items()
            if all(fields[key] == record[key] for key in ('setting', 'method'))
        }  # fmt: skip
        by_other_code = [path for path, fields in found.items() if fields['table'] == record['table']]
        elsewhere = [fields for fields in found.values() if fields['table'] != record['table']]
        return next(iter(by_other_code), None), elsewhere


def _without_hash(name: str) -> str:
    return name.removesuffix('.json').rpartition('-')[0]


def is_valid(path: Path) -> bool:
    """Whether there is a record that can be read."""
    try:
        read_record(path)
    except StoreError:
        return False
    return True


def read_records(suite: str, root: Path | None = None) -> tuple[dict[Path, dict[str, Any]], dict[Path, str]]:
    """The records of a suite in order of file name, and the invalid files, each with its problem.

    A record under another name than its own is a copy (or was renamed) and counts as invalid. ``root`` is the folder of
    suites, by default :func:`results_root`.
    """
    records, wrong = {}, {}
    for path in sorted(((root or results_root()) / suite / 'records').glob('*.json')):
        try:
            record = read_record(path)
        except StoreError as error:
            wrong[path] = str(error)
            continue
        own = record_name(record)
        if path.name == own:
            records[path] = record
        else:
            wrong[path] = f'{printable(path)} is a renamed copy: its run is recorded as {printable(own)}'
    return records, wrong

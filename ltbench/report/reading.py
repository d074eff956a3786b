"""What a report is made from: the valid records of a suite and its failed runs; invalid files are named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltbench.config import config_names
from ltbench.console import printable
from ltbench.errors import StoreError, UsageError, near_misses
from ltbench.evaluation.predictions import Predictions, predictions_of
from ltbench.record import ROW, read_failures, read_records, reference_root, results_root


@dataclass(frozen=True)
class SuiteResults:
    """All that is known of a suite's runs.

    Attributes:
        suite: Its name.
        records: The records of the report, in order of file name.
        predictions: The predictions of each of them; None for older ones.
        failures: Runs that failed and have not succeeded since, see :class:`ltbench.record_schema.Failure`.
        left_out: Files that the report does not use, and what is wrong with each, on one line that names the file.
        source: Path of the suite's file, where it was given by one; it may declare ablations.
    """

    suite: str
    records: list[dict[str, Any]]
    predictions: list[Predictions | None]
    failures: list[dict[str, Any]]
    left_out: dict[Path, str]
    source: str = ''

    @property
    def folder(self) -> Path:
        """Where the report goes."""
        return results_root() / self.suite


def read_suite(suite: str, leave_out: bool = False) -> SuiteResults:
    """Read and check every record and failure of a suite.

    Args:
        suite: Its name, or the path of its file.
        leave_out: Leave out invalid files, instead of raising.

    Raises:
        UsageError: If there is neither a record nor a failed run; near misses among other suites are named. If there
            is no such file.
        StoreError: If a file is damaged, changed, a copy or of another version, if predictions that were kept with a
            record are lost or changed, if two records are of the same run, or if those of one row were made by
            different code; every such file has a separate line.
    """
    source = suite if suite.endswith('.py') else ''
    if source:
        if not Path(source).is_file():
            raise UsageError(f'no such file: {source}')
        suite = Path(source).stem
    found, wrong = read_records(suite)
    failures, damaged = read_failures(suite)
    predictions, lost = _kept(found)
    wrong = wrong | damaged | lost | conflicts(found)
    if wrong and not leave_out:
        raise StoreError('\n'.join([*wrong.values(), _advice(suite, len(wrong))]))
    records = [record for path, record in found.items() if path not in wrong]
    # another driver of the same grid may have written a failure after the run had succeeded
    succeeded = {_run_of(record) for record in records}
    failures = [failure for failure in failures if _run_of(failure) not in succeeded]
    if not records and not failures:
        raise UsageError(_nothing_in(suite, len(wrong)))
    kept = [predictions[path] for path in found if path not in wrong]
    return SuiteResults(suite, records, kept, failures, wrong, source)


def _kept(records: Mapping[Path, Mapping[str, Any]]) -> tuple[dict[Path, Predictions | None], dict[Path, str]]:
    """The predictions that were kept with records, and what is wrong with those that are not as they were written."""
    kept, wrong = {}, {}
    for path, record in records.items():
        try:
            kept[path] = predictions_of(path, record)
        except StoreError as error:
            wrong[path] = str(error)
    return kept, wrong


def _run_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What identifies a run, whatever its code."""
    return (*(record[key] for key in ROW), record['run_seed'])


def conflicts(records: Mapping[Path, Mapping[str, Any]]) -> dict[Path, str]:
    """Valid records that cannot be reported together, and why: of the same run, of one row but different code, or of
    one table but different classes or images.

    The records do not show which of them is right, so all are named; of a table, those that differ from most of it.
    """
    wrong: dict[Path, str] = {}
    runs: dict[tuple[Any, ...], list[Path]] = defaultdict(list)
    for path, record in records.items():
        runs[(*(record[key] for key in ROW), record['run_seed'])].append(path)
    rows: dict[tuple[Any, ...], list[Path]] = defaultdict(list)
    for (*row, seed), paths in runs.items():
        if len(paths) == 1:
            rows[tuple(row)].extend(paths)
        for path in paths if len(paths) > 1 else ():
            run = f'{_named(records[path])}, seed {seed}'
            wrong[path] = f'{printable(path)} is one of {len(paths)} records of the same run ({run}): keep one'
    for paths in rows.values():
        computations = {records[path]['computation'] for path in paths}
        for path in paths if len(computations) > 1 else ():
            wrong[path] = (
                f'{printable(path)} is in a row ({_named(records[path])}) whose {len(paths)} records were made by '
                f'{len(computations)} versions of the code, this one by {records[path]["computation"][:12]}: '
                'keep those of one version, or run that method again for all seeds'
            )
    return wrong | _unlike_their_table({path: record for path, record in records.items() if path not in wrong})


def _unlike_their_table(records: Mapping[Path, Mapping[str, Any]]) -> dict[Path, str]:
    """Records that differ from most of their table, or row, in a value that must be the same in all of it."""
    wrong: dict[Path, str] = {}
    for where, key, alike in (('table', ROW[:-1], SAME_IN_TABLE), ('row', ROW, SAME_IN_ROW)):
        together: dict[tuple[Any, ...], list[Path]] = defaultdict(list)
        for path, record in records.items():
            together[tuple(record[name] for name in key)].append(path)
        for paths in together.values():
            for name, value_of in alike.items():
                values = [value_of(records[path]) for path in paths]
                if all(value == values[0] for value in values):
                    continue
                [(most, number)] = Counter(map(repr, values)).most_common(1)
                for path, value in zip(paths, values, strict=True):
                    if repr(value) != most or 2 * number <= len(paths):
                        wrong[path] = (
                            f'{printable(path)} is in a {where} ({_named(records[path])}) whose {len(paths)} records '
                            f'differ in {name}: keep those with one value'
                        )
    return wrong


def _width(record: Mapping[str, Any]) -> int:
    return len(record['analysis'].get('bn', {}).get('last', {}).get('weight', ()))


# names of classes may differ: they are no part of the identity of data
SAME_IN_TABLE: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    'class_counts': lambda record: record['class_counts'],
    'metrics.test_images': lambda record: record['metrics']['test_images'],
}
SAME_IN_ROW: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {'analysis.bn.last.weight (channels)': _width}


def _named(record: Mapping[str, Any]) -> str:
    return f'{record["method"]} on {record["benchmark"]}, {record["setting"]}'


def _advice(suite: str, count: int) -> str:
    files = f'these {count} files' if count > 1 else 'this file'
    return f'remove {files} and `ltbench run` again, or `ltbench report {suite} --leave-out` to report without'


def _nothing_in(suite: str, wrong: int) -> str:
    folder = results_root() / suite / 'records'
    if wrong:
        return f'no valid records in {folder}: all {wrong} files are left out; `ltbench run` rebuilds them'
    known = sorted({path.parent.name for path in results_root().glob('*/records') if any(path.glob('*.json'))})
    if near := near_misses(suite, known):
        return f'no records in {folder}: did you mean {" or ".join(near)}?'
    suites = config_names('suites')
    others = f'; suites with records: {", ".join(known)}' if known else ''
    if suite in suites:
        reference = reference_root()
        came = reference is not None and any((reference / suite / 'records').glob('*.json'))
        there = f'; for those in {reference}: LTBENCH_RESULTS={reference} ltbench report {suite}' if came else ''
        return f'no records in {folder}; run `ltbench run {suite}` first{others}{there}'
    if suite in config_names('benchmarks'):
        return f'no records in {folder}: {suite} is a benchmark, `ltbench run -b {suite}` makes some{others}'
    near = near_misses(suite, suites)
    advice = f'did you mean {" or ".join(near)}, not run yet?' if near else '`ltbench ls suites` lists all'
    return f'no records in {folder}, and no suite has this name: {advice}{others}'

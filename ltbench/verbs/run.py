"""The verb `run`: plan, train what is missing, record, report."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from rich.console import Console

from ltbench import plugins
from ltbench.console import make_console
from ltbench.data import load_data
from ltbench.engine.job import Runtime
from ltbench.errors import EXIT_FAILED, InterruptedRunError, LTBenchError
from ltbench.grid.answer import Answers, ShownTable, show
from ltbench.grid.graph import Graph, Run
from ltbench.grid.planning import plan_selection
from ltbench.grid.recording import (
    identity_of,
    just_finished,
    path_of_record,
    record_run,
    told_apart,
    unrecorded,
    without_recorded,
)
from ltbench.grid.selection import Execution, Selection
from ltbench.grid.status import StageState, going_on, needed_stages
from ltbench.record import is_valid, results_root, set_superseded_aside, write_failure
from ltbench.registry import EXECUTORS, lookup
from ltbench.sealed import UnreadableFileError, contents_of, remove_abandoned
from ltbench.store import MANIFEST, DamagedArtifactError, Store
from ltbench.tracking import Tracking
from ltbench.verbs.view import make_view

LOG_LINES = 5
"""Of a failed stage's log, shown at the end."""

if TYPE_CHECKING:
    from ltbench.suite import Suite


@dataclass(frozen=True)
class Outcome:
    """What became of a selection.

    Attributes:
        suite: What it is part of.
        runs: All its runs.
        failures: Why something failed, a line each: of runs, methods without a plan, trackers.
        code: For the command line: 0, or not where something failed or is not reported.
    """

    suite: Suite
    runs: list[Run]
    failures: list[str]
    code: int = 0


def run(
    selection: Selection,
    execution: Execution,
    question: str | None = None,
    leaderboard: bool = True,
) -> Outcome:
    """Carry out a selection: plan, train what is missing, record, report.

    Args:
        selection: What was asked for.
        execution: How.
        question: From :func:`ltbench.grid.answer.question_of`; what is shown of a finished grid is kept under it.
        leaderboard: Whether the tables of the report are shown at the end.

    Raises:
        InterruptedRunError: On Ctrl-C; the store and the records are whole, and the same call continues from there.
    """
    console = make_console()
    suite, planned = plan_selection(selection, execution.plugins)
    graph, broken, _ = planned
    runs = graph.runs
    if selection.skip_recorded:
        graph = without_recorded(graph, suite)
        console.print(f'{len(runs) - len(graph.runs)} of {len(runs)} runs have a record and are left alone.')
    executor_class, store = lookup(EXECUTORS, execution.executor), Store()
    benchmarks = {id(run_.benchmark): run_.benchmark for run_ in graph.runs}.values()
    data = [load_data(item.data) for item in benchmarks]
    notes = {note: None for item, of in zip(benchmarks, data, strict=True) for note in (*item.notes, *of.notes)}
    beside = told_apart(suite, graph)
    shown: list[str | ShownTable] = [
        *notes,
        *planned.said_of_lacking(selection),
        *([f'note: {beside}'] if beside else []),
    ]
    show(shown, console)
    carrier = executor_class(store, _runtime(execution), execution.workers, **execution.settings)
    tracking = Tracking(execution.track, suite.name)
    unscored: dict[int, str] = {}  # id of a run -> why
    records = _record(unrecorded(graph, suite, store), store, console, tracking, unscored)
    for run_ in graph.runs:
        if id(run_) in unscored and not store.has(run_.fingerprint):  # damaged and set aside: made again now
            del unscored[id(run_)]
    graph = going_on(graph, store)
    needed = needed_stages(graph, store)
    failed: dict[str, StageState] = {}
    everything_found = f'Everything is found: {len(graph.runs)} runs, nothing to train.'
    answers = Answers(store.root, question) if question else None
    found = sum(stage.kind == 'train' and store.has(key) for key, stage in graph.stages.items())
    if execution.eval_every and found:
        console.print(f'Train stages found as trained before, without new scores on the way: {found}.')
    if needed:
        store.check_writable()
        try:
            carried_out = carrier.run(graph, execution.timeout and 60 * execution.timeout)
            with closing(carried_out), make_view(graph, needed, console) as view:
                for run_, record in records:
                    view.recorded(run_, record)
                for states in carried_out:
                    settled = {id(run_) for run_, _ in records} | unscored.keys()
                    new = [run_ for run_ in just_finished(graph, states) if id(run_) not in settled]
                    finished = [(run_, path_of_record(run_, suite)) for run_ in new]
                    for run_, record in _record(finished, store, console, tracking, unscored):
                        view.recorded(run_, record)
                        records.append((run_, record))
                    view.update(states)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f'interrupted after {len(records)} new records; the same command continues from here'
            ) from None
        failed = {key: state for key, state in states.items() if state.state in ('failed', 'blocked')}
    else:
        console.print(everything_found)
    store.tidy(graph.stages.keys())
    broken_stages = [
        (run_, stage)
        for run_ in graph.runs
        for stage in (*run_.stages, *run_.probes)
        if stage.fingerprint in failed and failed[stage.fingerprint].state == 'failed'
    ]
    for run_, stage in broken_stages:
        if stage.kind != 'probe':  # without its measurement a run is recorded all the same
            write_failure(suite.name, identity_of(run_), stage.kind, failed[stage.fingerprint].reason)
    if execution.track:
        _track(filter(Path.exists, (path_of_record(run_, suite) for run_ in graph.runs)), tracking, console)
    changed = bool(records or broken_stages) or (answers is not None and answers.is_outdated())
    not_reported, tables = _show_report(suite, changed, execution.figures, console, leaderboard)
    for line in tracking.summary():
        console.print(line, highlight=False, soft_wrap=True)
    told = {(str(run_.method), text) for run_, record in records for text in record['warnings']}
    for run_method, text in sorted(told):
        if text not in notes:  # those are of the data and the benchmark, and were shown at the start
            console.print(f'note: {run_method}: {text}', style='yellow', highlight=False, soft_wrap=True)
    _show_failures(graph, failed, broken, store, console)
    lacking = [run_ for run_ in graph.runs if id(run_) in unscored and not is_valid(path_of_record(run_, suite))]
    failures = [f'{run_}: {stage.kind} failed: {failed[stage.fingerprint].reason}' for run_, stage in broken_stages]
    failures += [f'no plan could be made for {method}: {reason}' for method, reason in broken.items()]
    failures += [f'{run_}: {unscored[id(run_)]}' for run_ in lacking]
    failures += [f'tracker {name} failed: {reason}' for name, reason in tracking.failed.items()]
    code = EXIT_FAILED if failed or failures else not_reported.exit_code if not_reported is not None else 0
    if not_reported is not None:
        failures.append(f'no report: {not_reported}')
    if answers is not None and code == 0 and tables and not plugins.not_loaded():
        files = [of.files for of in data]
        if all(each is not None for each in files):
            read = [path for each in files for path in each or ()]
            read += [store.folder(run_.fingerprint) / MANIFEST for run_ in graph.runs]
            answers.keep([*shown, everything_found, *tables], read, [results_root() / suite.name])
    return Outcome(suite, runs, failures, code)


def _runtime(execution: Execution) -> Runtime:
    files = tuple(str(path) for path in plugins.plugin_files(execution.plugins))
    return Runtime(plugins=files, eval_every=execution.eval_every)


def _record(
    finished: Iterable[tuple[Run, Path]],
    store: Store,
    console: Console,
    tracking: Tracking,
    unscored: dict[int, str],
) -> list[tuple[Run, dict]]:
    """Write records. A run that cannot be scored goes into ``unscored`` and stops nobody; it is carried out again where
    its stored logits are damaged."""
    written = []
    for run_, path in finished:
        try:
            record = record_run(run_, store, path)
        except DamagedArtifactError as error:
            unscored[id(run_)] = f'{error}; it is made again'
            console.print(f'{run_}: {unscored[id(run_)]}', soft_wrap=True)
            continue
        except (ValueError, KeyError, TypeError, BadZipFile, UnreadableFileError) as error:
            unscored[id(run_)] = f'it cannot be scored: {type(error).__name__}: {error}'
            console.print(f'{run_}: {unscored[id(run_)]}', style='red', soft_wrap=True)
            continue
        for moved in set_superseded_aside(path, record):
            console.print(f'{moved.name} was made by other code: moved to {moved.parent}')
        _track([path], tracking, console)
        written.append((run_, record))
    return written


def _track(records: Iterable[Path], tracking: Tracking, console: Console) -> None:
    for path in records:
        for line in tracking.log(path):
            console.print(line, style='red', highlight=False, soft_wrap=True)


def _show_report(
    suite: Suite, changed: bool, figures: bool, console: Console, leaderboard: bool
) -> tuple[LTBenchError | None, list[str | ShownTable]]:
    """Rebuild the report and show its tables.

    Returns:
        What went wrong, and what was shown of a report that leaves nothing out.
    """
    from ltbench.report import Report, read_suite, write_report
    from ltbench.report.cells import named
    from ltbench.report.environments import footnotes, marks_of
    from ltbench.report.frame import by_table

    if not any(any((results_root() / suite.name / kind).glob('*.json')) for kind in ('records', 'failed')):
        return None, []
    try:
        results = read_suite(suite.source or suite.name, leave_out=True)
        report = Report(results)
        for reason in results.left_out.values():
            console.print(f'left out of the report: {reason}', style='yellow')
        drawn = any((results.folder / 'figures').glob('*.png'))
        if changed or not (results.folder / 'leaderboard.csv').exists() or (figures and not drawn):
            write_report(report, figures)
            for folder in (results.folder, results.folder / 'records', results.folder / 'failed'):
                remove_abandoned(folder)
    except LTBenchError as error:  # the runs themselves are recorded
        console.print(f'no report: {error}', style='yellow')
        return error, []
    if not leaderboard:
        return None, []
    columns = ('top1', 'many', 'medium', 'few')
    shown: list[str | ShownTable] = []
    for key, rows in by_table(report.board, sort=False):
        table = ShownTable(title=f'{key.title}; accuracy in %', columns=['method', 'seeds', *columns], rows=[])
        for row, sign in zip(rows.to_dict('records'), marks_of(rows), strict=True):
            cells = [_mean_std(row[f'{column}_mean'], row[f'{column}_std']) for column in columns]
            failed = f' ({row["n_failed"]} failed)' if row['n_failed'] else ''
            table['rows'].append([named(row) + sign, f'{row["n_seeds"]}{failed}', *cells])
        shown += [table, *footnotes(rows)]
    drawn = any((results.folder / 'figures').glob('*.png'))
    shown.append(f'Leaderboard{" and figures" if figures and drawn else ""}: {results.folder}')
    shown.append(f'Page of all suites: {results.folder.parent / "index.html"}')
    show(shown, console)
    return None, [] if results.left_out else shown


def _mean_std(mean: float, std: float) -> str:
    if mean != mean:
        return ''
    return f'{mean:.1f} ± {std:.1f}' if std == std else f'{mean:.1f}'


def _show_failures(
    graph: Graph, failed: dict[str, StageState], broken: dict[str, str], store: Store, console: Console
) -> None:
    runs = [run_ for run_ in graph.runs if any(stage.fingerprint in failed for stage in run_.stages)]
    if runs:
        console.print(f'{len(runs)} of {len(graph.runs)} runs failed:', style='bold red')
    for method, reason in broken.items():
        console.print(f'no plan could be made for {method}: {reason}', style='bold red', soft_wrap=True)
    for key, state in failed.items():
        if state.state == 'failed':
            names = ', '.join(str(run_) for run_ in graph.runs_of(key))
            log = store.work(key) / 'log.txt'
            last = ''.join(f'\n    | {line}' for line in _last_lines(log))
            console.print(f'  {names}\n    {state.reason}{last}\n    log: {log}', soft_wrap=True)


def _last_lines(log: Path) -> list[str]:
    try:
        return contents_of(log).decode(errors='replace').splitlines()[-LOG_LINES:]
    except (OSError, ValueError):  # not there, or no file
        return []

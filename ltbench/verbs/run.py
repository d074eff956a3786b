"""The verb `run`: plan, train what is missing, record, report."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from rich.console import Console

from ltbench import plugins
from ltbench.console import make_console
from ltbench.data import load_data
from ltbench.engine.job import Runtime
from ltbench.errors import EXIT_FAILED, DataError, InterruptedRunError, LTBenchError
from ltbench.grid.answer import Answers, ShownTable, show
from ltbench.grid.graph import Graph, Run
from ltbench.grid.planning import plan_selection
from ltbench.grid.recording import (
    identity_of,
    just_finished,
    note_on_other_tables,
    path_of_record,
    record_run,
    unrecorded,
    without_recorded,
)
from ltbench.grid.selection import Execution, Selection
from ltbench.grid.status import StageState, continued_from_store, needed_stages
from ltbench.places import ROOT_OF_PACKAGE
from ltbench.record import is_valid, results_root, set_superseded_aside, write_failure
from ltbench.registry import EXECUTORS, lookup
from ltbench.sealed import UnreadableFileError, contents_of, explained, remove_abandoned, temporary
from ltbench.store import MANIFEST, DamagedArtifactError, Store
from ltbench.tracking import Tracking
from ltbench.verbs.view import make_view

LOG_LINES = 5
"""Number of last lines of a failed stage's log that are shown."""
FRAME = re.compile(r'  File "(.+)", line (\d+)')
STANDARD_LIBRARY = sysconfig.get_path('stdlib')

if TYPE_CHECKING:
    from ltbench.data import LongTailData
    from ltbench.grid.executors.base import Executor
    from ltbench.stage import Stage
    from ltbench.suite import Suite


@dataclass(frozen=True)
class Outcome:
    """Result of a selection.

    Attributes:
        suite: The suite of its runs.
        runs: All its runs.
        failures: One line for each run, method without a plan, tracker or report that failed, with the reason.
        code: Exit code: 0, or another one if something failed or the report could not be made.
    """

    suite: Suite
    runs: list[Run]
    failures: list[str]
    code: int = 0


@dataclass
class _Recorder:
    """Writes the records of finished runs.

    Attributes:
        suite: The suite that the records belong to.
        store: Has the logits.
        console: For messages.
        tracking: Gets each new record.
        unscored: ``id`` of a run -> why it could not be scored.
        written: Runs with their new records.
    """

    suite: Suite
    store: Store
    console: Console
    tracking: Tracking
    unscored: dict[int, str] = field(default_factory=dict)
    written: list[tuple[Run, dict]] = field(default_factory=list)

    def record(self, finished: Iterable[tuple[Run, Path]]) -> list[tuple[Run, dict]]:
        """Record finished runs, given with the paths of their records; return those that could be scored."""
        new = _record(finished, self.store, self.console, self.tracking, self.unscored)
        self.written += new
        return new

    def missing(self, graph: Graph) -> list[Run]:
        """The runs that could not be scored and have no valid record from before."""
        return [
            run_ for run_ in graph.runs
            if id(run_) in self.unscored and not is_valid(path_of_record(run_, self.suite))
        ]  # fmt: skip


def run(
    selection: Selection,
    execution: Execution,
    question: str | None = None,
    leaderboard: bool = True,
) -> Outcome:
    """Carry out a selection: plan, train what is missing, record, report.

    Args:
        selection: The runs.
        execution: How to carry them out.
        question: From :func:`ltbench.grid.answer.question_of`: the key under which the output of a finished grid is
            cached.
        leaderboard: Whether the tables of the report are shown at the end.

    Raises:
        InterruptedRunError: On Ctrl-C; the store and the records are complete, and the same call resumes from there.
    """
    console, store = make_console(), Store()
    answers = Answers(store.root, question) if question else None
    suite, planned = plan_selection(selection, execution.plugins)
    graph, broken, _ = planned
    runs = graph.runs
    if selection.skip_recorded:
        graph = without_recorded(graph, suite)
        console.print(f'{len(runs) - len(graph.runs)} of {len(runs)} runs already have a record and are skipped.')
    executor_class = lookup(EXECUTORS, execution.executor)
    benchmarks = {id(run_.benchmark): run_.benchmark for run_ in graph.runs}.values()
    data = [load_data(benchmark.data) for benchmark in benchmarks]
    if answers is not None:
        answers.watch(file for of_data in data for file in of_data.files or ())
    notes = {
        note: None
        for benchmark, of_data in zip(benchmarks, data, strict=True)
        for note in (*benchmark.notes, *of_data.notes)
    }
    notes |= {f'note: {method}: {text}': None for method, text in _plan_notes(graph)}
    not_comparable = note_on_other_tables(suite, graph)
    shown: list[str | ShownTable] = [
        *notes,
        *planned.notes_on_missing_data(selection),
        *([f'note: {not_comparable}'] if not_comparable else []),
    ]
    show(shown, console)
    executor = executor_class(store, _runtime(execution), execution.workers, **execution.settings)
    tracking = Tracking(execution.track, suite.name)
    recorder = _Recorder(suite, store, console, tracking)
    recorder.record(unrecorded(graph, suite, store))
    for run_ in graph.runs:
        if id(run_) in recorder.unscored and not store.has(run_.fingerprint):  # damaged and set aside: rebuilt now
            del recorder.unscored[id(run_)]
    graph = continued_from_store(graph, store)
    needed = needed_stages(graph, store)
    failed: dict[str, StageState] = {}
    everything_found = f'Everything is found: {len(graph.runs)} runs, nothing to train.'
    trained_before = sum(stage.kind == 'train' and store.has(key) for key, stage in graph.stages.items())
    if execution.eval_every and trained_before:
        console.print(f'{trained_before} train stages are already in the store, so they get no new test curve.')
    if needed:
        store.check_writable()
        _check_records_writable(suite)
        states = _train(executor, graph, needed, execution.timeout, recorder)
        failed = {key: state for key, state in states.items() if state.state in ('failed', 'blocked')}
    elif runs:
        console.print(everything_found)
    store.tidy(graph.stages.keys())
    broken_stages = _write_failures(suite, graph, failed)
    if execution.track:
        _track(filter(Path.exists, (path_of_record(run_, suite) for run_ in graph.runs)), tracking, console)
    changed = bool(recorder.written or broken_stages) or (answers is not None and answers.is_outdated())
    asked = {run_.benchmark.table(run_.data) for run_ in runs} if leaderboard else set()
    not_reported, tables = _show_report(suite, changed, execution.figures, console, asked)
    for line in tracking.summary():
        console.print(line, highlight=False, soft_wrap=True)
    warnings = {(str(run_.method), text) for run_, record in recorder.written for text in record['warnings']}
    for method, text in sorted(warnings):
        line = f'note: {method}: {text}'
        if not {text, line} & notes.keys():  # those of data, benchmarks and plans were shown at the start
            console.print(line, style='yellow', highlight=False, soft_wrap=True)
    _show_failures(graph, failed, broken, store, console)
    failures = [f'{run_}: {stage.kind} failed: {failed[stage.fingerprint].reason}' for run_, stage in broken_stages]
    failures += [f'no plan could be made for {method}: {reason}' for method, reason in broken.items()]
    failures += [f'{run_}: {recorder.unscored[id(run_)]}' for run_ in recorder.missing(graph)]
    failures += [f'tracker {name} failed: {reason}' for name, reason in tracking.failed.items()]
    code = EXIT_FAILED if failed or failures else not_reported.exit_code if not_reported is not None else 0
    if not_reported is not None:
        failures.append(f'no report: {not_reported}')
    if answers is not None and code == 0 and tables and not plugins.not_loaded():
        _keep_answer(answers, [*shown, everything_found, *tables], data, graph, suite, store)
    return Outcome(suite, runs, failures, code)


def _plan_notes(graph: Graph) -> list[tuple[str, str]]:
    """What methods note while they plan, such as that nothing changes in so few epochs: methods and texts."""
    return sorted({(str(run_.method), text) for run_ in graph.runs for text in run_.plan.notes})


def _train(
    executor: Executor, graph: Graph, needed: list[str], timeout_minutes: float | None, recorder: _Recorder
) -> dict[str, StageState]:
    """Carry out the needed stages, and record each run when it has finished.

    Returns:
        The final state of each needed stage.

    Raises:
        InterruptedRunError: On Ctrl-C.
    """
    try:
        carried_out = executor.run(graph, timeout_minutes and 60 * timeout_minutes)
        with closing(carried_out), make_view(graph, needed, recorder.console) as view:
            for run_, record in recorder.written:
                view.recorded(run_, record)
            for states in carried_out:
                settled = {id(run_) for run_, _ in recorder.written} | recorder.unscored.keys()
                new = [run_ for run_ in just_finished(graph, states) if id(run_) not in settled]
                for run_, record in recorder.record([(run_, path_of_record(run_, recorder.suite)) for run_ in new]):
                    view.recorded(run_, record)
                view.update(states)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f'interrupted after {len(recorder.written)} new records; the same command continues from here'
        ) from None
    return states


def _write_failures(suite: Suite, graph: Graph, failed: Mapping[str, StageState]) -> list[tuple[Run, Stage]]:
    """Write a failure file for each run with a failed stage; return these runs with the stage, failed probes too."""
    broken_stages = [
        (run_, stage)
        for run_ in graph.runs
        for stage in (*run_.stages, *run_.probes)
        if stage.fingerprint in failed and failed[stage.fingerprint].state == 'failed'
    ]
    for run_, stage in broken_stages:
        if stage.kind != 'probe':  # a run is recorded without the measurement of a failed probe
            write_failure(suite.name, identity_of(run_), stage.kind, failed[stage.fingerprint].reason)
    return broken_stages


def _keep_answer(
    answers: Answers, shown: list[str | ShownTable], data: Sequence[LongTailData], graph: Graph, suite: Suite,
    store: Store,
) -> None:  # fmt: skip
    """Cache what was shown, together with the files that it depends on; not if some of these are unknown."""
    files = [each.files for each in data]
    if all(each is not None for each in files):
        read = [path for each in files for path in each or ()]
        read += [store.folder(run_.fingerprint) / MANIFEST for run_ in graph.runs]
        answers.keep(shown, read, [results_root() / suite.name])


def _check_records_writable(suite: Suite) -> None:
    """Check that records can be written, before anything is trained for them.

    Raises:
        StoreError: If not, with what to do.
    """
    folder = results_root() / suite.name / 'records'
    with explained('records', folder, 'LTBENCH_RESULTS'):
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary(folder / 'probe')
        probe.touch()
        probe.unlink()


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
    """Write records. A run that cannot be scored goes into ``unscored`` and stops no other run; if its stored logits
    are damaged, it is carried out again."""
    written = []
    for run_, path in finished:
        try:
            record = record_run(run_, store, path)
        except DamagedArtifactError as error:
            unscored[id(run_)] = f'{error}; it is rebuilt'
            console.print(f'{run_}: {unscored[id(run_)]}', soft_wrap=True)
            continue
        except (ValueError, KeyError, TypeError, BadZipFile, UnreadableFileError, DataError) as error:
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
    suite: Suite, changed: bool, figures: bool, console: Console, asked: Collection[str]
) -> tuple[LTBenchError | None, list[str | ShownTable]]:
    """Rebuild the report and show its tables.

    Args:
        suite: The suite.
        changed: Whether records are newer than the report.
        figures: Whether to draw figures.
        console: For the tables.
        asked: Hashes of the tables that the command is about, which are shown; the others are counted.

    Returns:
        The error, if any; and what was shown, empty if the report leaves something out.
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
    if not asked:
        return None, []
    columns = ('top1', 'many', 'medium', 'few')
    shown: list[str | ShownTable] = []
    found = list(by_table(report.board, sort=False))
    for key, rows in found:
        if key.table not in asked:
            continue
        table = ShownTable(title=f'{key.title}; accuracy in %', columns=['method', 'seeds', *columns], rows=[])
        for row, sign in zip(rows.to_dict('records'), marks_of(rows), strict=True):
            cells = [_mean_std(row[f'{column}_mean'], row[f'{column}_std']) for column in columns]
            failed = f' ({row["n_failed"]} failed)' if row['n_failed'] else ''
            table['rows'].append([named(row) + sign, f'{row["n_seeds"]}{failed}', *cells])
        shown += [table, *footnotes(rows)]
    if others := sum(key.table not in asked for key, _ in found):
        shown.append(f'{others} other table{"s" * (others > 1)} of this suite: {results.folder / "leaderboard.md"}')
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
            lines = _lines_of(log)
            place = f'\n    in {found}' if (found := _place_in(lines)) else ''
            last = ''.join(f'\n    | {line}' for line in lines[-LOG_LINES:])
            console.print(f'  {names}\n    {state.reason}{place}{last}\n    log: {log}', soft_wrap=True)


def _lines_of(log: Path) -> list[str]:
    try:
        return contents_of(log).decode(errors='replace').splitlines()
    except (OSError, ValueError):  # not there, or no file
        return []


def _place_in(log: Sequence[str]) -> str:
    """``FILE:LINE`` of the last call in the last traceback of a log that is in a method's file; '' if there is none."""
    starts = [number for number, line in enumerate(log) if line.startswith('Traceback (most recent call last)')]
    for frame in reversed([*filter(None, map(FRAME.match, log[starts[-1] :] if starts else ()))]):
        path = Path(frame[1])
        is_library = plugins.INSTALLED & {*path.parts} or path.is_relative_to(STANDARD_LIBRARY)
        if path.is_file() and not is_library and not path.is_relative_to(ROOT_OF_PACKAGE):
            return f'{path}:{frame[2]}'
    return ''

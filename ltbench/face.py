"""The Python API: what `import ltbench` offers. It converts arguments for the commands, and results to data frames.

It works in a script, a notebook, and a thread of either: it sets no signal handler, its processes do not run the script
that calls, and progress is shown on standard output, one line per run where there is no terminal.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ltbench.errors import FailedRunsError, LTBenchError, UsageError
from ltbench.grid.selection import Execution, Selection, check_names
from ltbench.recipe import shortened
from ltbench.spec import LARGEST_SEED, parse_specs

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from ltbench.grid.explain import Explanation

Name = str | Mapping[str, Any]
"""``'nbn(scope=all)+la_loss'`` as on the command line, or ``dict(type='nbn', scope='all')``."""


def run(
    suite: str | None = None,
    *,
    benchmark: Name | Iterable[Name] | None = None,
    methods: Name | Iterable[Name] | None = None,
    seeds: int | Iterable[int] | None = None,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    plugins: str | Path | Iterable[str | Path] = (),
    scale_lr: bool = False,
    skip_recorded: bool = False,
    skip_missing: bool = False,
    executor: str = 'local',
    workers: int | None = None,
    timeout: float | None = None,
    gpus_per_stage: float | None = None,
    slurm: Mapping[str, Any] | None = None,
    track: str | Iterable[str] = (),
    eval_every: int | None = None,
    figures: bool = False,
) -> pd.DataFrame:
    """Plan, train what is missing, record, and rebuild the report, as ``ltbench run`` does.

    Example::

        frame = ltbench.run(benchmark='digits_lt', methods=['erm', 'nbn+la_loss'], seeds=range(3))
        frame.groupby('method')['few'].mean()

    Args:
        suite: Name of a suite, or its file. Without one: ``erm`` with seed 0 on the benchmarks, under a suite named
            after them; or the suite ``digits`` where there is no benchmark either.
        benchmark: One or several, in place of the suite's: ``'cifar100_lt(imbalance_factor=50)'``.
        methods: Likewise.
        seeds: Run seeds, 0 or larger, in place of the suite's.
        preset: One of the benchmarks' presets; None: the plain recipe, or what the suite says.
        options: ``{'epochs': 5, 'nbn.normalize': 'weight'}``: of recipes, data, backbones and methods.
        plugins: Your files with methods. A method may also be defined where you call from, if all its parts are
            registered elsewhere; your own loss, sampler or head needs a file.
        scale_lr: With another ``batch_size``: scale the learning rate in proportion.
        skip_recorded: Skip runs that have a record, whatever the store has.
        skip_missing: Skip benchmarks without data, and print which.
        executor: Where stages are carried out: ``'local'``, ``'ray'`` or ``'slurm'``.
        workers: Stages at once; None: one per GPU, or one per core without GPUs.
        timeout: Minutes after which a stage is ended and counts as failed.
        gpus_per_stage: With Ray: share of a GPU that a stage takes, 0 to 1.
        slurm: With Slurm: ``{'partition': 'gpu', 'time': 120, 'mem': '16G'}``.
        track: Also write each run to ``'tensorboard'``, ``'wandb'`` or ``'mlflow'``.
        eval_every: Epochs between test scores during training, for curves; they select nothing.
        figures: Whether the report in ``results/SUITE/`` gets figures.

    Returns:
        One row for each requested run, also if it was done before; the columns of :func:`records`.

    Raises:
        UsageError: For anything unknown or contradictory, before anything is written.
        DataError: If data are missing or damaged.
        StoreError: If nothing can be written.
        FailedRunsError: At the end, if a run, a tracker or the report failed; its ``records`` are the frame of the
            other runs.
        InterruptedRunError: On Ctrl-C, or an interrupted kernel; the same call continues from there.
    """
    with _plugins_noted():
        selection = Selection(
            suite, _names('benchmark', benchmark), _names('methods', methods), _seeds(seeds), preset,
            _options(options), scale_lr, skip_recorded, skip_missing,
        )  # fmt: skip
        execution = Execution(
            executor, workers, timeout, gpus_per_stage, slurm, _texts(track), eval_every, _texts(plugins), figures
        )
        check_names(selection, execution.plugins)
        if executor == 'local':
            from ltbench.grid.executors.fork_server import fork_server

            fork_server()  # imports torch while we do
        from ltbench.grid.recording import path_of_record
        from ltbench.record import is_valid, read_record
        from ltbench.report.tidy import tidy
        from ltbench.verbs.run import run as carry_out

        outcome = carry_out(selection, execution, leaderboard=False)
    paths = [path_of_record(each, outcome.suite) for each in outcome.runs]
    frame = tidy({path: read_record(path) for path in paths if is_valid(path)})
    if outcome.code:
        failures = '; '.join(outcome.failures)
        raise FailedRunsError(f'{len(frame)} of {len(paths)} runs are recorded: {failures}', frame)
    return frame


def plan(
    method: Name,
    benchmark: Name = 'digits_lt',
    *,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    plugins: str | Path | Iterable[str | Path] = (),
    scale_lr: bool = False,
) -> Explanation:
    """What a method does on a benchmark: its stages, and what differs from plain training (ERM). Needs no data.

    Example::

        >>> ltbench.plan('nbn+la_loss', 'cifar100_lt')
        nbn+la_loss on cifar100_lt (imbalance factor 100, paper)
        ...
        differs from erm
          normalization: NormalizedBN(normalize=both, scope=last_stage, scalar=network,
              bias_init=zeros); erm: none
          loss: LogitAdjustedLoss(tau=1.0); erm: CrossEntropyLoss

    Args:
        method: ``'a+b'`` applies a, then b; options in brackets.
        benchmark: ``NAME`` or ``'NAME(imbalance_factor=50)'``.
        preset: As for :func:`run`.
        options: Likewise.
        plugins: Likewise.
        scale_lr: Likewise.

    Returns:
        An object that prints as text of 80 columns, with ``steps``, ``differences``, ``notes`` and the ``plan``.

    Raises:
        UsageError: For anything unknown, out of range or contradictory, as two methods that set the same slot.
    """
    with _plugins_noted():
        from ltbench import plugins as plugin_files
        from ltbench.console import say
        from ltbench.grid.explain import explain
        from ltbench.grid.planning import resolve
        from ltbench.suite import Suite

        plugin_files.check_unchanged()
        plugin_files.load(_texts(plugins))
        suite = Suite('', (_one('benchmark', benchmark),), (parse_specs(_one('method', method)),), (0,), preset)
        ((resolved, (chosen,), _),) = resolve(suite, _options(options), scale_lr)
        explained = explain(chosen, resolved)
        for line in plugin_files.not_loaded():
            say(line)
        return explained


def records(suite: str, *, leave_out: bool = False) -> pd.DataFrame:
    """The recorded runs of a suite, one row each: for your own tests, tables and plots. Imports no torch.

    Example::

        frame = ltbench.records('digits')
        seaborn.stripplot(frame, x='few', y='method')

    Args:
        suite: Its name, or the path of its file.
        leave_out: Leave out invalid or conflicting records, and print which, instead of raising.

    Returns:
        The columns ``suite``, ``benchmark``, ``imbalance_factor``, ``setting``, ``method``, ``seed``; the metrics of
        :func:`evaluate` that are one number, NaN for an empty group; ``parameters``, ``flops`` (of an
        image; a multiply-add counts as two), ``wall_seconds``, ``cpu_seconds``, ``images_per_second`` and
        ``peak_memory_mb`` of the network and all its stages; ``table``, a hash that is equal for rows that may be
        compared, ``fingerprint`` and ``path``.

    Raises:
        UsageError: If nothing is recorded under that name; near misses are named.
        StoreError: If a record is damaged or in conflict with another.
    """
    from ltbench.console import say
    from ltbench.record import record_path
    from ltbench.report.reading import read_suite
    from ltbench.report.tidy import tidy

    results = read_suite(suite, leave_out)
    for reason in results.left_out.values():
        say(f'left out: {reason}')
    return tidy({record_path(results.suite, record): record for record in results.records})


def evaluate(
    logits: ArrayLike | Tensor, labels: ArrayLike | Tensor, class_counts: Sequence[int] | ArrayLike | Tensor
) -> dict[str, Any]:
    """Score your own logits under this protocol. Imports no torch.

    Example::

        >>> ltbench.evaluate([[2.0, 0.0], [1.0, 0.0]], [0, 1], class_counts=[500, 10])['few']
        0.0

    Args:
        logits: ``[N, C]``, finite, as the softmax sees them (a cosine head's with its scale).
        labels: ``[N]`` whole numbers, 0 to C - 1.
        class_counts: ``[C]`` training images a class, 0 or more; they decide what is many (more than 100), medium and
            few (fewer than 20).

    Returns:
        What a record holds as ``metrics``: ``top1``, ``macro``, ``many``, ``medium``, ``few``, ``ece`` and so on in
        percent, ``nll`` in nats, ``per_class`` ``[C]``; None for an empty group; see
        :func:`ltbench.evaluation.evaluate`.

    Raises:
        UsageError: If the arguments do not fit together, or a number is not what it should be.
    """
    from ltbench.evaluation import evaluate as score

    try:
        counts = _array(class_counts)
        if counts.ndim != 1 or counts.dtype.kind not in 'iu' or (counts < 0).any():
            raise ValueError(f'class_counts are whole numbers [C], 0 or larger, got {shortened(class_counts)}')
        return score(_array(logits), _array(labels), counts.tolist())
    except ValueError as error:
        raise UsageError(str(error)) from error


def report(
    suite: str = 'digits',
    *,
    figures: bool = True,
    latex: bool = False,
    ablate: str | Iterable[str] = (),
    leave_out: bool = False,
    strict: bool = False,
    into: str | Path | None = None,
    paper: bool = False,
    show: str | Iterable[str] = (),
) -> list[Path]:
    """Rebuild the tables, the page and the figures in ``results/SUITE/`` from its records. Trains nothing, no torch.

    Example::

        for path in ltbench.report('digits', ablate='nbn.scope'):
            print(path)

    Args:
        suite: Its name, or the path of its file.
        figures: Whether to draw.
        latex: Also write the leaderboard as LaTeX tables.
        ablate: Options, ``METHOD.option``: compare the rows that differ only in these.
        leave_out: Leave out invalid or conflicting records, and print which, instead of raising.
        strict: Raise if the runs of a table are from several environments, or if files are left out.
        into: A Markdown file with places for figure and short table.
        paper: Also draw every figure as PDF and SVG at the widths of a column and of the text, without titles.
        show: Methods that the figures show, in this order.

    Returns:
        The files made, ``leaderboard.csv`` first.

    Raises:
        UsageError: If the suite has no records, or no record has such an option.
        StoreError: If a record is damaged or in conflict with another, or nothing can be written.
    """
    from ltbench.verbs.report import report as rebuild

    place = None if into is None else Path(into)
    return rebuild(suite, figures, latex, _texts(ablate), leave_out, strict, place, paper, ','.join(_texts(show)))


# ---------------------------------------------------------------------------------------------- arguments to text


def _names(noun: str, given: Name | Iterable[Name] | None) -> tuple[str, ...]:
    """Names as they are typed; empty if none is given."""
    if given is None:
        return ()
    items = [given] if isinstance(given, str | Mapping) else _listed(noun, given)
    if not items:
        raise UsageError(f'{noun} is empty: name at least one, or leave it out')
    return tuple(item if isinstance(item, str) else str(parse_specs(item)) for item in items)


def _one(noun: str, given: Name) -> str:
    if not isinstance(given, str | Mapping):
        raise UsageError(f'{noun} is one name, got {given!r}')
    return _names(noun, given)[0]


def _listed(noun: str, given: Any) -> list[Any]:
    if not isinstance(given, Iterable):
        raise UsageError(f'{noun} is a name or a list of names, got {given!r}')
    return list(given)


def _seeds(given: int | Iterable[int] | None) -> tuple[int, ...]:
    if given is None:
        return ()
    items: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    try:
        seeds = dict.fromkeys(operator.index(item) for item in items if not isinstance(item, bool))
    except TypeError:
        seeds = {}
    if not seeds or any(isinstance(item, bool) for item in items) or min(seeds) < 0 or max(seeds) > LARGEST_SEED:
        raise UsageError(
            f'cannot read seeds {shortened(given)}: expected whole numbers from 0 to 2^63 - 1, like 0 or [0, 1, 2]'
        )
    return tuple(seeds)


def _options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options with plain values: scalars of numpy become Python's."""
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"options are a dict, as {{'epochs': 5}}, got {given!r}")
    items = (given or {}).items()
    return {str(key): value.item() if isinstance(value, np.generic) else value for key, value in items}


def _texts(given: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    return tuple(str(item) for item in ([given] if isinstance(given, str | Path) else given))


def _array(values: Any) -> np.ndarray:
    """An array; also from a tensor, on any device and in any precision."""
    torch = sys.modules.get('torch')
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


@contextmanager
def _plugins_noted() -> Iterator[None]:
    """Add a note to an error for each plug-in that was not loaded: an unknown name may be in one."""
    try:
        yield
    except LTBenchError as error:
        if (loaded := sys.modules.get('ltbench.plugins')) is not None:
            for line in loaded.not_loaded():
                error.add_note(line)
        raise

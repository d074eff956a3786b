"""What was asked for, whether its names exist, and how it is to be carried out. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any

from ltbench.benchmark import load_benchmark
from ltbench.config import config_names
from ltbench.errors import UsageError, unknown
from ltbench.method_files import built_in_methods
from ltbench.places import ENTRY_POINT_GROUP
from ltbench.spec import parse_specs
from ltbench.suite import Suite, each_once, load_suite


@dataclass(frozen=True)
class Selection:
    """A suite, narrowed or changed; or benchmarks without one."""

    suite: str | None = None
    benchmarks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    preset: str | None = None
    options: Mapping[str, Any] | None = None
    scale_lr: bool = False
    skip_recorded: bool = False
    skip_missing: bool = False


@dataclass(frozen=True)
class Execution:
    """How a selection is carried out; none of this changes a result.

    Args:
        executor: Name of the executor that carries out the stages.
        workers: Devices in use at once, 1 or more; None is the executor's default.
        timeout: Minutes that a stage may take, more than 0; None is no limit.
        gpus_per_stage: Ray only: share of a GPU that a stage takes, 0 to 1.
        slurm: Slurm only: partition, time, mem, account and so on.
        track: Names of trackers that also get the records, including earlier records that they lack.
        eval_every: Epochs between scores during training, 1 or more; None: only the last epoch is scored.
        plugins: Files with methods.
        figures: Whether the report at the end has figures.

    Raises:
        UsageError: If a value is out of range, or belongs to another executor.
    """

    executor: str = 'local'
    workers: int | None = None
    timeout: float | None = None
    gpus_per_stage: float | None = None
    slurm: Mapping[str, Any] | None = None
    track: tuple[str, ...] = ()
    eval_every: int | None = None
    plugins: tuple[str, ...] = ()
    figures: bool = True

    def __post_init__(self) -> None:
        for name, count in (('workers', self.workers), ('eval_every', self.eval_every)):
            if count is not None and not (isinstance(count, int) and not isinstance(count, bool) and count >= 1):
                raise UsageError(f'{name} is a whole number, 1 or larger, got {count!r}')
        if self.timeout == 0:
            raise UsageError('--timeout 0 would end every stage at once; leave it out for no limit')
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            raise UsageError(f'timeout is a number of minutes, more than 0, got {self.timeout!r}')
        share = self.gpus_per_stage
        if share is not None and not (_is_number(share) and 0 <= share <= 1):
            raise UsageError(f'gpus_per_stage is a number, 0 to 1, got {share!r}')
        if share is not None and self.executor != 'ray':
            raise UsageError(f'--gpus-per-stage is for --executor ray, not {self.executor}')
        if self.slurm and self.executor != 'slurm':
            raise UsageError(f'--slurm is for --executor slurm, not {self.executor}')
        if self.track:
            from ltbench.tracking import check_installed

            check_installed(self.track)

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of this executor only."""
        of_ray = {} if self.gpus_per_stage is None else {'gpus_per_stage': self.gpus_per_stage}
        return of_ray | ({'options': dict(self.slurm)} if self.slurm else {})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def choose_suite(selection: Selection) -> Suite:
    """The suite to run: a named one, narrowed or changed; or one made for the benchmarks given.

    ``-b`` without a suite runs ``erm`` with seed 0 on that benchmark, under a suite named after it: ``cifar100_lt``, or
    ``cifar10_lt_runs`` where a suite has the name of the benchmark, so that their results are not mixed.
    """
    if selection.suite is None and selection.benchmarks:
        name = '+'.join(dict.fromkeys(spec.name for text in selection.benchmarks for spec in parse_specs(text)))
        name = name.replace('/', '_').removesuffix('.py')
        name += '_runs' if name in config_names('suites') else ''
        suite = Suite(name, selection.benchmarks, (parse_specs('erm'),), (0,))
    else:
        suite = load_suite('digits' if selection.suite is None else selection.suite)
    return replace(
        suite,
        benchmarks=tuple(dict.fromkeys(selection.benchmarks)) or suite.benchmarks,
        methods=each_once(selection.methods) or suite.methods,
        seeds=selection.seeds or suite.seeds,
        own_methods={} if selection.methods else suite.own_methods,
        own_seeds={} if selection.seeds else suite.own_seeds,
        preset=suite.preset if selection.preset is None else selection.preset,
        source=selection.suite if selection.suite and selection.suite.endswith('.py') else '',
    )


def check_names(selection: Selection, plugin_files: Iterable[object] = ()) -> None:
    """Check the names of suites, benchmarks and methods before any slow import.

    With plug-ins, names of methods are checked later, when these are loaded.

    Raises:
        UsageError: With near misses.
    """
    suite = choose_suite(selection)
    for text in suite.benchmarks:
        load_benchmark(text, suite.preset)
    if list(plugin_files) or has_plug_ins():
        return
    names = built_in_methods()
    for spec in (spec for method in suite.all_methods for spec in method):
        if names and spec.name not in names:
            raise unknown('method', spec.name, names)


def has_plug_ins() -> bool:
    """Whether there may be methods that are not built in: installed, named by a variable, or registered by the program
    that imports ltbench."""
    registry = sys.modules.get('ltbench.registry')
    registered = {*registry.METHODS.module_dict} if registry else set()
    return bool(
        os.environ.get('LTBENCH_PLUGINS') or entry_points(group=ENTRY_POINT_GROUP) or registered - {*built_in_methods()}
    )

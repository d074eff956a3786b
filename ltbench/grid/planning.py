"""Plan a selection: from its names and options to the graph of all stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ltbench import plugins
from ltbench.benchmark import Benchmark, load_benchmark
from ltbench.console import say
from ltbench.data import load_data
from ltbench.data.base import FileSplit, forget_data
from ltbench.engine.optim import build_optimizer, learning_rate
from ltbench.errors import DataError, LTBenchError, UsageError, given
from ltbench.grid.graph import Graph, Run
from ltbench.grid.scale import plain_network
from ltbench.grid.selection import Selection, choose_suite
from ltbench.method import make_plan, probes_of
from ltbench.models.pretrained import check_there
from ltbench.probes import ALWAYS
from ltbench.recipe import check_augmentation, check_schedule
from ltbench.registry import DATASETS, METHODS, POLICIES, PROBES, build, lookup
from ltbench.spec import Specs
from ltbench.suite import Suite


class Planned(NamedTuple):
    """A planned suite.

    Attributes:
        graph: The stages of all its runs, each once.
        broken: Methods that raise while planning -> why.
        lacking: Name of each benchmark that was planned without its data, and why these are missing or damaged. Its
            runs have an empty data fingerprint, so their stages are not the ones that will be carried out.
    """

    graph: Graph
    broken: dict[str, str]
    lacking: list[tuple[str, str]]

    def notes_on_missing_data(self, selection: Selection) -> list[str]:
        """For each benchmark without data a line: what becomes of it, and why it has no data."""
        became = (
            'left out' if selection.skip_missing
            else 'shown without its data, so existing records cannot be matched'
        )  # fmt: skip
        return [f'note: {name} is {became}: {reason}' for name, reason in self.lacking]


def plan_selection(
    selection: Selection, plugin_files: Iterable[str] = (), needs_data: bool = True
) -> tuple[Suite, Planned]:
    """The suite that was asked for, and its plan.

    Args:
        selection: What was asked for.
        plugin_files: Files with methods. Other plug-ins that could not be loaded (``$LTBENCH_PLUGINS``, installed
            ones) are reported and skipped.
        needs_data: As in :func:`expand`.

    Raises:
        UsageError: For anything unknown or contradictory; if one of ``plugin_files`` does not load.
        DataError: If needed data are missing or damaged; where some may be missing, only if all are.
    """
    plugin_files = list(plugin_files)
    plugins.check_unchanged()
    plugins.load(plugin_files)
    plugins.check_loaded(plugin_files)
    forget_data()
    suite = choose_suite(selection)
    planned = expand(suite, selection.options, selection.scale_lr, needs_data and not selection.skip_missing)
    if selection.skip_missing:
        planned = planned._replace(graph=Graph(run for run in planned.graph.runs if run.data))
        if planned.lacking and not planned.graph.runs:
            raise DataError('; '.join(dict.fromkeys(reason for _, reason in planned.lacking)))
    for line in plugins.not_loaded():  # after an error the command line reports them
        say(line)
    return suite, planned


def expand(
    suite: Suite, options: Mapping[str, Any] | None = None, scale_lr: bool = False, needs_data: bool = True
) -> Planned:
    """Plan all runs of a suite.

    Args:
        suite: The grid.
        options: ``METHOD.option`` or a key of the benchmark -> value, as given with ``-o``.
        scale_lr: As in :func:`ltbench.benchmark.load_benchmark`.
        needs_data: Whether the runs are to be carried out; showing them needs no data.

    Raises:
        UsageError: For anything unknown or contradictory, before anything is written.
        DataError: If needed data are missing or damaged.
    """
    for method in suite.all_methods:
        _requested_probes(suite, method)
    blocks = resolve(suite, options, scale_lr)
    broken: dict[str, str] = {}
    for benchmark, methods, _ in blocks:  # all names and options are checked before any data are read
        for method in methods:
            try:
                for stage in make_plan(method, benchmark, '', 0).stages():
                    given(stage.fingerprint)  # reads the code of its parts
            except LTBenchError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a method is foreign code; it fails alone
                broken[str(method)] = f'{type(error).__name__} while planning on {benchmark.name}: {error}'
    runs = []
    lacking: list[tuple[str, str]] = []
    for benchmark, methods, seeds in blocks:
        fingerprint = ''
        try:
            data = load_data(benchmark.data)
        except DataError as error:
            if needs_data:
                raise
            if (entry := (benchmark.name, str(error))) not in lacking:
                lacking.append(entry)
        else:
            check_augmentation(benchmark.recipe['augmentation'], isinstance(data.train, FileSplit), benchmark.name)
            fingerprint = data.fingerprint
            if needs_data:
                check_there(benchmark.backbone)
        for method in methods:
            if str(method) not in broken:
                probes = _requested_probes(suite, method)
                for seed in seeds:
                    plan = make_plan(method, benchmark, fingerprint, seed)
                    runs.append(Run(benchmark, method, seed, plan, probes))
    return Planned(Graph(runs), broken, lacking)


class Block(NamedTuple):
    """A benchmark, and what is run on it."""

    benchmark: Benchmark
    methods: list[Specs]
    seeds: Sequence[int]


def resolve(suite: Suite, options: Mapping[str, Any] | None = None, scale_lr: bool = False) -> list[Block]:
    """Benchmarks and methods of a suite with the options that were given, see :func:`expand`; reads no data.

    Raises:
        UsageError: For anything unknown or impossible.
    """
    of_methods, of_benchmarks = _split_options(suite, options or {})
    blocks = [
        Block(
            load_benchmark(text, suite.preset, of_benchmarks, scale_lr),
            [_with_options(method, of_methods) for method in suite.methods_on(text)],
            suite.seeds_on(text),
        )
        for text in suite.benchmarks
    ]
    for block in blocks:
        check_parts(block.benchmark)
    return blocks


def _requested_probes(suite: Suite, method: Specs) -> tuple[str, ...]:
    """The probes that a suite and a method request, each once, without those that measure every network anyway.

    Raises:
        UsageError: If one is unknown.
    """
    names = (*suite.probes, *probes_of(method))
    for name in names:
        lookup(PROBES, name)
    return tuple(name for name in dict.fromkeys(names) if name not in ALWAYS)


def check_parts(benchmark: Benchmark) -> None:
    """Build a benchmark's plain network without memory for its weights, and its optimizer and schedule.

    Raises:
        UsageError: If one of them is unknown or has an impossible value.
    """
    lookup(DATASETS, benchmark.data['type'])
    recipe = benchmark.recipe
    check_schedule(recipe['schedule'], benchmark.name)
    try:
        for policy in recipe['augmentation'].get('policies') or ():
            build(POLICIES, policy)
        build_optimizer(plain_network(benchmark), recipe['optimizer'])
        learning_rate(recipe['schedule'], recipe['optimizer']['lr'], recipe['epochs'] - 1, recipe['epochs'])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{benchmark.name}: {type(error).__name__}: {error}') from error


def _split_options(suite: Suite, options: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    of_methods: dict[str, dict[str, Any]] = {}
    of_benchmarks: dict[str, Any] = {}
    named = {spec.name for method in suite.all_methods for spec in method}
    for key, value in options.items():
        owner, _, option = key.partition('.')
        if owner in named:
            of_methods.setdefault(owner, {})[option] = value
        elif owner in METHODS.module_dict:
            raise UsageError(f'-o {key}={value}: {owner} is not among the methods to run ({", ".join(sorted(named))})')
        else:
            of_benchmarks[key] = value
    return of_methods, of_benchmarks


def _with_options(method: Specs, options: Mapping[str, Mapping[str, Any]]) -> Specs:
    for spec in method:
        lookup(METHODS, spec.name)
    return Specs(replace(spec, options={**spec.options, **options.get(spec.name, {})}) for spec in method)

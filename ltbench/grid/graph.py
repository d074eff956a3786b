"""The plans of a suite laid over each other: each stage once, each beginning where another can leave off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ltbench.benchmark import Benchmark
from ltbench.fingerprint import fingerprint
from ltbench.plan import Plan
from ltbench.spec import Specs
from ltbench.stage import Stage


@dataclass(frozen=True)
class PlannedBefore:
    """Stands for a plan that was made before: its stages, and the data that they are for.

    Attributes:
        data: Fingerprint of the images and labels.
        planned: In order.
        probes: Those of :attr:`Run.probes`.
        notes: None: what there was to say was said then.
    """

    data: str
    planned: tuple[Stage, ...]
    probes: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()

    def stages(self) -> list[Stage]:
        """In order."""
        return list(self.planned)


@dataclass(frozen=True)
class Run:
    """Benchmark x method x seed.

    Attributes:
        method: Its parts as typed, options included.
        plan: What it comes to.
        measured_by: Names of the probes that look at its network afterwards.
    """

    benchmark: Benchmark
    method: Specs
    seed: int
    plan: Plan | PlannedBefore
    measured_by: tuple[str, ...] = ()

    @cached_property
    def stages(self) -> list[Stage]:
        """In order; the last one holds the run's logits."""
        return self.plan.stages()

    @cached_property
    def probes(self) -> list[Stage]:
        """Stages that nothing of the result rests on: each measures the network that the run ends with."""
        if not self.measured_by:
            return []
        if isinstance(self.plan, PlannedBefore):
            return list(self.plan.probes)
        network = next(stage for stage in reversed(self.stages) if stage.kind in ('train', 'head'))
        return [Stage('probe', {'probe': {'type': name}}, needs=network) for name in self.measured_by]

    @property
    def fingerprint(self) -> str:
        """Of its last stage."""
        return self.stages[-1].fingerprint

    @cached_property
    def ends(self) -> list[str]:
        """Fingerprints of all that its record is made from: the last stage, and its probes."""
        return [self.fingerprint, *(stage.fingerprint for stage in self.probes)]

    @property
    def data(self) -> str:
        """Fingerprint of the images and labels."""
        return self.plan.data

    @property
    def where(self) -> str:
        """Benchmark and imbalance factor."""
        factor = self.benchmark.data.get('imbalance_factor')
        return self.benchmark.name + (f' IF {factor:g}' if factor is not None else '')

    def __str__(self) -> str:
        return f'{self.where} / {self.method} / seed {self.seed}'


class Graph:
    """All stages of some runs, each once.

    Args:
        runs: The runs.
        stored: Fingerprints of artifacts that are there: training goes on from one of an earlier epoch, whichever runs
            it was made for.

    Attributes:
        runs: The runs.
        stages: Fingerprint -> stage, parents before children.
        children: Fingerprint -> fingerprints of the stages that begin from its artifact.
    """

    def __init__(self, runs: Iterable[Run], stored: Collection[str] = ()) -> None:
        self.runs = list(runs)
        found: dict[str, Stage] = {}
        for run in self.runs:
            for stage in (*run.stages, *run.probes):
                _collect(stage, found)
        _share_prefixes(found)
        _begin_from_stored(found, stored)
        self.stages: dict[str, Stage] = {}
        for key in found:
            self._add(found, key)
        self.children: dict[str, list[str]] = defaultdict(list)
        for key, stage in self.stages.items():
            for parent in stage.parents:
                self.children[parent.fingerprint].append(key)

    def _add(self, found: dict[str, Stage], key: str) -> None:
        if key in self.stages:
            return
        for parent in found[key].parents:
            self._add(found, parent.fingerprint)
        self.stages[key] = found[key]

    def descendants(self, key: str) -> set[str]:
        """Stages that need this one, directly or not."""
        reached: set[str] = set()
        waiting = list(self.children[key])
        while waiting:
            child = waiting.pop()
            if child not in reached:
                reached.add(child)
                waiting.extend(self.children[child])
        return reached

    def ancestors(self, key: str) -> list[str]:
        """The stage and all that its artifact rests on, parents before children."""
        reached = self.lineage(key)
        return [key for key in self.stages if key in reached]

    def lineage(self, key: str) -> set[str]:
        """The same in no order, which takes no look at all other stages."""
        reached: set[str] = set()
        waiting = [key]
        while waiting:
            child = waiting.pop()
            if child not in reached:
                reached.add(child)
                waiting.extend(parent.fingerprint for parent in self.stages[child].parents)
        return reached

    def runs_of(self, key: str) -> list[Run]:
        """Runs whose logits a stage holds or whose network it measures, or, for a stage on the way, whose results rest
        on it."""
        ends = {key, *self.descendants(key)}
        return [run for run in self.runs if not ends.isdisjoint(run.ends)]

    @cached_property
    def urgency(self) -> dict[str, float]:
        """Epochs on the longest way from a stage to a leaf: what should be started first."""
        urgency: dict[str, float] = {}
        for key in reversed(list(self.stages)):
            urgency[key] = epochs_of(self.stages[key]) + max((urgency[c] for c in self.children[key]), default=0.0)
        return urgency


def _collect(stage: Stage, found: dict[str, Stage]) -> None:
    if stage.fingerprint not in found:
        found[stage.fingerprint] = stage
        for parent in stage.parents:
            _collect(parent, found)


def epochs_of(stage: Stage) -> float:
    """Epochs of training that a stage takes; what works on features counts a tenth."""
    if stage.kind == 'train':
        return stage.end - stage.begin
    if stage.kind == 'features':
        return 0.3 * stage.config['epochs']
    if 'along' in stage.config:  # a head together with parts of the backbone
        return stage.config['epochs']
    return 0.1


def _share_prefixes(found: dict[str, Stage]) -> None:
    """Let every ``train`` stage begin from the latest other stage that is a prefix of its history."""
    ends: dict[int, set[int]] = defaultdict(set)  # by seed; where all end alike none is a prefix, and no key is needed
    for stage in found.values():
        if stage.kind == 'train':
            ends[stage.config['seed']].add(stage.end)
    same_so_far: dict[str, list[Stage]] = defaultdict(list)
    keys: dict[str, str] = {}
    for key, stage in found.items():
        if stage.kind == 'train' and len(ends[stage.config['seed']]) > 1:
            keys[key] = _open_ended(stage)
            same_so_far[keys[key]].append(stage)
    for key, group_key in keys.items():
        stage = found[key]
        earlier: Sequence[Stage] = [other for other in same_so_far[group_key] if other.end < stage.end]
        if earlier:
            found[key] = replace(stage, starts_from=max(earlier, key=lambda other: other.end))


def _begin_from_stored(found: dict[str, Stage], stored: Collection[str]) -> None:
    """Let every ``train`` stage that is not stored begin from the latest stored state of its last segment, if that is
    later than where it begins so far."""
    others = set(stored) - found.keys()  # of a grid that is carried on there are none, and nothing is to be looked for
    for key, stage in list(found.items()) if others else ():
        if stage.kind != 'train' or key in stored:
            continue
        segments = stage.config['history']
        last_begins = segments[-2]['until'] if segments[1:] else 0
        for end in range(stage.end - 1, max(stage.begin, last_begins), -1):
            prefix = stage.until(end)
            if prefix.fingerprint in others:
                found[key] = replace(stage, starts_from=found.setdefault(prefix.fingerprint, prefix))
                break


def _open_ended(stage: Stage) -> str:
    """What is in force up to and during a stage's last segment, whenever that ends."""
    config = dict(stage.config)
    *before, last = config.pop('history')
    return fingerprint([config, before, {**last, 'until': None}])

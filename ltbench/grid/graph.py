"""The plans of a suite merged into one graph: each stage once, starting from the end of another where possible."""

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
class CachedPlan:
    """A plan from the cache: only its stages, and the data that they are for.

    Attributes:
        data: Fingerprint of the images and labels.
        planned: Its stages in order.
        probes: Those of :attr:`Run.probes`.
        notes: Empty: they were shown when the plan was made.
    """

    data: str
    planned: tuple[Stage, ...]
    probes: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()

    def stages(self) -> list[Stage]:
        """The stages in order."""
        return list(self.planned)


@dataclass(frozen=True)
class Run:
    """Benchmark x method x seed.

    Attributes:
        method: Its parts as typed, options included.
        plan: The plan made from these.
        measured_by: Names of the probes that measure its network afterwards.
    """

    benchmark: Benchmark
    method: Specs
    seed: int
    plan: Plan | CachedPlan
    measured_by: tuple[str, ...] = ()

    @cached_property
    def stages(self) -> list[Stage]:
        """The stages in order; the last one holds the run's logits."""
        return self.plan.stages()

    @cached_property
    def probes(self) -> list[Stage]:
        """Stages that do not affect the result: each measures the final network of the run."""
        if not self.measured_by:
            return []
        if isinstance(self.plan, CachedPlan):
            return list(self.plan.probes)
        network = next(stage for stage in reversed(self.stages) if stage.kind in ('train', 'head'))
        return [Stage('probe', {'probe': {'type': name}}, needs=network) for name in self.measured_by]

    @property
    def fingerprint(self) -> str:
        """That of its last stage."""
        return self.stages[-1].fingerprint

    @cached_property
    def ends(self) -> list[str]:
        """Fingerprints of the stages that its record is made from: the last one, and the probes."""
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
        stored: Fingerprints of existing artifacts: training continues from one of an earlier epoch, whichever run it
            was made for.

    Attributes:
        runs: The runs.
        stages: Fingerprint -> stage, parents before children.
        children: Fingerprint -> fingerprints of the stages that need its artifact.
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
        """The stage and all stages that it depends on, parents before children."""
        reached = self.lineage(key)
        return [key for key in self.stages if key in reached]

    def lineage(self, key: str) -> set[str]:
        """The same as a set without order; faster, as it does not look at all other stages."""
        reached: set[str] = set()
        waiting = [key]
        while waiting:
            child = waiting.pop()
            if child not in reached:
                reached.add(child)
                waiting.extend(parent.fingerprint for parent in self.stages[child].parents)
        return reached

    def runs_of(self, key: str) -> list[Run]:
        """Runs that depend on a stage: it, or a stage that needs it, holds their logits or measures their network."""
        ends = {key, *self.descendants(key)}
        return [run for run in self.runs if not ends.isdisjoint(run.ends)]

    @cached_property
    def urgency(self) -> dict[str, float]:
        """Epochs on the longest path from a stage to a leaf; stages with more epochs are started first."""
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
    """Epochs of training that a stage takes; work on features counts as a tenth of one."""
    if stage.kind == 'train':
        return stage.end - stage.begin
    if stage.kind == 'features':
        return 0.3 * stage.config['epochs']
    if 'along' in stage.config:  # a head together with parts of the backbone
        return stage.config['epochs']
    return 0.1


def _share_prefixes(found: dict[str, Stage]) -> None:
    """Let every ``train`` stage begin from the latest other stage that is a prefix of its history."""
    ends: dict[int, set[int]] = defaultdict(set)  # by seed; if all end alike, none is a prefix and no key is needed
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
    later than its present start."""
    others = set(stored) - found.keys()  # none if a grid is resumed: then there is nothing to search for
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
    """Hash of the settings up to and in a stage's last segment, without the epoch at which that ends."""
    config = dict(stage.config)
    *before, last = config.pop('history')
    return fingerprint([config, before, {**last, 'until': None}])

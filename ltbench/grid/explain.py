"""A plan as readable text: its stages, and what differs from plain training. Reads no data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ltbench.benchmark import Benchmark
from ltbench.config import leaves
from ltbench.errors import LTBenchError, UsageError
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.plan import SLOTS, Plan
from ltbench.spec import Specs, parse_specs
from ltbench.stage import Stage

PLAIN = 'erm'
WIDTH = 80  # columns of text


@dataclass(frozen=True)
class Step:
    """A stage of a plan as text.

    Attributes:
        kind: ``'train'``, ``'features'``, ``'head'`` or ``'posthoc'``.
        what: What is done in it.
        shared: Whether plain training has the same stage, so that it is carried out once for both.
    """

    kind: str
    what: str
    shared: bool


@dataclass(frozen=True)
class Difference:
    """One difference between a plan and plain training.

    Attributes:
        where: A slot, an entry of the recipe or an argument of the backbone.
        plain: Its value in plain training, as text.
        here: Its value in this plan, as text.
    """

    where: str
    plain: str
    here: str


@dataclass(frozen=True, repr=False)
class Explanation:
    """A plan as readable text; ``print`` shows it at 80 columns.

    Attributes:
        method: As typed, options included.
        benchmark: Name, imbalance factor and setting.
        steps: The stages, parents before children.
        differences: To plain training (ERM) on the same benchmark.
        notes: What a user should know about it.
        plan: The plan itself. It was made without data, so its stages have other fingerprints than those in a store.
    """

    method: str
    benchmark: str
    steps: tuple[Step, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    plan: Plan

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            'method': self.method,
            'benchmark': self.benchmark,
            'stages': [vars(step) for step in self.steps],
            'differences': [vars(difference) for difference in self.differences],
            'notes': list(self.notes),
        }

    def __repr__(self) -> str:
        return '\n'.join(lines_of(self.to_json()))


def lines_of(plan: Mapping[str, Any], width: int = WIDTH) -> Iterator[str]:
    """The text of :meth:`Explanation.to_json`; no line is longer than ``width``, unless a single word is."""
    yield from wrapped(f'{plan["method"]} on {plan["benchmark"]}', width)
    yield ''
    yield 'stages'
    for number, step in enumerate(plan['stages'], start=1):
        shared = f' (shared with {PLAIN})' if step['shared'] and plan['method'] != PLAIN else ''
        yield from wrapped(f'{number}. {step["kind"]}: {step["what"]}{shared}', width, 2)
    yield ''
    same = 'only in the stages after training' if plan['stages'][1:] else 'not at all'
    yield f'differs from {PLAIN}' + ('' if plan['differences'] else f': {same}')
    for difference in plan['differences']:
        yield from wrapped(f'{difference["where"]}: {difference["here"]}; {PLAIN}: {difference["plain"]}', width, 2)
    for note in plan['notes']:
        yield from wrapped(f'note: {note}', width)


def explain(method: Specs, benchmark: Benchmark) -> Explanation:
    """What a method does on a benchmark.

    Args:
        method: Its parts.
        benchmark: The resolved benchmark; its data need not be there.

    Raises:
        UsageError: For an unknown method or option, two methods that fill the same slot, or a method that raises.
    """
    try:
        plain, plan = (make_plan(each, benchmark, '', 0) for each in (PLAIN, method))
        erm, run = Run(benchmark, parse_specs(PLAIN), 0, plain), Run(benchmark, method, 0, plan)
        graph = Graph([erm, run])
    except LTBenchError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f'{method} cannot be planned on {benchmark.name}: {type(error).__name__}: {error}') from error
    of_erm = set(graph.ancestors(erm.fingerprint))
    stages = [graph.stages[key] for key in graph.ancestors(run.fingerprint)]
    teachers = {stage.teacher.fingerprint for stage in stages if stage.teacher is not None}
    steps = tuple(
        Step(
            stage.kind,
            _what(stage) + ('; the teacher of what follows' if stage.fingerprint in teachers else ''),
            stage.fingerprint in of_erm,
        )
        for stage in stages
    )
    factor = benchmark.data.get('imbalance_factor')
    details = [f'imbalance factor {factor:g}'] if factor is not None else []
    where = f'{benchmark.name} ({", ".join([*details, benchmark.setting])})'
    notes = dict.fromkeys([*plan.notes, *benchmark.notes])
    return Explanation(str(method), where, steps, tuple(_differences(plan, plain)), tuple(notes), plan)


def wrapped(text: str, width: int, indent: int = 0, hang: int = 4) -> list[str]:
    """Lines of at most ``width`` columns, the second and later ones indented by ``hang`` more; no word is broken."""
    margin = ' ' * indent
    return textwrap.wrap(
        text, width, initial_indent=margin, subsequent_indent=margin + hang * ' ',
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def in_words(value: Any) -> str:
    """A config as people write it: ``LDAMLoss(max_margin=0.5)``; ``none`` for an empty slot."""
    if value is None:
        return 'none'
    if isinstance(value, Mapping):
        inner = ', '.join(f'{key}={in_words(item)}' for key, item in value.items() if key != 'type')
        return (value['type'] + (f'({inner})' if inner else '')) if 'type' in value else f'({inner})'
    if isinstance(value, list | tuple):
        return f'[{", ".join(map(in_words, value))}]'
    return str(value) or "''"


# ---------------------------------------------------------------------------------------------- stages


def _what(stage: Stage) -> str:
    return {'train': _training, 'features': _features, 'head': _head, 'posthoc': _posthoc}[stage.kind](stage)


def _training(stage: Stage) -> str:
    *before, last = stage.config['history']
    first, epochs = (before[-1]['until'] if before else 0) + 1, stage.config['recipe']['epochs']
    words = [f'epochs {first} to {stage.end}' + (f' of {epochs}' if stage.end < epochs else '')]
    changed = [slot for slot in last if slot != 'until' and before and last[slot] != before[-1][slot]]
    words += [f'{slot} becomes {in_words(last[slot])}' for slot in changed]
    if held_out := stage.config['data'].get('holdout'):
        words.append(f'without {100 * held_out:g} % of the training images, held out to choose values')
    return '; '.join(words)


def _features(stage: Stage) -> str:
    config = stage.config
    if not config['epochs']:
        return 'of test and training images, without augmentation'
    return f'of {config["epochs"]} epochs, sampler {in_words(config["sampler"])}, BN in {config["bn"]} mode'


_HEAD_ENTRIES = (
    'along', 'epochs', 'sampler', 'head', 'loss', 'class_weights', 'constraint', 'optimizer', 'schedule',
)  # fmt: skip


def _head(stage: Stage) -> str:
    kept = {name: stage.config[name] for name in _HEAD_ENTRIES if stage.config.get(name) is not None}
    return '; '.join(f'{name} {in_words(value)}' for name, value in kept.items())


def _posthoc(stage: Stage) -> str:
    chosen = stage.config['choose']
    values = ', '.join(f'{name} of {in_words(tried)}' for name, tried in chosen.items())
    views = stage.config.get('views')
    return (
        in_words(stage.config['step'])
        + (f'; on views {in_words(views)} of the test images, without labels' if views else '')
        + (f'; chosen on validation images: {values}' if chosen else '')
    )


# ---------------------------------------------------------------------------------------------- differences


def _differences(plan: Plan, erm: Plan) -> Iterator[Difference]:
    for section in ('backbone', 'recipe'):
        here, plain = (dict(leaves(each.settings[section], f'{section}.')) for each in (plan, erm))
        for key in {**plain, **here}:
            if here.get(key) != plain.get(key):
                yield Difference(key, in_words(plain.get(key)), in_words(here.get(key)))
    for slot in SLOTS:
        if plan.settings[slot] != erm.settings[slot]:
            yield Difference(slot, in_words(erm.settings[slot]), in_words(plan.settings[slot]))
    if plan.teacher is not None:
        yield Difference('teacher', 'none', 'the network of an earlier stage')
    epochs = plan.settings['recipe']['epochs']
    for share, change in plan.changes:
        for slot, value in change.items():
            at = f'{slot} after epoch {round(share * epochs)}'
            yield Difference(at, in_words(erm.settings[slot]), in_words(value))

"""The verb `compare RUN RUN`: what differs between two runs, in config, metrics, classes and test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from ltbench.console import make_console
from ltbench.errors import UsageError
from ltbench.evaluation import GROUPS
from ltbench.evaluation.paired import LEVEL, PairedTest, paired_test
from ltbench.record import cost_of
from ltbench.store import Store
from ltbench.verbs.find import RecordedRun, find_run, how_to_make, known_predictions

METRICS = ('top1', 'macro', *GROUPS, 'geometric_mean', 'nll', 'ece', *(f'ece_{group}' for group in GROUPS))
COSTS = {'parameters': 0, 'flops': 0, 'wall_seconds': 1, 'images_per_second': 0}
"""Costs of training, with the number of digits that are shown."""
CLASSES_SHOWN = 20  # rows of the table of classes: one screen
TOO_LONG = 70  # characters of a value in the table of configs

ABSENT = 'absent'

Row = tuple[str, Any, Any]


def show_comparison(first: str, second: str, all_classes: bool = False) -> None:
    """Print two recorded runs side by side; differences are the second minus the first.

    Args:
        first: As in :func:`~ltbench.verbs.find.find_run`.
        second: As ``first``.
        all_classes: Show every class, by training images; else only those that differ most, if there are many.

    Raises:
        UsageError: If these are not two runs of the same benchmark and test images.
        StoreError: If a record, its predictions or stored logits are damaged.
    """
    a, b = find_run(first), find_run(second)
    check_comparable(a, b)
    store = Store()
    first_known, second_known = known = [known_predictions(run, store) for run in (a, b)]
    test = None
    if first_known is not None and second_known is not None:
        if not np.array_equal(first_known.labels, second_known.labels):
            raise UsageError(f'{a.name} and {b.name} were tested on different images: their labels differ')
        test = paired_test(first_known.right, second_known.right)
    console = make_console()

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f'a: {a}  [{a.name}]\nb: {b}  [{b.name}]')
    for remark in remarks(a, b):
        say(f'note: {remark}')
    say('\nWhat differs in method and config')
    console.print(_two_columns('', differences(_declared(a), _declared(b))))
    say('\nMetrics (accuracies and ECE in %)')
    console.print(_metric_table(a.record, b.record))
    _show_classes(a.record, b.record, all_classes, console.print, say)
    if test is None:
        missing = [run for run, found in zip((a, b), known, strict=True) if found is None]
        say(
            '\nNo paired test: it needs the predictions of both runs. Neither the record nor '
            f'{store.root} has those of:'
        )
        for run in missing:
            say(f'  {run.name}; to get them: {how_to_make(run)}')
    else:
        say(f'\n{describe_test(test)}')


def check_comparable(a: RecordedRun, b: RecordedRun) -> None:
    """Check that a difference of the two runs is meaningful.

    Raises:
        UsageError: If they are the same run, or of different benchmarks, training sets or test sets.
    """
    names = f'{a.name} and {b.name}'
    if a.path.resolve() == b.path.resolve():
        raise UsageError(f'{a.name} was given twice: give two different runs')
    if a.record['benchmark'] != b.record['benchmark']:
        raise UsageError(f'{names} have different benchmarks: {a.record["benchmark"]} and {b.record["benchmark"]}')
    factors = [run.record['imbalance_factor'] for run in (a, b)]
    if factors[0] != factors[1]:
        raise UsageError(
            f'{names} were trained on different images: imbalance factor {factors[0]} and {factors[1]}; '
            'many, medium and few would not be the same classes'
        )
    for difference, value_of in {
        'have different classes': lambda record: record['class_names'],
        'have different numbers of training images a class': lambda record: record['class_counts'],
        'have different numbers of test images a class': lambda record: record['metrics']['test_images'],
    }.items():
        if value_of(a.record) != value_of(b.record):
            raise UsageError(f'{names} {difference}')
    data = {run.record['data'] for run in (a, b)} - {''}
    if len(data) > 1:
        raise UsageError(f'{names} have different data: fingerprints {" and ".join(text[:12] for text in data)}')


def remarks(a: RecordedRun, b: RecordedRun) -> list[str]:
    """Notes on what else differs between the runs."""
    pairs = {key: (a.record[key], b.record[key]) for key in ('setting', 'run_seed', 'protocol')}
    templates = {
        'setting': 'the settings differ ({} and {}): not only the methods cause the difference',
        'run_seed': 'the seeds differ ({} and {}): part of the difference is random variation',
        'protocol': 'the protocol versions differ ({} and {})',
    }
    notes = [templates[key].format(*pair) for key, pair in pairs.items() if pair[0] != pair[1]]
    if a.record['table'] != b.record['table'] and all(
        first == second for key, (first, second) in pairs.items() if key != 'run_seed'
    ):
        notes.append(
            'backbone or recipe differ under one setting, see below: not only the methods cause the difference'
        )
    if a.record['fingerprint'] == b.record['fingerprint']:
        notes.append('both are the same computation: one fingerprint, one set of logits')
    return notes


def describe_test(test: PairedTest) -> str:
    """The test in words."""
    counts = f'only b is right on {test.only_second:,} of {test.images:,} test images, only a on {test.only_first:,}'
    if test.only_first == test.only_second == 0:
        return f'Paired by test image: on each of the {test.images:,} images both runs are right, or both are wrong.'
    verdict = 'significant' if test.p_value < 1 - LEVEL else 'not significant'
    return (
        f'Paired by test image: {counts}.\n'
        f"McNemar's exact test: p = {test.p_value:.2g} ({verdict} at {1 - LEVEL:.2g})\n"
        f'Top-1, b - a: {test.difference:+.2f} points, {LEVEL:.0%} bootstrap interval over test images '
        f'[{test.low:+.2f}, {test.high:+.2f}]\n'
        'This compares two trained networks, not the methods over several seeds: for that see `ltbench report`.'
    )


def differences(first: Any, second: Any, key: str = '') -> list[Row]:
    """What differs between two configs: dotted key, first value, second value; ``absent`` if one has none."""
    first, second = _emptied(first, second), _emptied(second, first)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names: Sequence[Any] = list(dict.fromkeys([*first, *second]))
        pairs = [(name, first.get(name, ABSENT), second.get(name, ABSENT)) for name in names]
    elif _is_table(first) and _is_table(second):
        longest = range(max(len(first), len(second)))
        at = [[side[i] if i < len(side) else ABSENT for i in longest] for side in (first, second)]
        pairs = list(zip(longest, *at, strict=True))
    else:
        return [] if first == second else [(key, first, second)]
    return [row for name, x, y in pairs for row in differences(x, y, f'{key}.{name}' if key else str(name))]


def _emptied(value: Any, other: Any) -> Any:
    """A missing section counts as an empty one; a part (with ``type``) is present or absent as a whole."""
    return {} if value is ABSENT and isinstance(other, Mapping) and 'type' not in other else value


def _is_table(value: Any) -> bool:
    """Whether it is a list of dicts; a list of numbers is shown whole."""
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _declared(run: RecordedRun) -> dict[str, Any]:
    """What the user chose and the resulting config, without the benchmark's sections that each stage repeats."""
    record = run.record
    benchmark = {name: value for name, value in record['config']['benchmark'].items() if name != 'overrides'}
    stages: dict[str, Any] = {}
    for stage in record['config']['stages']:
        kept = {name: value for name, value in stage.items() if name not in ('kind', 'seed', 'benchmark')}
        kept = {name: value for name, value in kept.items() if value != benchmark.get(name, ABSENT)}
        if isinstance(kept.get('data'), Mapping):
            kept['data'] = {key: value for key, value in kept['data'].items() if key not in benchmark['data']}
        same = sum(name.split(' ')[0] == stage['kind'] for name in stages)
        stages[stage['kind'] + (f' {same + 1}' if same else '')] = kept
    environment = {name: record['environment'].get(name) for name in ('device', 'torch', 'processor', 'instructions')}
    environment['ltbench code'] = record['code'] or None
    return {
        'method': record['method'],
        'run_seed': record['run_seed'],
        'ltbench': record['ltbench'],
        'options': {part['name']: part['options'] for part in record['methods']},
        'benchmark': benchmark,
        'stage': stages,
        **{origin: record['config'].get(origin, {}) for origin in ('imported', 'submitted')},
        'chosen': record['chosen'],
        'environment': environment,
    }


def _two_columns(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title, 'a', 'b', box=None)
    for key, *values in rows:
        table.add_row(key, *map(_short, values))
    return table


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and 'type' in value:
        inner = ', '.join(f'{name}={_short(item)}' for name, item in value.items() if name != 'type')
        text = f'{value["type"]}({inner})'
    else:
        text = str(value)
    return text if len(text) <= TOO_LONG else f'{text[: TOO_LONG - 1]}…'


def _metric_table(a: Mapping[str, Any], b: Mapping[str, Any]) -> Table:
    table = Table('', *(header for header in ('a', 'b', 'b - a')), box=None)
    for column in table.columns[1:]:
        column.justify = 'right'
    groups = {name: f'{name} ({number} class{"" if number == 1 else "es"})' for name, number in a['groups'].items()}
    for name in METRICS:
        digits = 4 if name == 'nll' else 2
        table.add_row(groups.get(name, name), *_with_difference(a['metrics'][name], b['metrics'][name], digits))
    for name, digits in COSTS.items():
        table.add_row(name, *_with_difference(cost_of(a, name), cost_of(b, name), digits))
    return table


def _show_classes(a: Mapping[str, Any], b: Mapping[str, Any], all_classes: bool, show: Any, say: Any) -> None:
    counts = a['class_counts']
    accuracies = [record['metrics']['per_class'] for record in (a, b)]
    tested = [index for index in range(len(counts)) if accuracies[0][index] is not None]
    chosen = sorted(range(len(counts)), key=lambda index: (-counts[index], index))
    title = 'Classes, by training images (accuracy in %)'
    if len(chosen) > CLASSES_SHOWN and not all_classes:
        most = sorted(tested, key=lambda index: (-abs(accuracies[1][index] - accuracies[0][index]), index))
        kept = set(most[:CLASSES_SHOWN])
        chosen = [index for index in chosen if index in kept]
        title = (
            f'The {len(chosen)} of {len(counts)} classes that differ most, by training images (accuracy in %); '
            '--all shows every class'
        )
    table = Table('class', 'training images', 'a', 'b', 'b - a', box=None)
    for column in table.columns[1:]:
        column.justify = 'right'
    for index in chosen:
        values = _with_difference(accuracies[0][index], accuracies[1][index], 1)
        table.add_row(str(a['class_names'][index]), f'{counts[index]:,}', *values)
    say(f'\n{title}')
    show(table)
    gaps = [accuracies[1][index] - accuracies[0][index] for index in tested]
    better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    say(f'b is better on {better} classes, worse on {worse}, equal on {len(gaps) - better - worse}.')


def _with_difference(first: float | None, second: float | None, digits: int) -> list[str]:
    """Two values and their difference as text; empty if there is none."""
    cells = ['' if value is None else f'{value:,.{digits}f}' for value in (first, second)]
    return [*cells, '' if first is None or second is None else _signed(second - first, digits)]


def _signed(difference: float, digits: int) -> str:
    text = f'{difference:+,.{digits}f}'
    return text if text.strip('+-0.') else f'{0:.{digits}f}'  # neither +0.00 nor -0.00

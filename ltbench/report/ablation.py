"""Ablations: rows that differ only in one option or in one part of the method, compared seed by seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from ltbench.benchmark import Benchmark
from ltbench.config import leaves
from ltbench.errors import UsageError
from ltbench.fingerprint import fingerprint
from ltbench.record import origin_of
from ltbench.report.escaping import in_markdown
from ltbench.report.frame import DECIMALS, GROUP, by_table, network_of
from ltbench.report.holm import holm
from ltbench.report.intervals import smallest_steps
from ltbench.report.noise import fit
from ltbench.report.options import SECTIONS, as_text, check_known, options_of, place
from ltbench.spec import Spec, parse_specs

SCORES = ('top1', 'many', 'medium', 'few', 'macro')
OF_RUN = ('value_of_score', 'difference', 'block', 'is_compared', 'step', 'network')
"""Columns of a run's differences that do not identify a combination."""
OWN = ('with', 'is_reference')
"""Columns left out of tables for people: the method's name and the text of its differences say the same."""
PLAIN = 'erm'
"""The method that changes nothing: what remains when the only part of a method is removed."""

TEST = (
    't-test, two-sided, on the variation between seeds of all rows of the table together (method + seed, least '
    'squares), Holm-corrected over the rows of one group and score'
)


@dataclass(frozen=True)
class Ablation:
    """A declared ablation: rows with a part of a method, compared with the same rows without it.

    Args:
        part: The part that is removed, by the name of its method.
        values: Its options that the table shows, in order of columns, and the order of their values.
    """

    part: str
    values: Mapping[str, Sequence[Any]]


ABLATIONS = {
    'nbn': Ablation(
        'nbn',
        {
            'normalize': ('weight', 'bias', 'both'),
            'scope': ('last_stage', 'whole_last_stage', 'all'),
            'scalar': ('network', 'layer', 'each', 'expert'),
            'bias_init': ('zeros', 'ones', 'normal'),
        },
    )
}
"""The ablations that every report makes where its records hold them, by name: ``ablation_NAME.csv``."""

Record = Mapping[str, Any]


def part_differences(records: Sequence[Record], name: str) -> pd.DataFrame:
    """A declared ablation: one row a run and score, with the difference to the run of the same seed without the part.

    Columns: the group; ``method`` as typed; ``with`` (the other parts; '' for none); one for each option of the part
    (``none`` in the rows without it); then what :func:`summarise` aggregates. Empty where no record has the part.
    Methods with the same options in another order, or with other code, are separate rows: ``with`` says how each is
    typed, except for the one with the shortest text.
    """
    ablation = ABLATIONS[name]
    rows = [_row_with(record, ablation) for record in _trained(records)]
    if not any(row['has_part'] for row in rows):
        return pd.DataFrame()
    names = {option for row in rows for option in row['options']}
    options = [*(option for option in ablation.values if option in names), *sorted(names - {*ablation.values})]
    for row in rows:
        values = row.pop('options')
        row |= {option: as_text(values[option]) if option in values else 'none' for option in options}
        row['order'] = [place(ablation.values.get(option, ()), values.get(option)) for option in options]
    return _differences(rows, ['with', *options], lambda row: not row['has_part'])


def ablate(records: Sequence[Record], option: str, required: bool = True) -> pd.DataFrame:
    """Rows that differ only in one option, each compared with the one that has its default.

    The reference is the value that was not set by hand where the records hold such a row, else the first one.
    Columns: the group (of a benchmark's option: setting and table are what the rows share without it); ``method``
    without the option; ``option``; ``value``; then those of :func:`summarise`. Rows
    without another row to compare with are left out.

    Args:
        records: Records of trained runs; others are left out.
        option: ``METHOD.option``, or ``recipe.epochs``, ``backbone.depth``, ...: a path in the resolved benchmark.
        required: Whether it is an error if nothing varies the option; otherwise the table is empty.

    Raises:
        UsageError: If no record has the method or option (with near misses), or no two rows differ only in it
            (naming what is varied).
    """
    trained = _trained(records)
    check_known(trained, option)
    rows = [row for record in trained for row in _rows_of(record, option)]
    kept = _varied(rows)
    if not kept and not required:
        return pd.DataFrame()
    if not kept:
        raise UsageError(f'no two rows differ in {option} alone; {_what_varies(trained)}')
    frame = _differences(kept, ['option', 'value'], lambda row: row['is_reference'])
    return summarise(frame)


def summarise(differences: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of each combination and score.

    Columns: those that identify a combination; ``score``; ``mean``, ``std`` (ddof=1) and ``n`` of its seeds;
    ``difference`` (points, to the reference), from the model that gives p, or from the common seeds where there is no
    p; ``difference_std`` and ``n_pairs`` of the common seeds; ``p`` and ``p_holm`` of :data:`TEST`. NaN marks missing
    values: an empty group, the difference of a reference or without one, the standard deviation of one seed, p where
    no row has two seeds or where the two rows have no common seed.
    """
    if differences.empty:
        return differences
    keys = [column for column in differences.columns if column not in ('run_seed', *OF_RUN)]
    groups = differences.groupby(keys, sort=False, dropna=False)
    table = groups['value_of_score'].agg(mean='mean', std='std', n='count').reset_index()
    table['mean'] = table['mean'].round(DECIMALS)  # 40.849999999999994 is 40.85, here as in the leaderboard
    paired = groups['difference'].agg(['mean', 'std', 'count'])
    table['difference'] = paired['mean'].to_numpy()
    table['difference_std'] = paired['std'].to_numpy()
    table['n_pairs'] = paired['count'].to_numpy()
    numbered = differences.assign(row=groups.ngroup())
    table['p'] = table['p_holm'] = np.nan
    for _, family in numbered.groupby([*GROUP, 'score'], dropna=False):
        tests = _tested(family)
        tests = tests[table.loc[tests.index, 'n_pairs'] > 0]
        table.loc[tests.index, ['difference', 'p']] = tests
        table.loc[tests.index, 'p_holm'] = holm(tests['p'])
    return table[groups['is_compared'].first().to_numpy()].reset_index(drop=True)


def markdown(table: pd.DataFrame, name: str) -> str:
    """An ablation for people; '' for an empty one."""
    if table.empty:
        return ''
    lines = [
        f'## Ablation: {in_markdown(name)}',
        '',
        'Accuracy in %, mean ± standard deviation (ddof = 1) over seeds; difference to the reference row (ref.), '
        f'in points, ± its standard deviation over common seeds; p: {TEST}. Empty: nothing to compare with.',
    ]
    for key, rows in by_table(table, sort=False):
        head, *cells = cells_of(rows)
        lines += ['', f'### {in_markdown(key.title)}', '', '| ' + ' | '.join(map(in_markdown, head)) + ' |']
        lines += ['|---' * len(head) + '|', *('| ' + ' | '.join(map(in_markdown, line)) + ' |' for line in cells)]
    return '\n'.join(lines) + '\n'


def cells_of(rows: pd.DataFrame) -> list[list[str]]:
    """The rows of one table for people: the head, then a row a combination with mean, difference and p of each score.

    Options that do not vary among the rows with the part are left out, and macro where it equals top-1.
    """
    what = [column for column in rows.columns[: list(rows.columns).index('score')] if column not in GROUP]
    means = rows.groupby('score')['mean'].agg(np.array)
    scored = [score for score in SCORES if not np.isnan(means[score]).all()]
    shown = [score for score in scored if score != 'macro' or not np.allclose(means[score], means['top1'], atol=0.05)]
    parts = rows[~rows['is_reference'].astype(bool)]
    named = [name for name in what if name in ('method', 'value') or (name not in OWN and parts[name].nunique() > 1)]
    found = [[*named, 'seeds', *(label for score in shown for label in (score, 'difference', 'p'))]]
    for _, scores in rows.groupby(what, sort=False, dropna=False):
        of = {row['score']: row for row in scores.to_dict('records')}
        start = [*(str(of['top1'][name]) for name in named), str(of['top1']['n'])]
        found.append([*start, *(cell for score in shown for cell in _outcome(of[score]))])
    return found


# ---------------------------------------------------------------------------------------------- rows


def _trained(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if origin_of(record) == 'trained']


def _scored(record: Record) -> dict[str, Any]:
    run = {key: record[key] for key in (*GROUP, 'method', 'run_seed', 'computation')}
    metrics = record['metrics']
    steps = smallest_steps(metrics['test_images'], record['class_counts'])
    scores = {'scores': [metrics[score] for score in SCORES], 'steps': [steps[score] for score in SCORES]}
    return run | scores | {'network': network_of(record)}


def _row_with(record: Record, ablation: Ablation) -> dict[str, Any]:
    """A run: its other parts, and the options of the part."""
    options = next((part['options'] for part in record['methods'] if part['name'] == ablation.part), None)
    rest = [part for part in record['methods'] if part['name'] not in (ablation.part, PLAIN)]
    specs = [spec for spec in parse_specs(record['method']) if spec.name not in (ablation.part, PLAIN)]
    return _scored(record) | {
        'with': '+'.join(map(str, specs)),
        'has_part': options is not None,
        'options': options or {},
        'block': _key([*(record[key] for key in GROUP), rest]),
    }


def _rows_of(record: Record, option: str) -> Iterator[dict[str, Any]]:
    """The run, with the option's value removed from what identifies it; nothing if it has no such option."""
    owner, _, name = option.partition('.')
    config = record['config']['benchmark']
    if owner in SECTIONS:
        entries = dict(leaves({section: config[section] for section in SECTIONS}))
        if option not in entries:
            return
        overrides = {key: value for key, value in config['overrides'].items() if key != option}
        made_of = {key: config[key] for key in ('name', 'preset', *SECTIONS)}
        shown, plain_setting = (Benchmark(**made_of, overrides=o).setting for o in (config['overrides'], overrides))
        value, by_hand = entries.pop(option), option in config['overrides']
        # what the frame adds to distinguish this table from others of its setting
        added = record['setting'].removeprefix(shown).replace(f', {option}={as_text(value)}', '')
        # all that defines the table except the option; data by their fingerprint, unless the option is one of theirs
        kept = {key: entries[key] for key in entries if owner == 'data' or not key.startswith('data.')}
        shared = [record['protocol'], '' if owner == 'data' else record['data'], kept]
        row = _scored(record) | {'setting': plain_setting + added, 'table': fingerprint(shared)[:16]}
        if option == 'data.imbalance_factor':
            row['imbalance_factor'] = None
        block = [*(row[key] for key in GROUP), record['methods']]
    else:
        part = next((part for part in record['methods'] if part['name'] == owner), None)
        if part is None or name not in part['options']:
            return
        value = part['options'][name]
        specs = parse_specs(record['method'])
        by_hand = any(spec.name == owner and name in spec.options for spec in specs)
        plain = [Spec(s.name, {k: v for k, v in s.options.items() if (s.name, k) != (owner, name)}) for s in specs]
        rest = [
            [p['name'], {k: v for k, v in p['options'].items() if (p['name'], k) != (owner, name)}]
            for p in record['methods']
        ]
        row = _scored(record) | {'method': '+'.join(map(str, plain))}
        block = [*(row[key] for key in GROUP), rest]
    yield row | {'option': option, 'value': as_text(value), 'order': [place((), value)], 'by_hand': by_hand,
                 'block': _key(block), 'with': ''}  # fmt: skip


def _varied(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of blocks with several values, and which value each block's reference is."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        blocks.setdefault(row['block'], []).append(row)
    kept = []
    for block in blocks.values():
        if len({row['value'] for row in block}) > 1:
            first = min(block, key=lambda row: (row['by_hand'], row['order']))
            method = min((row['method'] for row in block), key=lambda text: (len(text), text))
            kept += [row | {'is_reference': row['value'] == first['value'], 'method': method} for row in block]
    return kept


def _differences(
    rows: Sequence[Mapping[str, Any]], what: Sequence[str], is_reference: Callable[[Mapping[str, Any]], bool]
) -> pd.DataFrame:
    """One row a run and score, with the difference to the reference of the same block and seed; stable order.

    ``is_compared``: whether its block holds more than references; runs of other blocks tell of the noise alone.
    """
    runs: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    blocks = {row['block'] for row in rows if not is_reference(row)}

    def combination(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row['block'], is_reference(row), row['computation'], *(row[column] for column in what)

    for row in sorted(rows, key=lambda row: (len(row['method']), row['method'])):
        runs.setdefault((*combination(row), row['run_seed']), row)
    order = sorted(
        runs.values(),
        key=lambda row: (row['benchmark'], row['imbalance_factor'] or 0, row['setting'], row['with'], row['block'],
                         not is_reference(row), row['order'], row['method'], row['run_seed']),
    )  # fmt: skip
    references: dict[tuple[str, int], np.ndarray] = {}
    for row in filter(is_reference, order):
        references.setdefault((row['block'], row['run_seed']), np.array(row['scores'], float))
    names: dict[tuple[Any, ...], str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for row in runs.values():  # the shortest spelling of one and the same combination
        name = names.setdefault(combination(row), row['method'])
        first.setdefault((row['block'], is_reference(row), *(row[column] for column in what)), name)
    none = np.full(len(SCORES), np.nan)
    lines = []
    for row in order:
        values = np.array(row['scores'], float)
        reference = none if is_reference(row) else references.get((row['block'], row['run_seed']), none)
        method = names[combination(row)]
        cells = {key: row[key] for key in what}
        if (
            method != first[(row['block'], is_reference(row), *cells.values())]
        ):  # the same options in another order, or by other code
            column = 'with' if 'with' in cells else 'value'
            cells[column] = f'{cells[column]} (as {method})'.strip()
        start = {**{key: row[key] for key in GROUP}, 'method': method, **cells}
        start['is_reference'] = is_reference(row)
        differences = np.round(values - reference, 9)
        for score, value, difference, step in zip(SCORES, values, differences, row['steps'], strict=True):
            of_run = value, difference, row['block'], row['block'] in blocks, step, row['network']
            lines.append(
                {**start, 'score': score, 'run_seed': row['run_seed'], **dict(zip(OF_RUN, of_run, strict=True))}
            )
    frame = pd.DataFrame(lines)
    return frame.astype({'imbalance_factor': float}) if len(frame) else frame


def _tested(differences: pd.DataFrame) -> pd.DataFrame:
    """Rows of one table and score against the reference of their block: ``difference`` and ``p``, by row.

    Rows whose noise is not known are left out.
    """
    runs = differences[differences['value_of_score'].notna()]
    scores, networks = (runs.pivot(index='row', columns='run_seed', values=of) for of in ('value_of_score', 'network'))
    nothing = pd.DataFrame(columns=['difference', 'p'], dtype=float)
    noise = fit(scores.to_numpy(), networks.to_numpy(), differences['step'].min()) if len(scores) else None
    if noise is None or not noise.freedom:
        return nothing
    tests = []
    for _, block in differences.groupby('block'):
        references = block.loc[block['is_reference'] & block['value_of_score'].notna(), 'row']
        compared = scores.index.intersection(block.loc[~block['is_reference'], 'row'].unique())
        if len(references):
            found = noise.against(scores.index.get_loc(references.iloc[0]))
            p = 2 * t.sf(abs(found.points / found.errors), found.freedom)
            of_block = pd.DataFrame({'difference': found.points.round(DECIMALS), 'p': p}, scores.index)
            tests.append(of_block.loc[compared])
    return pd.concat(tests) if tests else nothing


# ---------------------------------------------------------------------------------------------- names


def _what_varies(records: Sequence[Record]) -> str:
    several = {name: values for name, values in options_of(records).items() if len(values) > 1}
    alone = [name for name in several if _varied(row for record in records for row in _rows_of(record, name))]
    parts = [f'{name} ({", ".join(several[name])})' for name in alone]
    return f'varied alone: {"; ".join(parts)}' if parts else 'no option is varied alone in these records'


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _outcome(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Mean, difference and p."""

    def pair(mean: float, std: float, sign: str) -> str:
        if pd.isna(mean):
            return ''
        return f'{mean:{sign}.1f}' + (f' ± {std:.1f}' if pd.notna(std) else '')

    difference = 'ref.' if row['is_reference'] else pair(row['difference'], row['difference_std'], '+')
    p = f'{row["p_holm"]:.3g}' if pd.notna(row['p_holm']) else ''
    return pair(row['mean'], row['std'], ''), difference, p

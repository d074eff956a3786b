"""Data frames to what the page's tables show, cell by cell."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from markupsafe import Markup

from ltbench.report.cells import difference_cells, named, resolution, scores_of
from ltbench.report.environments import footnotes, marks_of
from ltbench.report.frame import GROUP, by_table, row_of
from ltbench.report.statistics import BASELINE, SCORES

STANDING = {'best': 'best', 'within noise': 'tied'}
"""What the leaderboard's column ``best`` says -> how the cell is marked."""
LONG_WORD = 20  # letters
MOST_ROWS = 40  # of a table that stands open; the leaderboard itself is never folded
Key = tuple[str, float | None, str, str, str]
"""Benchmark, imbalance factor, setting, table and method: what a row of a leaderboard is of."""


@dataclass(frozen=True)
class Column:
    """A column of a leaderboard, and how its numbers are written."""

    name: str
    label: str
    about: str
    decimals: int = 1
    lower_is_better: bool = False

    def for_script(self) -> list[Any]:
        """Name, label, decimals and which way is better."""
        return [self.name, self.label, self.decimals, self.lower_is_better]


METRIC_COLUMNS = (
    Column('top1', 'top-1', 'accuracy over all test images, %'),
    Column('many', 'many', 'mean accuracy of classes with more than 100 training images, %'),
    Column('medium', 'medium', 'mean accuracy of classes with 20 to 100 training images, %'),
    Column('few', 'few', 'mean accuracy of classes with fewer than 20 training images, %'),
    Column('macro', 'macro', 'mean accuracy of all classes, %'),
    Column(
        'geometric_mean',
        'geom.',
        'geometric mean of class accuracies, %; 0 if a class has no image right',
    ),
    Column('nll', 'NLL', 'negative log-likelihood, nats; lower is better', 2, True),
    Column('ece', 'ECE', 'expected calibration error, 15 bins, %; lower is better', 1, True),
)
COST_COLUMNS = (
    Column('parameters', 'params', 'parameters of the network', 0, True),
    Column('flops', 'FLOPs', 'of one forward pass of one image; a multiply-add counts as two', 0, True),
    Column('cpu_seconds', 'CPU time', 'of training, all stages', 0, True),
    Column('wall_seconds', 'wall time', 'of training, all stages', 0, True),
)


@dataclass(frozen=True)
class Cell:
    """What stands in a cell; no text where there is nothing to say."""

    text: str = ''
    value: str = ''  # to sort by; as the text where it is empty
    mark: str = ''  # 'best' or 'tied'
    number: bool = False


@dataclass
class Row:
    """A method's row of a leaderboard."""

    number: int
    key: Key
    seeds: int
    failed: int
    reason: str  # of a method that failed altogether
    cells: list[Cell]
    mark: str = ''  # of an environment that is not its table's main one
    method: str = ''  # as typed, with other names of the same computation


@dataclass
class Board:
    """The leaderboard of one table."""

    benchmark: str
    factor: str
    setting: str
    about: str
    caveat: str  # of the benchmark, to stand at each of its tables
    resolution: str  # which differences are noise
    columns: list[Column] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Benchmark and imbalance factor."""
        return self.benchmark + f', imbalance factor {self.factor}' * bool(self.factor)


@dataclass(frozen=True)
class Table:
    """Any other table."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    caveat: str = ''

    @property
    def folded(self) -> bool:
        """Whether it is too long to stand open on the page."""
        return len(self.rows) > MOST_ROWS


def boards(
    leaderboard: pd.DataFrame,
    examples: Mapping[Key, Mapping[str, Any]],
    runs: Sequence[Key],
    failures: Sequence[Mapping[str, Any]],
    caveats: Mapping[str, str],
) -> list[Board]:
    """One leaderboard a group, in the order of the frame; methods that only failed come last.

    Args:
        leaderboard: One row a group and method.
        examples: A record of each row.
        runs: The row of each record.
        failures: Runs that failed.
        caveats: What the tables of a benchmark have to say, by its name.
    """
    seeds = Counter(runs)
    failed: defaultdict[Key, list[str]] = defaultdict(list)
    for failure in failures:
        failed[row_of(failure)].append(f'seed {failure["run_seed"]}, {failure["stage"]}: {failure["reason"]}')
    rows = {row_of(row): row for row in leaderboard.to_dict('records')}
    groups: defaultdict[tuple, list[Key]] = defaultdict(list)
    for key in [*rows, *(key for key in sorted(failed, key=str) if key not in rows)]:
        groups[key[:-1]].append(key)
    of_group = {key[:-1]: record for key, record in examples.items()}
    made, number = [], 0
    signs = dict(zip(rows, marks_of(leaderboard), strict=True))
    for group, members in groups.items():
        (benchmark, factor, setting, _), example = group, of_group.get(group)
        mine = leaderboard.iloc[[n for n, key in enumerate(rows) if key[:-1] == group]]
        columns = _columns(mine)
        about = _about(example) if example else 'No run of this table has succeeded.'
        board = Board(
            benchmark,
            '' if factor is None else f'{factor:g}',
            setting,
            about,
            caveats.get(benchmark, ''),
            resolution(mine),
            columns,
        )
        marks = {column.name: _marks(column, {key: rows[key] for key in members if key in rows}) for column in columns}
        for key in members:
            cells = [_board_cell(column, rows.get(key, {}), marks[column.name].get(key, '')) for column in columns]
            reason = '' if seeds[key] else '; '.join(failed[key])
            method = named(rows[key]) if key in rows else key[-1]
            board.rows.append(Row(number, key, seeds[key], len(failed[key]), reason, cells, signs.get(key, ''), method))
            number += 1
        board.footnotes += footnotes(mine)
        made.append(board)
    return made


def plain(frame: pd.DataFrame | None, heading: str, caveats: Mapping[str, str] | None = None) -> list[Table]:
    """A frame as tables: one a group where it has groups, mean and deviation in one cell, empty columns left out.

    Args:
        frame: None or empty: no table.
        heading: Of all of them; what tells them apart is added.
        caveats: What the tables of a benchmark have to say, by its name.
    """
    if frame is None or frame.empty:
        return []
    if not set(GROUP) <= set(frame.columns):
        return [_table(frame, heading)]
    return [
        _table(rows.drop(columns=GROUP), f'{heading}: {key.title}', (caveats or {}).get(key.benchmark, ''))
        for key, rows in by_table(frame, sort=False)
    ]


def comparisons(tests: pd.DataFrame | None, caveats: Mapping[str, str]) -> list[Table]:
    """Differences to the baseline, of :func:`ltbench.report.statistics.against`; those to the best are marks."""
    if tests is None or tests.empty:
        return []
    found = []
    for key, rows in by_table(tests[tests['reference'] == BASELINE], sort=False):
        cells = difference_cells(rows)
        scores = [score for score in SCORES if score in cells]
        lines = [
            [Cell(str(method)), *(Cell(said + ' *' * significant, number=True) for said, significant in of.values())]
            for method, of in cells[scores].to_dict('index').items()
        ]
        labels = ['method', *(f'Δ {score.replace("top1", "top-1")}' for score in scores)]
        found.append(Table(f'Against {BASELINE}: {key.title}', labels, lines, caveats.get(key.benchmark, '')))
    return found


def ablation(frame: pd.DataFrame, title: str, caveats: Mapping[str, str] | None = None) -> list[Table]:
    """An ablation, which has a row a method and score, with one row a method; options that do not vary are left out."""
    if 'score' not in frame:
        return plain(frame, title, caveats)
    start = list(frame.columns).index('score')
    what = [str(name) for name in frame.columns[:start] if name not in GROUP]
    parts = frame if 'is_reference' not in frame else frame[~frame['is_reference'].astype(bool)]
    varied = [name for name in what if name != 'with' and parts[name].astype(str).nunique() > 1]  # with: in the method
    kept = [name for name in what if name in ('method', 'value', 'is_reference', *varied)]
    rows = []
    for combination, scores in frame.groupby([*GROUP, *what], sort=False, dropna=False):
        told = dict(zip([*GROUP, *what], combination, strict=True))
        row: dict[str, Any] = {name: told[name] for name in (*GROUP, *kept)}
        for score in scores[scores['score'].isin(SCORES)].to_dict('records'):
            name = score['score']
            row |= {f'{name}_mean': score['mean'], f'{name} difference': score['difference']}
            if name == SCORES[0]:
                row |= {'top1_std': score['std'], 'top1 difference_std': score['difference_std']}
                row |= {'p_holm': score['p_holm'], 'n_seeds': score['n']}
        rows.append(row)
    return plain(pd.DataFrame(rows), title, caveats)


def breakable(text: str) -> Markup:
    """A name as HTML that may break after ``+``, ``(`` and a comma, and a long word of it after ``_`` too."""
    pieces = re.split(r'(?<=[+,])|(?<=\w\()', text)
    pieces = [piece.replace('_', '_\0') if len(piece.strip()) > LONG_WORD else piece for piece in pieces]
    return Markup('<wbr>').join('\0'.join(pieces).split('\0'))


def published(frame: pd.DataFrame | None, caveats: Mapping[str, str] | None = None) -> tuple[list[Table], list[Table]]:
    """Rows that can be compared, and those whose recipe differs."""
    if frame is None or frame.empty:
        return [], []
    if 'published_method' in frame and (frame['published_method'] == frame['method']).all():
        frame = frame.drop(columns='published_method')
    differs = frame['differs'].astype(bool)
    same, other = (
        frame[~differs].drop(columns='differs'),
        frame[differs].drop(columns=['difference', 'low', 'high', 'verdict']),
    )
    return plain(same, 'Same recipe', caveats), plain(other, 'Another recipe', caveats)


def _columns(rows: pd.DataFrame) -> list[Column]:
    """The columns that say something of a table: costs of the network only where methods differ in them."""
    shown = {*scores_of(rows), 'nll', 'cpu_seconds', 'wall_seconds'}
    shown |= {cost for cost in ('parameters', 'flops') if rows[cost].dropna().nunique() > 1}
    return [column for column in (*METRIC_COLUMNS, *COST_COLUMNS) if column.name in shown]


def _about(record: Mapping[str, Any]) -> str:
    counts, groups = record['class_counts'], record['groups']
    sizes = ', '.join(f'{groups[name]} {name}' for name in ('many', 'medium', 'few'))
    return f'{len(counts)} classes with {max(counts):,} to {min(counts):,} training images: {sizes}-shot'


def _marks(column: Column, rows: Mapping[Key, Mapping[str, Any]]) -> dict[Key, str]:
    """The best of a column; for top-1 also what is within noise of it."""
    if column not in METRIC_COLUMNS:
        return {}
    if column.name == 'top1':
        return {key: STANDING[row['best']] for key, row in rows.items() if row['best']}
    means = {key: row[f'{column.name}_mean'] for key, row in rows.items()}
    means = {key: mean for key, mean in means.items() if not pd.isna(mean)}
    if len(means) < 2:
        return {}
    best = (min if column.lower_is_better else max)(means.values())
    return {key: 'best' for key, mean in means.items() if mean == best}


def _board_cell(column: Column, row: Mapping[str, Any], mark: str) -> Cell:
    value = row.get(f'{column.name}_mean', row.get(column.name))
    if value is None or pd.isna(value):
        return Cell(number=True)
    if column in COST_COLUMNS:
        return Cell(COST_FORMATS[column.name](value), f'{value:.12g}', number=True)
    text, deviation = f'{value:.{column.decimals}f}', row.get(f'{column.name}_std')
    if deviation is not None and not pd.isna(deviation):
        text += f' ± {deviation:.{column.decimals}f}'
    low, high = row.get(f'{column.name}_low'), row.get(f'{column.name}_high')
    if low is not None and not pd.isna(low):  # of a single seed
        text += f' [{low:.{column.decimals}f}, {high:.{column.decimals}f}]'
    return Cell(text, f'{value:.6f}', mark, number=True)


def _table(frame: pd.DataFrame, title: str, caveat: str = '') -> Table:
    """Every column of a frame that says something; a deviation stands in the cell of its mean."""
    names = [str(name) for name in frame.columns]
    deviations = {_deviation_of(name) for name in names}
    empty = {name for name in names if all(_said(name, value) == '' for value in frame[name])}
    shown = [name for name in names if name not in deviations | empty]
    columns = [list(_cells(frame, name)) for name in shown]
    labels = [LABELS.get(name, name.removesuffix('_mean').replace('_', ' ')) for name in shown]
    return Table(title, labels, [list(row) for row in zip(*columns, strict=True)], caveat)


def _deviation_of(name: str) -> str:
    """The column of the standard deviation of a column of means."""
    return 'std' if name in ('mean', 'measured') else f'{name.removesuffix("_mean")}_std'


def _cells(frame: pd.DataFrame, name: str) -> Iterator[Cell]:
    deviation = _deviation_of(name)
    deviations = frame[deviation] if deviation in frame else [None] * len(frame)
    number = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
    for value, spread in zip(frame[name], deviations, strict=True):
        text = _said(name, value)
        if text and spread is not None and not pd.isna(spread):
            text += f' ± {spread:.2f}'
        yield Cell(text, f'{value:.12g}' if number and text else '', number=number)


def _said(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ', '.join(_said(name, part) for part in value)
    if value is None or pd.isna(value):
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if not isinstance(value, float):
        return str(value)
    if name.split()[-1] in ('p', 'p_holm'):
        return '< 0.001' if value < 0.001 else f'{value:.3f}'
    if name in WHOLE and value.is_integer():
        return f'{value:.0f}'
    sign = '+' if name.endswith('difference') else '-'
    return f'{value:{sign}.2f}'.replace('-', '\N{MINUS SIGN}')


LABELS = {
    'top1_mean': 'top-1', **{f'{score} difference': f'Δ {score.replace("top1", "top-1")}' for score in SCORES},
    **{f'{score} p_holm': f'p {score.replace("top1", "top-1")} (Holm)' for score in SCORES},
    'p_holm': 'p (Holm)', 'n_seeds': 'seeds', 'n_pairs': 'pairs', 'is_reference': 'reference',
    'n_methods': 'methods', 'kendall_tau': "Kendall's tau",
}  # fmt: skip
"""Labels of columns whose names do not read as such."""
WHOLE = ('imbalance_factor', 'epochs', 'n', 'n_methods', 'n_seeds', 'rank')
"""Columns of whole numbers, which are floats where some are missing."""


def _large(value: float) -> str:
    for size, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= size:
            return f'{value / size:.3g} {letter}'
    return f'{value:.0f}'


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f'{seconds:.1f} s'
    return f'{seconds / 60:.1f} min' if seconds < 7200 else f'{seconds / 3600:.1f} h'


COST_FORMATS: dict[str, Callable[[float], str]] = {
    'parameters': _large,
    'flops': _large,
    'cpu_seconds': _duration,
    'wall_seconds': _duration,
}

"""What figures are drawn from: the runs of one table, only with what figures show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ltbench.errors import unknown
from ltbench.evaluation.metrics import group_members
from ltbench.fingerprint import fingerprint
from ltbench.report.cells import counted
from ltbench.report.figures.style import looks
from ltbench.report.frame import BASELINE, GROUP, TableKey, by_table
from ltbench.report.names import display_names

SHOWN = 6  # more lines would not be distinguishable
PROBES_OF_BN = frozenset(('bn_vectors', 'channel_strength'))
GROUPS = {'many': 'many (> 100)', 'medium': 'medium (20 to 100)', 'few': 'few (< 20)'}


@dataclass(frozen=True)
class RunData:
    """The data of one run of a method that is shown as a line."""

    run_seed: int
    per_class: np.ndarray  # percent, NaN for a class without test images
    curve: Mapping[str, np.ndarray]  # loss, accuracy and, where there are such, bn_scale and test_top1, by epoch
    stage_ends: tuple[int, ...]  # epochs after which another train stage began
    loss: str  # what was minimised, as far as recorded; the same text for losses that can be compared
    reliability: Mapping[str, Mapping[str, list[Any]] | None]
    bn: Mapping[str, Any]
    feature_norms: np.ndarray  # by class, NaN where there is no test image; empty where they were not measured


@dataclass(frozen=True)
class FigureData:
    """The runs of one table; of all imbalance factors of a benchmark and setting where ``factors`` is True.

    Attributes:
        rows: One row a run: the frame's columns but lists, and ``KIND_in_KIND`` (percent of the images of a group that
            are predicted as classes of another), ``KIND_correct``, ``frequent`` and ``rare`` (strength of channels),
            ``seconds``.
        details: Of the methods that are shown as lines, in order of seeds.
        relatives: Methods of :func:`related_methods`; without the baseline.
        names: To show, by method.
        show: Methods that the reader chose, in this order; all others have no rows. Empty: no choice.
        intervals: Low and high end of top-1 of methods where they were computed.
    """

    key: TableKey  # over several imbalance factors: without a factor or a hash
    rows: pd.DataFrame
    details: Mapping[str, Sequence[RunData]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    show: tuple[str, ...] = ()
    class_names: Sequence[str] = ()
    class_counts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    relatives: tuple[str, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rare_group: str = 'few'
    seconds: str = ''  # what the column of that name measures
    factors: bool = False
    caveat: str = ''  # of the benchmark, shown on each of its figures
    source: str = ''  # identifies the source of its images, as far as recorded; the same at each imbalance factor

    @property
    def title(self) -> str:
        """Benchmark, imbalance factor and setting."""
        return self.key.title

    @property
    def groups(self) -> list[str]:
        """The groups that have classes, many first."""
        return [group for group, members in group_members(self.class_counts.tolist()).items() if len(members)]

    @cached_property
    def order(self) -> list[str]:
        """Methods with a top-1, as the reader chose them, or the best first."""
        found = by_top1(self.rows)
        return [method for method in self.show if method in found] or found

    def lines(self, count: int = SHOWN) -> list[str]:
        """The methods that line figures show: those that the reader chose, or the baseline and the best others."""
        return self.order if self.show else chosen_methods(self.rows, count)

    @cached_property
    def looks(self) -> dict[str, dict[str, Any]]:
        """Looks of the lines of methods, the same in every figure of the table."""
        return looks([*dict.fromkeys([*self.lines(), *self.relatives])])

    def seeds(self) -> str:
        """How many seeds: ``3 seeds``, or ``1 to 3 seeds`` where methods differ."""
        per_row = self.rows.groupby([*GROUP, 'method'], dropna=False).size()
        least, most = per_row.min(), per_row.max()
        return f'{least} to {most} seeds' if least < most else counted(most, 'seed')


def by_top1(rows: pd.DataFrame) -> list[str]:
    """Methods in order of mean top-1, best first; over several imbalance factors in order of their mean rank."""
    means = rows.groupby(['imbalance_factor', 'method'], dropna=False)['top1'].mean().dropna()
    ranks = means.groupby(level=0, dropna=False).rank(ascending=False, pct=True).groupby(level=1).mean()
    means = means.groupby(level=1).mean()
    return sorted(ranks.index, key=lambda method: (ranks[method], -means[method], method))


def chosen_methods(rows: pd.DataFrame, count: int = SHOWN) -> list[str]:
    """The methods that line figures show: the baseline and the best others, ``count`` in all, best first."""
    order = by_top1(rows)
    best = [method for method in order if method != BASELINE][: count - (BASELINE in order)]
    return [method for method in order if method in best or method == BASELINE]


def related_methods(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Methods that change BN layers: those that request the probes of such layers.

    Older records do not hold the requested probes, but a learned scalar (``bn_scale``) in the curve, a normalisation
    other than the benchmark's plain one, or an optimizer that treats normalisation layers apart.
    """
    return sorted(
        {record['method'] for record in records if _is_related(record)}, key=lambda m: (m.count('+'), len(m), m)
    )


def materials(
    records: Sequence[Mapping[str, Any]],
    frame: pd.DataFrame,
    intervals: pd.DataFrame | None = None,
    show: Sequence[str] = (),
) -> list[FigureData]:
    """One for each table that has something to show, in the order of the frame's columns.

    Args:
        records: Those that the frame was made of.
        frame: From :func:`ltbench.report.frame.runs_frame`.
        intervals: Rows with the columns of a group, ``method``, ``top1_low`` and ``top1_high``.
        show: Methods, in this order; empty for all.

    Raises:
        UsageError: If a method to show has no run; with near misses.
    """
    called = _called(frame, show)
    frame = frame[frame.method.isin(called)] if show else frame
    names = display_names(records)
    names |= {method: names[name] for method, name in called.items()}
    found = []
    for key, rows in by_table(frame):
        of_table = [records[position] for position in rows.record]
        found.append(_figure_data(key, rows, of_table, _intervals_of(intervals, key), tuple(called), names))
    return found


def _called(frame: pd.DataFrame, show: Sequence[str]) -> dict[str, str]:
    """The methods of rows to show, in this order, each with the name that was asked for."""
    rows: dict[str, list[str]] = {}
    for method, also in dict.fromkeys(zip(frame.method, frame.also, strict=True)):
        for name in filter(None, (method, *also.split(', '))):
            rows.setdefault(name, []).append(method)
    called: dict[str, str] = {}
    for name in show:
        if name not in rows:
            raise unknown('method in these records', name, rows)
        for method in rows[name]:
            called.setdefault(method, name)
    return called


def over_factors(found: Sequence[FigureData]) -> list[FigureData]:
    """One for each benchmark x setting that has several imbalance factors of one source, as far as is known."""
    together: dict[TableKey, list[FigureData]] = {}
    for data in found:
        if data.key.imbalance_factor is not None:
            key = data.key._replace(imbalance_factor=None, table=data.source)
            together.setdefault(key, []).append(data)
    return [
        FigureData(
            key,
            pd.concat([one.rows for one in several]),
            names={method: name for one in several for method, name in one.names.items()},
            show=several[0].show,
            factors=True,
            caveat=several[0].caveat,
        )
        for key, several in together.items()
        if len(several) > 1
    ]


def _figure_data(
    key: TableKey,
    rows: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    intervals: dict[str, tuple[float, float]],
    show: tuple[str, ...],
    names: Mapping[str, str],
) -> FigureData:
    first = records[0]
    rows = rows.drop(columns=[name for name in ('per_class', 'class_counts') if name in rows]).reset_index(drop=True)
    devices = sorted({record['environment']['device'] for record in records})
    clock = 'cpu' if devices == ['cpu'] else 'wall'
    columns = pd.DataFrame([_numbers(record) | {'seconds': record['cost'][f'{clock}_seconds']} for record in records])
    related = related_methods(records)
    lines = {*show, *chosen_methods(rows), *related[: SHOWN - 1], BASELINE}
    details: dict[str, list[RunData]] = {}
    for method, record in zip(rows.method, records, strict=True):
        if method in lines:
            details.setdefault(method, []).append(_run_data(record))
    strength = list(map(_strength, records))
    return FigureData(
        key,
        pd.concat([rows.drop(columns=columns.columns, errors='ignore'), columns.astype(float)], axis=1),
        {method: sorted(several, key=lambda one: one.run_seed) for method, several in details.items()},
        names, show, first['class_names'], np.asarray(first['class_counts']),
        tuple(method for method in related if method != BASELINE), intervals,
        next((one['rare_group'] for one in strength if 'rare_group' in one), 'few'),
        'CPU seconds' if clock == 'cpu' else f'wall seconds on {" or ".join(devices)}',
        caveat=first['config']['benchmark'].get('caveat', ''), source=_source(first),
    )  # fmt: skip


def _source(record: Mapping[str, Any]) -> str:
    """A hash of classes, test images and the configuration of the data without the imbalance factor.

    The fingerprint of the data differs at each factor, so only this distinguishes, say, two folders.
    """
    config = {key: value for key, value in record['config']['benchmark']['data'].items() if key != 'imbalance_factor'}
    return fingerprint([config, record['class_names'], record['metrics']['test_images']])


def _numbers(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Confusion between groups and strength of channels, flat; what does not exist is None."""
    flat: dict[str, float | None] = {}
    for group in GROUPS:
        shares = record['metrics']['confusion'][group] or {}
        flat |= {f'{group}_in_{other}': shares.get(other) for other in GROUPS}
        flat[f'{group}_correct'] = shares.get('correct')
    strength = _strength(record)
    for kind in ('frequent', 'rare'):
        part = strength.get(kind, {})
        flat[kind] = part['mean'] if part.get('channels') else None
    return flat


def _strength(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of channels; empty where a head was added or changed later: older records describe the network before that."""
    trained = all(stage['kind'] == 'train' for stage in record['stages'])
    return (record['analysis'].get('strength') or {}) if trained else {}


def _run_data(record: Mapping[str, Any]) -> RunData:
    curve = record['curve']
    drawn = ('loss', 'accuracy', 'bn_scale', 'test_top1')
    names = [name for name in drawn if any(epoch.get(name) is not None for epoch in curve)]
    reached = np.cumsum([stage['epochs'] for stage in record['stages'] if stage['kind'] == 'train'])
    return RunData(
        record['run_seed'],
        np.array(record['metrics']['per_class'], dtype=float),
        {name: np.array([epoch.get(name, np.nan) for epoch in curve], dtype=float) for name in names},
        tuple(int(end) for end in reached[:-1] if end < len(curve)),
        ', '.join(dict.fromkeys(filter(None, map(_loss_of, record['config']['stages'])))),
        record['metrics']['reliability'],
        record['analysis'].get('bn') or {},
        np.array(record['analysis'].get('feature_norms', {}).get('mean', []), dtype=float),
    )


def _loss_of(stage: Mapping[str, Any]) -> str:
    """What a train stage minimises, from its first part to its last."""
    spans = stage.get('history', ())
    parts = [[span['loss'], span['class_weights'], stage.get('objective')] for span in spans]
    return ', then '.join(dict.fromkeys(' with '.join(map(config_text, filter(None, part))) for part in parts))


def config_text(config: Mapping[str, Any]) -> str:
    """The name of a part, and its options."""
    options = ', '.join(f'{key}={value}' for key, value in config.items() if key != 'type')
    return re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', config['type']) + (f' ({options})' if options else '')


def _is_related(record: Mapping[str, Any]) -> bool:
    if not PROBES_OF_BN.isdisjoint(record['config'].get('probes', ())):
        return True
    if any(epoch.get('bn_scale') is not None for epoch in record['curve']):
        return True
    for stage in record['config']['stages']:
        optimizer = (stage.get('recipe') or {}).get('optimizer') or {}
        if stage.get('normalization') or 'norm' in (optimizer.get('paramwise') or {}):
            return True
    return False


def _intervals_of(intervals: pd.DataFrame | None, key: TableKey) -> dict[str, tuple[float, float]]:
    if intervals is None or 'top1_low' not in intervals:
        return {}
    table = dict(by_table(intervals)).get(key, intervals[:0]).dropna(subset=['top1_low', 'top1_high'])
    return {
        method: (low, high) for method, low, high in zip(table.method, table.top1_low, table.top1_high, strict=True)
    }

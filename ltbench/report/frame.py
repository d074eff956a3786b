"""Records to the frame that every table and figure is made from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ltbench.config import leaves
from ltbench.fingerprint import canonical, fingerprint
from ltbench.record import ROW, cost_of
from ltbench.report.escaping import in_file_name
from ltbench.report.options import as_text

BASELINE = 'erm'
"""The method that others are compared with; methods with the same computation are shown under this name."""
GROUP = list(ROW[:-1])
"""Columns of a :class:`TableKey`."""
METRICS = ('top1', 'many', 'medium', 'few', 'macro', 'geometric_mean', 'nll', 'ece')
TRAINING = ('cpu_seconds', 'wall_seconds')
COSTS = ('parameters', 'flops', *TRAINING)
DECIMALS = 9
"""Of means that are ranked: methods tie where the mean is the same, whatever the order in which floats were added."""
COPIED = (*ROW, 'run_seed', 'fingerprint', 'computation', 'class_counts')
LONGEST_SLUG = 120  # bytes; a file name has 255 at most, and more than this in it
MOST_WORDS = 3
"""Differences of protocol, backbone and recipe that a title names; if there are more, the first ones and the table."""
IN_PROCESSOR = re.compile(r' \(((?:DEFAULT|NO AVX|AVX|SVE|VSX|Z VECTOR)[A-Z0-9 ]*)\)$')
"""Where older records have the instructions of their CPU: ``AMD EPYC (AVX2)``."""


class TableKey(NamedTuple):
    """What identifies a table.

    Attributes:
        benchmark: Its name.
        imbalance_factor: None where the benchmark has none.
        setting: As of :func:`distinguish`.
        table: Hash of all that the rows share.
    """

    benchmark: str
    imbalance_factor: float | None
    setting: str
    table: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> TableKey:
        """The table of a record, a failure or a row of a frame."""
        factor = row['imbalance_factor']
        return cls(row['benchmark'], None if pd.isna(factor) else float(factor), row['setting'], row['table'])

    @property
    def title(self) -> str:
        """For people; the setting is unique, so the hash is not needed."""
        factor = '' if self.imbalance_factor is None else f', imbalance factor {self.imbalance_factor:g}'
        return f'{self.benchmark}{factor} ({self.setting})'

    @property
    def slug(self) -> str:
        """For file names; without the hash, too."""
        factor = '' if self.imbalance_factor is None else f'-if{self.imbalance_factor:g}'
        text = in_file_name(f'{self.benchmark}{factor}' + ('' if self.setting == 'paper' else f'-{self.setting}'))
        if len(text.encode()) <= LONGEST_SLUG:
            return text
        hashed = fingerprint([self.benchmark, factor, self.setting])[:8]
        return f'{text.encode()[: LONGEST_SLUG - 9].decode(errors="ignore")}-{hashed}'


def row_of(record: Mapping[str, Any]) -> tuple[str, float | None, str, str, str]:
    """The table and the method of a record, a failure or a row of a frame: :data:`ltbench.record.ROW`."""
    return *TableKey.of(record), record['method']


def by_table(frame: pd.DataFrame, sort: bool = True) -> Iterator[tuple[TableKey, pd.DataFrame]]:
    """The rows of each table of a frame, sorted by its key, or in the order in which tables first appear."""
    for group, rows in frame.groupby(GROUP, sort=sort, dropna=False):
        yield TableKey.of(dict(zip(GROUP, group, strict=True))), rows


def slugs(keys: Iterable[TableKey]) -> list[str]:
    """The slug of each table, no two alike: settings may differ in characters that no file name has."""
    keys = list(keys)
    alike = Counter(key.slug for key in keys)
    return [key.slug + f'-{fingerprint([*key])[:8]}' * (alike[key.slug] > 1) for key in keys]


def runs_frame(
    records: Sequence[Mapping[str, Any]], right: Mapping[int, np.ndarray] = MappingProxyType({})
) -> pd.DataFrame:
    """One row a run, in a stable order; a run that several methods share has one row, under their shortest name.

    Columns: the group (benchmark, imbalance_factor, setting, table), method, ``also`` (other names of it), run_seed,
    fingerprint, computation, ``class_counts``, one a metric and cost, ``per_class``, ``test_images``, ``network`` (of
    :func:`network_of`), ``environment``, ``record``, the position in ``records``, and ``right``. A metric that a run
    does not have is NaN. ``setting`` is that of :func:`distinguish`.

    Args:
        records: As :func:`ltbench.report.reading.read_suite` gives them: each run once, and one code for each row.
        right: By position in ``records``: whether each test image is classified right, ``[N]``, where this is known.
    """
    records = distinguish(records)
    names = names_of(records)
    rows = [
        {key: record[key] for key in COPIED}
        | {'method': name, 'also': ', '.join(also), 'as_named': record['method'] != name}
        | {metric: record['metrics'][metric] for metric in METRICS}
        | {cost: cost_of(record, cost) for cost in COSTS}
        | {key: record['metrics'][key] for key in ('per_class', 'test_images')}
        | {'network': network_of(record), 'environment': environment_of(record)}
        | {'record': position, 'right': right.get(position)}
        for position, record in enumerate(records)
        for name, *also in [names[row_of(record)]]
    ]
    of_run = ['per_class', 'test_images', 'network', 'environment', 'record', 'right']
    columns = [*COPIED, 'also', *METRICS, *COSTS, *of_run]
    frame = pd.DataFrame(rows, columns=[*columns, 'as_named'])
    numbers = [*METRICS, *COSTS, 'imbalance_factor']
    frame[numbers] = frame[numbers].astype(float)
    run = [*GROUP, 'method', 'run_seed']
    return frame.sort_values([*run, 'as_named', 'record']).drop_duplicates(run, ignore_index=True)[columns]


def names_of(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, float | None, str, str, str], list[str]]:
    """All names of the computation of each row, :data:`BASELINE` first, then the shortest.

    Args:
        records: Records of :func:`distinguish`, or failures, which share no row with other methods.
    """
    rows: dict[Any, set[str]] = {}
    keys = {row_of(one): (TableKey.of(one), one.get('computation', one['method'])) for one in records}
    for row, key in keys.items():
        rows.setdefault(key, set()).add(row[-1])
    return {row: sorted(rows[key], key=lambda name: (name != BASELINE, len(name), name)) for row, key in keys.items()}


def distinguish(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records and failures, each with a ``setting`` that no two tables of its benchmark and imbalance factor share.

    Where tables have the same setting, their differences are added to it: the protocol, the entries of backbone and
    recipe that differ, and the data, by the first digits of their fingerprint. Backbone and recipe are compared over
    all imbalance factors, so that one setting means one recipe. Data differ between factors anyway.

    Args:
        records: Records and failures; failures do not hold the configuration of their table.
    """
    tables: dict[TableKey, Mapping[str, Any]] = {}
    for one in records:
        key = TableKey.of(one)
        if key not in tables or 'config' not in tables[key]:
            tables[key] = one
    by_setting: dict[tuple[str, str], list[TableKey]] = {}
    for key in tables:
        by_setting.setdefault((key.benchmark, key.setting), []).append(key)
    shown: dict[TableKey, str] = {}
    for keys in by_setting.values():
        shown |= _settings({key: tables[key] for key in keys})
    return [{**one, 'setting': shown[TableKey.of(one)]} for one in records]


def _settings(tables: Mapping[TableKey, Mapping[str, Any]]) -> dict[TableKey, str]:
    """The settings to show of tables of one benchmark and setting, by key.

    Args:
        tables: A record of each, or a failure where there is none.
    """
    facts = {key: _facts(record) for key, record in tables.items() if 'config' in record}
    names = dict.fromkeys(name for key in sorted(facts, key=lambda key: key.table) for name in facts[key])
    varied = [name for name in names if len({entries.get(name) for entries in facts.values()}) > 1]
    shown = {}
    for key, record in tables.items():
        factor = key.imbalance_factor
        beside = {other: tables[other] for other in tables if other.imbalance_factor == factor}
        words = [f'{name}{facts[key][name]}' for name in varied if name in facts.get(key, {})]
        if len(words) > MOST_WORDS:
            words = [*words[: MOST_WORDS - 1], f'and {len(words) - MOST_WORDS + 1} more', _short(key)]
        if key in facts and len({beside[other]['data'] for other in facts if other in beside}) > 1:
            words.append(f'data {record["data"][:6] or "unknown"}')
        if key not in facts and len(beside) > 1:
            words.append(_short(key))
        shown[key] = ', '.join([key.setting, *words])
    alike = Counter((key.imbalance_factor, text) for key, text in shown.items())
    return {
        key: text if alike[key.imbalance_factor, text] == 1 else f'{text}, {_short(key)}' for key, text in shown.items()
    }


def _short(key: TableKey) -> str:
    return f'table {key.table[:6]}'


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """Protocol, backbone and recipe of a record, each as it is shown after its name."""
    config = record['config']['benchmark']
    entries = leaves({section: canonical(config[section]) for section in ('backbone', 'recipe')})
    return {'protocol': f' {record["protocol"]}'} | {name: f'={as_text(value)}' for name, value in entries}


def network_of(record: Mapping[str, Any]) -> str:
    """The same for all runs of one network: the fingerprint of their first stage, or of a run without stages.

    The losses of that stage's epochs are part of it: a network trained again on another processor is another network.
    """
    if not record['stages']:
        return record['fingerprint']
    first = record['stages'][0]
    return f'{first["fingerprint"]} {[point.get("loss") for point in record["curve"][: first["epochs"]]]}'


def environment_of(record: Mapping[str, Any]) -> str:
    """What decides the last bits of a run besides its code: torch version, device and, for a CPU, its instructions."""
    environment = record['environment']
    where = f'torch {environment["torch"]}, {environment["device"]}'
    if environment['device'] != 'cpu':
        return where
    older = IN_PROCESSOR.search(environment['processor'])
    return f'{where} ({environment.get("instructions") or (older[1] if older else "instructions unknown")})'


def processor_of(record: Mapping[str, Any]) -> str:
    """The CPU, with its instructions where they are known; older records have them in its name."""
    environment = record['environment']
    instructions = environment.get('instructions')
    return environment['processor'] + (f' ({instructions})' if instructions else '')


def caveats(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The caveat that every table and figure of a benchmark shows, by benchmark; most have none."""
    return {
        record['benchmark']: caveat for record in records if (caveat := record['config']['benchmark'].get('caveat', ''))
    }

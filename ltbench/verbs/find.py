"""Recorded runs by the name that a user types, and their logits in the store. Imports no torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.config import config_names
from ltbench.errors import StoreError, UsageError
from ltbench.evaluation.predictions import Predictions, predictions_of
from ltbench.record import origin_of, read_record, results_root
from ltbench.sealed import contents_of
from ltbench.spec import Spec
from ltbench.store import Store

SHORTEST_PREFIX = 6  # hex digits of a fingerprint
LISTED = 6  # matching or similar names in a message
FORMS = 'the path or the name of a record, SUITE/NAME, or the first 6 or more digits of a fingerprint'


@dataclass(frozen=True)
class RecordedRun:
    """A record and where it is.

    Attributes:
        path: The file.
        record: What is in it.
    """

    path: Path
    record: Mapping[str, Any]

    @property
    def suite(self) -> str:
        """The suite, by the folder of the record."""
        return self.path.absolute().parent.parent.name

    @property
    def name(self) -> str:
        """The name that a user can type: ``SUITE/NAME``."""
        return f'{self.suite}/{self.path.stem}'

    def __str__(self) -> str:
        record = self.record
        factor = f' IF {record["imbalance_factor"]:g}' if record['imbalance_factor'] is not None else ''
        return f'{record["benchmark"]}{factor} ({record["setting"]}) / {record["method"]} / seed {record["run_seed"]}'


def find_run(text: str) -> RecordedRun:
    """The one recorded run that ``text`` names.

    Args:
        text: The path of a record; or, among the records under :func:`~ltbench.record.results_root`, the name of its
            file or a fingerprint's first 6 or more hex digits, each optionally as ``SUITE/...``.

    Raises:
        UsageError: If there is none (similar names are listed) or more than one (all are listed).
        StoreError: If the record cannot be read.
    """
    if Path(text).is_file():
        return RecordedRun(Path(text), read_record(Path(text)))
    records = {f'{path.parts[-3]}/{path.stem}': path for path in sorted(results_root().glob('*/records/*.json'))}
    suite, _, last = text.rpartition('/')
    last = last.removesuffix('.json')
    inside = {name: path for name, path in records.items() if suite in ('', path.parts[-3])}
    found = [name for name, path in inside.items() if path.stem == last]
    if not found and re.fullmatch(rf'[0-9a-f]{{{SHORTEST_PREFIX},64}}', last):
        found = [name for name, path in inside.items() if _has_fingerprint(path, last)]
    if len(found) > 1:
        more = f' and {len(found) - LISTED} more' if len(found) > LISTED else ''
        raise UsageError(f'{text!r} names {len(found)} runs; give one: {", ".join(found[:LISTED])}{more}')
    if not found:
        raise UsageError(f'unknown run {text!r}: {_advice(text, last, suite, list(records))}')
    return RecordedRun(records[found[0]], read_record(records[found[0]]))


def all_records() -> list[Path]:
    """The file of every record, sorted by suite and name.

    Raises:
        UsageError: If there is none.
    """
    if paths := sorted(results_root().glob('*/records/*.json')):
        return paths
    raise UsageError(f'there are no records in {results_root()}; `ltbench run` makes some')


def stored_logits(run: RecordedRun, store: Store) -> tuple[np.ndarray, np.ndarray] | None:
    """Test logits ``[N, C]`` and labels ``[N]`` of a run, verified against their checksum; None if they are not there.

    Raises:
        StoreError: If they are damaged.
    """
    artifact = store.find(run.record['fingerprint'])
    if artifact is None or 'test.npz' not in artifact.files:
        return None
    with np.load(artifact.path('test.npz')) as outputs:
        return outputs['logits'], outputs['labels']


def known_predictions(run: RecordedRun, store: Store) -> Predictions | None:
    """Predictions of a run, from its stored logits, else from the file beside its record; None without either.

    Raises:
        StoreError: If these are damaged, or the file is lost.
    """
    outputs = stored_logits(run, store)
    return predictions_of(run.path, run.record) if outputs is None else Predictions.of_logits(*outputs)


def how_to_make(run: RecordedRun) -> str:
    """The command that puts a run's logits into the store; or that scores it again, if its logits are never stored."""
    record, benchmark = run.record, run.record['config']['benchmark']
    factor = {} if record['imbalance_factor'] is None else {'imbalance_factor': record['imbalance_factor']}
    spec = str(Spec(record['benchmark'], {**factor, **benchmark['overrides']}))
    preset = [] if benchmark['preset'] == 'paper' else ['--preset', benchmark['preset']]
    if 'imported' in record['config']:
        imported = record['config']['imported']
        words = ['ltbench', 'eval', '--checkpoint', 'FILE', '--from', imported['source'], '-b', spec, *preset]
        for name in ('mean', 'std') if 'pixels' in imported else ():
            words += [f'--{name}', ','.join(map(str, imported[name]))]
        return shlex.join([*words, '--suite', run.suite])
    if 'submitted' in record['config']:
        submitted = record['config']['submitted']
        words = ['ltbench', 'score', submitted['file'], '--name', submitted['name'], '-b', spec, *preset]
        words += [word for key, value in submitted['claims'].items() for word in ('--claim', f'{key}={value}')]
        return shlex.join([*words, '--seed', str(record['run_seed']), '--suite', run.suite])
    suite = [run.suite] if run.suite in config_names('suites') else []
    seed = str(record['run_seed'])
    return shlex.join(['ltbench', 'run', *suite, '-b', spec, '-m', record['method'], '--seeds', seed, *preset])


def no_logits(run: RecordedRun, store: Store) -> StoreError:
    """The error for a run whose logits are needed but not in the store."""
    if (origin := origin_of(run.record)) != 'trained':
        return StoreError(f'{run.name} was {origin}, so its logits are not stored; score it again: {how_to_make(run)}')
    return StoreError(f'the logits of {run.name} are not in {store.root}; make them with: {how_to_make(run)}')


def _has_fingerprint(path: Path, prefix: str) -> bool:
    """Whether a record has this fingerprint; checks its text first, since there may be thousands of records."""
    try:
        text = contents_of(path).decode(errors='replace')
    except (OSError, ValueError):
        return False
    return f'"fingerprint": "{prefix}' in text and read_record(path)['fingerprint'].startswith(prefix)


def _advice(text: str, last: str, suite: str, names: list[str]) -> str:
    if not names:
        return f'there are no records in {results_root()}; `ltbench run` makes some'
    if re.fullmatch(rf'[0-9a-f]{{1,{SHORTEST_PREFIX - 1}}}', last):
        return f'give at least {SHORTEST_PREFIX} digits of a fingerprint'
    suites = sorted({name.partition('/')[0] for name in names})
    if suite and suite not in suites and (near_suites := get_close_matches(suite, suites)):
        return f'no such suite or file; did you mean {near_suites[0]}/{last}?'
    stems = {name.partition('/')[2]: name for name in names}
    near = [name for name in names if last and last in name][:LISTED]
    near = near or [stems[stem] for stem in get_close_matches(last, stems, n=3, cutoff=0.6)]
    advice = f'did you mean {" or ".join(near)}?' if near else f'expected {FORMS};'
    return f'{advice} `ltbench ls runs` lists all'

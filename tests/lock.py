"""Tie the engine's code to golden results, so that no number changes under a name that stays.

    python tests/lock.py               compute the goldens anew, compare them, and lock what may be locked
    python tests/lock.py --check       write nothing; exit code 1 if something would have to be written
    python tests/lock.py --only NAME   goldens of one method (or sampler, ...) alone; writes nothing

`tests/lock.json` holds the protocol, the hash of the engine's code, and the versions of the libraries that decide
numbers; `tests/goldens.json` holds the goldens. After a change of the engine:

- goldens equal within their tolerance: the new hash is locked. The goldens stay as they were, so that small differences
  do not add up over many changes;
- a golden moved: refused, exit code 1. PROTOCOL_VERSION in ltbench/fingerprint.py has to be raised, which names every
  computation anew; then the new goldens are locked;
- a golden moved, but the engine's code is as it was: new goldens are locked where a method (or its file) now says
  something else, as that has another name already, or where a library has another version, which records tell.

A method that is new gets its golden, and that of a method which is gone is taken out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from goldens import Case, Values, cases

from ltbench.fingerprint import PROTOCOL_VERSION
from ltbench.source import engine_code

LIBRARIES = ('torch', 'torchvision', 'numpy', 'pillow')
HOW = 'raise PROTOCOL_VERSION in ltbench/fingerprint.py if that is meant, and run python tests/lock.py again'


@dataclass(frozen=True)
class Lock:
    """What belongs together.

    Attributes:
        protocol: ``PROTOCOL_VERSION``.
        engine: Hash of the engine's code.
        libraries: Versions under which the goldens held.
        goldens: Values by name.
    """

    protocol: int
    engine: str
    libraries: Mapping[str, str]
    goldens: Mapping[str, Values]


def read(folder: Path) -> Lock | None:
    """The lock in a folder; None if there is none yet."""
    if not (folder / 'lock.json').is_file():
        return None
    goldens = json.loads((folder / 'goldens.json').read_text(encoding='utf-8'))
    return Lock(**json.loads((folder / 'lock.json').read_text(encoding='utf-8')), goldens=goldens)


def write(folder: Path, lock: Lock) -> None:
    """Write a lock; one golden a line, so that a change can be read."""
    head = {'protocol': lock.protocol, 'engine': lock.engine, 'libraries': dict(lock.libraries)}
    (folder / 'lock.json').write_text(json.dumps(head, indent=2) + '\n', encoding='utf-8')
    lines = [f'{json.dumps(name)}: {json.dumps(values)}' for name, values in sorted(lock.goldens.items())]
    (folder / 'goldens.json').write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')


def installed() -> dict[str, str]:
    """Versions of the libraries that decide numbers, without what says how they were built."""
    return {name: version(name).partition('+')[0] for name in LIBRARIES}


def computed(chosen: Mapping[str, Case]) -> Lock:
    """The lock of the code as it is."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = {name: case.make(Path(folder)) for name, case in chosen.items()}
    return Lock(PROTOCOL_VERSION, engine_code(), installed(), made)


def moved(old: Values, new: Values) -> tuple[float, str]:
    """How far a golden moved, as a share of the largest value of the list that moved most, and that list's name."""
    far = {key: _far(old[key], new.get(key)) for key in old if key != 'identity'}
    most = max(far, key=lambda key: far[key])
    return far[most], most


def _far(old: object, new: object) -> float:
    if isinstance(old, str) or isinstance(new, str) or np.shape(old) != np.shape(new):
        return 0.0 if old == new else float('inf')
    if not np.array_equal(np.isfinite(old), np.isfinite(new)):  # no comparison with NaN says that it moved
        return float('inf')
    if not np.isfinite(old).all():
        return 0.0 if np.array_equal(old, new, equal_nan=True) else float('inf')
    largest = np.abs(old).max(initial=0.0)
    return float(np.abs(np.subtract(old, new)).max(initial=0.0) / (largest or 1.0))


def judge(old: Lock | None, new: Lock, tolerances: Mapping[str, float]) -> tuple[list[str], Lock | None]:
    """What is to be said, and the lock that is to be written: ``old`` itself if nothing is, None if it is refused."""
    if old is None:
        return [f'a first lock: protocol {new.protocol}, engine {new.engine}, {len(new.goldens)} goldens'], new
    if new.protocol < old.protocol:
        return [f'PROTOCOL_VERSION is {new.protocol} and was {old.protocol}: it is never lowered'], None
    raised, engine_moved = new.protocol > old.protocol, new.engine != old.engine
    versions = [
        f'{name} {old.libraries.get(name)} -> {v}' for name, v in new.libraries.items() if old.libraries.get(name) != v
    ]
    said, refused = [f'other versions: {", ".join(versions)}'] if versions else [], []
    kept: dict[str, Values] = {}
    for name, values in new.goldens.items():
        if name not in old.goldens:
            said.append(f'{name}: new')
            kept[name] = values
            continue
        far, what = moved(old.goldens[name], values)
        renamed = old.goldens[name].get('identity') != values.get('identity')
        results = {key: value for key, value in old.goldens[name].items() if key != 'identity'}
        kept[name] = values if raised or far > tolerances[name] else {**values, **results}
        if far > tolerances[name]:
            how_far = f'{name}: {what} moved by {far:.1e} of the largest value (tolerance {tolerances[name]:.0e})'
            excuse = 'the protocol is raised' if raised else ''
            if not engine_moved and not raised:
                excuse = 'it says something else now' if renamed else 'a library is another' if versions else ''
            said.append(f'{how_far}; {excuse}' if excuse else how_far)
            refused += [] if excuse else [name]
    said += [f'{name}: gone' for name in old.goldens if name not in new.goldens]
    if refused:
        cause = f'the engine is {new.engine}, locked is {old.engine}' if engine_moved else 'the code is as it was'
        return [*said, f'refused: {len(refused)} goldens moved ({cause}); {HOW}'], None
    lock = replace(new, goldens=kept)
    if lock == old:
        return [*said, f'nothing moved: protocol {old.protocol}, engine {old.engine}, {len(kept)} goldens'], old
    what = f'engine {old.engine} -> {new.engine}' if engine_moved else f'engine {new.engine}'
    return [*said, f'to be locked: protocol {new.protocol}, {what}, {len(kept)} goldens'], lock


def main(arguments: list[str] | None = None, folder: Path = Path(__file__).parent) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if something would be')
    parser.add_argument('--only', metavar='NAME', help='goldens of one method (or sampler, ...) alone; writes nothing')
    options = parser.parse_args(arguments)
    old, chosen = read(folder), cases()
    if options.only:
        chosen = {name: case for name, case in chosen.items() if options.only in re.split(r'\(.*?\)|[/+]', name)}
        if not chosen:
            parser.error(f'there is no golden of {options.only}')
        if old is not None:
            old = replace(old, goldens={name: values for name, values in old.goldens.items() if name in chosen})
    said, lock = judge(old, computed(chosen), {name: case.tolerance for name, case in chosen.items()})
    if lock is not None and lock != old and not (options.check or options.only):
        write(folder, lock)
        said.append(f'written: {folder / "lock.json"}, {folder / "goldens.json"}')
    sys.stdout.write('\n'.join(said) + '\n')
    return int(lock is None or (lock != old and options.check))


if __name__ == '__main__':
    sys.exit(main())

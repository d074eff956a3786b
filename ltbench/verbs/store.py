"""The verbs `store ls`, `store verify` and `store gc`: list, verify and clean up the store."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import typer
from rich.filesize import decimal
from rich.table import Table

from ltbench.console import make_console
from ltbench.errors import EXIT_FAILED, StoreError, UsageError
from ltbench.record import read_record, results_root
from ltbench.sealed import explained
from ltbench.store import FINGERPRINT, MARKER, DamagedArtifactError, Store

SECONDS_A_DAY = 86_400


def show_store() -> None:
    """Print every artifact: its kind, size and age, and how many records use it.

    Raises:
        StoreError: If there is no such folder.
    """
    store, uses = Store(), _uses_of_artifacts()
    if not store.root.is_dir():
        raise StoreError(f'there is no store in {store.root}; is LTBENCH_STORE right? `ltbench run` makes one')
    table = Table('artifact', 'kind', 'epochs', 'size', 'age', 'records', box=None)
    for column in table.columns:
        column.overflow = 'fold'
    total = count = 0
    for fingerprint in store.fingerprints():
        artifact = store.find(fingerprint)
        if artifact is None:  # damaged (a message names it), or just removed
            continue
        size = sum(entry['size'] for entry in artifact.files.values())
        total, count = total + size, count + 1
        epochs = str(artifact.meta.get('epochs') or '')
        kind, age = str(artifact.meta.get('kind', '')), f'{_age(artifact.folder):.1f} d'
        table.add_row(fingerprint[:12], kind, epochs, decimal(size), age, str(uses[fingerprint]))
    console = make_console()
    console.print(table)
    console.print(f'{count} artifacts, {decimal(total)} in {store.root}')


def verify_store() -> int:
    """Compare every file with its checksum; set damaged artifacts aside. Returns 0 if all are whole, else 1.

    Raises:
        StoreError: If there is nothing to verify.
    """
    store, console, damaged = Store(), make_console(), 0
    fingerprints = store.fingerprints()
    if not fingerprints:
        raise StoreError(f'there are no artifacts in {store.root}, so nothing was verified; is LTBENCH_STORE right?')
    for fingerprint in fingerprints:
        try:
            artifact = store.find(fingerprint)
            if artifact is None:  # its manifest was damaged
                damaged += 1
                continue
            for name in artifact.files:
                artifact.path(name)
        except DamagedArtifactError as error:
            damaged += 1
            console.print(str(error), style='red', soft_wrap=True)
    whole = len(fingerprints) - damaged
    console.print(f'{len(fingerprints)} artifacts, {whole} whole' + (f', {damaged} damaged' if damaged else ''))
    if damaged:
        console.print('`ltbench run` rebuilds those that are needed')
    return EXIT_FAILED if damaged else 0


def clean_store(days: float, yes: bool) -> None:
    """Remove artifacts that no record uses and that are older than ``days``, and leftovers of interrupted work.

    Only folders below a marked store are removed, and only those whose name is a fingerprint.

    Raises:
        UsageError: Without a terminal for the question, unless ``yes``.
        StoreError: If the folder is no store; or a record cannot be read, so that its artifacts are unknown.
    """
    store, console, uses, results = Store(), make_console(), _uses_of_artifacts(), results_root().absolute()
    if not store.is_marked():
        raise StoreError(
            f'{store.root} is not marked as a store (it has no {MARKER}), so nothing in it is removed; is '
            'LTBENCH_STORE right? A store of an older version is marked by the next `ltbench run` that adds to it'
        )
    unused, leftovers = _unused(store, uses, days), [*_leftovers(store, days)]
    if unused and not any(uses.values()):
        console.print(
            f'No record was found in {results}, so no artifact is considered unused; '
            'set LTBENCH_RESULTS to the folder of the records.',
            soft_wrap=True,
        )
        unused = []
    size = sum(_size(folder) for folder in (*unused, *leftovers))
    if not unused and not leftovers:
        console.print(
            f'nothing to remove: every artifact is younger than {days:g} days or a record in {results} uses it',
            soft_wrap=True,
        )
        return
    what = f'{len(unused)} artifacts, {len(leftovers)} folders of interrupted work and damage'
    console.print(f'{what}: {decimal(size)} in {store.root}', soft_wrap=True)
    if unused:
        console.print(f'No record in {results} uses these artifacts.', soft_wrap=True)
    if not yes:
        if not console.is_terminal:
            raise UsageError('nothing was removed; --yes removes without asking')
        typer.confirm('Remove them?', abort=True)
    still = {*_unused(store, _uses_of_artifacts(), days), *_leftovers(store, days)}  # somebody may work meanwhile
    removed = [folder for folder in (*unused, *leftovers) if folder in still]
    size = sum(map(_size, removed))
    with explained('what is left of the store', store.root):
        for folder in removed:
            shutil.rmtree(folder)
    console.print(f'removed {decimal(size)}')


def _unused(store: Store, uses: Mapping[str, int], days: float) -> list[Path]:
    """Artifacts that no record uses and that are older than ``days``."""
    folders = {fingerprint: store.folder(fingerprint) for fingerprint in store.fingerprints()}
    return [folder for fingerprint, folder in folders.items() if not uses[fingerprint] and _age(folder) > days]


def _leftovers(store: Store, days: float) -> Iterator[Path]:
    """Work folders that no process holds, half-written artifacts and damaged ones."""
    for folder in (*store.root.glob('work/*'), *store.root.glob('artifacts/*/.*'), *store.root.glob('damaged/*')):
        fingerprint = folder.name.lstrip('.').partition('.')[0]
        is_ours = FINGERPRINT.fullmatch(fingerprint) and folder.is_dir() and not folder.is_symlink()
        if is_ours and _age(folder) > days and store.owner(fingerprint) is None:
            yield folder


def _age(folder: Path) -> float:
    """Days since anything in it was written, at any depth."""
    now = time.time()
    return (now - max((found.st_mtime for found in _stats(folder)), default=now)) / SECONDS_A_DAY


def _size(folder: Path) -> int:
    return sum(found.st_size for found in _stats(folder) if stat.S_ISREG(found.st_mode))


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Stats of a folder and everything in it, without what other processes remove in the meantime."""
    inside = (Path(where, name) for where, folders, files in os.walk(folder) for name in (*folders, *files))
    for path in (folder, *inside):
        with suppress(FileNotFoundError):
            yield path.lstat()


def _uses_of_artifacts() -> dict[str, int]:
    """How many records use each artifact."""
    count: dict[str, int] = defaultdict(int)
    for path in results_root().glob('*/records/*.json'):
        try:
            record = read_record(path)
        except StoreError as error:
            raise StoreError(f'{error}; repair or remove it first: its artifacts are unknown') from error
        for stage in record['stages']:
            count[stage['fingerprint']] += 1
    return count

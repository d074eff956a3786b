"""A store that was damaged: every file of it, in every way. What is read then is what was written, or is named.

The long form, half an hour on two cores: ``ODD_STORE=1000 pytest -n 0 -m "slow or not slow" tests/test_odd_store.py``.
``ODD_STORE_SEED`` chooses other damage.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltbench import cli
from ltbench.benchmark import load_benchmark
from ltbench.claims import claim_owner
from ltbench.data import base, load_data
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out
from ltbench.errors import EXIT_CLAIMED, LTBenchError
from ltbench.grid.answer import Answers
from ltbench.grid.planning import choose_suite, expand
from ltbench.grid.recording import record_run, unrecorded
from ltbench.grid.selection import Selection
from ltbench.method import make_plan
from ltbench.record import results_root
from ltbench.sealed import read_blob
from ltbench.store import SHAPES, Store

LOGGER = logging.getLogger('odd_store')
DAMAGES = int(os.environ.get('ODD_STORE', '15'))
SEED = int(os.environ.get('ODD_STORE_SEED', '0'))
RUNS = 5
"""Of so many damages one is followed by `ltbench run`."""
HANGS_SECONDS = 120
METHODS = ('erm', 'crt', 'ldam')
ANSWER = 'ab' * 32
SHOWN = ['what was shown']


# ---------------------------------------------------------------------------------------------- the store


@dataclass
class Whole:
    """A store with finished stages and one in the making, its results and the caches beside its data."""

    root: Path
    unfinished: str = ''
    files: dict[Path, bytes] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    data: Any = None

    @property
    def benchmark(self) -> str:
        return f'folder_lt(root={self.root}/birds, image_size=8, depth=8, epochs=2)'

    @property
    def asked(self) -> list[str]:
        return ['-b', self.benchmark, *(word for method in METHODS for word in ('-m', method))]

    @property
    def places(self) -> list[Path]:
        return [self.root / 'store', self.root / 'results', self.root / 'birds' / '.ltbench-cache', self.root / 'data']

    def keep(self) -> None:
        self.files = {path: path.read_bytes() for place in self.places for path in place.rglob('*') if path.is_file()}

    def restore(self) -> None:
        FORBIDDEN.clear()
        for place in self.places:
            shutil.rmtree(place, ignore_errors=True)
        for path, contents in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents)
            os.utime(path, (time.time() - 7200,) * 2)  # nobody has renewed a claim since
        base._load.cache_clear()


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> Iterator[Whole]:
    """Two epochs of three methods on nineteen images; of LDAM one epoch, and its worker was told to leave."""
    root = tmp_path_factory.mktemp('odd')
    chance = np.random.default_rng(0)
    for name, count in {'crow': 6, 'gull': 12, 'owl': 1}.items():
        (root / 'birds' / name).mkdir(parents=True)
        for number in range(count):
            pixels = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / 'birds' / name / f'{number}.png')
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root)
        whole = Whole(root)
        benchmark = load_benchmark(whole.benchmark)
        whole.data, store = load_data(benchmark.data), Store()
        stop_requested = threading.Event()
        stop_requested.set()
        for method in METHODS:
            for stage in make_plan(method, benchmark, whole.data.fingerprint, 0).stages():
                job = Job(stage, str(store.root), Runtime(checkpoint_seconds=0.0))
                code = carry_out(job, stop_requested if method == 'ldam' else None)
                assert code == (EXIT_CLAIMED if method == 'ldam' else 0)
        whole.unfinished = stage.fingerprint
        store.write(stage.fingerprint, 'failure', {'reason': 'it was tried', 'time': 1.0})
        store.write(stage.fingerprint, 'submitted', {'job': '1', 'where': 'Slurm', 'host': 'another', 'pid': 1})
        (store.work(stage.fingerprint) / 'log.txt').write_text('epoch 1/2')
        suite = choose_suite(Selection(benchmarks=(whole.benchmark,), methods=METHODS))
        for run, path in unrecorded(expand(suite).graph, suite, store):
            record_run(run, store, path)
        Answers(store.root, ANSWER).keep(SHOWN, folders=[results_root() / 'birds'])
        whole.keep()
        assert {kind_of(path) for path in whole.files} > {
            'manifest.json', 'test.npz', 'epoch.pt', 'claim', 'progress.json', '.ltbench-cache', 'answers', 'log.txt',
        }  # fmt: skip
    yield whole


@pytest.fixture
def whole(made, monkeypatch) -> Iterator[Whole]:
    settle(monkeypatch, made.root)
    made.restore()
    yield made
    made.restore()


def settle(patch: pytest.MonkeyPatch, root: Path) -> None:
    for name, folder in {'LTBENCH_STORE': 'store', 'LTBENCH_RESULTS': 'results', 'LTBENCH_DATA': 'data'}.items():
        patch.setenv(name, str(root / folder))
    patch.chdir(root)


# ---------------------------------------------------------------------------------------------- the damage


def flip(path: Path, chance: random.Random, others: list[Path]) -> None:
    contents = bytearray(path.read_bytes())
    if contents:
        contents[chance.randrange(len(contents))] ^= 1 << chance.randrange(8)
    path.write_bytes(contents)


def truncate(path: Path, chance: random.Random, others: list[Path]) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size + 1))


def empty(path: Path, chance: random.Random, others: list[Path]) -> None:
    os.truncate(path, 0)


def append(path: Path, chance: random.Random, others: list[Path]) -> None:
    with path.open('ab') as file:
        file.write(chance.choice([b'\0', b'{}', b'\n', bytes(500)]))


def replace(path: Path, chance: random.Random, others: list[Path]) -> None:
    """By another file of the store: of another kind or another owner."""
    path.write_bytes(chance.choice(others).read_bytes())


def swap(path: Path, chance: random.Random, others: list[Path]) -> None:
    alike = [other for other in others if other.name == path.name and other != path] or others
    other = chance.choice(alike)
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)
    os.utime(other, (time.time() - 7200,) * 2)


def other_json(path: Path, chance: random.Random, others: list[Path]) -> None:
    texts = [
        b'null',
        b'[]',
        b'{}',
        b'1e999',
        b'"x"',
        b'[' * 100_000,
        b'{"kind": "manifest"}',
        b'"\xed\xa0\x80"',
        b'\xff',
    ]
    path.write_bytes(chance.choice(texts))


def remove(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.unlink()


def folder(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.unlink()
    path.mkdir()
    if chance.random() < 0.5:
        (path / 'inside').write_text('x')


def fifo(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.unlink()
    path.symlink_to('/nowhere/at/all')


def loop(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.unlink()
    path.symlink_to('/dev/zero')


def unreadable(path: Path, chance: random.Random, others: list[Path]) -> None:
    """For everybody: root, who runs these tests in CI, could read a file whatever its mode."""
    FORBIDDEN.add((str(path), path.stat().st_ino))


FORBIDDEN: set[tuple[str, int]] = set()
"""Path and inode: another file that is put in its place can be read."""


@pytest.fixture(autouse=True)
def forbidding(monkeypatch) -> None:
    """Opening a forbidden file fails as it does for another user."""

    def guarded(really: Callable[..., Any]) -> Callable[..., Any]:
        def open_it(file: Any, *arguments: Any, **options: Any) -> Any:
            if FORBIDDEN and not isinstance(file, int):
                path = Path(os.fsdecode(file))
                if path.exists() and (str(path), path.stat().st_ino) in FORBIDDEN:
                    raise PermissionError(errno.EACCES, 'Permission denied', str(path))
            return really(file, *arguments, **options)

        return open_it

    for module, name in ((io, 'open'), (builtins, 'open'), (os, 'open')):
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))


Way = Callable[[Path, random.Random, list[Path]], None]
WAYS: tuple[Way, ...] = (
    flip, flip, flip, truncate, empty, append, replace, swap, other_json, remove, folder, fifo, dangling, loop, endless,
)  # fmt: skip


def damage(whole: Whole, chance: random.Random, ways: Sequence[Way] = WAYS) -> str:
    """Damage one file in one way; says which and how. Records have a test of their own."""
    files = sorted(path for path in whole.files if path.parent.name != 'records')
    kinds = sorted({kind_of(path) for path in files})
    kind = chance.choice(kinds)
    path, way = chance.choice([path for path in files if kind_of(path) == kind]), chance.choice(ways)
    way(path, chance, files)
    if os.path.lexists(path):
        os.utime(path, (time.time() - 7200,) * 2, follow_symlinks=False)
    return f'{way.__name__} {path.relative_to(whole.root)}'


def kind_of(path: Path) -> str:
    """Files that are alike."""
    if path.parent.name in ('answers', '.ltbench-cache'):
        return path.parent.name
    if path.name.startswith('epoch'):
        return 'epoch.pt'
    return 'claim' if path.name.startswith('claim') else path.name


# ---------------------------------------------------------------------------------------------- what is read then


def call(*arguments: str) -> tuple[int, str]:
    """`ltbench ARGUMENTS` in this process: its exit code and all it prints. What is no exit is a traceback."""
    out = io.TextIOWrapper(io.BytesIO(), 'utf-8', write_through=True)
    with pytest.MonkeyPatch.context() as patch, in_time():
        patch.setattr(sys, 'argv', ['ltbench', *arguments])
        patch.setattr(sys, 'stdout', out)
        patch.setattr(sys, 'stderr', out)
        try:
            cli.main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
    return code or 0, out.buffer.getvalue().decode()  # type: ignore[attr-defined]


@contextmanager
def in_time() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError('it hangs')

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANGS_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(read: Callable[[], Any]) -> Any:
    """What is read; None where that is refused in a line."""
    with in_time():
        try:
            return read()
        except (LTBenchError, FileNotFoundError):
            return None


def accepted(whole: Whole) -> list[str]:
    """Everything that is read, as ltbench reads it, and is not what was written."""
    store, wrong = Store(), []
    for key in {path.parent.name for path in whole.files if path.name == 'manifest.json'}:
        artifact = refused(lambda key=key: store.find(key))
        if artifact is None:
            continue
        manifest = json.loads(whole.files[store.folder(key) / 'manifest.json'])['content']
        if {'meta': artifact.meta, 'files': artifact.files} != manifest:
            wrong.append(f'manifest of {key}')
        for name in artifact.files:
            path = refused(lambda artifact=artifact, name=name: artifact.path(name))
            if path is not None and path.read_bytes() != whole.files[store.folder(key) / name]:
                wrong.append(f'{name} of {key}')
    work = store.work(whole.unfinished)
    for name in SHAPES:
        found = refused(lambda name=name: store.read(whole.unfinished, name))
        if found is not None and found != json.loads(whole.files[work / f'{name}.json'])['content']:
            wrong.append(name)
    for path in (path for path in whole.files if path.name.startswith('epoch')):
        saved = refused(lambda path=path: read_blob(path, 'checkpoint', whole.unfinished))
        if saved is not None and not whole.files[path].endswith(saved):
            wrong.append(path.name)
    if (owner := refused(lambda: claim_owner(work))) is not None:
        wrong.append(f'claimed by {owner}')
    base._load.cache_clear()
    data = refused(lambda: load_data(load_benchmark(whole.benchmark).data))
    if data is not None and (
        data.fingerprint != whole.data.fingerprint or (data.train.images != whole.data.train.images).any()
    ):
        wrong.append('data')
    answer = Answers(store.root, ANSWER).find()
    if answer is not None and answer['content'] != SHOWN:
        wrong.append('answer')
    return wrong


def look_at(whole: Whole) -> list[str]:
    """What the verbs say that look and tidy up: anything but one of their exit codes is wrong."""
    verbs = (['status', *whole.asked], ['store', 'ls'], ['store', 'verify'], ['store', 'gc', '--days', '0.5', '--yes'])
    wrong = []
    for verb in verbs:
        base._load.cache_clear()
        code, printed = call(*verb)
        if code not in (0, 1, 3, 4) or (code != 0 and not printed.strip()):
            wrong.append(f'{verb[:2]}: {code}: {printed}')
    return wrong


def test_nothing_odd_is_taken_for_what_was_written(whole):
    """Every kind of file, in ways drawn by a seed: read as it was, or refused; no verb ends in a traceback or hangs."""
    chance, wrong, done = random.Random(SEED), [], Counter()
    for number in range(DAMAGES):
        whole.restore()
        what = damage(whole, chance, (*WAYS, unreadable))
        done[what.split()[0]] += 1
        steps = (accepted, look_at, accepted)[number % 2 :]
        try:
            found = [line for step in steps for line in step(whole)]
        except Exception as error:  # noqa: BLE001 - all of it is told at the end
            found = [f'{type(error).__name__}: {error}']
        wrong += [f'{number}: {what}: {line}' for line in found]
    LOGGER.info('%d times damaged: %s; wrong: %d', sum(done.values()), dict(done), len(wrong))
    assert not wrong, '\n'.join(wrong)


@pytest.mark.slow
def test_a_damaged_store_gives_the_records_of_a_whole_one(whole):
    """One `ltbench run` after any damage: what is damaged is made again, and every number is as it was."""
    assert call('run', *whole.asked, '--no-figures')[0] == 0
    expected = numbers(whole)
    assert len(expected) == len(METHODS)
    chance, wrong, done = random.Random(SEED), [], Counter()
    for number in range(max(DAMAGES // RUNS, 1)):
        whole.restore()
        what = damage(whole, chance)
        done[what.split()[0]] += 1
        for path in whole.files:
            if path.parent.name == 'records':
                path.unlink()
        try:
            code, printed = call('run', *whole.asked, '--no-figures')
        except Exception as error:  # noqa: BLE001 - all of it is told at the end
            wrong.append(f'{number}: {what}: {type(error).__name__}: {error}')
            continue
        if code != 0 or numbers(whole) != expected:
            wrong.append(f'{number}: {what}: {code}: {printed}')
    LOGGER.info('%d times damaged, then run: %s; wrong: %d', sum(done.values()), dict(done), len(wrong))
    assert not wrong, '\n'.join(wrong)


def numbers(whole: Whole) -> dict[str, Any]:
    """What was computed of each run."""
    found = {}
    for path in sorted(whole.root.glob('results/*/records/*.json')):
        record = json.loads(path.read_text())
        found[path.name] = [record[name] for name in ('metrics', 'curve', 'analysis', 'chosen', 'fingerprint')]
    return found

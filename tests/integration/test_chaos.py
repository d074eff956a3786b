"""Three drivers on one store and one results folder, and signals at random moments: nothing is lost, nothing is left.

In CI a few dozen signals. The long form, about an hour on two cores:
``CHAOS_SIGNALS=1000 pytest -n 0 -m slow --log-cli-level=INFO tests/integration/test_chaos.py``;
``CHAOS_SEED`` chooses other moments.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ltbench.report.page import LOCK

pytestmark = pytest.mark.slow

LOGGER = logging.getLogger('chaos')
SIGNALS = int(os.environ.get('CHAOS_SIGNALS', '30'))
SEED = int(os.environ.get('CHAOS_SEED', '0'))
ROUNDS = 10
DRIVERS = 3
CALMING_SECONDS = 240
"""For a driver to end that was told to, or that nobody disturbs any more."""
IMPORTS_SECONDS = 30
"""Until a driver's first stage begins, on a busy machine."""
SUITE = """
benchmarks = ['digits_lt']
methods = ['erm', 'drw', 'crt', 'la_posthoc', 'ldam']
seeds = [0, 1]
"""
RUN = ('run', 'chaos.py', '-o', 'epochs=12')
SHORT_CLAIMS = """
from ltbench import claims
claims.HEARTBEAT_SECONDS, claims.UNHEARD_SECONDS, claims.CLAIM_EXPIRES_SECONDS = 0.5, 3.0, 5.0
"""
"""So that a stopped worker is overtaken while the test watches. A minute, as it is otherwise, would be the same."""
VICTIMS = ('driver', 'worker', 'worker', 'fork server', 'tree')
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP)


class Driver:
    """`ltbench run` in a session of its own, so that all that it starts is found whoever its parent is by now."""

    def __init__(self, sandbox: Path, log: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open('wb') as output:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'ltbench.cli', *RUN, '--no-figures'], cwd=sandbox, env={**os.environ, **env},
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def victims(self, kind: str) -> list[int]:
        """Processes of one kind: one, or for a tree all of the session."""
        found = list(session(self.process.pid))
        forked = [(pid, parent) for pid, parent, command in found if b'forkserver' in command]
        return {
            'driver': [self.process.pid],
            'worker': [pid for pid, parent in forked if parent != self.process.pid][:1],
            'fork server': [pid for pid, parent in forked if parent == self.process.pid],
            'tree': [pid for pid, _, _ in found],
        }[kind]

    def end(self) -> None:
        """Kill all of it."""
        send(self.victims('tree'), signal.SIGKILL)
        self.process.wait(30)


def session(leader: int) -> Iterator[tuple[int, int, bytes]]:
    """Number, parent and command line of every living process of a session."""
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, parent, _, owner, *_ = path.read_text().rpartition(')')[2].split()
            if int(owner) == leader and state != 'Z':
                yield int(path.parent.name), int(parent), path.with_name('cmdline').read_bytes()
        except OSError:
            continue


def send(pids: list[int], number: signal.Signals) -> int:
    """How many got it."""
    count = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            count += 1
        except ProcessLookupError:
            continue
    return count


def numbers_of(folder: Path) -> dict[str, Any]:
    """All that was computed, by record: costs and surroundings differ from run to run, nothing else may."""
    found = {}
    for path in sorted(folder.glob('*/records/*.json')):
        record = json.loads(path.read_text())
        cost = {key: record['cost'][key] for key in ('parameters', 'flops')}
        stages = [{**stage, 'cost': None} for stage in record['stages']]
        found[path.name] = record | {'cost': cost, 'stages': stages, 'environment': None, 'checksum': None}
    return found


def left_over(*folders: Path) -> list[Path]:
    """Claims, work folders, temporary files and all that was set aside or failed; the page's lock stays by design."""
    wrong = {'work', 'damaged', 'failed', 'superseded'}
    return [
        path for folder in folders for path in folder.rglob('*')
        if path.name != LOCK
        and (path.name.startswith(('.', 'claim.')) or wrong & {*path.relative_to(folder).parent.parts})
    ]  # fmt: skip


class Chaos:
    """Keeps three drivers going and disturbs them."""

    def __init__(self, sandbox: Path, chance: random.Random, expected: dict[str, Any], env: dict[str, str]) -> None:
        self.sandbox, self.chance, self.expected, self.env = sandbox, chance, expected, env
        self.store, self.results = Path(env['LTBENCH_STORE']), Path(env['LTBENCH_RESULTS'])
        self.logs = sandbox / 'logs'
        self.logs.mkdir()
        self.sent: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.stages = self.grids = self.started = 0
        self.wrong: list[str] = []
        self.drivers: list[Driver] = []
        self.condemned: dict[int, float] = {}
        self.stopped: list[tuple[float, list[int]]] = []

    def keep_going(self) -> None:
        """Start drivers in place of those that have ended, and wake up those whose time has come."""
        for due, pids in [entry for entry in self.stopped if entry[0] <= time.monotonic()]:
            send(pids, signal.SIGCONT)
            self.stopped.remove((due, pids))
        for driver in list(self.drivers):
            code = driver.process.poll()
            if code is None:
                since = self.condemned.get(driver.process.pid, time.monotonic())
                if time.monotonic() - since > CALMING_SECONDS:
                    self.wrong.append(f'did not end: {driver.log.read_text()}')
                    driver.end()
                continue
            self.drivers.remove(driver)
            self.condemned.pop(driver.process.pid, None)
            self.ends[str(code)] += 1
            printed = driver.log.read_text()
            # Ctrl-C while Python still starts is Python's to report
            is_early = printed.startswith(('Traceback', 'Fatal Python error')) and 'KeyboardInterrupt' in printed
            codes = (0, 1, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
            if code not in codes or ('Traceback' in printed and not is_early):
                self.wrong.append(f'ended with {code}: {printed}')
            if code == 0:
                self.finished()
        while len(self.drivers) < DRIVERS:
            self.started += 1
            self.drivers.append(Driver(self.sandbox, self.logs / f'{self.started}.txt', self.env))

    def wait(self) -> None:
        """For a moment; most of the times also until a stage is being made, else drivers would only ever start."""
        moment = time.monotonic() + self.chance.uniform(0, 1)
        latest = moment + (IMPORTS_SECONDS if self.chance.random() < 0.8 else 0)
        while time.monotonic() < moment or (time.monotonic() < latest and not self.is_at_work()):
            self.keep_going()
            time.sleep(0.05)
        self.keep_going()

    def is_at_work(self) -> bool:
        """Whether a worker has begun."""
        return any(self.store.glob('work/*/worker.json')) and any(driver.victims('worker') for driver in self.drivers)

    def finished(self) -> None:
        """A driver has all it wanted: compare, and let the others begin from nothing where nothing is made any more."""
        found = numbers_of(self.results)
        self.wrong += [f'{name} differs' for name, record in found.items() if record != self.expected[name]]
        if len(found) == len(self.expected):
            self.grids += 1
            self.start_over()

    def start_over(self) -> None:
        """Put all artifacts where nobody finds them, whoever else is at work."""
        for path in self.store.glob('artifacts/*/[!.]*'):
            path.rename(self.sandbox / 'finished' / f'{self.stages}-{path.name}')
            self.stages += 1
        for path in self.results.glob('*/records/[!.]*.json'):
            path.unlink(missing_ok=True)

    def disturb(self) -> None:
        """One signal to somebody."""
        number, victim = self.chance.choice(KINDS), self.chance.choice(VICTIMS)
        driver = self.chance.choice(self.drivers)
        pids = driver.victims(victim)
        if not send(pids, number):
            return
        self.sent[f'{number.name} {victim}'] += 1
        if number == signal.SIGSTOP:
            nap = self.chance.uniform(5, 9) if self.chance.random() < 0.2 else self.chance.uniform(0.05, 2)
            self.stopped.append((time.monotonic() + nap, pids))
        elif victim in ('driver', 'tree'):
            self.condemned[driver.process.pid] = time.monotonic()

    def end(self) -> None:
        """Wake up and kill what is left."""
        for driver in self.drivers:
            driver.end()


def test_signals_at_random_moments_lose_nothing_and_leave_nothing(ltbench, sandbox):
    (sandbox / 'chaos.py').write_text(SUITE)
    (sandbox / 'finished').mkdir()
    (sandbox / 'site').mkdir()
    (sandbox / 'site' / 'sitecustomize.py').write_text(SHORT_CLAIMS)
    ltbench(*RUN, LTBENCH_STORE=str(sandbox / 'calm'), LTBENCH_RESULTS=str(sandbox / 'calm-results'))
    expected = numbers_of(sandbox / 'calm-results')
    assert len(expected) == 10
    path = os.pathsep.join([str(sandbox / 'site'), *filter(None, [os.environ.get('PYTHONPATH')])])
    wild = {'LTBENCH_STORE': str(sandbox / 'wild'), 'LTBENCH_RESULTS': str(sandbox / 'wild-results')}
    chaos = Chaos(sandbox, random.Random(SEED), expected, {**wild, 'PYTHONPATH': path})
    began = time.monotonic()
    try:
        for number in range(ROUNDS):
            while chaos.sent.total() < SIGNALS * (number + 1) / ROUNDS:
                chaos.wait()
                chaos.disturb()
            LOGGER.info('round %d, %.0f s: %s', number + 1, time.monotonic() - began, dict(chaos.sent))
    finally:
        chaos.end()
    LOGGER.info(
        '%d signals: %s; %d drivers, ended with %s; %d grids of %d stages in all finished on the way',
        chaos.sent.total(), dict(sorted(chaos.sent.items())), chaos.started, dict(chaos.ends), chaos.grids,
        chaos.stages,
    )  # fmt: skip
    assert chaos.wrong == []
    for path in left_over(sandbox / 'wild', sandbox / 'wild-results'):
        if path.name.startswith('.'):
            os.utime(path, (time.time() - 7200,) * 2)  # as if the next run came two hours later
    printed = ltbench(*RUN, **wild)
    assert 'FAILED' not in printed
    assert numbers_of(sandbox / 'wild-results') == expected
    assert left_over(sandbox / 'wild', sandbox / 'wild-results') == []
    assert ', 0 damaged' not in ltbench('store', 'verify', **wild)

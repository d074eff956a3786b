"""Full disks, read-only disks, jumping clocks, Ctrl-C: a clear message, and a store that the next run goes on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltbench import claims as claims_module
from ltbench.claims import claim_owner
from ltbench.store import Store

RUN = ['run', '-b', 'digits_lt', '-m', 'erm', '-m', 'crt', '-o', 'epochs=8']


def mount(folder: Path, options: str) -> None:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'no tmpfs can be mounted here: {done.stderr.strip()}')


@pytest.fixture
def small_disk(sandbox):
    """A disk that `resize` changes; it starts with 300 KB, enough for a few checkpoints and no more."""
    folder = sandbox / 'disk'
    mount(folder, 'size=300k')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(['mount', '-o', f'remount,{options}', str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_run_continues_when_there_is_room(ltbench, sandbox, small_disk):
    printed = ltbench(*RUN, LTBENCH_STORE=str(small_disk / 'store'), code=1)
    assert 'the disk is full; free some space and run the same command again' in printed
    assert str(small_disk / 'store') in printed
    assert not list(small_disk.glob('store/artifacts/*/.*'))  # nothing half-written is left
    remount(small_disk, 'size=50m')
    assert 'top-1' in ltbench(*RUN, LTBENCH_STORE=str(small_disk / 'store'))
    assert '0 damaged' not in ltbench('store', 'verify', LTBENCH_STORE=str(small_disk / 'store'))


@pytest.mark.slow
def test_full_results_are_named_and_nothing_is_trained_again(ltbench, sandbox, small_disk):
    (small_disk / 'filler').write_bytes(b'0' * 290_000)
    printed = ltbench(*RUN, LTBENCH_RESULTS=str(small_disk / 'results'), code=4)
    assert 'the disk is full; free some space and run the same command again' in printed
    (small_disk / 'filler').unlink()
    remount(small_disk, 'size=50m')
    printed = ltbench(*RUN, LTBENCH_RESULTS=str(small_disk / 'results'))
    assert len(list(small_disk.glob('results/*/records/*.json'))) == 2
    assert 'erm' in printed


@pytest.mark.slow
def test_a_read_only_store_is_said_before_anything_is_trained(ltbench, sandbox, small_disk):
    remount(small_disk, 'size=50m')
    ltbench('run', '-b', 'digits_lt', '-o', 'epochs=8', LTBENCH_STORE=str(small_disk / 'store'))
    remount(small_disk, 'ro')
    # what is in it can be used
    assert 'Everything is found' in ltbench(
        'run', '-b', 'digits_lt', '-o', 'epochs=8', LTBENCH_STORE=str(small_disk / 'store')
    )
    started = time.monotonic()
    printed = ltbench(*RUN, LTBENCH_STORE=str(small_disk / 'store'), code=4)
    assert 'the file system is read-only; set LTBENCH_STORE to a folder that can be written' in printed
    assert time.monotonic() - started < 30
    remount(small_disk, 'rw')
    assert 'top-1' in ltbench(*RUN, LTBENCH_STORE=str(small_disk / 'store'))


@pytest.mark.parametrize('hours', [-24, 24])
def test_a_clock_that_jumps_frees_dead_claims_and_keeps_living_ones(tmp_path, monkeypatch, hours):
    """The claim of another machine, whose stamps are a day off: dead after a minute without a sign, else renewed."""
    monkeypatch.setattr(claims_module, 'HEARTBEAT_SECONDS', 0.05)
    store = Store(tmp_path)
    claim = store.claim('ab' * 32)
    claim.path.write_text(json.dumps({'host': 'another', 'pid': 1, 'state': 'held'}))
    jumped = time.time() + 3600 * hours
    os.utime(claim.path, (jumped, jumped))
    assert claim_owner(store.work('ab' * 32)) is None
    lost = []
    claim.keep_alive(lost=lambda: lost.append(1))
    time.sleep(0.3)
    assert claim_owner(store.work('ab' * 32)) is not None
    assert store.claim('ab' * 32) is None
    assert not lost
    claim.release()


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(ltbench, sandbox):
    arguments = [*RUN[:-1], 'epochs=150']
    driver = subprocess.Popen(
        [sys.executable, '-m', 'ltbench.cli', *arguments], cwd=sandbox, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(sandbox.glob('store/work/*/epoch_*.pt')):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (worker,) = (json.loads(path.read_text())['content']['pid'] for path in sandbox.glob('store/work/*/worker.json'))
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert said.strip() == 'ltbench: interrupted after 0 new records; the same command continues from here'
    assert not Path(f'/proc/{worker}').exists()
    assert 'stopped at epoch' in ltbench('status', *arguments[1:])
    assert 'top-1' in ltbench(*arguments)

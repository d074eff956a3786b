"""What lies about a grid, or is killed under it: foreign files, long paths, a lost fork server, methods that leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RUN = ('run', '-b', 'digits_lt', '-m', 'erm', '--no-figures', '-o')


def test_workers_import_nothing_from_the_working_directory(sandbox, shadowing):
    """A file beside somebody's data that is called like a package must not be run in its place."""
    shadowing(sandbox)
    script = Path(sys.executable).with_name('ltbench')  # as a user starts it; `-m` looks into the working directory
    result = subprocess.run(
        [script, *RUN, 'epochs=1'], cwd=sandbox, env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'top-1' in result.stdout
    assert not (sandbox / 'imported').exists()


def test_a_temporary_folder_with_a_long_path_is_no_obstacle(ltbench, sandbox):
    """As on clusters, where it holds user, job and node: the path of a socket has at most 107 characters."""
    folder = sandbox / ('a' * 60) / ('b' * 60)
    folder.mkdir(parents=True)
    assert 'top-1' in ltbench(*RUN[:-2], '-o', 'epochs=1', TMPDIR=str(folder))


@pytest.mark.parametrize('also_its_worker', [False, True])
def test_a_killed_fork_server_loses_nothing(ltbench, sandbox, also_its_worker):
    """A worker that outlives it goes on; one that was killed too is tried once more, from what it had saved."""
    driver = subprocess.Popen(
        [sys.executable, '-m', 'ltbench.cli', *RUN, 'epochs=100', '-m', 'crt'], cwd=sandbox, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(sandbox.glob('store/work/*/epoch_*.pt')):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (worker,) = (json.loads(path.read_text())['content']['pid'] for path in sandbox.glob('store/work/*/worker.json'))
    os.kill(killed := fork_server_of(driver.pid), signal.SIGKILL)
    if also_its_worker:
        os.kill(worker, signal.SIGKILL)
    while (other := fork_server_of(driver.pid)) in (None, killed):
        assert driver.poll() is None
        time.sleep(0.05)
    assert ignores(other, signal.SIGINT)  # Ctrl-C is the driver's: it would be left with half of its imports
    printed, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, printed
    assert 'was killed; tried once more' in printed or not also_its_worker
    assert printed.count('top-1') >= 2  # what comes after it is carried out by another fork server


def ignores(pid: int, number: signal.Signals) -> bool:
    status = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    return any(int(status[mask], 16) & 1 << number - 1 for mask in ('SigIgn', 'SigBlk'))  # blocked until it has begun


def fork_server_of(driver: int) -> int | None:
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            parent = int(stat.read_text().rpartition(')')[2].split()[1])
            if parent == driver and b'forkserver' in stat.with_name('cmdline').read_bytes():
                return int(stat.parent.name)
        except OSError:
            continue
    return None


def test_a_method_that_ends_its_process_fails_with_that_reason(ltbench, sandbox):
    reasons = {
        'sys.exit(75)': 'it calls sys.exit(75)', 'sys.exit()': 'it calls sys.exit()',
        'os._exit(3)': 'worker ended with code 3',
    }  # fmt: skip
    plug_in = """
import os, sys
from ltbench.method import Method
from ltbench.models.losses import CrossEntropyLoss
from ltbench.registry import METHODS, MODELS

@MODELS.register_module(name='{name}')
class LeavingLoss(CrossEntropyLoss):
    def per_sample(self, logits, labels):
        {call}

@METHODS.register_module(name='{name}')
class Leaves(Method):
    '''It leaves (a test).'''
    def apply(self, plan):
        return plan.replace(loss=dict(type='{name}'))
"""
    called = {f'leaves{number}': call for number, call in enumerate(reasons)}
    (sandbox / 'leaves.py').write_text('\n'.join(plug_in.format(name=name, call=call) for name, call in called.items()))
    methods = [word for name in called for word in ('-m', name)]
    printed = ltbench('run', '-b', 'digits_lt', *methods, '--plugin', 'leaves.py', '-o', 'epochs=1', code=1)
    told = ' '.join(printed.split())
    for name, call in called.items():
        assert reasons[call] in told.split(f'/ {name} / seed 0')[-1].split(' / seed 0')[0], name

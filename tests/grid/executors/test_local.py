"""The local executor: what it does where no process can be started."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ltbench.engine.job import Job, Runtime
from ltbench.grid.executors import local
from ltbench.grid.executors.local import STARTS, LocalExecutor
from ltbench.stage import Stage
from ltbench.store import Store


class Context:
    """A fork server that is killed ``kills`` times while it is asked to start a worker."""

    Pipe = staticmethod(multiprocessing.Pipe)

    def __init__(self, kills: int) -> None:
        self.kills = kills

    def Process(self, target, args):  # noqa: N802 - multiprocessing's name
        return SimpleNamespace(start=self.start, is_alive=lambda: True, kill=lambda: None, join=lambda: None)

    def start(self):
        self.kills -= 1
        if self.kills >= 0:
            raise EOFError('unexpected EOF')


@pytest.mark.parametrize(('kills', 'code'), [(0, None), (STARTS - 1, None), (STARTS, -signal.SIGKILL)])
def test_a_fork_server_that_is_killed_again_and_again_ends_no_driver(tmp_path, monkeypatch, kills, code):
    executor = LocalExecutor(Store(tmp_path), Runtime(device='cpu'), slots=2)
    context = Context(kills)
    monkeypatch.setattr(local, 'fork_server', lambda: context)
    (task,) = executor.start({'a': Job(Stage('head', {}).known_as('a', {}), str(tmp_path))}).values()
    assert task.poll() == code
    assert executor.free == ([1] if code is None else [0, 1])
    assert ('unexpected EOF' in task.reason) == (code is not None)
    executor.wait({'a': task} if code else {})


@pytest.mark.slow
def test_a_fork_server_that_multiprocessing_puts_in_the_place_of_a_killed_one_hears_no_ctrl_c():
    """It does so by itself where the first is killed between being looked for and being asked for a process."""
    code = """
import os, signal, time
from multiprocessing import forkserver
from pathlib import Path
from ltbench.grid.executors.fork_server import fork_server, starting
context = fork_server()
os.kill(before := forkserver._forkserver._forkserver_pid, signal.SIGKILL)
os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
with starting():
    process = context.Process(target=time.sleep, args=(0,))
    process.start()
assert (after := forkserver._forkserver._forkserver_pid) != before
status = dict(line.split(':', 1) for line in Path(f'/proc/{after}/status').read_text().splitlines())
assert any(int(status[mask], 16) & 1 << signal.SIGINT - 1 for mask in ('SigIgn', 'SigBlk')), status
assert 'PYTHONSAFEPATH=1' in Path(f'/proc/{after}/environ').read_text().split(chr(0))
process.join()
"""
    subprocess.run([sys.executable, '-c', code], check=True, timeout=240)

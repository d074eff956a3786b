"""The local executor: what it does where no process can be started."""

from __future__ import annotations

import multiprocessing
import signal
from types import SimpleNamespace

import pytest

from ltbench.grid.executors import local
from ltbench.grid.executors.local import STARTS, LocalExecutor
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
    executor = LocalExecutor(Store(tmp_path), {'device': 'cpu'}, slots=2)
    context = Context(kills)
    monkeypatch.setattr(local, 'fork_server', lambda: context)
    (task,) = executor.start({'a': {'devices': 1, 'runtime': {}}}).values()
    assert task.poll() == code
    assert executor.free == ([1] if code is None else [0, 1])
    assert ('unexpected EOF' in task.reason) == (code is not None)
    executor.wait({'a': task} if code else {})

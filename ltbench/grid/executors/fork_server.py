"""The process that workers are forked from. Imports nothing heavy itself, so that it can be started before all else."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext

from ltbench.processes import isolated

LONGEST_FOLDER = 60
"""Characters of a temporary folder: the path of a socket in it has at most 107 in all."""
PRELOAD = [
    'ltbench.engine.worker',
    'torch._dynamo',  # an optimizer imports it when it is built
]
"""Imported once by the fork server, so that a worker process starts in milliseconds."""


def fork_server() -> ForkServerContext:
    """Start the fork server unless it runs; return the way to processes of it. Its imports go on meanwhile."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    _choose_short_folder()
    with starting():
        forkserver.ensure_running()
    return context


@contextmanager
def starting() -> Iterator[None]:
    """For what may start the fork server: also a process, before which multiprocessing starts one that was killed.

    Ctrl-C passes it by: the driver ends the workers itself. The signal is blocked, not handled: the main thread alone
    may choose a handler, and a notebook may call from another. What it imports asks whether there is a GPU. Asked
    through the CUDA runtime, as is the default, no process forked from it could use one; asked through NVML, all can.
    What lies in the working directory, among somebody's data, must not be imported in place of a package.
    """
    resource_tracker.ensure_running()  # lets Ctrl-C through again once it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with isolated(PYTHONSAFEPATH='1', PYTORCH_NVML_BASED_CUDA_CHECK='1'):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _choose_short_folder() -> None:
    """Have multiprocessing make its sockets where their paths are short enough, whatever ``$TMPDIR`` is."""
    if len(tempfile.gettempdir()) <= LONGEST_FOLDER:
        return
    before, tempfile.tempdir = tempfile.tempdir, '/tmp'
    try:
        util.get_temp_dir()  # chosen once a process
    finally:
        tempfile.tempdir = before

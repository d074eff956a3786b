"""The process that workers are forked from. This module imports nothing slow, so it can be started before all else."""

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
    """Start the fork server unless it runs; return the context to fork from it. Its imports run in the background."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    _choose_short_folder()
    with starting():
        forkserver.ensure_running()
    return context


@contextmanager
def starting() -> Iterator[None]:
    """Context for all that may start the fork server; that includes each new process, if the server was killed.

    The server ignores Ctrl-C: the driver ends the workers itself. The signal is blocked, not handled, since only the
    main thread may set a handler, and a notebook may call from another. The server's imports ask whether there is a
    GPU. If they asked through the CUDA runtime, the default, no forked process could use one; through NVML all can.
    Files in the working directory, among the user's data, must not be imported in place of a package.
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
        util.get_temp_dir()  # chosen once per process
    finally:
        tempfile.tempdir = before

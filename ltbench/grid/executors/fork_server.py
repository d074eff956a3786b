"""The process that workers are forked from. Imports nothing heavy itself, so that it can be started before all else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerContext

LONGEST_FOLDER = 60
"""Characters of a temporary folder: the path of a socket in it has at most 107 in all."""
PRELOAD = [
    'ltbench.engine.worker',
    'typer',  # for the driver's main module, which every worker looks at
    'torch._dynamo',  # an optimizer imports it when it is built
]
"""Imported once by the fork server, so that a worker process starts in milliseconds."""


def fork_server() -> ForkServerContext:
    """Start the fork server unless it runs; return the way to processes of it. Its imports go on meanwhile.

    Ctrl-C passes it by: the driver ends the workers itself. What it imports asks whether there is a GPU. Asked through
    the CUDA runtime, as is the default, no process forked from it could use one; asked through NVML, all can.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'
    # what lies in the working directory, among somebody's data, must not be imported in place of a package
    os.environ['PYTHONSAFEPATH'] = '1'
    _choose_short_folder()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    return context


def _choose_short_folder() -> None:
    """Have multiprocessing make its sockets where their paths are short enough, whatever ``$TMPDIR`` is."""
    if len(tempfile.gettempdir()) <= LONGEST_FOLDER:
        return
    before, tempfile.tempdir = tempfile.tempdir, '/tmp'
    try:
        util.get_temp_dir()  # chosen once a process
    finally:
        tempfile.tempdir = before

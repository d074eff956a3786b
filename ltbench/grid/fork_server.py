"""The process that workers are forked from. Imports nothing heavy itself, so that it can be started before all else."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

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
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    return context

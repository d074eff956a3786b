"""A worker: one process that carries out one stage. ``python -m ltbench.engine.worker JOB.json`` does the same."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ltbench import plugins
from ltbench.engine.heads import extract_features, train_head
from ltbench.engine.job import LOG, Job, Workbench
from ltbench.engine.outputs import NonFiniteError
from ltbench.engine.posthoc import apply_posthoc
from ltbench.engine.train import train
from ltbench.errors import EXIT_CLAIMED, EXIT_FAILED, LTBenchError, MethodWarning
from ltbench.store import Artifact, Store

CARRY_OUT: dict[str, Callable[[Workbench], Artifact]] = {
    'train': train,
    'features': extract_features,
    'head': train_head,
    'posthoc': apply_posthoc,
}


def carry_out(job: Job) -> int:
    """Carry out a stage unless it is finished or in other hands.

    Returns:
        0 when the artifact is in the store, 75 when another process is making it, 1 after a failure; its reason is then
        in the stage's work folder.
    """
    store, fingerprint = Store(job.store), job.stage.fingerprint
    claim = store.claim(fingerprint)
    if claim is None:
        return EXIT_CLAIMED
    try:
        if store.find(fingerprint) is None:
            claim.keep_alive(lost=lambda: os._exit(EXIT_CLAIMED))
            worker = {'host': socket.gethostname(), 'pid': os.getpid(), 'started': time.time()}
            store.write(fingerprint, 'worker', worker)
            torch.set_num_threads(job.runtime.threads)
            bench = Workbench(job.stage, store, job.runtime)
            with noted(bench.warnings):
                CARRY_OUT[job.stage.kind](bench)
    except Exception as error:  # noqa: BLE001 - a method is foreign code; whatever it raises fails this stage alone
        traceback.print_exc()
        store.write(fingerprint, 'failure', {'reason': _reason(error), 'time': time.time()})
        return EXIT_FAILED
    finally:
        claim.release()
    store.finish_work(fingerprint)
    return 0


@contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    """Collect every :class:`MethodWarning` in ``notes``; other warnings go where they always go."""
    show = warnings.showwarning

    def note(message: Any, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, MethodWarning):
            notes.append(str(message))
        show(message, category, *rest)

    with warnings.catch_warnings():
        warnings.simplefilter('always', MethodWarning)
        warnings.showwarning = note  # type: ignore[assignment]
        yield


def carry_out_json(job: dict[str, Any]) -> int:
    """:func:`carry_out` for a job as JSON, after loading the plug-ins it needs."""
    torch.set_flush_denormal(True)  # of the whole process; tiny weights late in training can cost 50 times the time
    plugins.load(job['runtime']['plugins'])
    ready = Job.from_json(job)
    if ready.stage.fingerprint != job['fingerprint']:
        reason = 'the worker has another version of ltbench, a method or a plug-in than the driver; install the same'
        Store(job['store']).write(job['fingerprint'], 'failure', {'reason': reason, 'time': time.time()})
        return EXIT_FAILED
    return carry_out(ready)


def process(job: dict[str, Any], alive: Connection) -> None:
    """Entry of a worker process: output goes to the stage's log, and the worker ends when its driver does.

    Args:
        job: A :class:`Job` as JSON.
        alive: The driver holds the other end; when that closes, the driver is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    threading.Thread(target=_end_with_driver, args=(alive,), daemon=True).start()
    _send_output_to(Store(job['store']).work(job['fingerprint']) / LOG)
    code = carry_out_json(job)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing of interest is left, and torch's threads take their time to be torn down


def _end_with_driver(alive: Connection) -> None:
    try:
        alive.poll(None)
    finally:
        os._exit(EXIT_CLAIMED)


def _send_output_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter('%(asctime)s  %(message)s'))
    logger = logging.getLogger('ltbench')
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _reason(error: Exception) -> str:
    if isinstance(error, LTBenchError | NonFiniteError):
        # from a loader's worker the message comes with the worker's traceback; its last line is what was said
        last = str(error).strip().splitlines()[-1]
        return last.removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')
    return f'{type(error).__name__}: {error}'


if __name__ == '__main__':
    sys.exit(carry_out_json(json.loads(Path(sys.argv[1]).read_text(encoding='utf-8'))))

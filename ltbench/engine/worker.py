"""A worker: one process that carries out one stage. ``python -m ltbench.engine.worker JOB.json`` does the same.

With ``-`` for the file, the job is a line on standard input, and the worker ends when that is closed.
"""

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
from ltbench.data.batches import Share
from ltbench.engine.distributed import Peers, join, leave
from ltbench.engine.environment import keep_freed_memory
from ltbench.engine.heads import extract_features, train_head
from ltbench.engine.job import LOG, Job, LeftError, StageContext
from ltbench.engine.outputs import NonFiniteError
from ltbench.engine.posthoc import apply_posthoc
from ltbench.engine.probing import MAY_PASS, probe
from ltbench.engine.train import train
from ltbench.errors import EXIT_CLAIMED, EXIT_FAILED, LTBenchError, MethodWarning
from ltbench.sealed import remove
from ltbench.store import Artifact, Store

LOGGER = logging.getLogger('ltbench')
PEER_SECONDS = 5.0
"""For a failed process of several to be noticed by the first."""

CARRY_OUT: dict[str, Callable[[StageContext], Artifact | None]] = {
    'train': train,
    'features': extract_features,
    'head': train_head,
    'posthoc': apply_posthoc,
    'probe': probe,
}


def carry_out(job: Job, told_to_leave: threading.Event | None = None) -> int:
    """Carry out a stage unless it is finished or in other hands.

    Args:
        job: The stage.
        told_to_leave: Set when the worker is to save and leave.

    Returns:
        0 when the artifact is in the store, 75 when another process is making it or this one was told to leave, 1 after
        a failure; its reason is then in the stage's work folder.
    """
    store, fingerprint, peers = Store(job.store), job.stage.fingerprint, None
    told_to_leave = told_to_leave or threading.Event()
    claim = store.claim(fingerprint)
    if claim is None:
        return EXIT_CLAIMED
    try:
        if store.find(fingerprint) is None:
            claim.keep_alive(lost=lambda: os._exit(EXIT_CLAIMED))
            worker = {'host': socket.gethostname(), 'pid': os.getpid(), 'started': time.time()}
            store.write(fingerprint, 'worker', worker)
            torch.set_num_threads(job.runtime.threads)
            if job.stage.devices > 1:
                peers = Peers(peer, job.to_json(), job.stage.devices, lost=lambda how: _lost(job, how, told_to_leave))
                _train_together(job, Share(0, job.stage.devices), peers.port, told_to_leave)
            else:
                context = StageContext(job.stage, store, job.runtime, told_to_leave=told_to_leave)
                with noted(context.warnings):
                    CARRY_OUT[job.stage.kind](context)
    except LeftError as left:
        LOGGER.info(str(left))
        return EXIT_CLAIMED
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a method is foreign code: it fails this stage alone
        traceback.print_exc()
        if told_to_leave.is_set():
            return EXIT_CLAIMED  # its own processes may have been ended before it
        if peers is not None:
            peers.settle(PEER_SECONDS)
        may_pass = isinstance(error, MAY_PASS)
        store.write(fingerprint, 'failure', {'reason': _reason(error), 'time': time.time(), 'may_pass': may_pass})
        return EXIT_FAILED
    finally:
        claim.release()
    store.finish_work(fingerprint)
    return 0


def _train_together(job: Job, share: Share, port: int, told_to_leave: threading.Event | None = None) -> None:
    context = StageContext(job.stage, Store(job.store), job.runtime, share, told_to_leave)
    join(share, port, context.device)
    with noted(context.warnings):
        CARRY_OUT[job.stage.kind](context)
    leave()


def peer(job: dict[str, Any], share: Share, port: int, alive: Connection) -> None:
    """Entry of the second and further processes of a stage on several devices; it ends when the first one does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, args=(alive,), daemon=True).start()
    keep_freed_memory()
    torch.set_flush_denormal(True)
    plugins.load(job['runtime']['plugins'])
    ready = Job.from_json(job)
    torch.set_num_threads(ready.runtime.threads)
    try:
        _train_together(ready, share, port)
    except Exception as error:  # noqa: BLE001 - told as this stage's reason
        traceback.print_exc()
        time.sleep(1)  # if the first process has failed, it tells the reason, and this one ends with it
        Store(ready.store).write(ready.stage.fingerprint, 'failure', {'reason': _reason(error), 'time': time.time()})
        os._exit(EXIT_FAILED)
    os._exit(0)


def _lost(job: Job, how: str, told_to_leave: threading.Event) -> None:
    """A process of several is gone: the others would wait for it for ever."""
    if told_to_leave.wait(1):  # all processes of a job are ended at once, and this one has its turn
        os._exit(EXIT_CLAIMED)
    store, fingerprint = Store(job.store), job.stage.fingerprint
    if store.read(fingerprint, 'failure') is None:
        store.write(fingerprint, 'failure', {'reason': how, 'time': time.time(), 'may_pass': True})
    os._exit(EXIT_FAILED)


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


def carry_out_json(job: dict[str, Any], told_to_leave: threading.Event | None = None) -> int:
    """:func:`carry_out` for a job as JSON, after loading the plug-ins it needs."""
    keep_freed_memory()
    torch.set_flush_denormal(True)  # of the whole process; tiny weights late in training can cost 50 times the time
    plugins.load(job['runtime']['plugins'])
    try:
        ready: Job | None = Job.from_json(job)
    except TypeError:  # a field that this version does not know
        ready = None
    if ready is None or ready.stage.fingerprint != job['fingerprint']:
        reason = (
            'the worker has another version of ltbench, a method or a plug-in than the driver: install the same, or, '
            'if one was edited while the command or notebook ran, start that again'
        )
        Store(job['store']).write(job['fingerprint'], 'failure', {'reason': reason, 'time': time.time()})
        return EXIT_FAILED
    return carry_out(ready, told_to_leave)


def process(job: dict[str, Any], alive: Connection) -> None:
    """Entry of a worker process: output goes to the stage's log, and the worker ends when its driver does.

    Args:
        job: A :class:`Job` as JSON.
        alive: The driver holds the other end; when that closes, the driver is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    threading.Thread(target=_end_with_driver, args=(alive,), daemon=True).start()
    _send_output_to(Store(job['store']).work(job['fingerprint']) / LOG)
    _end(carry_out_json(job))


def command(path: Path) -> None:
    """Entry of the worker command: output goes to the stage's log; on SIGTERM it saves after its epoch and leaves.

    Args:
        path: A :class:`Job` as JSON.
    """
    told_to_leave = threading.Event()
    set_at(signal.SIGTERM, told_to_leave)
    job = json.loads(path.read_text(encoding='utf-8'))
    _send_output_to(Store(job['store']).work(job['fingerprint']) / LOG)
    _end(carry_out_json(job, told_to_leave))


def set_at(number: signal.Signals, event: threading.Event) -> None:
    """Set an event when a signal comes. Slurm sends one to all processes of a job, and the launcher sends it on: a
    second one in the middle of ``set()`` would wait for ever for the lock that this thread holds, so it is ignored."""

    def handle(*_: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        event.set()

    signal.signal(number, handle)


def _end(code: int) -> None:
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
    if path.is_symlink() or (path.exists() and not path.is_file()):  # a FIFO would wait for a reader for ever
        remove(path)
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


def _reason(error: Exception | SystemExit) -> str:
    if isinstance(error, SystemExit):
        return f'it calls sys.exit({"" if error.code is None else repr(error.code)})'
    if isinstance(error, LTBenchError | NonFiniteError):
        # from a loader's worker the message comes with the worker's traceback; its last line is what was said
        last = str(error).strip().splitlines()[-1]
        return last.removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')
    return f'{type(error).__name__}: {error}'


if __name__ == '__main__':
    if sys.argv[1] == '-':
        process(json.loads(sys.stdin.readline()), Connection(sys.stdin.fileno(), writable=False))
    command(Path(sys.argv[1]))

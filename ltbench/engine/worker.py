"""A worker: one process that runs one stage. ``python -m ltbench.engine.worker JOB.json`` does the same.

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
from ltbench.engine.environment import keep_freed_memory, note_code
from ltbench.engine.heads import extract_features, train_head
from ltbench.engine.job import LOG, Job, StageContext, StoppedError
from ltbench.engine.outputs import NonFiniteError
from ltbench.engine.posthoc import apply_posthoc
from ltbench.engine.probing import MAY_PASS, probe
from ltbench.engine.train import train
from ltbench.errors import EXIT_CLAIMED, EXIT_FAILED, LTBenchError, MethodWarning
from ltbench.sealed import remove
from ltbench.store import Artifact, Store

note_code()
LOGGER = logging.getLogger('ltbench')
PEER_SECONDS = 5.0
"""For the first process to notice that another one has failed."""

CARRY_OUT: dict[str, Callable[[StageContext], Artifact | None]] = {
    'train': train,
    'features': extract_features,
    'head': train_head,
    'posthoc': apply_posthoc,
    'probe': probe,
}


def carry_out(job: Job, stop_requested: threading.Event | None = None) -> int:
    """Run a stage unless it is finished or another process is running it.

    Args:
        job: The stage.
        stop_requested: Set when the worker should save and stop.

    Returns:
        0 when the artifact is in the store, 75 when another process is running the stage or this one was asked to stop,
        1 after a failure; its reason is then in the stage's work folder.
    """
    store, fingerprint, peers = Store(job.store), job.stage.fingerprint, None
    stop_requested = stop_requested or threading.Event()
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
                peers = Peers(peer, job.to_json(), job.stage.devices, lost=lambda how: _lost(job, how, stop_requested))
                _train_together(job, Share(0, job.stage.devices), peers.port, stop_requested)
            else:
                context = StageContext(job.stage, store, job.runtime, stop_requested=stop_requested)
                with noted(context.warnings):
                    CARRY_OUT[job.stage.kind](context)
    except StoppedError as stopped:
        LOGGER.info(str(stopped))
        return EXIT_CLAIMED
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a method is foreign code: it fails this stage alone
        traceback.print_exc()
        if stop_requested.is_set():
            return EXIT_CLAIMED  # its child processes may have been ended before it
        if peers is not None:
            peers.settle(PEER_SECONDS)
        may_pass = isinstance(error, MAY_PASS)
        store.write(fingerprint, 'failure', {'reason': _reason(error), 'time': time.time(), 'may_pass': may_pass})
        return EXIT_FAILED
    finally:
        claim.release()
    store.finish_work(fingerprint)
    return 0


def _train_together(job: Job, share: Share, port: int, stop_requested: threading.Event | None = None) -> None:
    context = StageContext(job.stage, Store(job.store), job.runtime, share, stop_requested)
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
    except Exception as error:  # noqa: BLE001 - recorded as the reason of the failure
        traceback.print_exc()
        time.sleep(1)  # if the first process has failed, it records the reason, and this one ends with it
        Store(ready.store).write(ready.stage.fingerprint, 'failure', {'reason': _reason(error), 'time': time.time()})
        os._exit(EXIT_FAILED)
    os._exit(0)


def _lost(job: Job, how: str, stop_requested: threading.Event) -> None:
    """Another process of this stage has ended: the others would wait for it for ever."""
    if stop_requested.wait(1):  # all processes of a cluster job are being ended, this one too
        os._exit(EXIT_CLAIMED)
    store, fingerprint = Store(job.store), job.stage.fingerprint
    if store.read(fingerprint, 'failure') is None:
        store.write(fingerprint, 'failure', {'reason': how, 'time': time.time(), 'may_pass': True})
    os._exit(EXIT_FAILED)


@contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    """Collect every :class:`MethodWarning` in ``notes``; other warnings are shown as usual."""
    show = warnings.showwarning

    def note(message: Any, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, MethodWarning):
            notes.append(str(message))
        show(message, category, *rest)

    with warnings.catch_warnings():
        warnings.simplefilter('always', MethodWarning)
        warnings.showwarning = note  # type: ignore[assignment]
        yield


def carry_out_json(job: dict[str, Any], stop_requested: threading.Event | None = None) -> int:
    """:func:`carry_out` for a job as JSON, after loading the plug-ins it needs."""
    keep_freed_memory()
    torch.set_flush_denormal(True)  # of the whole process; tiny weights late in training can cost 50 times the time
    plugins.load(job['runtime']['plugins'])
    try:
        ready: Job | None = Job.from_json(job)
    except TypeError:  # a field that this version does not have
        ready = None
    if ready is None or ready.stage.fingerprint != job['fingerprint']:
        reason = (
            'the worker has another version of ltbench, a method or a plug-in than the driver: install the same, or, '
            'if one was edited while the command or notebook ran, restart that'
        )
        Store(job['store']).write(job['fingerprint'], 'failure', {'reason': reason, 'time': time.time()})
        return EXIT_FAILED
    return carry_out(ready, stop_requested)


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
    """Entry of the worker command: output goes to the stage's log; on SIGTERM it saves after the epoch and stops.

    Args:
        path: A :class:`Job` as JSON.
    """
    stop_requested = threading.Event()
    set_at(signal.SIGTERM, stop_requested)
    job = json.loads(path.read_text(encoding='utf-8'))
    _send_output_to(Store(job['store']).work(job['fingerprint']) / LOG)
    _end(carry_out_json(job, stop_requested))


def set_at(number: signal.Signals, event: threading.Event) -> None:
    """Set an event when a signal arrives. Slurm sends it to all processes of a job, and the launcher forwards it: a
    second one during ``set()`` would wait for ever for the lock that this thread holds, so it is ignored."""

    def handle(*_: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        event.set()

    signal.signal(number, handle)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to do, and stopping torch's threads takes time


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
        # a message from a loader's worker includes the worker's traceback; its last line is the message itself
        last = str(error).strip().splitlines()[-1]
        return last.removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')
    return f'{type(error).__name__}: {error}'


if __name__ == '__main__':
    if sys.argv[1] == '-':
        process(json.loads(sys.stdin.readline()), Connection(sys.stdin.fileno(), writable=False))
    command(Path(sys.argv[1]))

"""What a Slurm job runs: the worker command in a separate process, which is asked in time to save and stop.

Imports neither torch nor submitit: it stays in memory for as long as the stage takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from ltbench.errors import EXIT_CLAIMED, given
from ltbench.store import Store

FRUITLESS_ATTEMPTS = 5
LOOK_SECONDS = 0.2


class Launcher:
    """Carries out a job through the worker command; works as submitit's Checkpointable.

    When Slurm announces that a job is to end (preemption, time limit), submitit calls :meth:`checkpoint` and requeues
    the job; it then continues from the stage's last checkpoint.

    Args:
        grace_seconds: Time for the worker to finish its epoch and save after the announcement.
        epochs: Finished by earlier attempts.
        fruitless: Earlier attempts in a row that finished no epoch.
    """

    def __init__(self, grace_seconds: float, epochs: int = 0, fruitless: int = 0) -> None:
        self.grace_seconds, self.epochs, self.fruitless = grace_seconds, epochs, fruitless
        self.worker: subprocess.Popen[bytes] | None = None

    def __call__(self, job: dict[str, Any]) -> int:
        """Start the worker and wait for it.

        Args:
            job: ``ltbench.engine.job.Job`` as JSON.

        Returns:
            Its exit code. If the worker could not report a failure itself, its reason is written to the store.
        """
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(job).encode())
            file.seek(0)
            command = [sys.executable, '-P', '-m', 'ltbench.engine.worker', '/dev/stdin']
            self.worker = subprocess.Popen(command, stdin=file, preexec_fn=_ignore_announcements)
        signal.signal(signal.SIGTERM, lambda *_: self._stop_worker())  # submitit would ignore it
        code = given(_await(self.worker.pid))
        if code == -signal.SIGTERM:
            return EXIT_CLAIMED  # Slurm ends the job, and knows why
        store, key = Store(job['store']), job['fingerprint']
        if code not in (0, EXIT_CLAIMED) and store.read(key, 'failure') is None:
            store.write(key, 'failure', {'reason': _reason(code), 'time': time.time(), 'may_pass': code < 0})
        return code

    def checkpoint(self, job: dict[str, Any]) -> Any:
        """Make the worker save and stop; called by submitit in a signal handler.

        Returns:
            What to submit next; None to give up, after too many attempts in a row without a finished epoch.
        """
        from submitit.helpers import DelayedSubmission

        self._stop_worker()
        if self.worker is not None and _await(self.worker.pid, self.grace_seconds) is None:
            self.worker.kill()
        store, key = Store(job['store']), job['fingerprint']
        epochs = int((store.read(key, 'progress') or {}).get('done', 0))
        fruitless = 0 if epochs > self.epochs else self.fruitless + 1
        if fruitless == FRUITLESS_ATTEMPTS:
            reason = (
                f'{fruitless} jobs in a row were preempted or timed out before they finished one epoch: '
                'ask for more with --slurm time=MINUTES'
            )
            store.write(key, 'failure', {'reason': reason, 'time': time.time()})
            return None
        return DelayedSubmission(Launcher(self.grace_seconds, max(epochs, self.epochs), fruitless), job)

    def _stop_worker(self) -> None:
        if self.worker is not None and _await(self.worker.pid, 0) is None:
            os.kill(self.worker.pid, signal.SIGTERM)


def _ignore_announcements() -> None:
    """Slurm may send its announcement to all processes of a job: only the launcher must act on it."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _await(pid: int, seconds: float | None = None) -> int | None:
    """A child's exit code, negative for a signal; None if it still runs after so many seconds.

    The child is not reaped, and no lock is held: a signal handler may ask in the middle of another call.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while (ended := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
        if deadline is not None and time.monotonic() >= deadline:
            return None
        time.sleep(LOOK_SECONDS)
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return 'killed by SIGKILL, most likely because memory ran out: ask for more with --slurm mem=16G'
    if code < 0:
        return f'killed by {signal.Signals(-code).name}'
    return f'the worker ended with code {code} before it could say why'

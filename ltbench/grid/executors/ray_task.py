"""What a Ray task runs: the worker command in a separate process.

Imports neither torch nor ray: it stays in memory for as long as the stage takes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ltbench.errors import EXIT_FAILED, given
from ltbench.store import Store

LOOK_SECONDS = 0.1


def run_in_subprocess(
    job: Mapping[str, Any], log: str, folder: str, environment: Mapping[str, str]
) -> tuple[int, dict[str, Any] | None]:
    """Carry out a stage in a separate process and wait for it; the worker always ends with this process.

    Args:
        job: ``ltbench.engine.job.Job`` as JSON.
        log: Where output goes.
        folder: The driver's working directory, for relative paths in options; not used if it is missing here.
        environment: Variables to set.

    Returns:
        The worker's exit code; after a failure also what it reported.
    """
    store, fingerprint = Store(job['store']), job['fingerprint']
    if not store.work(fingerprint).is_dir() and not store.has(fingerprint):
        where = f'{store.root} on {socket.gethostname()} is not the store that the driver writes to'
        advice = 'set LTBENCH_STORE to a folder that all nodes share under the same path'
        return EXIT_FAILED, {'reason': f'{where}; {advice}', 'time': time.time()}
    store.work(fingerprint).mkdir(parents=True, exist_ok=True)
    with Path(log).open('ab') as output:
        worker = subprocess.Popen(
            [sys.executable, '-P', '-m', 'ltbench.engine.worker', '-'],
            stdin=subprocess.PIPE, stdout=output, stderr=output,
            cwd=folder if Path(folder).is_dir() else None, env={**os.environ, **environment},
        )  # fmt: skip
    pipe = given(worker.stdin)
    try:
        with suppress(BrokenPipeError):  # it could not even start: the exit code and the log say more
            pipe.write(json.dumps(job).encode() + b'\n')
            pipe.flush()
        while worker.poll() is None:  # no blocking wait: it would not notice an interrupt from another thread
            time.sleep(LOOK_SECONDS)
    finally:
        if worker.poll() is None:
            worker.kill()
        if worker.wait() < 0:
            _let_go(store, fingerprint)
    return worker.returncode, store.read(fingerprint, 'failure') if worker.returncode == EXIT_FAILED else None


def _let_go(store: Store, fingerprint: str) -> None:
    """Release the claim of a worker that was killed; other machines cannot see that it is dead."""
    claim = store.claim(fingerprint)
    if claim is not None:
        claim.release()

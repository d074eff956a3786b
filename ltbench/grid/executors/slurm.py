"""The slurm executor: ready stages become job arrays; their state is read from the store and, less often, `squeue`."""

from __future__ import annotations

import io
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from ltbench.claims import is_dead, own_process
from ltbench.engine.job import Job, Runtime
from ltbench.errors import EXIT_CLAIMED, EXIT_FAILED, UsageError, unknown
from ltbench.grid.executors.base import Executor, Task
from ltbench.grid.executors.search_path import safe_environment
from ltbench.grid.executors.slurm_job import Launcher
from ltbench.registry import EXECUTORS
from ltbench.sealed import explained
from ltbench.store import Store

LOGGER = logging.getLogger('ltbench')
SQUEUE_SECONDS = 10.0
ARRIVE_SECONDS = 8.0
"""A shared file system may show the files of a job later than `squeue` shows its end."""
RETRY_SECONDS = 60.0
"""Before the next try, when jobs cannot be submitted."""
REQUEUE_SECONDS = 15
"""Reserved for requeuing a job, out of the time between the warning signal and its end."""

DEFAULTS = {'job_name': 'ltbench', 'time': 60, 'signal_delay_s': 90}
OURS = {'nodes', 'ntasks_per_node', 'array_parallelism', 'num_gpus', 'use_srun', 'stderr_to_stdout'}
"""Options of submitit that users cannot set, because we set them."""

AGAIN = {'COMPLETED', 'PREEMPTED', 'NODE_FAIL', 'BOOT_FAIL', 'REVOKED'}
"""Ended through no fault of the stage; COMPLETED without an artifact is a worker that was asked to stop."""
ENDED = {
    'CANCELLED': 'was cancelled (scancel)',
    'TIMEOUT': 'reached its time limit and could not be requeued: try --slurm signal_delay_s=300',
    'OUT_OF_MEMORY': 'ran out of memory: ask for more with --slurm mem=16G',
    'DEADLINE': 'missed its deadline',
    'FAILED': 'failed',
    'GONE': 'is gone from the queue without a reason',
}


@EXECUTORS.register_module(name='slurm')
class SlurmExecutor(Executor):
    """Carries out a graph's missing stages as Slurm jobs, through submitit.

    A job that is preempted or reaches its time limit is requeued and continues from the stage's last checkpoint.
    Jobs outlive a driver that is killed: the next one finds them in the queue and waits for them.

    Args:
        store: Where artifacts are found and put; on a file system that all nodes share.
        runtime: How every stage is carried out.
        slots: Devices in use at once; None leaves it to Slurm.
        options: Parameters of submitit's ``SlurmExecutor``: ``partition``, ``time`` (minutes), ``mem``, ``account``,
            ``qos``, ``gres``, ... CPUs are those that the runtime's threads need, GPUs one a device where the partition
            has any, unless ``cpus_per_task`` or ``gpus_per_node`` say otherwise.

    Raises:
        UsageError: If an option is not known, or this machine cannot submit jobs.
    """

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        slots: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(store, runtime, slots or sys.maxsize)
        self.options = _checked(options or {})
        self.largest_array, self.has_gpus = _largest_array(), _has_gpus(str(self.options.get('partition', '')))
        self.queue: dict[str, tuple[str, str]] = {}
        self.looks = 0
        self._next_look = self._next_try = 0.0
        self._has_submitted = False
        self._finished: set[str] = set()

    def start(self, jobs: Mapping[str, Job]) -> dict[str, Task]:
        """Submit the jobs as arrays, except those that another driver has submitted."""
        earlier = {key: submitted for key in jobs if (submitted := self.store.read(key, 'submitted'))}
        if time.monotonic() < self._next_try or (earlier and not self.look()):
            return {}
        tasks: dict[str, Task] = {}
        for key, submitted in earlier.items():
            if self.state_of(submitted['job'])[0] not in (*AGAIN, *ENDED):
                tasks[key] = SlurmTask(self, key, submitted['job'], is_ours=is_dead(submitted))
        by_devices: dict[int, list[Job]] = {}
        for key, job in jobs.items():
            if key not in tasks:
                by_devices.setdefault(job.stage.devices, []).append(job)
        for devices, alike in by_devices.items():
            for first in range(0, len(alike), self.largest_array):
                tasks.update(self._submit(alike[first : first + self.largest_array], devices))
        return tasks

    def wait(self, tasks: Mapping[str, Task]) -> None:
        """Sleep for a second, longer for many tasks: each one is a look-up in a shared file system."""
        time.sleep(max(1.0, len(tasks) / 100))
        if tasks and time.monotonic() >= self._next_look:
            self.look()

    def end(self, tasks: Sequence[Task]) -> None:
        """Cancel the jobs that this driver, or one that is dead, has submitted; those of others continue."""
        ours = [task for task in tasks if isinstance(task, SlurmTask) and task.is_ours]
        if ours:
            subprocess.run(['scancel', *(task.job for task in ours)], check=False)
        for task in ours:
            self.store.forget(task.key, 'submitted')

    def look(self) -> bool:
        """Ask `squeue` for all our jobs; False if it does not answer (while the controller restarts, for example)."""
        self._next_look = time.monotonic() + SQUEUE_SECONDS
        command = ['squeue', '--noheader', '--array', '--states=all', '--format=%i|%T|%r', f'--user={os.getuid()}']
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            LOGGER.warning('squeue does not answer: %s', result.stderr.strip())
            self._next_try = self._next_look
            return False
        rows = [line.strip().split('|', 2) for line in result.stdout.splitlines() if line.count('|') > 1]
        self.queue = {job: (state, reason) for job, state, reason in rows}
        self.looks += 1
        for job in [job for job in self._finished if self.state_of(job)[0] in (*AGAIN, *ENDED)]:
            self._finished.remove(job)  # its files were still in use when the artifact was seen
            for path in (self.store.root / 'slurm').glob(f'{job}_*'):
                path.unlink(missing_ok=True)
        return True

    def state_of(self, job: str) -> tuple[str, str]:
        """State and reason of a job when we last looked."""
        return self.queue.get(job, ('GONE', ''))

    def finished(self, job: str) -> None:
        """A job's artifact exists: the files that submitit wrote for it can be removed."""
        self._finished.add(job)

    def _submit(self, jobs: Sequence[Job], devices: int) -> dict[str, Task]:
        import submitit

        folder = self.store.root / 'slurm'  # flat: Slurm opens a job's output before submitit could make it a folder
        with explained('job files', self.store.root):
            folder.mkdir(parents=True, exist_ok=True)
        parameters = self._parameters(devices)
        places: dict[str, Any] = {'slots': tuple(range(devices))}
        if 'cpus_per_task' in self.options:  # CPUs that the threads do not need decode images
            places['loader_workers'] = self.options['cpus_per_task'] // devices
        # -P: a job starts in the working directory, and files there must not be imported in place of a package
        python = f'{shlex.quote(sys.executable)} -P'
        executor = submitit.SlurmExecutor(folder, max_num_timeout=sys.maxsize, python=python)
        executor.update_parameters(**parameters, array_parallelism=len(jobs))
        try:
            with _outside_of_jobs(), redirect_stderr(io.StringIO()):
                delay = parameters['signal_delay_s']
                launcher = Launcher(max(delay - REQUEUE_SECONDS, delay / 2))
                submitted = executor.map_array(launcher, [job.on(**places).to_json() for job in jobs])
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            if not self._has_submitted:
                raise UsageError(f'Slurm refuses the jobs: {_last_line(error)}') from error
            LOGGER.warning('sbatch failed, next try in %.0f s: %s', RETRY_SECONDS, _last_line(error))
            self._next_try = time.monotonic() + RETRY_SECONDS  # no error: running jobs must not be lost with the driver
            return {}
        self._has_submitted = True
        tasks: dict[str, Task] = {}
        try:
            for job, handle in zip(jobs, submitted, strict=True):
                key = job.stage.fingerprint
                tasks[key] = SlurmTask(self, key, handle.job_id, is_ours=True)
                submission = {'job': handle.job_id, 'where': 'Slurm', **own_process()}
                self.store.write(key, 'submitted', submission)
        except KeyboardInterrupt:
            subprocess.run(['scancel', submitted[0].job_id.split('_')[0]], check=False)
            raise
        for link in folder.glob('.submission_file_*.sh'):
            if link.is_symlink():
                link.unlink()
        return tasks

    def _parameters(self, devices: int) -> dict[str, Any]:
        parameters = {**DEFAULTS, 'cpus_per_task': self.runtime.threads * devices, 'stderr_to_stdout': True}
        if not {'gpus_per_node', 'gpus_per_task', 'gres'} & set(self.options) and self.has_gpus:
            parameters['gpus_per_node'] = devices
        more = {'requeue': True, **self.options.get('additional_parameters', {})}
        return {**parameters, **self.options, 'additional_parameters': more}


class SlurmTask(Task):
    """A stage that is a Slurm job.

    Args:
        executor: The executor that it belongs to.
        key: The stage's fingerprint.
        job: Slurm's id, ``'12'`` or ``'12_3'``.
        is_ours: Whether it ends with this driver.
    """

    def __init__(self, executor: SlurmExecutor, key: str, job: str, is_ours: bool) -> None:
        self.executor, self.key, self.job, self.is_ours = executor, key, job, is_ours
        self.waiting = f'submitted to Slurm as {job}'
        self._looks = executor.looks
        self._ended: float | None = None

    def poll(self) -> int | None:
        """From the store first; then from the state of the job, which may have ended without a result."""
        store = self.executor.store
        if store.find(self.key) is not None:
            self.executor.finished(self.job)
            return 0
        if store.read(self.key, 'failure') is not None:
            store.forget(self.key, 'submitted')
            return EXIT_FAILED
        if self.executor.looks == self._looks:
            return None
        self._looks = self.executor.looks
        state, why = self.executor.state_of(self.job)
        self.waiting = '' if state == 'RUNNING' else f'Slurm job {self.job} is {state}' + (f' ({why})' if why else '')
        if state not in AGAIN and state not in ENDED:
            self._ended = None
            return None
        self._ended = self._ended or time.monotonic()
        if time.monotonic() - self._ended < ARRIVE_SECONDS:
            return None
        store.forget(self.key, 'submitted')
        if state in AGAIN:
            return EXIT_CLAIMED
        log = store.root / 'slurm' / f'{self.job}_0_log.out'
        self.reason = f'Slurm job {self.job} {ENDED[state]}; its output: {log}'
        return EXIT_FAILED

    def end(self) -> None:
        """Cancel the job."""
        self.executor.end([self])


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in the form submitit expects."""
    for command in ('sbatch', 'srun', 'squeue', 'scancel'):
        if shutil.which(command) is None:
            raise UsageError(
                f'--executor slurm needs {command}, which is not here: run it where you submit Slurm jobs from'
            )
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise UsageError("--executor slurm needs submitit: pip install 'ltbench[slurm]'") from error
    known = submitit.SlurmExecutor._valid_parameters() - OURS
    checked = dict(options)
    for key, value in options.items():
        if key not in known:
            hint = " (other options of sbatch: --slurm \"additional_parameters={'reservation': 'mine'}\")"
            raise unknown('option of --slurm', key, known, hint)
        if key in ('setup', 'teardown', 'srun_args') and isinstance(value, str):
            checked[key] = [value]
        if key in ('time', 'signal_delay_s', 'cpus_per_task') and not (isinstance(value, int) and value > 0):
            unit = {'time': ' of minutes', 'signal_delay_s': ' of seconds'}.get(key, '')
            raise UsageError(f'--slurm {key} is a whole number{unit}, got {value!r}')
        if key == 'additional_parameters' and not isinstance(value, dict):
            raise UsageError(f"--slurm {key} is like {{'reservation': 'mine'}}, got {value!r}")
    minutes, delay = (checked.get(key, DEFAULTS[key]) for key in ('time', 'signal_delay_s'))
    if minutes * 60 < delay + 120:
        raise UsageError(
            f'--slurm time={minutes} leaves no time to train: stages must save {delay} s (signal_delay_s) '
            'before it is over, or up to a minute earlier'
        )
    return checked


def _largest_array() -> int:
    size = re.search(r'MaxArraySize\s*=\s*(\d+)', _ask('scontrol', 'show', 'config'))
    return max(int(size[1]), 1) if size else 1000


def _has_gpus(partitions: str) -> bool:
    """Whether some nodes of the partitions, or of the default one, have GPUs."""
    rows = [line.split(maxsplit=1) for line in _ask('sinfo', '--noheader', '--format=%P %G').splitlines()]
    chosen = partitions.split(',') if partitions else [name for name, _ in rows if name.endswith('*')]
    return any('gpu' in resources and (name in chosen or name.rstrip('*') in chosen) for name, resources in rows)


def _ask(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UsageError(f'Slurm does not answer: {" ".join(command)}: {result.stderr.strip()}')
    return result.stdout


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the Slurm job in which the driver may run: its resources must not be requested for the driver's jobs.

    The jobs get this environment, which includes the search path of the driver's code.
    """
    from submitit.helpers import clean_env

    before, safe = dict(os.environ), safe_environment()
    conf = {name: value for name, value in before.items() if name == 'SLURM_CONF'}
    try:
        with clean_env():
            os.environ.update(conf | safe)
            yield
    finally:
        for name in safe.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

"""The slurm executor against commands that only pretend to be Slurm; tests/cluster/test_slurm.py has the real one."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.benchmark import load_benchmark
from ltbench.claims import own_process
from ltbench.data import load_data
from ltbench.engine.job import Job, Runtime
from ltbench.errors import EXIT_CLAIMED, EXIT_FAILED, UsageError
from ltbench.grid.executors import slurm
from ltbench.grid.executors.slurm import SlurmExecutor
from ltbench.grid.executors.slurm_job import FRUITLESS_ATTEMPTS, Launcher
from ltbench.grid.status import read_state
from ltbench.method import make_plan
from ltbench.stage import Stage
from ltbench.store import Store

COMMANDS = {
    'sbatch': 'echo x >> submissions; echo "Submitted batch job $(wc -l < submissions)"; cat "$1" >> script',
    'squeue': 'test ! -e silent && cat queue',
    'scancel': 'echo "$*" >> cancelled',
    'scontrol': 'echo "MaxArraySize            = 3"',
    'sinfo': 'printf "cpu* (null)\\nbig gpu:a100:8\\n"',
    'srun': 'true',
}


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch) -> Path:
    """A folder where commands log what they were asked, and `squeue` shows what is in the file ``queue``."""
    (tmp_path / 'bin').mkdir()
    for name, body in COMMANDS.items():
        (tmp_path / 'bin' / name).write_text(f'#!/bin/sh\ncd {tmp_path}\n{body}\n')
        (tmp_path / 'bin' / name).chmod(0o755)
    (tmp_path / 'queue').touch()
    monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:/usr/bin:/bin')
    monkeypatch.setattr(slurm, 'ARRIVE_SECONDS', 0.0)
    return tmp_path


@pytest.fixture
def make(fake_slurm) -> Callable[..., SlurmExecutor]:
    pytest.importorskip('submitit')
    return lambda **options: SlurmExecutor(Store(fake_slurm / 'store'), Runtime(), options=options)


def jobs_of(*keys: str, devices: int = 1) -> dict[str, Job]:
    config = {'recipe': {'devices': devices}}
    return {key: Job(Stage('train', config).known_as(key, {}), 'store') for key in keys}


# ---------------------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'partitoin': 'low'}, 'did you mean partition'),
        ({'memory': '4G'}, 'did you mean mem'),
        ({'nodes': 2}, 'unknown option'),  # a stage is one process on one node
        ({'time': '2:00:00'}, 'whole number of minutes'),
        ({'time': 3}, 'leaves no time to train'),
        ({'time': 60, 'signal_delay_s': 3500}, 'leaves no time to train'),
        ({'additional_parameters': 'reservation'}, 'reservation'),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(make, options, message):
    with pytest.raises(UsageError, match=message):
        make(**options)


def test_what_is_missing_is_named_before_anything_is_written(fake_slurm, monkeypatch):
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(UsageError, match=r"pip install 'ltbench\[slurm\]'"):
        SlurmExecutor(Store(fake_slurm / 'store'), Runtime())
    monkeypatch.setenv('PATH', str(fake_slurm))
    with pytest.raises(UsageError, match='needs sbatch'):
        SlurmExecutor(Store(fake_slurm / 'store'), Runtime())
    assert not (fake_slurm / 'store').exists()


def test_options_are_for_slurm_alone(sandbox, ltbench):
    output = ltbench('run', '-m', 'erm', '--slurm', 'partition=low', code=2)
    assert '--slurm is for --executor slurm, not local' in output
    assert not list(sandbox.iterdir())


def test_submitit_is_imported_by_who_submits_alone():
    program = 'import sys, ltbench.cli, ltbench.verbs.run; assert "submitit" not in sys.modules'
    subprocess.run([sys.executable, '-c', program], check=True)


def test_stages_become_arrays_no_larger_than_slurm_takes(make, fake_slurm):
    executor = make(partition='big', qos='long', additional_parameters={'reservation': 'mine'})
    tasks = executor.start(jobs_of('a', 'b', 'c', 'd') | jobs_of('e', devices=2))
    assert {key: task.job for key, task in tasks.items()} == {'a': '1_0', 'b': '1_1', 'c': '1_2', 'd': '2', 'e': '3'}
    scripts = (fake_slurm / 'script').read_text().split('#!/bin/bash')
    assert '--array=0-2%3' in scripts[1]
    for wanted in ('partition=big', 'qos=long', 'reservation=mine', 'requeue', 'time=60', 'signal=USR2@90'):
        assert all(f'#SBATCH --{wanted}\n' in script for script in scripts[1:])
    assert '--gpus-per-node=1\n' in scripts[1]
    assert '--cpus-per-task=1\n' in scripts[1]
    assert '--gpus-per-node=2\n' in scripts[3]
    assert '--cpus-per-task=2\n' in scripts[3]
    assert read_state('c', executor.store).waiting == 'submitted to Slurm as 1_2'


def test_cpus_beyond_the_threads_decode_images(make, fake_slurm):
    make(cpus_per_task=8).start(jobs_of('a', devices=2))
    (pickled,) = (fake_slurm / 'store' / 'slurm').glob('*_submitted.pkl')
    (job,) = pickle.loads(pickled.read_bytes()).args
    assert job['runtime']['loader_workers'] == 4
    assert job['runtime']['slots'] == (0, 1)
    script = (fake_slurm / 'script').read_text()
    assert '--cpus-per-task=8\n' in script
    assert 'gpus' not in script  # the default partition has none


SRUN = """
while [ "${1#--}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""


@pytest.mark.slow
def test_a_job_imports_nothing_from_the_working_directory(make, fake_slurm, sandbox, shadowing, monkeypatch):
    """Slurm starts a job where it was submitted: by default among somebody's data. The driver's own places count."""
    (fake_slurm / 'bin' / 'sbatch').write_text(
        f'#!/bin/sh\ncp "$1" {fake_slurm}/script; env > {fake_slurm}/env; echo "Submitted batch job 1"\n'
    )
    (fake_slurm / 'bin' / 'srun').write_text(f'#!/bin/sh\n{SRUN}')
    monkeypatch.setattr(sys, 'path', [str(Path(__file__).parents[3]), *sys.path])
    monkeypatch.delenv('PYTHONPATH', raising=False)
    before = dict(os.environ)
    executor = make()
    benchmark = load_benchmark('digits_lt', overrides={'epochs': 1})
    (stage,) = make_plan('erm', benchmark, load_data(benchmark.data).fingerprint, 0).stages()
    executor.start({stage.fingerprint: Job(stage, str(executor.store.root))})
    assert dict(os.environ) == before
    shadowing(sandbox)
    exported = dict(line.split('=', 1) for line in (fake_slurm / 'env').read_text().splitlines() if '=' in line)
    slurm_own = {'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '1', 'SLURM_JOB_NUM_NODES': '1', 'SLURM_NODEID': '0'}
    slurm_own |= {'SLURM_PROCID': '0', 'SLURM_LOCALID': '0', 'SLURM_JOB_NODELIST': 'here', 'SLURM_NODELIST': 'here'}
    done = subprocess.run(
        ['bash', fake_slurm / 'script'], cwd=sandbox, env=exported | slurm_own, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert executor.store.find(stage.fingerprint) is not None, done.stdout + done.stderr
    assert not (sandbox / 'imported').exists()


# ---------------------------------------------------------------------------------------------- what came of it


@pytest.mark.parametrize(
    ('row', 'code', 'reason'),
    [
        ('1|COMPLETED|None', EXIT_CLAIMED, ''),  # the worker was told to leave, or found the stage in other hands
        ('1|NODE_FAIL|None', EXIT_CLAIMED, ''),
        ('1|CANCELLED|None', EXIT_FAILED, 'was cancelled'),
        ('1|OUT_OF_MEMORY|None', EXIT_FAILED, 'ran out of memory'),
        ('1|TIMEOUT|TimeLimit', EXIT_FAILED, 'time limit'),
        ('1_1|RUNNING|None', EXIT_FAILED, 'gone from the queue'),  # another job
        ('1|RUNNING|None', None, ''),
        ('1|COMPLETING|None', None, ''),
        ('1|PENDING|BeginTime', None, ''),
    ],
)
def test_a_job_that_ends_without_a_word_tells_by_its_state(make, fake_slurm, row, code, reason):
    executor = make()
    task = executor.start(jobs_of('a'))['a']
    assert task.poll() is None  # nobody has looked since
    (fake_slurm / 'queue').write_text(row + '\n')
    assert executor.look()
    assert task.poll() == code
    assert reason in task.reason
    assert executor.store.read('a', 'failure') is None
    if 'PENDING' in row:
        assert task.waiting == 'Slurm job 1 is PENDING (BeginTime)'


def test_the_store_is_asked_before_the_queue(make, fake_slurm):
    executor = make()
    tasks = executor.start(jobs_of('a', 'b'))
    executor.store.write('a', 'failure', {'reason': 'its own', 'time': 0.0})
    executor.store.publish('b', {}, lambda folder: None)
    assert executor.look()  # both are gone
    assert tasks['a'].poll() == EXIT_FAILED
    assert tasks['a'].reason == ''  # what the store says stands
    assert tasks['b'].poll() == 0


def test_a_silent_controller_is_waited_for(make, fake_slurm):
    executor = make()
    task = executor.start(jobs_of('a'))['a']
    (fake_slurm / 'silent').touch()
    assert not executor.look()
    assert task.poll() is None
    assert executor.start(jobs_of('a', 'b')) == {}  # what 'a' is nobody knows
    assert (fake_slurm / 'submissions').read_text().count('x') == 1


def test_what_slurm_refuses_ends_the_driver_only_before_anything_was_submitted(make, fake_slurm):
    accept = (fake_slurm / 'bin' / 'sbatch').read_text()
    refuse = '#!/bin/sh\necho "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2\nexit 1\n'
    (fake_slurm / 'bin' / 'sbatch').write_text(refuse)
    executor = make()
    with pytest.raises(UsageError, match='QOSMaxSubmitJobPerUserLimit'):
        executor.start(jobs_of('a'))
    (fake_slurm / 'bin' / 'sbatch').write_text(accept)
    assert executor.start(jobs_of('a'))
    (fake_slurm / 'bin' / 'sbatch').write_text(refuse)
    assert executor.start(jobs_of('b')) == {}
    (fake_slurm / 'bin' / 'sbatch').write_text(accept)
    assert executor.start(jobs_of('b')) == {}  # not at once


def test_what_submitit_wrote_goes_when_the_job_has_ended(make, fake_slurm):
    executor = make()
    task = executor.start(jobs_of('a'))['a']
    executor.store.publish('a', {}, lambda folder: None)
    assert task.poll() == 0
    (fake_slurm / 'queue').write_text('1|RUNNING|None\n')
    executor.look()
    assert (executor.store.root / 'slurm' / '1_submitted.pkl').exists()
    (fake_slurm / 'queue').write_text('1|COMPLETED|None\n')
    executor.look()
    assert not list((executor.store.root / 'slurm').iterdir())


# ---------------------------------------------------------------------------------------------- several drivers


def test_a_queued_job_of_another_driver_is_waited_for_and_cancelled_only_if_that_is_dead(make, fake_slurm):
    child = subprocess.Popen(['true'])
    child.wait()
    executor, alive = make(), own_process()
    dead = alive | {'pid': child.pid}
    for key, owner in (
        ('alive', alive),
        ('dead', dead),
        ('elsewhere', dead | {'machine': 'another container of this host name'}),
        ('renumbered', alive | {'began': '1'}),  # dead, and this process has its number now
        ('over', dead),
    ):
        executor.store.write(key, 'submitted', {'where': 'Slurm', 'job': f'7_{key}', **owner})
    rows = ['7_alive|PENDING|Resources', '7_dead|PENDING|Resources', '7_elsewhere|RUNNING|None', '7_over|COMPLETED|']
    rows.append('7_renumbered|PENDING|Resources')
    (fake_slurm / 'queue').write_text('\n'.join(rows))
    tasks = executor.start(jobs_of('alive', 'dead', 'elsewhere', 'renumbered', 'over'))
    assert {key: task.job for key, task in tasks.items()} == {
        'alive': '7_alive', 'dead': '7_dead', 'elsewhere': '7_elsewhere', 'renumbered': '7_renumbered', 'over': '1',
    }  # fmt: skip
    executor.end(list(tasks.values()))
    assert (fake_slurm / 'cancelled').read_text() == '7_dead 7_renumbered 1\n'
    assert executor.store.read('dead', 'submitted') is None
    assert executor.store.read('alive', 'submitted') is not None


# ---------------------------------------------------------------------------------------------- on the node


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Have the launcher start a shell script in place of the worker."""
    before = signal.getsignal(signal.SIGTERM)

    def become(body: str) -> None:
        script = tmp_path / 'python'
        script.write_text(f'#!/bin/sh\n{body}\n')
        script.chmod(0o755)
        monkeypatch.setattr(sys, 'executable', str(script))

    yield become
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ('body', 'code', 'reason'),
    [
        ('exit 0', 0, None),
        ('exit 75', EXIT_CLAIMED, None),
        ('kill -TERM $$', EXIT_CLAIMED, None),  # Slurm ends the job
        ('kill -KILL $$', -9, 'killed by SIGKILL, most likely because memory ran out'),
        ('kill -SEGV $$', -11, 'killed by SIGSEGV'),
        ('exit 1', 1, 'before it could say why'),
        ('kill -USR2 $$; exit 0', 0, None),  # meant for the launcher
    ],
)
def test_how_the_worker_ended_is_told(worker, tmp_path, body, code, reason):
    worker(body)
    store = Store(tmp_path / 'store')
    assert Launcher(1)({'fingerprint': 'a', 'store': str(store.root)}) == code
    failure = store.read('a', 'failure')
    assert failure is None if reason is None else reason in failure['reason']


def test_the_worker_gets_its_job_and_its_own_reason_stands(worker, tmp_path):
    store = Store(tmp_path / 'store')
    store.write('a', 'failure', {'reason': 'its own', 'time': 0.0})
    worker(f'cat "$4" > {tmp_path}/job; exit 1')
    job = {'fingerprint': 'a', 'store': str(store.root)}
    assert Launcher(1)(job) == 1
    assert json.loads((tmp_path / 'job').read_text()) == job
    assert store.read('a', 'failure')['reason'] == 'its own'


def start_only(launcher: Launcher, body: str) -> subprocess.Popen[bytes]:
    launcher.worker = subprocess.Popen(['sh', '-c', body], stdout=subprocess.PIPE)
    assert launcher.worker.stdout
    launcher.worker.stdout.readline()  # it has set its traps
    return launcher.worker


def progress(done: int) -> dict:
    return {'done': done, 'total': 9, 'first': 0, 'started': 0.0, 'updated': 1.0}


def test_an_announced_end_lets_the_worker_save_or_ends_it(tmp_path):
    pytest.importorskip('submitit')
    store = Store(tmp_path / 'store')
    job = {'fingerprint': 'a', 'store': str(store.root)}
    launcher = Launcher(grace_seconds=20)
    saves = start_only(launcher, 'trap "sleep 0.5; exit 75" TERM; echo; while :; do sleep 0.1; done')
    store.write('a', 'progress', progress(7))
    again = launcher.checkpoint(job)
    assert saves.wait() == 75
    assert again.args == (job,)
    assert (again.function.grace_seconds, again.function.epochs, again.function.fruitless) == (20, 7, 0)

    launcher = Launcher(grace_seconds=0.3)
    stays = start_only(launcher, 'trap "" TERM; echo; while :; do sleep 0.1; done')
    started = time.monotonic()
    launcher.checkpoint(job)
    assert stays.wait() == -signal.SIGKILL
    assert time.monotonic() - started < 10


def test_who_never_finishes_an_epoch_is_not_put_back_for_ever(tmp_path):
    pytest.importorskip('submitit')
    store = Store(tmp_path / 'store')
    job = {'fingerprint': 'a', 'store': str(store.root)}
    store.write('a', 'progress', progress(3))
    again = Launcher(1).checkpoint(job)  # three epochs are a beginning
    for _ in range(FRUITLESS_ATTEMPTS - 1):
        again = again.function.checkpoint(job)
    assert again.function.checkpoint(job) is None
    assert '5 jobs in a row' in store.read('a', 'failure')['reason']

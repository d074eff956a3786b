"""Grids on a real Slurm: two nodes of one core each on this machine, as tests/cluster/slurm_up.sh starts them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

HOME = Path('/run/ltbench-slurm')  # nodes are killed in here: no other cluster will do
UP = Path(__file__).parent / 'slurm_up.sh'
ON_SLURM = ['--executor', 'slurm', '--slurm', 'partition=low', '--slurm', 'time=10']

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (HOME / 'slurmctld.pid').exists(), reason=f'no test cluster; as root, {UP} starts one'),
]


@pytest.fixture(autouse=True)
def slurm(sandbox, monkeypatch) -> Iterator[None]:
    pytest.importorskip('submitit')
    monkeypatch.setenv('SLURM_CONF', str(HOME / 'slurm.conf'))
    yield
    subprocess.run(['scancel', '--user=root'], check=True)
    wait_for(lambda: not jobs('PENDING,RUNNING,COMPLETING'))
    subprocess.run([UP], check=True)


def jobs(states: str = 'all') -> dict[str, dict[str, str]]:
    """What `squeue` tells of our jobs, by their ids."""
    command = ['squeue', '--noheader', '--array', f'--states={states}', '--format=%i|%T|%N', '--name=ltbench']
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {job: {'state': state, 'node': node} for job, state, node in (line.split('|') for line in lines)}


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def start_driver(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, '-m', 'ltbench.cli', 'run', '--no-figures', *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def stages_saved(sandbox: Path) -> set[Path]:
    """Folders of stages in the making that have a checkpoint."""
    return {path.parent for path in sandbox.glob('store/work/*/epoch_*.pt')}


def kill_node(name: str) -> None:
    """Kill a node's daemon, whatever it started, and what that started."""
    doomed = {int((HOME / f'slurmd-{name}.pid').read_text())}
    for process in Path('/proc').glob('[0-9]*'):
        try:
            if f'SLURMD_NODENAME={name}\0'.encode() in (process / 'environ').read_bytes():
                parent = re.search(r'^PPid:\s*(\d+)', (process / 'status').read_text(), re.MULTILINE)
                doomed |= {int(process.name), int(parent[1])} if parent else set()
        except OSError:  # it ended meanwhile
            continue
    for pid in doomed - {1, os.getpid()}:
        with suppress(ProcessLookupError):  # it ended with its parent
            os.kill(pid, signal.SIGKILL)


def test_preempted_and_crashed_jobs_end_with_the_same_bits_as_local_ones(sandbox, ltbench, logits_files):
    grid = ['-m', 'erm', '-m', 'la_posthoc', '--seeds', '0,1', '-o', 'epochs=100']
    driver = start_driver(*grid, *ON_SLURM)
    wait_for(lambda: len(stages_saved(sandbox)) == 2)
    first, second = sorted(jobs('RUNNING'), key=lambda job: jobs()[job]['node'])

    urgent = ['srun', '--quiet', '--partition=high', '--nodelist=n1', 'true']
    subprocess.run(urgent, check=True)  # takes the node away from the first
    kill_node('n2')
    wait_for(lambda: (jobs()[second]['state'], jobs()[second]['node']) != ('RUNNING', 'n2'))  # it may be on n1 at once
    subprocess.run([UP], check=True)

    output, _ = driver.communicate(timeout=180)
    assert driver.returncode == 0, output
    assert 'FAILED' not in output
    for job in (first, second):
        shown = subprocess.run(['scontrol', 'show', 'job', job], check=True, capture_output=True, text=True).stdout
        assert 'Restarts=1' in shown
    logs = [path.read_text() for path in sandbox.glob('store/artifacts/*/*/log.txt')]
    left = [match[1] for log in logs if (match := re.search(r'asked to stop: saved after epoch (\d+)', log))]
    assert len(left) == 1  # the other one had no time
    assert any(f'continuing from epoch {left[0]}' in log for log in logs)
    assert sum('continuing from epoch' in log for log in logs) == 2

    ltbench('run', *grid, LTBENCH_STORE=str(sandbox / 'local'), LTBENCH_RESULTS=str(sandbox / 'local_results'))
    assert logits_files(sandbox / 'store') == logits_files(sandbox / 'local')
    recorded, expected = (
        {path.name for path in sandbox.glob(f'{name}/digits/records/*.json')} for name in ('results', 'local_results')
    )
    assert recorded == expected
    assert len(recorded) == 4


@pytest.fixture
def full_nodes() -> Iterator[str]:
    """The id of jobs that leave no room for ours."""
    command = ['sbatch', '--parsable', '--partition=high', '--output=/dev/null', '--array=0-1', '--wrap=sleep 600']
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    yield result.stdout.strip()
    subprocess.run(['scancel', result.stdout.strip()], check=True)


def test_jobs_outlive_a_killed_driver_and_are_not_submitted_twice(sandbox, ltbench, full_nodes):
    earlier = jobs().keys()
    grid = ['-m', 'erm', '--seeds', '0,1', '-o', 'epochs=5']
    driver = start_driver(*grid, *ON_SLURM)
    wait_for(lambda: len(list(sandbox.glob('store/work/*/submitted.json'))) == 2)
    driver.kill()
    driver.communicate()
    submitted = jobs('PENDING').keys() - earlier
    assert len(submitted) == 2
    assert all(f'submitted to Slurm as {job}' in ltbench('status', *grid) for job in submitted)

    driver = start_driver(*grid, *ON_SLURM)
    subprocess.run(['scancel', full_nodes], check=True)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, output
    assert len(list(sandbox.glob('results/digits/records/*.json'))) == 2
    assert jobs().keys() - earlier == submitted


def test_an_interrupted_driver_takes_its_jobs_out_of_the_queue(sandbox, full_nodes):
    driver = start_driver('-m', 'erm', '--seeds', '0,1', *ON_SLURM)
    wait_for(lambda: len(list(sandbox.glob('store/work/*/submitted.json'))) == 2)
    assert len(jobs('PENDING')) == 2
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert not jobs('PENDING')


def test_a_job_that_is_taken_away_fails_with_its_reason(sandbox, ltbench):
    driver = start_driver('-m', 'erm', '--seeds', '0', '-o', 'epochs=5000', *ON_SLURM)
    wait_for(lambda: stages_saved(sandbox))
    (job,) = jobs('RUNNING')
    (folder,) = stages_saved(sandbox)
    subprocess.run(['scancel', job], check=True)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 1, output
    assert f'Slurm job {job} was cancelled (scancel)' in output
    assert f'Slurm job {job} was cancelled (scancel)' in ltbench(
        'status', '-m', 'erm', '--seeds', '0', '-o', 'epochs=5000'
    )
    assert 'asked to stop: saved after epoch' in (folder / 'log.txt').read_text()


def test_what_slurm_refuses_is_told_in_one_line(sandbox, ltbench):
    output = ltbench('run', '-m', 'erm', '--executor', 'slurm', '--slurm', 'partition=nowhere', code=2)
    assert 'Slurm refuses the jobs: sbatch: error:' in output
    assert 'nvalid partition' in output

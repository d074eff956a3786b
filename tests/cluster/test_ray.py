"""The ray executor, on clusters of several nodes on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ltbench.engine.job import Job, Runtime
from ltbench.errors import UsageError
from ltbench.grid.executors import ray as ray_cluster
from ltbench.grid.executors.ray import RayExecutor
from ltbench.grid.executors.ray_task import run_in_subprocess
from ltbench.grid.graph import Graph
from ltbench.stage import Stage
from ltbench.store import Store

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec('ray') is None, reason="Ray is not installed: pip install 'ltbench[ray]'"
)
NODE = {'object_store_memory': 80 * 2**20}
NAN = '''
import os, torch
from ltbench.method import Method
from ltbench.models.losses import CrossEntropyLoss
from ltbench.registry import METHODS, MODELS

@MODELS.register_module()
class NaNLoss(CrossEntropyLoss):
    def per_sample(self, logits, labels):
        print('sees GPU', os.environ['CUDA_VISIBLE_DEVICES'], flush=True)
        return super().per_sample(logits, labels) * torch.nan

@METHODS.register_module(name='nan')
class NaN(Method):
    """Becomes NaN."""
    def apply(self, plan):
        return plan.replace(loss=dict(type='NaNLoss'))
'''


@pytest.fixture(autouse=True)
def ray_folder(monkeypatch):
    """Not /tmp/ray, where Ray would remember a cluster that a killed test has left; short, for the names of sockets."""
    with tempfile.TemporaryDirectory(prefix='ray', ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv('RAY_TMPDIR', folder)
        yield


@pytest.fixture
def cluster(monkeypatch):
    """A head that carries nothing out; nodes are for the test to add."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 0, 'include_dashboard': False, **NODE})
    monkeypatch.setenv('RAY_ADDRESS', cluster.address)
    yield cluster
    cluster.shutdown()


@needs_ray
@pytest.mark.slow
def test_a_node_that_dies_and_one_that_joins_change_no_bit(cluster, ltbench, sandbox, logits_files):
    grid = ('-m', 'erm', '-m', 'crt', '--seeds', '0,1', '-o', 'epochs=100')
    nodes = [cluster.add_node(num_cpus=1, **NODE)]
    time.sleep(1)  # two that start in the same instant on one machine can miss each other
    nodes.append(cluster.add_node(num_cpus=1, **NODE))
    cluster.wait_for_nodes()
    raylets = {pid_of(node): node for node in nodes}
    store = sandbox / 'store'
    driver = start_driver(*grid)

    def halfway():
        for key, pid in workers(store).items():
            if raylet_of(pid) in raylets and list((store / 'work' / key).glob('epoch_*.pt')):
                return key, pid, raylet_of(pid)
        return None

    key, pid, raylet = wait_for(halfway, driver)
    cluster.remove_node(raylets[raylet], allow_graceful=False)
    wait_for(lambda: not is_alive(pid), driver, seconds=10)
    third = pid_of(cluster.add_node(num_cpus=1, **NODE))
    wait_for(lambda: third in map(raylet_of, workers(store).values()), driver)
    printed = driver.communicate(timeout=120)[0]
    assert driver.returncode == 0, printed
    assert len(list(sandbox.glob('results/digits/records/*.json'))) == 4
    (log,) = store.glob(f'artifacts/*/{key}/log.txt')
    assert 'continuing from epoch' in log.read_text()
    ltbench('run', *grid, LTBENCH_STORE=str(sandbox / 'local'), LTBENCH_RESULTS=str(sandbox / 'results2'))
    ours = logits_files(store)
    assert len(ours) == 4
    assert ours == logits_files(sandbox / 'local')


@needs_ray
@pytest.mark.slow
def test_a_nan_fails_alone_and_stages_get_the_gpus_and_processes_they_ask_for(cluster, ltbench, sandbox):
    (sandbox / 'nan.py').write_text(NAN)
    cluster.add_node(num_cpus=2, num_gpus=1, **NODE)  # Ray takes our word for the GPU
    methods = ('-m', 'nan', '-m', 'erm', '-m', 'nan+crt', '--plugin', 'nan.py', '--seeds', '0', '-o', 'epochs=3')
    printed = ltbench('run', '--executor', 'ray', '--gpus-per-stage', '0.5', *methods, code=1)
    assert 'digits_lt IF 40 / erm / seed 0  top-1' in printed
    assert '2 of 3 runs failed' in printed
    assert 'the loss became nan in epoch 0' in printed
    (log,) = [path.read_text() for path in sandbox.glob('store/work/*/log.txt') if 'sees GPU' in path.read_text()]
    assert 'sees GPU 0\n' in log

    together = ('-m', 'erm', '--seeds', '0', '-o', 'epochs=3', '-o', 'devices=2')
    printed = ltbench('run', '--executor', 'ray', '--gpus-per-stage', '0', *together)
    assert 'digits_lt IF 40 / erm / seed 0  top-1' in printed


@needs_ray
@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_a_ray_of_our_own_and_any_executor_goes_on(ltbench, sandbox):
    grid = ('-m', 'erm', '--seeds', '0', '-o', 'epochs=250')
    store = sandbox / 'store'
    driver = start_driver(*grid, RAY_ADDRESS='local')
    wait_for(lambda: list(store.glob('work/*/epoch_*.pt')), driver)
    ((key, pid),) = workers(store).items()
    raylet = raylet_of(pid)
    driver.send_signal(signal.SIGINT)
    printed = driver.communicate(timeout=30)[0]
    assert driver.returncode == 130, printed
    assert 'Started Ray on this machine' in printed
    assert 'the same command continues from here' in printed
    assert 'Traceback' not in printed
    assert not is_alive(pid)
    assert not is_alive(raylet)
    # let go of, so that a worker on another machine need not wait for the claim to expire
    assert json.loads((store / 'work' / key / 'claim.2').read_text()) == {'state': 'released'}
    ltbench('run', *grid)
    (log,) = store.glob(f'artifacts/*/{key}/log.txt')
    assert 'continuing from epoch' in log.read_text()


@needs_ray
@pytest.mark.slow
def test_a_stage_that_takes_too_long_is_ended_and_let_go_of(ltbench, sandbox):
    printed = ltbench(
        'run', '--executor', 'ray', '-m', 'erm', '--seeds', '0', '-o', 'epochs=2000', '--timeout', '0.02',
        code=1, RAY_ADDRESS='local',
    )  # fmt: skip
    assert 'took longer than 0.02 minutes' in printed
    (claim,) = sorted(sandbox.glob('store/work/*/claim.*'))[-1:]
    assert json.loads(claim.read_text()) == {'state': 'released'}


@needs_ray
@pytest.mark.slow
def test_workers_end_with_a_driver_that_is_killed(cluster, sandbox):
    cluster.add_node(num_cpus=1, **NODE)
    driver = start_driver('-m', 'erm', '--seeds', '0', '-o', 'epochs=2000')
    wait_for(lambda: workers(sandbox / 'store'), driver)
    (pid,) = workers(sandbox / 'store').values()
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_without_ray_nothing_is_written_and_nothing_else_asks_for_it(ltbench, sandbox):
    hidden = sandbox / 'hidden'
    hidden.mkdir()
    (hidden / 'ray.py').write_text(
        f"open({str(hidden / 'imported')!r}, 'w').close()\nraise ModuleNotFoundError(\"No module named 'ray'\")\n"
    )
    quick = ('run', '-m', 'erm', '--seeds', '0', '-o', 'epochs=1')
    printed = ltbench(*quick, '--executor', 'ray', code=2, PYTHONPATH=str(hidden))
    assert "pip install 'ltbench[ray]'" in printed
    assert not (sandbox / 'store').exists()
    assert not (sandbox / 'results').exists()
    (hidden / 'imported').unlink()
    ltbench(*quick, PYTHONPATH=str(hidden))
    assert not (hidden / 'imported').exists()


def test_gpus_per_stage_is_for_ray_alone(ltbench, sandbox):
    printed = ltbench('run', '--gpus-per-stage', '0.5', code=2)
    assert '--gpus-per-stage is for --executor ray, not local' in printed
    assert not (sandbox / 'store').exists()


@pytest.mark.parametrize(
    ('address', 'said'),
    [
        ('127.0.0.1:1', 'no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1 '),
        ('ray://127.0.0.1:10001', 'should be HOST:PORT'),
        ('head', 'should be HOST:PORT'),
    ],
)
def test_an_address_where_no_cluster_is_fails_at_once(tmp_path, monkeypatch, address, said):
    monkeypatch.setattr(ray_cluster, '_import_ray', lambda: SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setenv('RAY_ADDRESS', address)
    with pytest.raises(UsageError, match=said):
        RayExecutor(Store(tmp_path), Runtime()).prepare(Graph([]))


@pytest.mark.parametrize(
    ('threads', 'gpus', 'devices', 'room'),
    [
        (2, 0, 1, 16 + 1),
        (2, 1, 1, 3),
        (2, 0.25, 1, 12),
        (1, 0.1, 1, 30),  # 3 // 0.1 is 29
        (4, 0.1, 1, 8),
        (2, 0.25, 2, 1),  # processes of one run get whole GPUs, on one node
        (2, 0.25, 4, 0),
        (2, 0, 4, 4),
    ],
)
def test_room_is_counted_node_by_node(tmp_path, monkeypatch, threads, gpus, devices, room):
    nodes = [
        {'Alive': True, 'Resources': {'CPU': 32.0, 'GPU': 3.0}},
        {'Alive': True, 'Resources': {'CPU': 3.0}},
        {'Alive': True, 'Resources': {}},
        {'Alive': False, 'Resources': {'CPU': 64.0, 'GPU': 8.0}},
    ]
    monkeypatch.setattr(ray_cluster, '_import_ray', lambda: SimpleNamespace(nodes=lambda: nodes))
    executor = RayExecutor(Store(tmp_path), Runtime(threads=threads))
    executor.gpus_per_stage = gpus
    assert executor._room_for(devices) == room


def test_a_node_that_does_not_see_the_store_says_so(tmp_path):
    job = {'store': str(tmp_path / 'not_mounted'), 'fingerprint': 'abc'}
    code, failure = run_in_subprocess(job, str(tmp_path / 'log.txt'), str(tmp_path), {})
    assert code == 1
    assert 'set LTBENCH_STORE to a folder that all nodes share' in failure['reason']
    assert not (tmp_path / 'not_mounted').exists()


def test_a_finished_artifact_is_waited_for_until_it_is_seen_from_here(tmp_path, monkeypatch):
    """A network file system may go on saying for some seconds that a file is missing."""
    fake = SimpleNamespace(
        remote=lambda **_: lambda function: SimpleNamespace(remote=lambda *arguments: None),
        wait=lambda references, timeout: (references, []),
        get=lambda reference: (0, None),
    )
    monkeypatch.setattr(ray_cluster, '_import_ray', lambda: fake)
    store = Store(tmp_path)
    executor = RayExecutor(store, Runtime(), gpus_per_stage=0)
    executor.gpus_per_stage = 0
    job = Job(Stage('head', {}).known_as('abc', {}), str(tmp_path))
    task, lost = (executor.start({'abc': job})['abc'] for _ in range(2))
    assert task.poll() is None
    store.publish('abc', {}, lambda folder: None)
    assert task.poll() == 0
    store.set_aside('abc')
    monkeypatch.setattr(ray_cluster, 'ARRIVE_SECONDS', 0)
    assert lost.poll() == 0  # the loop then calls it failed


@needs_ray
@pytest.mark.slow
def test_nothing_is_imported_from_the_working_directory(sandbox, shadowing, monkeypatch):
    """By Ray's workers, ours, or what Ray starts beside them; as a user starts it, with data where that is done."""
    monkeypatch.setenv('RAY_ADDRESS', 'local')
    shadowing(sandbox)
    script = Path(sys.executable).with_name('ltbench')  # `-m` would look into the working directory itself
    command = [script, 'run', '--executor', 'ray', '-b', 'digits_lt', '-m', 'erm', '-o', 'epochs=1', '--no-figures']
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    result = subprocess.run(
        command, cwd=sandbox, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'top-1' in result.stdout
    assert not (sandbox / 'imported').exists()


def test_a_worker_finds_code_where_its_driver_does(tmp_path, monkeypatch):
    calls = []
    fake = SimpleNamespace(
        remote=lambda **_: lambda function: SimpleNamespace(remote=lambda *arguments: calls.append(arguments))
    )
    monkeypatch.setattr(ray_cluster, '_import_ray', lambda: fake)
    monkeypatch.setattr(sys, 'path', [str(tmp_path / 'checkout'), *sys.path])
    executor = RayExecutor(Store(tmp_path), Runtime(), gpus_per_stage=0)
    executor.gpus_per_stage = 0
    executor.start({'abc': Job(Stage('head', {}).known_as('abc', {}), str(tmp_path))})
    environment = calls[0][-1]
    assert environment['PYTHONSAFEPATH'] == '1'
    assert environment['PYTHONPATH'].split(os.pathsep)[0] == str(tmp_path / 'checkout')
    assert not any(entry.endswith('site-packages') for entry in environment['PYTHONPATH'].split(os.pathsep))


def start_driver(*arguments: str, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-m', 'ltbench.cli', 'run', '--no-figures', '--executor', 'ray', *arguments],
        env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(what: Callable[[], Any], driver: subprocess.Popen, seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def workers(store: Path) -> dict[str, int]:
    """Process ids of the stages in the making, by fingerprint."""
    pids = {}
    for path in store.glob('work/*/worker.json'):
        with suppress(FileNotFoundError):  # finished in this moment
            pids[path.parent.name] = json.loads(path.read_text())['content']['pid']
    return pids


def pid_of(node: Any) -> int:
    return node.all_processes['raylet'][0].process.pid


def raylet_of(pid: int) -> int | None:
    """The node that a worker runs on: the parent of its Ray worker."""
    try:
        for _ in range(2):
            pid = int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])
    except FileNotFoundError:
        return None
    return pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False

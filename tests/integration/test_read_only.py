"""A store that can only be read, or not even that: what looks at it works, or says in one line what is in the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.method import make_plan
from ltbench.store import Store

pytestmark = pytest.mark.slow

ASKED = ('-b', 'digits_lt', '-m', 'erm', '-m', 'ldam', '--seeds', '0')
LOOKS = (('status', *ASKED), ('store', 'ls'), ('store', 'verify'), ('store', 'gc'))
# root without its privilege to pass over permissions: as any other user, but for files of its own
ORDINARY = ['setpriv', '--inh-caps=-dac_override,-dac_read_search', '--bounding-set=-dac_override,-dac_read_search']


@pytest.fixture
def disk(sandbox):
    """A disk with a store: a finished stage and one that another machine works on, as does one that has left."""
    folder = sandbox / 'disk'
    folder.mkdir()
    done = subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f'no tmpfs can be mounted here: {done.stderr.strip()}')
    benchmark = load_benchmark('digits_lt')
    data = load_data(benchmark.data).fingerprint
    store = Store(folder / 'store')
    (finished,) = make_plan('erm', benchmark, data, 0).stages()
    (running,) = make_plan('ldam', benchmark, data, 0).stages()
    store.publish(finished.fingerprint, {'kind': 'train'}, lambda place: (place / 'a.txt').write_text('x') and None)
    store.write(running.fingerprint, 'progress', {'done': 3, 'total': 60, 'first': 0, 'started': 0.0, 'updated': 9.0})
    for key in (running.fingerprint, 'ab' * 32):
        store.claim(key).path.write_text(json.dumps({'host': 'another', 'pid': 1, 'state': 'held'}))
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def test_a_read_only_store_can_be_looked_at(ltbench, disk):
    subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
    said = {look[:2]: ltbench(*look, LTBENCH_STORE=str(disk / 'store')) for look in LOOKS}
    assert '1 done, 1 running' in said['status', '-b']
    assert 'epoch 3/60' in said['status', '-b']
    assert '1 artifacts, 0 bytes' not in said['store', 'ls']
    assert '1 artifacts, 1 whole' in said['store', 'verify']
    assert 'nothing to remove' in said['store', 'gc']
    assert ltbench('run', *ASKED, '--dry-run', LTBENCH_STORE=str(disk / 'store'))


def test_what_cannot_be_removed_or_set_aside_is_said(ltbench, disk):
    damaged = next(disk.glob('store/artifacts/*/*/a.txt'))
    damaged.write_text('y')
    subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
    said = ltbench('store', 'verify', LTBENCH_STORE=str(disk / 'store'), code=1)
    assert f'{damaged} is damaged' in said
    assert 'it cannot be set aside: Read-only file system' in said


@pytest.mark.skipif(shutil.which('setpriv') is None, reason='setpriv (util-linux) is not here')
@pytest.mark.parametrize('what', ['store', 'store/artifacts', 'store/artifacts/*/*', 'store/*/*/*/manifest.json',
                                  'store/work', 'store/work/*', 'store/work/*/claim.1', 'store/work/*/progress.json',
                                  'store/ltbench-store.json'])  # fmt: skip
def test_what_another_user_keeps_to_themselves_is_named(sandbox, disk, what):
    """No traceback; where something was not looked at for that reason, it is said which."""
    for path in disk.glob(what):
        path.chmod(0)
    for look in LOOKS:
        result = subprocess.run(
            [*ORDINARY, sys.executable, '-m', 'ltbench.cli', *look], cwd=sandbox, capture_output=True, text=True,
            timeout=300, env={**os.environ, 'LTBENCH_STORE': str(disk / 'store')}, check=False,
        )  # fmt: skip
        printed = result.stdout + result.stderr
        assert 'Traceback' not in printed, printed
        assert result.returncode in (0, 4), printed
        if result.returncode:
            assert str(disk / 'store') in printed
            assert 'ermission denied' in printed

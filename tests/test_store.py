"""Artifacts appear at once, are verified on use, and are claimed by one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from ltbench import store as store_module
from ltbench.errors import StoreError
from ltbench.store import DamagedArtifactError, Store, claim_owner

KEY = 'ab' * 32


def publish(store: Store, text: str = 'one', key: str = KEY):
    return store.publish(key, {'kind': 'train'}, lambda folder: (folder / 'a.txt').write_text(text) and None)


def test_a_published_artifact_is_found_with_its_meta(tmp_path):
    store = Store(tmp_path)
    assert store.find(KEY) is None
    publish(store)
    found = store.find(KEY)
    assert found.meta == {'kind': 'train'}
    assert found.path('a.txt').read_text() == 'one'


def test_a_writer_that_raises_leaves_nothing_behind(tmp_path):
    store = Store(tmp_path)

    def write(folder):
        (folder / 'a.txt').write_text('half')
        raise RuntimeError('in the middle')

    with pytest.raises(RuntimeError):
        store.publish(KEY, {}, write)
    assert store.find(KEY) is None
    assert list(store.folder(KEY).parent.iterdir()) == []


def test_the_first_of_two_publishers_wins(tmp_path):
    store = Store(tmp_path)
    publish(store, 'first')
    assert publish(store, 'second').path('a.txt').read_text() == 'first'


@pytest.mark.parametrize('damage', ['flip', 'truncate', 'remove', 'manifest'])
def test_a_damaged_artifact_is_named_set_aside_and_can_be_made_again(tmp_path, damage):
    store = Store(tmp_path)
    publish(store)
    path = store.folder(KEY) / ('manifest.json' if damage == 'manifest' else 'a.txt')
    if damage == 'remove':
        path.unlink()
    else:
        path.write_bytes({'flip': b'onf', 'truncate': b'on', 'manifest': b'{'}[damage])
    with pytest.raises(DamagedArtifactError, match=str(path)):
        store.find(KEY).path('a.txt')
    assert store.find(KEY) is None
    assert len(list((tmp_path / 'damaged').iterdir())) == 1
    assert publish(store).path('a.txt').read_text() == 'one'


def test_a_claim_is_refused_while_it_is_held_and_free_after_release(tmp_path):
    store = Store(tmp_path)
    claim = store.claim(KEY)
    assert claim_owner(store.work(KEY))['pid'] == os.getpid()
    assert store.claim(KEY) is None
    claim.release()
    assert claim_owner(store.work(KEY)) is None
    assert store.claim(KEY) is not None


def test_a_dead_process_holds_no_claim(tmp_path):
    code = f'import os, signal; from ltbench.store import Store; assert Store({str(tmp_path)!r}).claim({KEY!r})'
    subprocess.run([sys.executable, '-c', code + '; os.kill(os.getpid(), signal.SIGKILL)'], check=False)
    assert Store(tmp_path).claim(KEY) is not None


def test_a_claim_of_another_machine_expires_and_its_owner_notices(tmp_path):
    store = Store(tmp_path)
    theirs = store.claim(KEY)
    theirs.path.write_text(json.dumps({'host': 'elsewhere', 'pid': 1, 'state': 'held'}))
    assert store.claim(KEY) is None
    old = time.time() - 2 * store_module.CLAIM_EXPIRES_SECONDS
    os.utime(theirs.path, (old, old))
    ours = store.claim(KEY)
    assert ours is not None
    assert not theirs.is_held()  # although its heart has started to beat again
    assert ours.is_held()


def test_eight_processes_ask_at_once_and_one_gets_it(tmp_path):
    code = (
        f'from ltbench.store import Store; import sys, time\nsys.stdin.read(1)\n'
        f'print(Store({str(tmp_path)!r}).claim({KEY!r}) is not None, flush=True)\ntime.sleep(2)'
    )
    processes = [
        subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for process in processes:
        process.stdin.write('x')
        process.stdin.flush()
    assert sorted(process.stdout.readline().strip() for process in processes) == ['False'] * 7 + ['True']
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match='permission denied; set LTBENCH_STORE'):
        publish(Store(tmp_path))

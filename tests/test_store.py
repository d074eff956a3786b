"""Artifacts appear at once, are verified on use, and are claimed by one process at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ltbench import claims as claims_module
from ltbench.claims import claim_owner
from ltbench.errors import StoreError, UsageError
from ltbench.sealed import UnreadableFileError
from ltbench.store import DamagedArtifactError, Store

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


@pytest.mark.parametrize('damage', ['flip', 'truncate', 'remove'])
def test_a_damaged_artifact_is_named_set_aside_and_can_be_made_again(tmp_path, damage):
    store = Store(tmp_path)
    publish(store)
    path = store.folder(KEY) / 'a.txt'
    if damage == 'remove':
        path.unlink()
    else:
        path.write_bytes({'flip': b'onf', 'truncate': b'on'}[damage])
    with pytest.raises(DamagedArtifactError, match=str(path)):
        store.find(KEY).path('a.txt')
    assert store.find(KEY) is None
    assert len(list((tmp_path / 'damaged').iterdir())) == 1
    assert publish(store).path('a.txt').read_text() == 'one'


def test_no_flipped_bit_of_a_manifest_is_accepted(tmp_path, capsys):
    """It says how many parameters a network has and what its files hold; all of it goes into records."""
    store = Store(tmp_path)
    store.publish(
        KEY, {'kind': 'train', 'parameters': 75002}, lambda folder: (folder / 'a.txt').write_text('x') and None
    )
    path = store.folder(KEY) / 'manifest.json'
    whole = path.read_bytes()
    for position in range(0, 8 * len(whole), 7):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        found = store.find(KEY)
        if found is not None:  # of white space, or the case of an escape: the same content
            assert (found.meta, found.files) == (
                json.loads(whole)['content']['meta'],
                json.loads(whole)['content']['files'],
            )
            continue
        assert str(path) in capsys.readouterr().err
        (aside,) = (tmp_path / 'damaged').iterdir()
        aside.rename(store.folder(KEY))
    path.write_bytes(whole)
    assert store.find(KEY).meta['parameters'] == 75002


def test_an_artifact_in_the_place_of_another_is_not_taken(tmp_path):
    store, other = Store(tmp_path), 'cd' * 32
    publish(store)
    store.folder(other).parent.mkdir(parents=True)
    store.folder(KEY).rename(store.folder(other))
    assert store.find(other) is None
    assert len(list((tmp_path / 'damaged').iterdir())) == 1


def test_what_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch):
    """Too many open files, a disk that stutters, another user's umask: the contents may well be whole."""
    store = Store(tmp_path)
    publish(store)

    def refuse(code):
        def read(path):
            raise OSError(code, os.strerror(code))

        return read

    for code in (errno.EMFILE, errno.EIO, errno.EACCES):
        with monkeypatch.context() as patch:
            patch.setattr('ltbench.sealed.open_regular', refuse(code))
            with pytest.raises(UnreadableFileError, match=r'manifest\.json cannot be read'):
                store.find(KEY)
        with monkeypatch.context() as patch:
            artifact = store.find(KEY)
            patch.setattr('ltbench.store.sha256_of', refuse(code))
            with pytest.raises(UnreadableFileError, match=r'a\.txt cannot be read'):
                artifact.path('a.txt')
    assert store.find(KEY).path('a.txt').read_text() == 'one'
    assert not (tmp_path / 'damaged').exists()


@pytest.mark.parametrize('damage', [b'', b'{', b'[]', b'null', b'\xff\xfe', b'{"done": 1}', b'{"a":' * 5000])
def test_a_damaged_progress_or_failure_is_not_used(tmp_path, damage, capsys):
    store = Store(tmp_path)
    store.write(KEY, 'failure', {'reason': 'a reason', 'time': 1.0})
    assert store.read(KEY, 'failure')['reason'] == 'a reason'
    path = store.work(KEY) / 'failure.json'
    path.write_bytes(damage)
    assert store.read(KEY, 'failure') is None
    assert str(path) in capsys.readouterr().err
    store.write(KEY, 'failure', {'time': 1.0})  # of another form
    assert store.read(KEY, 'failure') is None


def test_a_store_that_is_named_by_nothing_is_refused(monkeypatch):
    """`LTBENCH_STORE=$SCRATCH` where that is not set: ./store is not what was meant."""
    monkeypatch.setenv('LTBENCH_STORE', '')
    with pytest.raises(UsageError, match='LTBENCH_STORE is set but empty'):
        Store()


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


def test_a_process_number_that_another_has_by_now_holds_no_claim(tmp_path):
    store = Store(tmp_path)
    claim = store.claim(KEY)
    owner = json.loads(claim.path.read_text())
    assert owner['pid'] == os.getpid()
    claim.path.write_text(json.dumps({**owner, 'began': '1'}))
    assert store.claim(KEY) is not None


def test_a_container_with_the_same_host_name_is_judged_by_its_heartbeat(tmp_path):
    """Its process numbers are its own: one that is unknown here may be alive there."""
    store = Store(tmp_path)
    claim = store.claim(KEY)
    owner = json.loads(claim.path.read_text())
    claim.path.write_text(json.dumps({**owner, 'machine': 'the same boot, other numbers', 'pid': 2**22 + 1}))
    assert store.claim(KEY) is None
    old = time.time() - 2 * claims_module.CLAIM_EXPIRES_SECONDS
    os.utime(claim.path, (old, old))
    assert store.claim(KEY) is not None


def test_a_disk_that_stutters_does_not_end_the_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, 'HEARTBEAT_SECONDS', 0.01)
    claim, lost, renew, failures = Store(tmp_path).claim(KEY), [], os.utime, [errno.EIO] * 3

    def stutter(path, *rest):
        if failures:
            raise OSError(failures.pop(), 'it stutters')
        renew(path, *rest)

    monkeypatch.setattr(os, 'utime', stutter)
    claim.keep_alive(lambda: lost.append(1))
    old = time.time() - 30
    renew(claim.path, (old, old))
    deadline = time.monotonic() + 5
    while claim.path.stat().st_mtime < time.time() - 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not failures
    assert claim.path.stat().st_mtime > time.time() - 5  # renewed again
    assert not lost
    monkeypatch.setattr(claims_module, 'UNHEARD_SECONDS', 0.05)
    failures += [errno.EIO] * 10_000  # for good: somebody else will take over, so this one must stop before
    while not lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lost == [1]


def test_a_folder_that_is_just_removed_can_be_claimed(tmp_path, monkeypatch):
    """Another driver's worker has finished the stage and tidies up while we ask."""
    store, opened = Store(tmp_path), Path.open
    gone = []

    def vanish(path, *rest, **more):
        if path.name == 'claim.1' and not gone:
            gone.append(path)
            path.parent.rmdir()
        return opened(path, *rest, **more)

    monkeypatch.setattr(Path, 'open', vanish)
    assert store.claim(KEY) is not None
    assert gone


def test_a_claim_of_another_machine_expires_and_its_owner_notices(tmp_path):
    store = Store(tmp_path)
    theirs = store.claim(KEY)
    theirs.path.write_text(json.dumps({'host': 'elsewhere', 'pid': 1, 'state': 'held'}))
    assert store.claim(KEY) is None
    old = time.time() - 2 * claims_module.CLAIM_EXPIRES_SECONDS
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


def test_what_killed_processes_left_is_removed_once_it_can_be_no_ones(tmp_path):
    """Of a finished stage at once, of a stage in the making never, of what nobody knows after an hour."""
    store, unfinished, foreign = Store(tmp_path), 'cd' * 32, 'ef' * 32
    publish(store)
    publish(store, key=foreign)
    kept = [store.work(unfinished) / 'claim.1', store.work(foreign) / 'claim.1', tmp_path / '.new.~0123abcd']
    kept += [store.folder(unfinished).with_name(f'.{unfinished}.~0123abcd') / 'a.txt', tmp_path / '.git' / 'config']
    gone = [store.work(KEY) / 'claim.1', store.folder(KEY).with_name(f'.{KEY}.~0123abcd') / 'a.txt']
    gone += [tmp_path / '.ltbench-store.json.~0123abcd', tmp_path / 'work' / '.probe.~89abcdef']
    kept.append(tmp_path / '.config.20240115' / 'of_somebody_else')  # a date is hexadecimal, too
    for path in (*kept, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"state": "released"}')
    for path in (*gone[2:], tmp_path / '.git', tmp_path / '.config.20240115'):
        os.utime(path, (time.time() - 3700,) * 2)
    store.tidy({KEY, unfinished})
    assert [path for path in kept if not path.exists()] == []
    assert [path for path in gone if path.exists()] == []


def test_a_finished_stage_that_somebody_still_holds_is_left_to_them(tmp_path):
    store = Store(tmp_path)
    publish(store)
    claim = store.claim(KEY)
    store.tidy({KEY})
    assert claim.is_held()
    claim.release()
    store.tidy({KEY})
    assert not store.work(KEY).exists()


def test_an_artifact_that_lost_its_manifest_can_be_made_again(tmp_path, capsys):
    """Its folder would be in the way of every later one."""
    store = Store(tmp_path)
    publish(store, 'first')
    (store.folder(KEY) / 'manifest.json').unlink()
    assert store.find(KEY) is None
    assert publish(store, 'second').path('a.txt').read_text() == 'second'
    printed = ''.join(capsys.readouterr().err)
    assert f'{store.folder(KEY)} is not an artifact; set aside in {tmp_path}/damaged/' in printed


@pytest.mark.parametrize('what', ['fifo', 'folder', 'circle', 'device'])
def test_what_is_no_file_is_damaged_and_never_waited_for(tmp_path, what, capsys):
    make = {
        'fifo': os.mkfifo, 'folder': Path.mkdir, 'circle': lambda path: path.symlink_to(path.name),
        'device': lambda path: path.symlink_to('/dev/zero'),
    }[what]  # fmt: skip
    store = Store(tmp_path)
    for name in ('manifest.json', 'a.txt'):
        path = publish(store).folder / name
        path.unlink()
        make(path)
        if name == 'a.txt':
            with pytest.raises(DamagedArtifactError, match=r'a\.txt is damaged'):
                store.find(KEY).path('a.txt')
        else:
            assert store.find(KEY) is None
            said = capsys.readouterr().err
            assert f'{path} is damaged: it is a' in said
            assert 'no regular file; set aside in' in said
    store.write(KEY, 'progress', {'done': 1})
    path = store.work(KEY) / 'progress.json'
    path.unlink()
    make(path)
    assert store.read(KEY, 'progress') is None
    store.write(KEY, 'progress', {'done': 1, 'total': 2, 'first': 0, 'started': 0.0, 'updated': 0.0})
    assert store.read(KEY, 'progress')['done'] == 1
    path = store.work(KEY) / 'claim.1'
    make(path)
    os.utime(path, (0, 0), follow_symlinks=False)
    assert store.claim(KEY) is not None


def test_who_works_where_nothing_can_be_written_is_told_by_this_machines_clock(tmp_path, monkeypatch):
    """`status` on a read-only store, or on a full disk."""
    store = Store(tmp_path)
    claim = store.claim(KEY)
    claim.path.write_text(json.dumps({'host': 'another', 'pid': 1, 'state': 'held'}))

    def refuse(path, *_: object, **__: object):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ('touch', 'unlink'):
        monkeypatch.setattr(Path, name, refuse)
    assert claim_owner(store.work(KEY)) == {'host': 'another', 'pid': 1, 'state': 'held'}
    os.utime(claim.path, (time.time() - 100,) * 2)
    assert claim_owner(store.work(KEY)) is None


def test_a_claim_that_is_let_go_while_its_heart_beats_is_not_lost(tmp_path, monkeypatch):
    """Whoever carries a stage out is ended when it is: the process itself, where that is a script or a notebook."""
    monkeypatch.setattr(claims_module, 'HEARTBEAT_SECONDS', 0.01)
    claim = Store(tmp_path).claim('ab' * 32)
    looking, lost = threading.Event(), []

    def is_held(_):
        looking.set()
        claim._stop.wait()
        return False

    monkeypatch.setattr(claims_module.Claim, 'is_held', is_held)
    claim.keep_alive(lambda: lost.append(1))
    assert looking.wait(10)
    claim.release()
    claim._thread.join(10)
    assert not lost

"""What files hold is read once, read again where something changed, and never taken from a damaged index."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import shutil
import time

import numpy as np
import pytest

from ltbench.data import contents
from ltbench.data.contents import contents_of
from ltbench.data.derived import FOLDER
from ltbench.errors import DataError

NAMES = [b'a/0.bin', b'a/1.bin', b'b/0.bin', b'b/1.bin']


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Four files that count as older than they are, each of other bytes, all of one size and time stamp."""
    monkeypatch.setattr(contents, 'SETTLED_NS', -1)
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path / 'data'))
    root = tmp_path / 'tree'
    for number, name in enumerate(NAMES):
        write(root / name.decode(), bytes([number]) * 1000)
    return root


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are read from here on."""
    names, original = [], contents._read

    def reading(path):
        names.append(b'/'.join(path.split(b'/')[-2:]))
        return original(path)

    monkeypatch.setattr(contents, '_read', reading)
    return names


def write(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, ns=(10**18, 10**18))


def hashes(root, names=NAMES, **options):
    return [row.tobytes() for row in contents_of(root, names, **options).hashes]


def expected(root, names=NAMES):
    return [hashlib.sha256((root / os.fsdecode(name)).read_bytes()).digest() for name in names]


def test_hashes_are_sha256_and_files_are_read_once(tree, read):
    (tree / 'b' / '1.bin').write_bytes(b'')
    found = contents_of(tree, NAMES)
    assert found.sizes.tolist() == [1000, 1000, 1000, 0]
    assert [row.tobytes() for row in found.hashes] == expected(tree)
    assert sorted(read) == NAMES
    assert hashes(tree) == expected(tree)
    assert hashes(tree, NAMES[::-1]) == expected(tree, NAMES[::-1])
    assert hashes(tree, []) == []
    assert len(read) == len(NAMES)


def swap(tree):
    one, two = tree / 'a' / '0.bin', tree / 'b' / '0.bin'
    one.rename(tree / 'third')
    two.rename(one)
    (tree / 'third').rename(two)


def overwrite(tree):
    write(tree / 'a' / '0.bin', b'x' * 1000)


def retarget(tree):
    (tree / 'a' / '0.bin').unlink()
    (tree / 'a' / '0.bin').symlink_to(tree / 'b' / '1.bin')


@pytest.mark.parametrize(
    ('change', 'changed'), [(swap, [b'a/0.bin', b'b/0.bin']), (overwrite, [b'a/0.bin']), (retarget, [b'a/0.bin'])]
)
def test_only_what_changed_is_read_again_whatever_its_size_and_time(tree, read, change, changed):
    before = hashes(tree)
    read.clear()
    change(tree)
    status = [(tree / os.fsdecode(name)).stat() for name in NAMES]
    assert {(row.st_size, row.st_mtime_ns) for row in status} == {(1000, 10**18)}
    assert hashes(tree) == expected(tree) != before
    assert sorted(read) == changed


def test_a_file_that_changed_a_moment_ago_is_not_remembered(tree, read, monkeypatch):
    monkeypatch.setattr(contents, 'SETTLED_NS', 60 * 10**9)
    hashes(tree)
    hashes(tree)
    assert len(read) == 2 * len(NAMES)


def test_a_file_that_changes_while_it_is_read_is_read_again(tree, monkeypatch):
    original, grown = os.read, []

    def reading(descriptor, count):
        block = original(descriptor, count)
        if len(grown) < grow:
            grown.append(1)
            with (tree / 'a' / '0.bin').open('ab') as file:
                file.write(b'more')
        return block

    monkeypatch.setattr(os, 'read', reading)
    grow = 1
    found = contents_of(tree, NAMES[:1])
    assert found.sizes.tolist() == [1004]
    assert found.hashes[0].tobytes() == expected(tree, NAMES[:1])[0]
    overwrite(tree)
    grow = 1000
    with pytest.raises(DataError, match=r'a/0\.bin changes while it is read'):
        contents_of(tree, NAMES[:1])


def test_a_killed_call_is_continued(tree, read, monkeypatch):
    original, done = contents._read, []

    def killed(path):
        done.append(path)
        if len(done) == 4:
            while not (index := contents._Index.load(tree / FOLDER / contents.INDEX)) or len(index.names) < 3:
                time.sleep(0.01)
            os._exit(9)
        return original(path)

    with monkeypatch.context() as patch:
        for name, value in {'WORKERS': 1, 'READS_AT_ONCE': 1, 'SAVE_EVERY_SECONDS': -1, '_read': killed}.items():
            patch.setattr(contents, name, value)
        child = os.fork()
        if not child:
            contents_of(tree, NAMES)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert hashes(tree) == expected(tree)
    assert read == [NAMES[3]]


def test_ctrl_c_keeps_what_was_read(tree, read, monkeypatch):
    original = contents._read

    def interrupted(path):
        if path.endswith(b'b/1.bin'):
            time.sleep(0.5)  # while the others are taken in
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(contents, 'READS_AT_ONCE', 1)
    monkeypatch.setattr(contents, '_read', interrupted)
    with pytest.raises(KeyboardInterrupt):
        contents_of(tree, NAMES)
    monkeypatch.setattr(contents, '_read', original)
    read.clear()
    assert hashes(tree) == expected(tree)
    assert read == [NAMES[3]]


def flipped(body):
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def pickled(_):
    class Trap:
        def __reduce__(self):
            return os._exit, (1,)

    return pickle.dumps(Trap())


def unsealed(_):
    arrays = io.BytesIO()
    zeros = np.zeros((4, 32), np.uint8)
    np.savez(arrays, names=np.frombuffer(b'\0'.join(NAMES), np.uint8), stamps=np.zeros((4, 4), int), hashes=zeros)
    return arrays.getvalue()


def of_another_kind(body):
    return body.replace(b' index ', b' array ', 1)


@pytest.mark.parametrize(
    'damage',
    [flipped, pickled, unsealed, of_another_kind, lambda body: body[:-40], lambda body: b'', lambda body: b'text'],
    ids=['flipped', 'pickled', 'unsealed', 'of_another_kind', 'truncated', 'empty', 'text'],
)
def test_a_damaged_or_foreign_index_is_made_again_with_a_word(tree, read, capsys, damage):
    hashes(tree)
    index = tree / FOLDER / contents.INDEX
    index.write_bytes(damage(index.read_bytes()))
    assert hashes(tree) == expected(tree)
    assert f'{index} is damaged, or from another version: hashing the files again' in capsys.readouterr().err
    assert len(read) == 2 * len(NAMES)
    hashes(tree)
    assert len(read) == 2 * len(NAMES)
    assert capsys.readouterr().err == ''


def test_what_is_no_whole_file_is_named(tree):
    (tree / 'link').symlink_to(tree / 'nothing')
    (tree / 'loop').symlink_to(tree / 'loop')
    (tree / 'sub.png').mkdir()
    os.mkfifo(tree / 'pipe')
    odd = {
        b'nothing': 'nothing is missing; put a whole copy',
        b'link': 'link is missing',
        b'a/0.bin/x': 'x is missing',
        b'loop': r'loop cannot be read \(Too many levels of symbolic links\)',
        b'sub.png': r'sub\.png is not a file',
        b'pipe': 'pipe is not a file',
        b'\xe4': r'\\xe4 is missing',
        b'a\0b': 'is not a valid file name',
    }
    for name, message in odd.items():
        with pytest.raises(DataError, match=message):
            contents_of(tree, [NAMES[0], name])
    with pytest.raises(DataError, match=r'nothing is missing \(and 7 more of 9 files\)'):
        contents_of(tree, [NAMES[0], *odd])
    found = contents_of(tree, [NAMES[0], *odd], unreadable_ok=True)
    assert found.sizes.tolist() == [1000] + [-1] * 8
    assert found.hashes[0].tobytes() == expected(tree, NAMES[:1])[0]
    assert not found.hashes[1:].any()


def test_a_file_that_cannot_be_opened_is_named_and_the_others_are_remembered(tree, read, monkeypatch):
    original = os.open

    def refusing(path, *arguments):
        if isinstance(path, bytes) and path.endswith(b'b/0.bin'):
            raise PermissionError(errno.EACCES, 'Permission denied')
        return original(path, *arguments)

    monkeypatch.setattr(os, 'open', refusing)
    with pytest.raises(DataError, match=r'b/0\.bin cannot be read \(Permission denied\); put a whole copy'):
        contents_of(tree, NAMES)
    found = contents_of(tree, NAMES, unreadable_ok=True)
    assert found.sizes.tolist() == [1000, 1000, -1, 1000]
    monkeypatch.setattr(os, 'open', original)
    read.clear()
    assert hashes(tree) == expected(tree)
    assert read == [b'b/0.bin']


def test_lists_of_one_folder_share_an_index_and_forget_what_is_gone(tree, read):
    hashes(tree, NAMES[:2])
    hashes(tree, NAMES[1:])
    assert sorted(read) == NAMES
    hashes(tree, NAMES[:2])
    assert sorted(read) == NAMES
    (tree / 'b' / '1.bin').unlink()
    overwrite(tree)
    hashes(tree, NAMES[:1])
    index = contents._Index.load(tree / FOLDER / contents.INDEX)
    assert sorted(index.names) == NAMES[:3]


def test_an_index_in_a_folder_that_became_read_only_serves_and_changes_go_elsewhere(tree, read, monkeypatch):
    hashes(tree)
    before = (tree / FOLDER / contents.INDEX).read_bytes()
    overwrite(tree)
    original, refused = os.fsync, []

    def fsync(descriptor):
        if not refused:
            refused.append(descriptor)
            raise OSError(errno.EROFS, 'Read-only file system')
        original(descriptor)

    monkeypatch.setattr(os, 'fsync', fsync)
    read.clear()
    assert hashes(tree) == hashes(tree) == expected(tree)
    assert read == [b'a/0.bin']
    assert (tree / FOLDER / contents.INDEX).read_bytes() == before


def test_names_need_not_be_utf8(tree, read):
    name = b'a/\xe4\xff.bin'
    write(tree / os.fsdecode(name), b'latin')
    assert hashes(tree, [name]) == hashes(tree, [name]) == [hashlib.sha256(b'latin').digest()]
    assert len(read) == 1


def test_a_copy_elsewhere_has_the_same_hashes_but_trusts_no_copied_index(tree, read):
    first = hashes(tree)
    shutil.copytree(tree, tree.with_name('copy'))
    read.clear()
    assert hashes(tree.with_name('copy')) == first
    assert sorted(read) == NAMES


def test_long_hashing_shows_how_far_it_is(tree, monkeypatch, capsys):
    hashes(tree, NAMES[:1])
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(contents, 'SHOWN_FROM_FILES', 3)
    hashes(tree)
    assert f'hashing 3 files in {tree}, only once (3.0 kB)' in capsys.readouterr().err
    hashes(tree)
    assert capsys.readouterr().err == ''

"""Sealed files: whole, of the right kind and owner, or not taken."""

from __future__ import annotations

import errno
import fcntl
import os
import tracemalloc

import numpy as np
import pytest

from ltbench import sealed
from ltbench.errors import StoreError
from ltbench.sealed import (
    DamagedFileError,
    UnreadableFileError,
    explained,
    is_stream,
    locked,
    read_blob,
    read_document,
    sha256_of,
    write_blob,
    write_document,
    write_stream,
)  # fmt: skip

LARGE = 32 << 20


def stream(path, body=b'body', kind='array', owner='a'):
    return write_stream(path, kind, owner, lambda file: file.write(body))


def test_a_stream_is_known_by_contents_kind_and_owner(tmp_path):
    path = stream(tmp_path / 'x')
    whole = path.read_bytes()
    assert whole[:4] == b'body'  # others read it from its first byte
    assert is_stream(path, 'array', 'a')
    for kind, owner in (('array', 'b'), ('copy', 'a'), ('arraya', ''), ('', 'arraya'), ('arra', 'ya')):
        assert not is_stream(path, kind, owner)
    for body in (b'', b'body', whole[:-1], whole[1:], whole + b'x', b'bodx' + whole[4:], whole[:-1] + b'\0'):
        path.write_bytes(body)
        assert not is_stream(path, 'array', 'a')
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_stream_is_one(tmp_path):
    assert is_stream(stream(tmp_path / 'x', b''), 'array', 'a')


def test_a_stream_that_ends_in_an_error_leaves_what_was_there(tmp_path):
    path = stream(tmp_path / 'x')

    def write(file):
        file.write(b'half')
        raise OSError('the disk is gone')

    with pytest.raises(OSError, match='the disk is gone'):
        write_stream(path, 'array', 'a', write)
    assert is_stream(path, 'array', 'a')
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):  # of the folder, not of what was to be tidied up
        stream(tmp_path / 'nowhere' / 'x')


def test_streams_take_no_memory(tmp_path):
    source = tmp_path / 'source.npy'
    np.save(source, np.zeros(LARGE, np.uint8))
    array = np.load(source, mmap_mode='r')
    tracemalloc.start()
    path = write_stream(tmp_path / 'x', 'array', 'a', lambda file: np.save(file, array, allow_pickle=False))
    assert is_stream(path, 'array', 'a')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LARGE
    assert np.load(path, mmap_mode='r').size == LARGE


def test_a_blob_is_no_stream_and_the_other_way_round(tmp_path):
    write_blob(tmp_path / 'blob', 'array', 'a', b'body')
    assert not is_stream(tmp_path / 'blob', 'array', 'a')
    with pytest.raises(DamagedFileError, match='is not in the form that this version'):
        read_blob(stream(tmp_path / 'x'), 'array', 'a')


@pytest.mark.parametrize('kind', ['array', 'copy'])
def test_every_flipped_bit_of_a_stream_is_seen(tmp_path, kind):
    path = stream(tmp_path / 'x', b'ab', kind)
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        body = bytearray(whole)
        body[place // 8] ^= 1 << place % 8
        path.write_bytes(body)
        assert not is_stream(path, kind, 'a')


@pytest.fixture(params=['FIFO', 'folder', 'device'])
def other(request, tmp_path):
    path = tmp_path / 'x'
    make = {'FIFO': os.mkfifo, 'folder': os.mkdir, 'device': lambda path: path.symlink_to('/dev/zero')}
    make[request.param](path)
    return path, request.param


def test_what_is_no_regular_file_is_damaged(other):
    path, kind = other
    for read in (read_document, read_blob):
        with pytest.raises(DamagedFileError, match=f'x is damaged: it is a {kind}, no regular file'):
            read(path, 'manifest', 'a' * 64)
    assert sha256_of(path) == ''


def test_what_was_written_is_read(tmp_path):
    write_document(tmp_path / 'a', 'manifest', 'me', {'b': [1]})
    assert read_document(tmp_path / 'a', 'manifest', 'me') == {'b': [1]}
    write_blob(tmp_path / 'b', 'checkpoint', 'me', b'\n\0')
    assert read_blob(tmp_path / 'b', 'checkpoint', 'me') == b'\n\0'
    with pytest.raises(FileNotFoundError):
        read_blob(tmp_path / 'c', 'checkpoint', 'me')


@pytest.mark.parametrize('below', ['', 'inside'])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, below):
    """It was to pass by itself."""
    file = tmp_path / 'file'
    file.write_text('x')
    path = file / below / 'manifest.json'
    with pytest.raises(UnreadableFileError) as unread:
        read_document(path, 'manifest', 'me')
    in_the_way = f'{file} is a file where a folder should be; set LTBENCH_'
    assert str(unread.value) == f'{path} cannot be read: {in_the_way}STORE to a folder'
    with pytest.raises(StoreError) as unwritten, explained('anything', file, 'LTBENCH_RESULTS'):
        (file / below / 'more').mkdir(parents=True)
    assert str(unwritten.value) == f'cannot write anything in {file}: {in_the_way}RESULTS to a folder'


# ---------------------------------------------------------------------------------------------- locks


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sealed, 'SILENT_SECONDS', 0.02)
    monkeypatch.setattr(sealed, 'PATIENT_SECONDS', 0.1)


@pytest.fixture
def without_flock(monkeypatch):
    """As on a disk that has none."""

    def flock(*_):
        raise OSError(errno.ENOSYS, 'Function not implemented')

    monkeypatch.setattr(fcntl, 'flock', flock)


def test_a_lock_that_another_holds_is_not_waited_for_without_a_word_or_without_end(tmp_path, impatient, capsys):
    path = tmp_path / '.lock'
    with path.open('w') as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(StoreError) as given_up, locked(path):
            pass
    assert str(given_up.value) == f'another process holds {path}; if none does, remove it'
    assert capsys.readouterr().err == f'another process holds {path}: waiting for it\n'
    with locked(path), path.open('r+') as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert capsys.readouterr().err == ''


def test_a_lock_file_that_was_left_behind_holds_nothing_on_a_disk_without_flock(tmp_path, impatient, without_flock):
    path, held = tmp_path / '.lock', tmp_path / '.lock.held'
    path.touch()
    for _ in range(2):
        with locked(path):
            assert held.is_file()
        assert not held.exists()
    held.touch()
    with pytest.raises(StoreError, match=f'another process holds {held}; if none'), locked(path):
        pass

"""Files of the store: what is no regular file is damaged, and is not waited for."""

from __future__ import annotations

import os

import pytest

from ltbench.sealed import DamagedFileError, read_blob, read_document, sha256_of, write_blob, write_document


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

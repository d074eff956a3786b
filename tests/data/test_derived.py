"""Where caches are kept, and what is said where they cannot be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ltbench.data.derived import FOLDER, cache_places, data_root, in_first_place
from ltbench.errors import DataError, UsageError
from ltbench.places import with_home
from ltbench.sealed import is_stream, write_stream


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path / 'data'))
    (tmp_path / 'images').mkdir()
    return tmp_path / 'images'


@pytest.fixture
def refuse(monkeypatch):
    """Let the first ``times`` writes fail with an error of the operating system."""

    def refuse_(number, times=1000):
        original, refused = os.fsync, []

        def fsync(descriptor):
            if len(refused) < times:
                refused.append(descriptor)
                raise OSError(number, os.strerror(number))
            original(descriptor)

        monkeypatch.setattr(os, 'fsync', fsync)

    return refuse_


def put(source):
    def write(file):
        file.write(b'body')

    return in_first_place(source, 'x.npy', lambda folder: write_stream(folder / 'x.npy', 'kind', 'owner', write))


@pytest.mark.parametrize('nothing', ['', ' '])
def test_a_data_folder_that_is_set_to_nothing_is_refused(monkeypatch, nothing):
    monkeypatch.setenv('LTBENCH_DATA', nothing)
    with pytest.raises(UsageError, match='LTBENCH_DATA is set but empty'):
        data_root()
    monkeypatch.delenv('LTBENCH_DATA')
    assert data_root() == Path('data')


def test_a_home_is_that_of_a_user(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert with_home('~/images') == Path('/home/me/images')
    with pytest.raises(DataError, match=r'~nobodyx/images: there is no user nobodyx$'):
        with_home('~nobodyx/images')
    monkeypatch.setattr(Path, 'expanduser', lambda _: (_ for _ in ()).throw(RuntimeError('no home')))
    with pytest.raises(DataError, match=r'~/images: you have no home folder$'):
        with_home('~/images')


def test_the_first_place_is_beside_the_source(source):
    path = put(source)
    assert path == source / FOLDER / 'x.npy'
    assert is_stream(path, 'kind', 'owner')
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_takes_nothing_has_its_caches_under_the_data_folder(source, capsys):
    (source / FOLDER).write_text('a file where the folder belongs')
    path = put(source)
    assert path.parent == cache_places(source)[1]
    assert path.parent.is_relative_to(source.parent / 'data' / 'cache')
    assert is_stream(path, 'kind', 'owner')


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_read_only_folder_is_no_error(source, refuse, number):
    refuse(number, times=1)
    assert put(source).parent == cache_places(source)[1]


@pytest.mark.parametrize(
    ('number', 'reason'), [(errno.ENOSPC, 'the disk is full'), (errno.EDQUOT, 'your quota is used up')]
)
def test_a_full_disk_is_named_with_what_to_set(source, refuse, capsys, number, reason):
    refuse(number)
    beside, elsewhere = cache_places(source)
    with pytest.raises(DataError) as error:
        put(source)
    assert str(error.value) == (
        f'x.npy of {source} cannot be written: neither in {beside} ({reason}) nor in {elsewhere} ({reason}); free some '
        'space there, or set LTBENCH_DATA to a writable folder with enough space'
    )
    assert [*beside.iterdir(), *elsewhere.iterdir()] == []


def test_a_full_disk_beside_a_roomy_one_is_said(source, refuse, capsys):
    refuse(errno.ENOSPC, times=1)
    assert put(source).parent == cache_places(source)[1]
    assert f'no room for x.npy in {source / FOLDER} (the disk is full): trying' in capsys.readouterr().err


def test_a_source_that_is_not_there_is_not_created(source):
    put(source / 'nothing')
    assert not (source / 'nothing').exists()


def test_where_the_source_is_has_one_cache_however_it_is_written(source, monkeypatch):
    monkeypatch.chdir(source)
    assert cache_places(source)[1] == cache_places(source.parent / 'images' / '..' / 'images')[1]
    assert cache_places(source)[1] != cache_places(source.parent)[1]

"""Downloads from a web server of our own, as reliable as each test wants it."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import os
import shutil
import socket
import tarfile
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from ltbench.data import download
from ltbench.data.base import FileStatus
from ltbench.data.download import LOCK, DownloadError, RemoteFile, complete, fetch, unpack
from ltbench.errors import DataError, InterruptedRunError, StoreError
from ltbench.sealed import locked

CONTENTS = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def naps(monkeypatch):
    """Seconds that a download has slept, without sleeping."""
    slept: list[int] = []
    monkeypatch.setattr(download.time, 'sleep', slept.append)
    return slept


@pytest.fixture
def remote(file_server, naps):
    file_server.files['data.bin'] = CONTENTS
    return RemoteFile(f'{file_server.url}/data.bin', hashlib.md5(CONTENTS).hexdigest(), len(CONTENTS))


@pytest.fixture(params=['size known', 'size unknown'])
def any_remote(remote, request):
    return remote if request.param == 'size known' else dataclasses.replace(remote, size=0)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file_in_one_request(any_remote, tmp_path, file_server):
    path = fetch(any_remote, tmp_path / 'made' / 'on the way')
    assert path.read_bytes() == CONTENTS
    assert names(path.parent) == ['data.bin']
    assert file_server.asked == [('data.bin', None)]
    assert fetch(any_remote, path.parent) == path  # found
    assert len(file_server.asked) == 1


def test_after_a_cut_only_the_missing_bytes_are_asked_for(any_remote, tmp_path, file_server, naps):
    file_server.cuts = [100_000, 50_000]
    assert fetch(any_remote, tmp_path).read_bytes() == CONTENTS
    assert [asked for _, asked in file_server.asked] == [None, 'bytes=100000-', 'bytes=150000-']
    assert file_server.sent == len(CONTENTS)
    assert naps == [1, 1]  # bytes came: patience began anew


def test_a_part_of_an_earlier_call_is_continued(any_remote, tmp_path, file_server):
    (tmp_path / 'data.bin.part').write_bytes(CONTENTS[:299_000])
    assert fetch(any_remote, tmp_path).read_bytes() == CONTENTS
    assert file_server.asked == [('data.bin', 'bytes=299000-')]
    assert file_server.sent == 1000


def test_a_part_that_is_complete_already(any_remote, tmp_path, file_server):
    (tmp_path / 'data.bin.part').write_bytes(CONTENTS)
    assert fetch(any_remote, tmp_path).read_bytes() == CONTENTS
    assert file_server.sent == 0
    assert names(tmp_path) == ['data.bin']


def test_a_part_longer_than_the_file_is_begun_anew(any_remote, tmp_path):
    (tmp_path / 'data.bin.part').write_bytes(b'x' * 400_000)
    assert fetch(any_remote, tmp_path).read_bytes() == CONTENTS


def test_a_server_without_ranges_begins_anew(any_remote, tmp_path, file_server):
    file_server.ranges = False
    file_server.cuts = [100_000]
    assert fetch(any_remote, tmp_path).read_bytes() == CONTENTS
    assert file_server.sent == 100_000 + len(CONTENTS)


def test_patience_ends_and_the_part_stays(any_remote, tmp_path, file_server, naps):
    file_server.cuts = [1000] + [0] * 20
    with pytest.raises(DownloadError, match=r'the connection ended after 1.0 kB of 300.0 kB'):
        fetch(any_remote, tmp_path)
    assert naps == [1, *download.WAITS[1:]]
    assert (tmp_path / 'data.bin.part').read_bytes() == CONTENTS[:1000]


def test_a_busy_server_is_asked_again_but_not_a_server_that_lacks_the_file(remote, tmp_path, file_server, naps):
    file_server.errors = [503, 429]
    assert fetch(remote, tmp_path).read_bytes() == CONTENTS
    assert naps == [1, 3]
    absent = RemoteFile(f'{file_server.url}/absent.bin', remote.md5)
    with pytest.raises(
        DownloadError, match=r'absent.bin could not be downloaded: http\S+: the server answered 404 Not Found'
    ):
        fetch(absent, tmp_path)
    assert [name for name, _ in file_server.asked].count('absent.bin') == 1


def test_wrong_contents_are_deleted_and_named(any_remote, tmp_path, file_server):
    file_server.files['data.bin'] = b'x' + CONTENTS[1:]
    with pytest.raises(DownloadError) as error:
        fetch(any_remote, tmp_path)
    assert hashlib.md5(file_server.files['data.bin']).hexdigest() in str(error.value)
    assert f'expected {any_remote.md5}' in str(error.value)
    assert names(tmp_path) == []


def test_a_file_of_another_size_is_not_even_downloaded(remote, tmp_path, file_server):
    file_server.files['data.bin'] = b'<html>Sign in to this network</html>'
    with pytest.raises(DownloadError, match='the file on the server has 36 bytes, expected 300000'):
        fetch(remote, tmp_path)
    assert names(tmp_path) == []


def test_a_damaged_file_in_its_place_is_replaced(remote, tmp_path, capsys):
    (tmp_path / 'data.bin').write_bytes(CONTENTS[:-1])
    assert fetch(remote, tmp_path).read_bytes() == CONTENTS
    assert 'it has 299999 bytes, expected 300000' in capsys.readouterr().err


def test_no_network_is_said_at_once(tmp_path, naps, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))  # and does not listen
        url = f'http://127.0.0.1:{taken.getsockname()[1]}/data.bin'
        with pytest.raises(DownloadError, match=f'{url}: cannot be reached .*refused'):
            fetch(RemoteFile(url, 'md5'), tmp_path)
    assert naps == []


def test_a_disk_without_room_is_said_before_anything_comes(any_remote, tmp_path, file_server, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=599_999))
    with pytest.raises(DataError, match=r'has 600.0 kB left, and 600.0 kB are needed .*LTBENCH_DATA'):
        fetch(any_remote, tmp_path)
    assert names(tmp_path) == []
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=600_000))
    fetch(any_remote, tmp_path)


def test_a_mirror_is_asked_first_and_one_that_fails_is_passed_over(remote, tmp_path, file_server, monkeypatch):
    official = dataclasses.replace(remote, url=f'{file_server.url}/official/data.bin')
    monkeypatch.setenv('LTBENCH_MIRROR', tmp_path.as_uri())
    (tmp_path / 'data.bin').write_bytes(CONTENTS)
    assert fetch(official, tmp_path / 'a').read_bytes() == CONTENTS
    assert file_server.asked == []
    (tmp_path / 'data.bin').write_bytes(CONTENTS[::-1])
    assert fetch(official, tmp_path / 'b').read_bytes() == CONTENTS
    (tmp_path / 'data.bin').unlink()
    assert fetch(official, tmp_path / 'c').read_bytes() == CONTENTS
    assert len(file_server.asked) == 2
    monkeypatch.setenv('LTBENCH_MIRROR', 'example.org')
    with pytest.raises(DataError, match="LTBENCH_MIRROR is 'example.org': expected the address of a folder"):
        fetch(official, tmp_path / 'd')


def test_ctrl_c_keeps_what_has_come(remote, tmp_path, file_server, monkeypatch):
    def interrupted(response):
        yield response.read(1000)
        raise KeyboardInterrupt

    def missing():
        return [FileStatus('data', 'missing', '')]

    with monkeypatch.context() as patch:
        patch.setattr(download, '_chunks', interrupted)
        with pytest.raises(InterruptedRunError, match='is kept in .* the same command continues from there'):
            complete(missing, {'data': remote}, tmp_path)
    assert (tmp_path / 'data.bin.part').read_bytes() == CONTENTS[:1000]
    fetch(remote, tmp_path)
    assert file_server.asked[-1] == ('data.bin', 'bytes=1000-')


def tar(files, mode='w:gz'):
    """An archive of names and contents."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return packed.getvalue()


@pytest.mark.unpacks
def test_unpacked_files_take_the_place_of_old_ones_and_leave_others_alone(tmp_path):
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set' / 'one').write_bytes(b'half')
    (tmp_path / 'set' / 'mine').write_bytes(b'kept')
    (tmp_path / '.set.tar.gz.unpacking').mkdir()  # of a process that was killed
    (tmp_path / '.set.tar.gz.unpacking' / 'rest').touch()
    (tmp_path / 'set.tar.gz').write_bytes(tar({'set/one': b'whole', 'set/deep/two': b'2', 'other': b'3'}))
    unpack(tmp_path / 'set.tar.gz', tmp_path)
    assert names(tmp_path) == ['other', 'set', 'set.tar.gz']
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.glob('set/**/*') if path.is_file()}
    assert files == {'set/one': b'whole', 'set/mine': b'kept', 'set/deep/two': b'2'}


def test_a_compressed_file_is_decompressed(tmp_path):
    (tmp_path / 'name.gz').write_bytes(gzip.compress(CONTENTS))
    unpack(tmp_path / 'name.gz', tmp_path)
    assert (tmp_path / 'name').read_bytes() == CONTENTS
    assert names(tmp_path) == ['name', 'name.gz']


@pytest.mark.unpacks
@pytest.mark.parametrize('escape', ['../outside', 'set/../../outside'])
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path, escape):
    folder = tmp_path / 'data'
    folder.mkdir()
    (folder / 'set.tar.gz').write_bytes(tar({'set/good': b'1', escape: b'2'}))
    with pytest.raises(DataError, match='set.tar.gz cannot be unpacked: .*outside the destination'):
        unpack(folder / 'set.tar.gz', folder)
    assert names(tmp_path) == ['data']
    assert names(folder) == ['set.tar.gz']


@pytest.mark.unpacks
def test_an_interrupted_unpacking_leaves_nothing_under_a_final_name(tmp_path):
    whole = tar({'set/one': CONTENTS, 'set/two': CONTENTS})
    (tmp_path / 'set.tar.gz').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match='set.tar.gz cannot be unpacked'):
        unpack(tmp_path / 'set.tar.gz', tmp_path)
    assert names(tmp_path) == ['set.tar.gz']


@pytest.mark.unpacks
def test_archives_are_unpacked_in_turn_and_deleted_once_all_is_whole(tmp_path, file_server, naps, capsys):
    sources = {}
    for name in ('b', 'a'):
        file_server.files[f'{name}.tar.gz'] = tar({name: b''})
        md5 = hashlib.md5(file_server.files[f'{name}.tar.gz']).hexdigest()
        sources[name] = RemoteFile(f'{file_server.url}/{name}.tar.gz', md5, folder='sub')

    def check():
        return [
            FileStatus(name, 'whole' if (tmp_path / 'sub' / name).exists() else 'missing', f'{name} is missing')
            for name in ('a', 'b', 'c')
        ]

    with pytest.raises(DataError, match='a is missing; b is missing; c is missing; delete'):
        complete(check, sources, tmp_path)  # what no archive gives is said before anything is downloaded
    assert file_server.asked == []
    with pytest.raises(DataError, match=r'a.tar.gz is the published file, but lacks expected files: c is missing'):
        complete(check, {**sources, 'c': sources['a']}, tmp_path)
    assert [name for name, _ in file_server.asked] == ['b.tar.gz', 'a.tar.gz']
    assert names(tmp_path / 'sub') == ['a', 'a.tar.gz', 'b']  # kept for another try
    (tmp_path / 'sub' / 'c').touch()
    (tmp_path / 'sub' / 'a').unlink()
    complete(check, {**sources, 'c': sources['a']}, tmp_path)
    assert names(tmp_path / 'sub') == ['a', 'b', 'c']
    assert len(file_server.asked) == 2
    assert f'deleted {tmp_path}/sub/a.tar.gz: its contents are whole' in capsys.readouterr().err


def test_a_second_command_downloads_nothing_while_the_first_does(tmp_path, remote, file_server, monkeypatch):
    monkeypatch.setattr('ltbench.sealed.SILENT_SECONDS', 0.1)
    monkeypatch.setattr('ltbench.sealed.PATIENT_SECONDS', 0.2)
    with locked(tmp_path / LOCK), pytest.raises(StoreError, match=r'another process holds .*\.download\.lock'):
        complete(lambda: [FileStatus('data', 'missing', '')], {'data': remote}, tmp_path)
    assert file_server.asked == []


def test_what_cannot_be_downloaded_can_be_brought_by_hand(tmp_path, file_server, naps):
    sources = {name: RemoteFile(f'{file_server.url}/{name}.tar.gz', f'md5 of {name}', 5, 'sub') for name in 'ab'}
    with pytest.raises(DownloadError) as error:  # so that who knows another source can tell it from a full disk
        complete(lambda: [FileStatus(name, 'missing', '') for name in 'ab'], sources, tmp_path)
    for name in 'ab':
        assert f'{tmp_path}/sub/{name}.tar.gz (5 bytes, md5 md5 of {name})' in str(error.value)
    assert 'LTBENCH_MIRROR' in str(error.value)
    assert '\n' not in str(error.value)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, remote):
    (tmp_path / 'sub').write_text('a file in the way')
    with pytest.raises(DataError, match='cannot be read or written: .*set LTBENCH_DATA to another folder'):
        complete(
            lambda: [FileStatus('data', 'missing', '')], {'data': dataclasses.replace(remote, folder='sub')}, tmp_path
        )


# ---------------------------------------------------------------------------------------------- servers that lie


@pytest.fixture
def odd_server(monkeypatch, naps):
    """A server that answers every connection with the same bytes, whatever it is asked; ``more`` is sent for ever."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    listening = socket.create_server(('127.0.0.1', 0))
    answer = SimpleNamespace(head=b'', more=b'', asked=0, url=f'http://127.0.0.1:{listening.getsockname()[1]}')

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            answer.asked += 1
            with connection, contextlib.suppress(OSError):
                connection.recv(10_000)
                connection.sendall(answer.head.replace(b'URL', answer.url.encode()))
                while answer.more:
                    connection.sendall(answer.more)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield answer
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


MD5 = hashlib.md5(CONTENTS).hexdigest()


@pytest.mark.parametrize('length', [b'abc', b'-5', b'1e3', '٣'.encode(), b'9' * 5000, b''])
@pytest.mark.parametrize('size', [0, len(CONTENTS)])
def test_a_length_that_is_no_number_is_passed_over(odd_server, tmp_path, length, size):
    odd_server.head = b'HTTP/1.0 200 OK\r\nContent-Length: ' + length + b'\r\n\r\n' + CONTENTS
    path = fetch(RemoteFile(f'{odd_server.url}/data.bin', MD5, size), tmp_path)
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ('head', 'said'),
    [
        (b'302 Found\r\nLocation: http://[::1/x', r'an invalid address \(Invalid IPv6 URL\)'),
        (b'302 Found\r\nLocation: http://host:port/', 'an invalid address .*nonnumeric port'),
        (b'302 Found\r\nLocation: URL/data.bin', 'the server answered 302 .*infinite loop'),
        (b'302 Found\r\nLocation: file:///etc/passwd', "the server answered 302 .*'file:///etc/passwd' is not allowed"),
        (b'302 Found', 'the server answered 302 Found'),
        (b'416 Range Not Satisfiable', 'the server answered 416'),
        (b'416 Range Not Satisfiable\r\nContent-Range: bytes */0', 'the server answered 416'),
        (b'206 Partial Content\r\nContent-Range: bytes 5-9/300000', 'another part of the file than requested'),
        (b'206 Partial Content\r\nContent-Range: bytes 0-9/*', 'another part of the file than requested'),
        (b'204 No Content', r'the connection ended after 0 bytes of 300\.0 kB'),
        (b'2OO', 'cannot be reached'),
        (b'200 OK\r\n' + b'X: y\r\n' * 200, 'cannot be reached'),
        (b'200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz', 'the connection broke'),
        (b'200 OK\r\nContent-Length: 10', 'the file on the server has 10 bytes, expected 300000'),
    ],
)
def test_answers_that_make_no_sense_are_one_line(odd_server, tmp_path, head, said):
    odd_server.head = b'HTTP/1.1 ' + head + b'\r\n\r\n'
    with pytest.raises(DownloadError, match=said) as error:
        fetch(RemoteFile(f'{odd_server.url}/data.bin', MD5, len(CONTENTS)), tmp_path)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / 'data.bin').exists()


@pytest.mark.parametrize('length', [b'', b'Content-Length: abc\r\n'])
def test_an_endless_file_ends_at_its_published_size(odd_server, tmp_path, length):
    odd_server.head, odd_server.more = b'HTTP/1.0 200 OK\r\n' + length + b'\r\n', b'x' * 65_536
    with pytest.raises(DownloadError, match='sends more than the 300000 bytes of the file'):
        fetch(RemoteFile(f'{odd_server.url}/data.bin', MD5, len(CONTENTS)), tmp_path)
    assert names(tmp_path) == []
    assert odd_server.asked == 1


def test_an_endless_file_of_unknown_size_leaves_room_on_the_disk(odd_server, tmp_path, monkeypatch):
    odd_server.head, odd_server.more = b'HTTP/1.0 200 OK\r\n\r\n', b'x' * 65_536

    def shrinking(folder):
        used = sum(path.stat().st_size for path in tmp_path.iterdir())
        return SimpleNamespace(free=download.LEAST_ROOM + 3_000_000 - used)

    monkeypatch.setattr(shutil, 'disk_usage', shrinking)
    with pytest.raises(DataError, match=r'data.bin, whose size the server does not report; free some space'):
        fetch(RemoteFile(f'{odd_server.url}/data.bin', MD5), tmp_path)


def test_a_mirror_that_is_a_pipe_is_not_waited_for(tmp_path, remote, monkeypatch):
    (tmp_path / 'mirror').mkdir()
    os.mkfifo(tmp_path / 'mirror' / 'data.bin')
    monkeypatch.setenv('LTBENCH_MIRROR', (tmp_path / 'mirror').as_uri())
    assert fetch(remote, tmp_path / 'data').read_bytes() == CONTENTS  # from the next address

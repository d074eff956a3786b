"""Fashion-MNIST-LT on hand-made files, and on the real ones where Debian's package is installed."""

from __future__ import annotations

import gzip
import hashlib
import socket
import struct
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltbench.data import fashion_mnist
from ltbench.data.fashion_mnist import MD5, FashionMNISTLT
from ltbench.errors import DataError

COMMAND = 'ltbench data get fashion_mnist_lt'
REAL = Path('/usr/share/datasets/fashion-mnist')
IMAGES, LABELS = 'train-images-idx3-ubyte', 'train-labels-idx1-ubyte'


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of our own that holds nothing yet; whatever the machine has is out of sight."""
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    monkeypatch.setattr(fashion_mnist, 'DEBIAN_FOLDER', tmp_path / 'debian')
    fashion_mnist._read.cache_clear()
    folder = tmp_path / 'FashionMNIST' / 'raw'
    folder.mkdir(parents=True)
    yield folder
    fashion_mnist._read.cache_clear()


def idx_files(images_per_class: int) -> dict[str, bytes]:
    """Small files in the format of MNIST; the first pixel of an image is 100 + its label, the last one its place."""
    files = {}
    for part, count in (('train', 10 * images_per_class), ('t10k', 20)):
        labels = np.random.default_rng(count).permutation(np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0], images[:, 27, 27] = 100 + labels, np.arange(count)
        files[f'{part}-images-idx3-ubyte'] = struct.pack('>4i', 2051, count, 28, 28) + images.tobytes()
        files[f'{part}-labels-idx1-ubyte'] = struct.pack('>2i', 2049, count) + labels.tobytes()
    return files


@pytest.fixture
def small(raw: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Ten images a class, written raw; the checksums are theirs."""
    files = idx_files(10)
    for name, contents in files.items():
        (raw / name).write_bytes(contents)
        monkeypatch.setitem(fashion_mnist.MD5, name, hashlib.md5(contents).hexdigest())
    return files


def test_images_are_padded_and_stay_with_their_labels(small: dict[str, bytes]) -> None:
    data = FashionMNISTLT(imbalance_factor=10, n_max=10)
    # int(10 * 10 ** (-i / 9))
    assert data.class_counts == [10, 7, 5, 4, 3, 2, 2, 1, 1, 1]
    for split in (data.train, data.test):
        assert split.images.shape[1:] == (32, 32, 1)
        assert (split.images[:, 2, 2, 0] == 100 + split.labels).all()  # two pixels of padding, top left
        assert split.images[:, :2].max() == split.images[:, :, :2].max() == 0
        assert split.images[:, 30:].max() == split.images[:, :, 30:].max() == 0
    assert data.test.images[:, 29, 29, 0].tolist() == list(range(20))  # the test set is whole and in order


def test_compressed_files_are_read_too(raw: Path, small: dict[str, bytes]) -> None:
    before = FashionMNISTLT(imbalance_factor=10, n_max=10).fingerprint
    fashion_mnist._read.cache_clear()
    for name, contents in small.items():
        (raw / name).unlink()
        (raw / f'{name}.gz').write_bytes(gzip.compress(contents, compresslevel=1))
    assert FashionMNISTLT(imbalance_factor=10, n_max=10).fingerprint == before


def test_debians_folder_is_looked_into_last(raw: Path, small: dict[str, bytes]) -> None:
    (raw / IMAGES).unlink()
    debian = fashion_mnist.DEBIAN_FOLDER
    debian.mkdir()
    (debian / f'{IMAGES}.gz').write_bytes(gzip.compress(small[IMAGES]))
    (debian / f'{LABELS}.gz').write_bytes(b'not looked at: the raw file comes first')
    places = {status.name: Path(status.detail).parent for status in FashionMNISTLT.check()}
    assert places[IMAGES] == debian
    assert places[LABELS] == raw


def refused(name: str, state: str) -> str:
    """The one-line error of building the data, which `check` reports for the file as well."""
    with pytest.raises(DataError) as error:
        FashionMNISTLT(imbalance_factor=10, n_max=10)
    message = str(error.value)
    assert name in message
    assert COMMAND in message
    assert '\n' not in message
    status = next(status for status in FashionMNISTLT.check() if status.name == name)
    assert (status.state, status.detail) == (state, message)
    return message


def test_missing_file(raw: Path, small: dict[str, bytes]) -> None:
    (raw / LABELS).unlink()
    message = refused(LABELS, 'missing')
    assert str(raw) in message  # where it was looked for


def test_truncated_download(raw: Path, small: dict[str, bytes]) -> None:
    whole = gzip.compress(small[IMAGES])
    (raw / IMAGES).unlink()
    (raw / f'{IMAGES}.gz').write_bytes(whole[: len(whole) // 2])
    message = refused(IMAGES, 'damaged')
    assert 'cannot be read' in message
    assert 'delete it' in message


def test_an_error_page_in_place_of_a_file(raw: Path, small: dict[str, bytes]) -> None:
    (raw / IMAGES).unlink()
    (raw / f'{IMAGES}.gz').write_bytes(b'<html>404</html>')
    assert 'delete it' in refused(IMAGES, 'damaged')


def test_wrong_contents(raw: Path, small: dict[str, bytes]) -> None:
    changed = bytearray(small[IMAGES])
    changed[-1] ^= 1  # one bit of the last pixel
    (raw / IMAGES).write_bytes(bytes(changed))
    message = refused(IMAGES, 'damaged')
    assert hashlib.md5(changed).hexdigest() in message
    assert fashion_mnist.MD5[IMAGES] in message


def test_get_brings_what_is_missing_and_mends_what_is_damaged(
    raw: Path, small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, file_server: Any
) -> None:
    before = FashionMNISTLT(imbalance_factor=10, n_max=10).fingerprint
    FashionMNISTLT.get()
    assert file_server.asked == []
    monkeypatch.setenv('LTBENCH_MIRROR', f'{file_server.url}/any/folder/')
    # another compressor than torchvision's mirror used: what counts is the checksum of the contents
    file_server.files = {f'{name}.gz': gzip.compress(contents, 1) for name, contents in small.items()}
    (raw / LABELS).unlink()
    (raw / IMAGES).write_bytes(small[IMAGES][:-1])
    fashion_mnist._read.cache_clear()
    FashionMNISTLT.get()
    assert sorted(name for name, _ in file_server.asked) == [f'{IMAGES}.gz', f'{LABELS}.gz']
    assert [status.state for status in FashionMNISTLT.check()] == ['whole'] * 4
    assert sorted(path.name for path in raw.iterdir()) == sorted(small)
    assert FashionMNISTLT(imbalance_factor=10, n_max=10).fingerprint == before


def test_a_failed_download_says_where_to_put_the_files(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError(socket.gaierror(-2, 'Name or service not known'))

    monkeypatch.setattr('urllib.request.urlopen', no_network)
    with pytest.raises(DataError, match='cannot be reached .*Name or service not known') as error:
        FashionMNISTLT.get()
    assert all(f'{raw / name}.gz (md5 of its contents {md5})' in str(error.value) for name, md5 in MD5.items())


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason='the Debian package dataset-fashion-mnist is not installed')
def test_the_real_thing(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, 'DEBIAN_FOLDER', REAL)
    data = FashionMNISTLT()
    assert data.class_counts == [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]  # as printed in many a tutorial
    # statistics of all pixels of the training set, padded: the long tail shifts them a little
    pixels = np.frombuffer(fashion_mnist._read(IMAGES)[1], np.uint8, offset=16).reshape(-1, 28 * 28) / 255
    share = 28 * 28 / 32**2
    mean = pixels.mean() * share
    std = np.sqrt((pixels**2).mean() * share - mean**2)
    assert mean == pytest.approx(data.mean[0], abs=5e-4)
    assert std == pytest.approx(data.std[0], abs=5e-4)

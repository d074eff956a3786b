"""CIFAR-LT from files in the official pickle format, made here."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import tarfile

import numpy as np
import pytest

from ltbench.data import cifar
from ltbench.data.download import RemoteFile
from ltbench.errors import DataError


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Fifty thousand images of one pixel value each: the number of the image inside its class, modulo 251."""
    return make(tmp_path, monkeypatch, 5000)


def make(tmp_path, monkeypatch, per_class):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    folder = tmp_path / 'cifar-10-batches-py'
    folder.mkdir()
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), per_class))
    rank = np.empty(10 * per_class, dtype=int)
    for label in range(10):
        rank[labels == label] = np.arange(per_class)
    pixels = np.repeat((rank % 251).astype(np.uint8)[:, None], 3072, axis=1)
    pixels[:, 1024] = 255  # first pixel of the green plane

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    md5 = {}
    for batch in range(5):
        part = slice(batch * 2 * per_class, (batch + 1) * 2 * per_class)
        md5[f'data_batch_{batch + 1}'] = write(
            f'data_batch_{batch + 1}', {'data': pixels[part], 'labels': labels[part].tolist()}
        )
    test = {'data': pixels[:1000], 'labels': labels[:1000].tolist()}
    monkeypatch.setattr(cifar.CIFAR10LT, 'train_files', md5)
    monkeypatch.setattr(cifar.CIFAR10LT, 'test_files', {'test_batch': write('test_batch', test)})
    names = {'label_names': [f'class {number}' for number in range(10)]}
    monkeypatch.setattr(cifar.CIFAR10LT, 'meta_file', ('batches.meta', write('batches.meta', names)))
    return folder


def test_the_published_images_are_chosen_from_the_official_files(cifar10):
    data = cifar.CIFAR10LT(imbalance_factor=100)
    assert data.class_counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert len(data.train) == 12_406
    assert data.train.images.shape == (12_406, 32, 32, 3)
    # positions inside the class by the published construction: class 0 begins 398, 3833, ..., class 9 2204, 3816, ...
    assert data.train.images[:5, 5, 5, 0].tolist() == [rank % 251 for rank in (398, 3833, 4836, 4572, 636)]
    assert data.train.images[-50:-45, 5, 5, 0].tolist() == [rank % 251 for rank in (2204, 3816, 2206, 2507, 1926)]
    assert data.train.images[0, 0, 0].tolist() == [398 % 251, 255, 398 % 251]  # planes become channels
    assert data.class_names[3] == 'class 3'


def test_the_cache_is_built_once_found_later_and_rebuilt_when_a_byte_changes(cifar10, monkeypatch):
    decoded = []
    images = cifar.CIFAR10LT._images
    monkeypatch.setattr(cifar.CIFAR10LT, '_images', lambda self, files: decoded.append(1) or images(self, files))
    first = cifar.CIFAR10LT().fingerprint
    assert len(decoded) == 2  # train and test
    assert cifar.CIFAR10LT().fingerprint == first
    assert len(decoded) == 2
    path = cifar10 / 'data_batch_3'
    content = pickle.loads(path.read_bytes())
    content['data'] = content['data'] ^ 1
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match='data_batch_3 is damaged: md5 is .*expected .*ltbench data get cifar10_lt'):
        cifar.CIFAR10LT()
    md5 = {**cifar.CIFAR10LT.train_files, 'data_batch_3': hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(cifar.CIFAR10LT, 'train_files', md5)
    assert cifar.CIFAR10LT().fingerprint != first
    assert len(decoded) == 3
    assert len(list((cifar10 / '.ltbench-cache').glob('train-*.npy'))) == 1


def test_missing_files_name_the_command_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    with pytest.raises(DataError, match='CIFAR-100.*is missing; run `ltbench data get cifar100_lt`'):
        cifar.CIFAR100LT()


@pytest.mark.unpacks
def test_get_brings_the_official_archive_and_mends_a_damaged_file(tmp_path, monkeypatch, file_server):
    cifar10 = make(tmp_path, monkeypatch, 100)
    before = cifar.CIFAR10LT().fingerprint
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode='w:gz', compresslevel=1) as archive:
        for path in cifar10.glob('*_*'):
            archive.add(path, f'{cifar10.name}/{path.name}')
        archive.add(cifar10 / 'batches.meta', f'{cifar10.name}/batches.meta')
    contents = packed.getvalue()
    file_server.files['cifar-10-python.tar.gz'] = contents
    remote = RemoteFile(f'{file_server.url}/cifar-10-python.tar.gz', hashlib.md5(contents).hexdigest(), len(contents))
    monkeypatch.setattr(cifar.CIFAR10LT, 'archive', remote)
    for lacking in (lambda: shutil.rmtree(cifar10), lambda: (cifar10 / 'test_batch').write_bytes(b'')):
        lacking()
        cifar.CIFAR10LT.get()
        assert {status.state for status in cifar.CIFAR10LT.check()} == {'whole'}
        assert sorted(path.name for path in tmp_path.iterdir()) == [cifar10.name]  # the archive is deleted
        assert cifar.CIFAR10LT().fingerprint == before
    assert len(file_server.asked) == 2
    cifar.CIFAR10LT.get()
    assert len(file_server.asked) == 2

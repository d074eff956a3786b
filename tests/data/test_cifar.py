"""CIFAR-LT from made files in the two official formats, and from the real ones where they are."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ltbench.data import cifar, download
from ltbench.data.cifar import CIFAR10LT, CIFAR100LT
from ltbench.data.download import LOCK, RemoteFile
from ltbench.errors import DataError

TEST_DATA = os.environ.get('LTBENCH_TEST_DATA', '')  # read now: the tests run without such variables
SHARED = Path(__file__).parents[3] / 'shared' / 'data'


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Fifty thousand images of one pixel value each: the number of the image inside its class, modulo 251."""
    return make(tmp_path, monkeypatch, 5000, ['pickles'])


def make(tmp_path, monkeypatch, per_class, forms):
    """The same images of CIFAR-10 as pickles, as binary files or as both; the folder of the first one."""
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), per_class))
    rank = np.empty(10 * per_class, dtype=int)
    for label in range(10):
        rank[labels == label] = np.arange(per_class)
    pixels = np.repeat((rank % 251).astype(np.uint8)[:, None], 3072, axis=1)
    pixels[:, 1024] = 255  # first pixel of the green plane
    parts = {f'data_batch_{n + 1}': slice(n * 2 * per_class, (n + 1) * 2 * per_class) for n in range(5)}
    parts['test_batch'] = slice(0, 1000)
    for form in forms:
        version = getattr(CIFAR10LT, form)
        version.place.mkdir()
        md5 = {}
        for name, part in parts.items():
            if form == 'pickles':
                content = pickle.dumps({'data': pixels[part], 'labels': labels[part].tolist()})
            else:
                name, content = f'{name}.bin', records(pixels[part], labels[part])
            (version.place / name).write_bytes(content)
            md5[name] = hashlib.md5(content).hexdigest()
        test = {name: md5.pop(name) for name in list(md5) if name.startswith('test')}
        changes = {'train': md5, 'test': test}
        if form == 'pickles':
            (version.place / 'batches.meta').write_bytes(b'names')
            changes['meta'] = {'batches.meta': hashlib.md5(b'names').hexdigest()}
        monkeypatch.setattr(CIFAR10LT, form, replace(version, **changes))
    return getattr(CIFAR10LT, forms[0]).place


def records(pixels, *labels):
    """Rows as they are in the binary version: one byte a label, then the pixels."""
    return np.column_stack([*(column.astype(np.uint8) for column in labels), pixels]).tobytes()


def packed(folder):
    """The archive of a folder."""
    contents = io.BytesIO()
    with tarfile.open(fileobj=contents, mode='w:gz', compresslevel=1) as archive:
        for path in folder.iterdir():
            if path.is_file():
                archive.add(path, f'{folder.name}/{path.name}')
    return contents.getvalue()


def serve(monkeypatch, file_server, form):
    """Publish the archive of a form on a server of our own, under its official name."""
    version = getattr(CIFAR10LT, form)
    name, contents = version.archive.name, packed(version.place)
    file_server.files[name] = contents
    remote = RemoteFile(f'{file_server.url}/{name}', hashlib.md5(contents).hexdigest(), len(contents))
    monkeypatch.setattr(CIFAR10LT, form, replace(version, archive=remote))


def states(data_class=CIFAR10LT):
    return {status.name: status.state for status in data_class.check()}


def test_the_published_images_are_chosen_from_the_official_files(cifar10):
    data = CIFAR10LT(imbalance_factor=100)
    assert data.class_counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert len(data.train) == 12_406
    assert data.train.images.shape == (12_406, 32, 32, 3)
    # positions inside the class by the published construction: class 0 begins 398, 3833, ..., class 9 2204, 3816, ...
    assert data.train.images[:5, 5, 5, 0].tolist() == [rank % 251 for rank in (398, 3833, 4836, 4572, 636)]
    assert data.train.images[-50:-45, 5, 5, 0].tolist() == [rank % 251 for rank in (2204, 3816, 2206, 2507, 1926)]
    assert data.train.images[0, 0, 0].tolist() == [398 % 251, 255, 398 % 251]  # planes become channels
    assert data.class_names[3] == 'cat'


def test_the_cache_is_built_once_found_later_and_rebuilt_when_a_byte_changes(cifar10, monkeypatch):
    decoded = []
    images = cifar._images
    monkeypatch.setattr(cifar, '_images', lambda *arguments: decoded.append(1) or images(*arguments))
    first = CIFAR10LT().fingerprint
    assert len(decoded) == 2  # train and test
    assert CIFAR10LT().fingerprint == first
    assert len(decoded) == 2
    path = cifar10 / 'data_batch_3'
    content = pickle.loads(path.read_bytes())
    content['data'] = content['data'] ^ 1
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match='data_batch_3 is damaged: md5 is .*expected .*ltbench data get cifar10_lt'):
        CIFAR10LT()
    md5 = {**CIFAR10LT.pickles.train, 'data_batch_3': hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(CIFAR10LT, 'pickles', replace(CIFAR10LT.pickles, train=md5))
    assert CIFAR10LT().fingerprint != first
    assert len(decoded) == 3
    assert len(list((cifar10 / '.ltbench-cache').glob('train-*.npy'))) == 1


def test_the_class_names_are_those_of_the_official_pickles():
    """The files of names, rebuilt byte for byte as Python 2 wrote them, have the md5 of the official ones."""
    superclasses = (
        'aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices '
        'household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes '
        'large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees '
        'vehicles_1 vehicles_2'
    )
    ten = {'num_cases_per_batch': 10_000, 'label_names': CIFAR10LT.class_names, 'num_vis': 3072}
    hundred = {'fine_label_names': CIFAR100LT.class_names, 'coarse_label_names': superclasses.split()}
    for data_class, meta in ((CIFAR10LT, ten), (CIFAR100LT, hundred)):
        assert [hashlib.md5(python2_pickle(meta)).hexdigest()] == list(data_class.pickles.meta.values())
    assert python2_pickle(ten).startswith(b'\x80\x02}q\x01(U\x13num_cases_per_batchq\x02M\x10\x27')


def python2_pickle(meta):
    """Protocol 2 of a dictionary of numbers and of lists of texts, where each container and each text is memoised."""
    memo = 0

    def put():
        nonlocal memo
        memo += 1
        return b'q' + bytes([memo])

    def text(value):
        return b'U' + bytes([len(value)]) + value.encode() + put()

    out = b'\x80\x02}' + put() + b'('
    for key, value in meta.items():
        out += text(key)
        if isinstance(value, int):
            out += b'M' + value.to_bytes(2, 'little')
        else:
            out += b']' + put() + b'(' + b''.join(text(name) for name in value) + b'e'
    assert memo < 256
    return out + b'u.'


def test_both_versions_give_the_same_arrays_under_the_same_fingerprint(tmp_path, monkeypatch):
    pickles = make(tmp_path, monkeypatch, 500, ['pickles', 'binary'])
    by_pickles = CIFAR10LT()
    assert set(states()) == set(CIFAR10LT.pickles.files)  # the binary ones are not asked for
    assert not (CIFAR10LT.binary.place / '.ltbench-cache').exists()
    shutil.rmtree(pickles)
    by_records = CIFAR10LT()
    assert states() == dict.fromkeys(CIFAR10LT.binary.files, 'whole')  # the pickles are not called missing
    for one, other in ((by_pickles.train, by_records.train), (by_pickles.test, by_records.test)):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.labels.dtype == other.labels.dtype == np.int64
    assert by_pickles.fingerprint == by_records.fingerprint
    assert by_pickles.class_names == by_records.class_names
    assert by_records.train.images[0, 0, 0, 1] == 255  # planes become channels


def test_cifar100_is_labelled_by_the_second_byte(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2000, 3072), dtype=np.uint8)
    fine = random.permutation(np.repeat(np.arange(100), 20))
    coarse = fine % 20
    fingerprints = []
    for form in ('pickles', 'binary'):
        version = getattr(CIFAR100LT, form)
        version.place.mkdir()
        if form == 'pickles':
            content = pickle.dumps({'data': pixels, 'coarse_labels': coarse.tolist(), 'fine_labels': fine.tolist()})
        else:
            content = records(pixels, coarse, fine)
        md5 = hashlib.md5(content).hexdigest()
        train, test = (dict.fromkeys(files, md5) for files in (version.train, version.test))
        for name in (*train, *test):
            (version.place / name).write_bytes(content)
        changes = {'train': train, 'test': test, **({'meta': {}} if form == 'pickles' else {})}
        monkeypatch.setattr(CIFAR100LT, form, replace(version, **changes))
        data = CIFAR100LT(imbalance_factor=10)
        assert data.test.labels.tolist() == fine.tolist()
        np.testing.assert_array_equal(data.test.images[7, :, :, 2].ravel(), pixels[7, 2048:])
        fingerprints.append(data.fingerprint)
        shutil.rmtree(version.place)
    assert fingerprints[0] == fingerprints[1]


def test_missing_files_name_the_command_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    with pytest.raises(DataError) as error:
        CIFAR100LT()
    assert str(error.value) == (
        f'CIFAR-100 is neither in {tmp_path}/cifar-100-python nor in {tmp_path}/cifar-100-binary; '
        'run `ltbench data get cifar100_lt`'
    )
    assert states(CIFAR100LT) == {'train': 'missing', 'test': 'missing', 'meta': 'missing'}


def test_a_binary_file_that_is_cut_changed_or_missing_is_named(tmp_path, monkeypatch):
    folder = make(tmp_path, monkeypatch, 100, ['binary'])
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(states().values()) == {'whole'}

    def message():
        with pytest.raises(DataError) as error:
            CIFAR10LT()
        assert str(error.value).endswith('; run `ltbench data get cifar10_lt`')
        return str(error.value).rpartition(';')[0]

    for wrong in (whole['data_batch_2.bin'][:-1], whole['data_batch_2.bin'][:-3073], b'\0' + whole['data_batch_2.bin']):
        (folder / 'data_batch_2.bin').write_bytes(wrong)
        assert message() == (
            f'{folder}/data_batch_2.bin is damaged: md5 is {hashlib.md5(wrong).hexdigest()}, expected '
            f'{CIFAR10LT.binary.train["data_batch_2.bin"]}'
        )
        assert states()['data_batch_2.bin'] == 'damaged'
    (folder / 'test_batch.bin').unlink()
    assert message().endswith(f'; {folder}/test_batch.bin is missing')  # all that is wrong is said at once
    for name in whole:
        (folder / name).unlink(missing_ok=True)
    (folder / 'test_batch.bin').write_bytes(b'')
    assert 'test_batch.bin is damaged' in message()  # one damaged file tells which version was meant


def test_the_error_is_about_the_version_that_is_nearest_to_whole(tmp_path, monkeypatch):
    pickles = make(tmp_path, monkeypatch, 100, ['pickles', 'binary'])
    binary = CIFAR10LT.binary.place
    (pickles / 'data_batch_1').write_bytes(b'')
    assert len(CIFAR10LT().test) == 1000  # the other one is whole
    assert set(states()) == set(CIFAR10LT.binary.files)
    (binary / 'data_batch_5.bin').unlink()
    (binary / 'test_batch.bin').unlink()
    with pytest.raises(DataError, match=r'^\S+/data_batch_1 is damaged: [^;]*; run'):
        CIFAR10LT()
    for name in ('batches.meta', 'data_batch_2', 'data_batch_3'):
        (pickles / name).unlink()
    with pytest.raises(DataError, match=r'^\S+data_batch_5.bin is missing; \S+test_batch.bin is missing; run'):
        CIFAR10LT()


def test_a_label_that_is_no_class_is_refused(tmp_path, monkeypatch):
    folder = make(tmp_path, monkeypatch, 100, ['binary'])
    content = bytearray((folder / 'data_batch_4.bin').read_bytes())
    content[7 * 3073] = 10
    (folder / 'data_batch_4.bin').write_bytes(content)
    md5 = {**CIFAR10LT.binary.train, 'data_batch_4.bin': hashlib.md5(content).hexdigest()}
    monkeypatch.setattr(CIFAR10LT, 'binary', replace(CIFAR10LT.binary, train=md5))
    with pytest.raises(DataError, match='data_batch_4.bin: image 7 has label 10, expected 0 to 9; delete the file and'):
        CIFAR10LT()


@pytest.mark.unpacks
@pytest.mark.parametrize('form', ['pickles', 'binary'])
def test_get_brings_the_official_archive_and_mends_a_damaged_file(tmp_path, monkeypatch, file_server, form):
    folder = make(tmp_path, monkeypatch, 100, [form])
    before = CIFAR10LT().fingerprint
    serve(monkeypatch, file_server, form)
    monkeypatch.setattr(download, 'WAITS', ())
    (test_file,) = getattr(CIFAR10LT, form).test
    (folder / test_file).write_bytes(b'')
    CIFAR10LT.get()
    assert set(states().values()) == {'whole'}
    assert names(tmp_path) == [folder.name]  # the archive is deleted
    assert CIFAR10LT().fingerprint == before
    assert len(file_server.asked) == 1  # what was partly there is mended; the other form is not asked for
    CIFAR10LT.get()
    assert len(file_server.asked) == 1


@pytest.mark.unpacks
def test_get_begins_with_the_pickles_and_falls_back_on_the_binary_version(tmp_path, monkeypatch, file_server, capsys):
    pickles = make(tmp_path, monkeypatch, 100, ['pickles', 'binary'])
    for form in ('pickles', 'binary'):
        serve(monkeypatch, file_server, form)
    before = CIFAR10LT().fingerprint
    for _ in range(2):
        shutil.rmtree(pickles)
        shutil.rmtree(CIFAR10LT.binary.place, ignore_errors=True)
        CIFAR10LT.get()
        assert CIFAR10LT().fingerprint == before
        assert [name for name, _ in file_server.asked] == ['cifar-10-python.tar.gz']
        assert names(tmp_path) == ['cifar-10-batches-py']
        file_server.asked.clear()
    archive = file_server.files.pop('cifar-10-python.tar.gz')
    shutil.rmtree(pickles)
    CIFAR10LT.get()
    assert CIFAR10LT().fingerprint == before
    assert [name for name, _ in file_server.asked] == ['cifar-10-python.tar.gz', 'cifar-10-binary.tar.gz']
    assert names(tmp_path) == ['cifar-10-batches-bin']
    said = ' '.join(capsys.readouterr().err.split())
    assert 'cifar-10-python.tar.gz could not be downloaded: http' in said
    assert '404 Not Found; used cifar-10-binary.tar.gz instead, which holds the same images' in said
    # and the other way round: the binary version is partly there, its archive cannot be had
    (CIFAR10LT.binary.place / 'test_batch.bin').unlink()
    file_server.files = {'cifar-10-python.tar.gz': archive}
    CIFAR10LT.get()
    assert set(states()) == set(CIFAR10LT.pickles.files)
    assert CIFAR10LT().fingerprint == before


def test_where_neither_archive_can_be_had_both_are_named(tmp_path, monkeypatch, file_server):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    for form in ('pickles', 'binary'):
        version = getattr(CIFAR10LT, form)
        remote = replace(version.archive, url=f'{file_server.url}/{version.archive.name}')
        monkeypatch.setattr(CIFAR10LT, form, replace(version, archive=remote))
    with pytest.raises(DataError) as error:
        CIFAR10LT.get()
    message = str(error.value)
    assert message.count('could not be downloaded: http') == 2
    assert f'{tmp_path}/cifar-10-python.tar.gz (170498071 bytes, md5 c58f30108f718f92721af3b95e74349a)' in message
    assert f'{tmp_path}/cifar-10-binary.tar.gz (170052171 bytes, md5 c32a1d4ab5d03f1284b67883e8d87530)' in message
    assert '\n' not in message


@pytest.mark.unpacks
def test_an_archive_that_was_brought_by_hand_is_taken(tmp_path, monkeypatch, file_server):
    make(tmp_path, monkeypatch, 100, ['pickles', 'binary'])
    for form in ('pickles', 'binary'):
        serve(monkeypatch, file_server, form)
        shutil.rmtree(getattr(CIFAR10LT, form).place)
    (tmp_path / 'cifar-10-binary.tar.gz').write_bytes(file_server.files['cifar-10-binary.tar.gz'])
    CIFAR10LT.get()
    assert file_server.asked == []  # not for the pickles either
    assert set(states()) == set(CIFAR10LT.binary.files)
    before = CIFAR10LT().fingerprint
    (CIFAR10LT.binary.place / 'test_batch.bin').unlink()
    (tmp_path / 'cifar-10-python.tar.gz').write_bytes(file_server.files['cifar-10-python.tar.gz'])
    CIFAR10LT.get()  # an archive that is here goes before a version that is partly there
    assert file_server.asked == []
    assert set(states()) == set(CIFAR10LT.pickles.files)
    assert CIFAR10LT().fingerprint == before


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


@pytest.fixture(scope='module')
def real_cifar10(tmp_path_factory):
    """A data folder with the real CIFAR-10: ``$LTBENCH_TEST_DATA``, or unpacked from beside the repository."""
    if any((Path(TEST_DATA) / version.folder).is_dir() for version in (CIFAR10LT.pickles, CIFAR10LT.binary)):
        yield Path(TEST_DATA)
        return
    archive = SHARED / 'cifar10_lossless.tar.xz'
    if not archive.is_file() or not hasattr(tarfile, 'data_filter'):
        pytest.skip(f'CIFAR-10 is neither in $LTBENCH_TEST_DATA nor in {archive}')
    folder = tmp_path_factory.mktemp('cifar10')
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter='data')
    subprocess.run([sys.executable, folder / 'cifar10_lossless' / 'unpack.py', folder], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)  # 300 MB, which pytest would keep for three runs


@pytest.mark.slow
def test_the_real_images_are_the_published_ones(real_cifar10, tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))  # links: a cache finds room where the data cannot be written to
    for version in (CIFAR10LT.pickles, CIFAR10LT.binary):
        version.place.symlink_to(real_cifar10 / version.folder)
    chosen = []
    select = cifar.select
    monkeypatch.setattr(cifar, 'select', lambda *arguments: chosen.append(select(*arguments)) or chosen[0])
    data = CIFAR10LT(imbalance_factor=100)
    positions, pixels = chosen[0].astype('<i8'), data.train.images
    assert sha256(positions) == '4bf45bff8878d2786e47dccd702f96ff33b2b11d8c7da3b5015f10937290f866'
    assert sha256(pixels) == '57e15073801aadc43dbe9100895fcc5ccc594959b08d11d4a5a25112e6946b60'
    assert data.class_counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert np.bincount(data.test.labels).tolist() == [1000] * 10


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def test_its_size_is_known_without_its_files():
    assert CIFAR10LT.published_size() == (10, 12_406, 10_000, 3, 32)
    assert CIFAR100LT.published_size(imbalance_factor=100) == (100, 10_847, 10_000, 3, 32)
    assert CIFAR100LT.published_size(imbalance_factor=10, profile='step')[1] == 50 * 500 + 50 * 50

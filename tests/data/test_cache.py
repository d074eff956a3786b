"""Decoded images: made again whenever what they were made from changed, or they are not as they were written."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from ltbench.data import contents
from ltbench.data.cache import cached_array
from ltbench.data.derived import FOLDER
from ltbench.data.folder import FolderLT
from ltbench.errors import DataError


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Two files of three bytes."""
    monkeypatch.setattr(contents, 'SETTLED_NS', -1)
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path / 'data'))
    root = tmp_path / 'source'
    root.mkdir()
    (root / 'a').write_bytes(b'\1\2\3')
    (root / 'b').write_bytes(b'\4\5\6')
    return root


@pytest.fixture
def get(source):
    """The array of both files, and how often it was made."""
    made = []

    def get_(name='32', **options):
        files = [source / 'a', source / 'b']

        def make():
            made.append(name)
            return np.array([list(file.read_bytes()) for file in files], np.uint8)

        return np.array(cached_array(source, name, files, make, **options)).tolist()

    get_.made = made
    return get_


def arrays(source):
    return sorted(path for path in (source / FOLDER).iterdir() if path.suffix == '.npy')


def test_it_is_made_once_and_again_after_a_swap_of_equal_size_and_time(source, get):
    for name in 'ab':
        os.utime(source / name, ns=(10**18, 10**18))
    assert get() == get() == [[1, 2, 3], [4, 5, 6]]
    assert get.made == ['32']
    (source / 'a').rename(source / 'c')
    (source / 'b').rename(source / 'a')
    (source / 'c').rename(source / 'b')
    assert get() == [[4, 5, 6], [1, 2, 3]]
    assert len(arrays(source)) == 1  # the old one is gone


def test_bmp_files_swapped_between_classes_change_labels(tmp_path):
    for name, colour in (('ant', 10), ('bee', 200)):
        (tmp_path / name).mkdir()
        for number in range(4):
            path = tmp_path / name / f'{number}.bmp'
            Image.new('RGB', (8, 8), (colour, number, 0)).save(path)
            os.utime(path, ns=(10**18, 10**18))

    def read():
        return FolderLT(str(tmp_path), image_size=8, imbalance_factor=1, test_per_class=2)

    before = read()
    for number in range(4):
        one, two, third = tmp_path / 'ant' / f'{number}.bmp', tmp_path / 'bee' / f'{number}.bmp', tmp_path / 'third'
        one.rename(third)
        two.rename(one)
        third.rename(two)
    after = read()
    reds = [[int(image[0, 0, 0]) for image in data.train.images] for data in (before, after)]
    assert reds == [[10] * 3 + [200] * 3, [200] * 3 + [10] * 3]
    assert before.train.labels.tolist() == after.train.labels.tolist() == [0] * 3 + [1] * 3
    assert before.fingerprint != after.fingerprint


def test_caches_of_two_names_leave_each_other_alone(source, get):
    for _ in range(2):
        for name in ('32', '32-skip', '3', '[3]2'):
            get(name)
    assert len(get.made) == len(arrays(source)) == 4
    (source / 'a').write_bytes(b'\7\7\7')
    assert get('32') == [[7, 7, 7], [4, 5, 6]]
    assert len(arrays(source)) == 4


def test_another_decoder_makes_another_array(get):
    get(decoder='1')
    get(decoder='2')
    get(decoder='2')
    assert len(get.made) == 2


def flip(path):
    body = bytearray(path.read_bytes())
    body[-34] ^= 1  # the last pixel but one
    path.write_bytes(body)


def put(array):
    def put_(path):
        with path.open('wb') as file:
            np.save(file, array)

    return put_


DAMAGES = {
    'truncated': lambda path: path.write_bytes(path.read_bytes()[:-33]),
    'empty': lambda path: path.write_bytes(b''),
    'flipped': flip,
    'pickled': put(np.array([{}, None], object)),
    'of another type': put(np.zeros((2, 3), np.float64)),
    'of another shape': put(np.zeros((5, 3), np.uint8)),
    'no array': lambda path: path.write_bytes(b'x' * 1000),
}


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=list(DAMAGES))
def test_what_is_not_as_it_was_written_is_made_again_with_a_word(source, get, capsys, damage):
    get()
    (path,) = arrays(source)
    damage(path)
    assert get() == [[1, 2, 3], [4, 5, 6]]
    assert f'{path} is damaged, or from another version: decoding the images again' in capsys.readouterr().err
    assert get() == [[1, 2, 3], [4, 5, 6]]
    assert len(get.made) == 2
    assert capsys.readouterr().err == ''


def test_the_array_of_other_files_is_not_taken_under_this_name(source, get, capsys):
    get()
    (mine,) = arrays(source)
    get('other', decoder='2')
    (theirs,) = set(arrays(source)) - {mine}
    mine.write_bytes(theirs.read_bytes())  # whole, and of other files
    assert get() == [[1, 2, 3], [4, 5, 6]]
    assert f'{mine} is damaged, or from another version' in capsys.readouterr().err
    assert get.made == ['32', 'other', '32']


def test_files_that_change_while_they_are_decoded_are_decoded_again(source, capsys):
    files, calls = [source / 'a'], []

    def make():
        array = np.frombuffer(files[0].read_bytes(), np.uint8)
        calls.append(1)
        if len(calls) in changes:
            files[0].write_bytes(bytes([len(calls)] * 3))
        return array

    changes = {1}
    assert cached_array(source, 'x', files, make).tolist() == [1, 1, 1]
    assert 'changed while they were decoded' in capsys.readouterr().err
    assert cached_array(source, 'x', files, make).tolist() == [1, 1, 1]
    assert len(calls) == 2
    changes = set(range(100))
    with pytest.raises(DataError, match='keep changing; wait until they are complete'):
        cached_array(source, 'y', files, make)


def test_missing_files_are_an_error_unless_the_decoder_copes_with_them(source, get):
    files = [source / 'a', source / 'nothing']
    with pytest.raises(DataError, match='source/nothing is missing'):
        cached_array(source, 'x', files, lambda: np.zeros(2))

    def make():
        return np.array([file.exists() for file in files])

    assert cached_array(source, 'x', files, make, unreadable_ok=True).tolist() == [True, False]
    (source / 'nothing').write_bytes(b'')
    assert cached_array(source, 'x', files, make, unreadable_ok=True).tolist() == [True, True]

"""Any folder of class folders."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from ltbench.benchmark import load_benchmark
from ltbench.data import class_folders, load_data
from ltbench.data.folder import FolderLT
from ltbench.errors import DataError, UsageError
from ltbench.method import make_plan


def make(root, classes=('ant', 'bee', 'cat'), images=12, size=8, kind='png'):
    """Class folders of random images; ``images`` is a number, or one number a class."""
    random = np.random.default_rng(list(root.name.encode()))  # a test folder has other images than that to train on
    counts = [images] * len(classes) if isinstance(images, int) else images
    for name, count in zip(classes, counts, strict=True):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f'{number:03d}.{kind}')
    return root


def held_out(data):
    return np.bincount(data.test.labels, minlength=data.num_classes).tolist()


# ---------------------------------------------------------------------------------------------- counts


def test_the_counts_that_are_there_are_the_profile_and_the_largest_class_is_the_head(tmp_path):
    make(tmp_path, ('ant', 'bee', 'cat', 'dog'), (8, 60, 200, 25), size=2)
    data = FolderLT(str(tmp_path), image_size=2)
    assert data.class_names == ('cat', 'bee', 'dog', 'ant')
    assert held_out(data) == [66, 20, 8, 2]  # a third of each, rounded down
    assert data.class_counts == [134, 40, 17, 6]
    (note,) = data.notes
    assert note == (
        f'folder {tmp_path.name}: 96 of 293 images are held out as test images, chosen by split_seed 0: '
        '100 of each class, but at most a third of it and at least one if it has two; '
        '4 of 4 classes give fewer: ant 2 of 8'
    )
    assert held_out(FolderLT(str(tmp_path), image_size=2, test_per_class=10)) == [10, 10, 8, 2]


def test_labels_follow_the_rank_of_their_class(tmp_path):
    make(tmp_path / 'train', ('ant', 'bee', 'cat'), (3, 9, 5))
    make(tmp_path / 'test', ('cat', 'bee', 'ant'), (1, 1, 1))
    data = FolderLT(str(tmp_path), image_size=8)
    assert data.class_names == ('bee', 'cat', 'ant')
    for label, name in enumerate(data.class_names):
        wanted = np.asarray(Image.open(tmp_path / 'test' / name / '000.png'))
        assert np.array_equal(data.test.images[data.test.labels == label][0], wanted)
        files = {np.asarray(Image.open(path)).tobytes() for path in (tmp_path / 'train' / name).iterdir()}
        assert {image.tobytes() for image in data.train.images[data.train.labels == label]} == files


def test_small_classes_keep_images_to_train_on_and_one_image_is_not_held_out(tmp_path):
    make(tmp_path, ('ant', 'bee', 'cat', 'dog', 'eel'), (1, 2, 3, 6, 1))
    data = FolderLT(str(tmp_path), image_size=8)
    assert data.class_names == ('dog', 'cat', 'bee', 'ant', 'eel')
    assert data.class_counts == [4, 2, 1, 1, 1]
    assert held_out(data) == [2, 1, 1, 0, 0]
    assert data.notes[0].endswith('classes with one image are not tested: ant, eel')
    make(tmp_path / 'alone', ('ant', 'bee'), (1, 1))
    with pytest.raises(DataError, match='alone: there is no image to test on'):
        FolderLT(str(tmp_path / 'alone'), image_size=8)


def test_an_imbalance_factor_resamples(tmp_path):
    make(tmp_path / 'train', images=20)
    make(tmp_path / 'test', images=5)
    data = FolderLT(str(tmp_path), image_size=8, imbalance_factor=10)
    assert data.class_counts == [20, 6, 2]
    assert data.class_counts == FolderLT(str(tmp_path), image_size=8, imbalance_factor=10, profile='exp').class_counts
    step = FolderLT(str(tmp_path), image_size=8, imbalance_factor=10, profile='step')
    assert step.class_counts == [20, 2, 2]
    assert held_out(data) == [5, 5, 5]
    assert data.class_names == ('ant', 'bee', 'cat')
    assert data.mean == pytest.approx(data.train.images.mean(axis=(0, 1, 2)) / 255, abs=1e-4)
    first = np.asarray(Image.open(tmp_path / 'test' / 'ant' / '000.png'))
    assert np.array_equal(data.test.images[0], first)


def test_of_unequal_classes_as_many_are_taken_as_the_profile_allows(tmp_path):
    make(tmp_path, ('ant', 'bee', 'cat', 'dog'), (200, 60, 25, 8), size=2)
    data = FolderLT(str(tmp_path), image_size=2, imbalance_factor=10)
    # of 134, 40, 17 and 6: 70 would take 7 of the last
    assert data.class_counts == [69, 32, 14, 6]
    with pytest.raises(UsageError, match='imbalance_factor 100 leaves the rarest class .*134 to 6 training images'):
        FolderLT(str(tmp_path), image_size=2, imbalance_factor=100, n_max=90)
    with pytest.raises(UsageError, match='n_max 100 needs 46 images of class bee, which has 40'):
        FolderLT(str(tmp_path), image_size=2, imbalance_factor=10, n_max=100)


def test_test_images_that_are_trained_on_are_counted(tmp_path):
    make(tmp_path / 'train', images=6)
    make(tmp_path / 'test', images=4)
    assert not FolderLT(str(tmp_path), image_size=8).notes
    for number, name in enumerate(['ant', 'bee', 'bee']):  # once under another label
        shutil.copy(tmp_path / 'train' / 'ant' / f'{number:03d}.png', tmp_path / 'test' / name / f'copy{number}.png')
    (note,) = FolderLT(str(tmp_path), image_size=8).notes
    assert note.endswith(': 3 of 15 test images are also training images: the same pixels')


def test_one_tree_is_split_by_the_seed_without_overlap(tmp_path):
    make(tmp_path, images=12)
    data = FolderLT(str(tmp_path), image_size=8, imbalance_factor=2, test_per_class=4)
    assert data.class_counts == [8, 5, 4]
    assert held_out(data) == [4, 4, 4]
    train = {image.tobytes() for image in data.train.images}
    assert not train & {image.tobytes() for image in data.test.images}
    other = FolderLT(str(tmp_path), image_size=8, imbalance_factor=2, test_per_class=4, split_seed=1)
    assert other.fingerprint != data.fingerprint


# ---------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'test_per_class': 0}, 'test_per_class is a whole number, 1 or larger, got 0'),
        ({'test_per_class': -1}, 'test_per_class is a whole number, 1 or larger, got -1'),
        ({'test_per_class': 2.5}, 'test_per_class is a whole number, 1 or larger, got 2.5'),
        ({'imbalance_factor': 0.01}, 'at least 1, got 0.01: write 100'),
        ({'imbalance_factor': 0}, 'imbalance_factor is at least 1, got 0'),
        ({'imbalance_factor': float('nan')}, 'imbalance_factor is at least 1, got nan'),
        ({'imbalance_factor': float('inf')}, 'imbalance_factor is at least 1, got inf'),
        ({'imbalance_factor': '100'}, "imbalance_factor is a number, 1 or larger, got '100'"),
        ({'imbalance_factor': True}, 'imbalance_factor is a number, 1 or larger, got True'),
        ({'image_size': 0}, 'image_size is a whole number, 1 to 4096, got 0'),
        ({'image_size': 10**6}, 'image_size is a whole number, 1 to 4096, got 1000000'),
        ({'image_size': '32'}, "image_size is a whole number, 1 to 4096, got '32'"),
        ({'n_max': 0, 'imbalance_factor': 10}, 'n_max is a whole number, 1 or larger, got 0'),
        ({'n_max': 100}, 'n_max needs an imbalance_factor'),
        ({'split_seed': -1}, 'split_seed is a whole number, 0 to 4294967295, got -1'),
        ({'skip_unreadable': 'yes'}, "skip_unreadable is True or False, got 'yes'"),
        ({'profile': 'step'}, 'profile step needs an imbalance factor: write imbalance_factor=100'),
        ({'profile': 'expo', 'imbalance_factor': 10}, "unknown profile 'expo': did you mean exp"),
        ({'profile': None}, "unknown profile 'None': known: exp, natural, step"),
    ],
)
def test_impossible_arguments_are_refused_before_the_folder_is_read(arguments, words):
    with pytest.raises(UsageError, match=words):
        FolderLT('/there/is/no/such/folder', **arguments)


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    with pytest.raises(DataError, match='is not a folder; pass one'):
        FolderLT('')
    with pytest.raises(DataError, match=r'nowhere is not a folder, neither here nor in the data folder \(.*nowhere\)'):
        FolderLT('nowhere')
    with pytest.raises(DataError, match=r'b\\xe9 is not printable; rename the folder'):
        FolderLT(os.fsdecode(b'b\xe9'))
    (tmp_path / 'empty').mkdir()
    make(tmp_path, images=3)
    (tmp_path / 'empty' / 'scan.xyz').touch()
    words = r'without images: empty; fill or remove them; 1 files have no image suffix: empty/scan.xyz'
    with pytest.raises(DataError, match=words):
        FolderLT(str(tmp_path))
    with pytest.raises(DataError, match=r'needs two or more class folders, but has none'):
        FolderLT(str(tmp_path / 'ant'))
    make(tmp_path / 'outer' / 'inner', images=3)
    with pytest.raises(DataError, match=r'but has inner; inner/ contains 3 folders: use it as root'):
        FolderLT(str(tmp_path / 'outer'))
    make(tmp_path / 'train', images=3)
    make(tmp_path / 'test', classes=('ant', 'bee', 'dog'), images=3)
    with pytest.raises(DataError, match='train and test have different classes: cat, dog'):
        FolderLT(str(tmp_path), image_size=8)


def test_a_constant_folder_is_refused_before_training(tmp_path):
    for name in ('ant', 'bee'):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new('L', (4, 4), 9).save(tmp_path / name / f'{number}.png')
    with pytest.raises(DataError, match='all 4 training images are of one colour'):
        FolderLT(str(tmp_path), image_size=4)


# ---------------------------------------------------------------------------------------------- parts


def test_without_a_test_folder_val_is_the_test_part_and_without_both_images_are_held_out(tmp_path):
    make(tmp_path / 'Train', images=9)
    data = FolderLT(str(tmp_path), image_size=8)
    assert (data.class_counts, held_out(data)) == ([6, 6, 6], [3, 3, 3])
    (tmp_path / 'test').mkdir()  # as from Kaggle: images without labels
    Image.new('L', (8, 8)).save(tmp_path / 'test' / '1.png')
    data = FolderLT(str(tmp_path), image_size=8)
    assert held_out(data) == [3, 3, 3]
    assert f'folder {tmp_path.name}: not used, next to Train/: test/ (1 images)' in data.notes
    make(tmp_path / 'val', images=2)
    data = FolderLT(str(tmp_path), image_size=8)
    assert (data.class_counts, held_out(data)) == ([9, 9, 9], [2, 2, 2])
    assert f'folder {tmp_path.name}: there is no test/: val/ is used as the test part' in data.notes
    make(tmp_path / 'TEST', images=1)
    (tmp_path / 'test' / '1.png').unlink()
    (tmp_path / 'test').rmdir()
    (tmp_path / 'labels.csv').touch()
    data = FolderLT(str(tmp_path), image_size=8)
    assert held_out(data) == [1, 1, 1]
    assert data.notes == (f'folder {tmp_path.name}: not used, next to Train/ and TEST/: labels.csv, val/ (6 images)',)


def test_classes_may_lack_test_images_and_are_named(tmp_path):
    make(tmp_path / 'train', images=(5, 4, 3))
    make(tmp_path / 'test', classes=('ant', 'bee'), images=(2, 0))
    data = FolderLT(str(tmp_path), image_size=8)
    assert held_out(data) == [2, 0, 0]
    note = 'classes without test images: 2 (bee, cat); their accuracy is not measured'
    assert data.notes == (f'folder {tmp_path.name}: {note}',)


def test_a_class_may_be_called_train_and_a_lone_test_is_asked_about(tmp_path):
    make(tmp_path, ('car', 'plane', 'train'), images=6)
    assert FolderLT(str(tmp_path), image_size=8).class_names == ('car', 'plane', 'train')
    make(tmp_path / 'test', ('car', 'plane'), images=6)
    with pytest.raises(DataError, match='test contains folders, but there is no train/ next to it'):
        FolderLT(str(tmp_path), image_size=8)


def test_a_stray_link_to_where_one_may_not_look_is_named_and_stops_nothing(tmp_path):
    nowhere = 'x' * 4000  # looking at it is an error, as with a folder that others may not enter
    make(tmp_path / 'train')
    make(tmp_path / 'test', images=2)
    (tmp_path / 'link').symlink_to(nowhere)
    assert any('not used, next to train/ and test/: link' in note for note in FolderLT(str(tmp_path), 8).notes)
    (tmp_path / 'train' / 'link').symlink_to(nowhere)
    with pytest.raises(DataError, match=r'train/link \(File name too long\)'):
        FolderLT(str(tmp_path), 8)
    assert FolderLT(str(tmp_path), 8, skip_unreadable=True).num_classes == 3
    (tmp_path / 'val').symlink_to(nowhere)  # may be meant as a part
    with pytest.raises(DataError, match='cannot be read'):
        FolderLT(str(tmp_path), 8)


def test_nothing_is_left_out_without_a_word(tmp_path):
    make(tmp_path, ('ant', 'bee'), images=6)
    make(tmp_path / 'ant', ('sub', 'sub.png'), images=2)
    for name in ('ant/._000.png', 'Thumbs.db', '.DS_Store', 'bee/notes.txt', 'stray.png', '__MACOSX/ant/000.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    data = FolderLT(str(tmp_path), image_size=8)
    assert sum(data.class_counts) + len(data.test) == 16
    assert data.class_names == ('ant', 'bee')
    notes = [note.removeprefix(f'folder {tmp_path.name}: ') for note in data.notes]
    assert notes[:-1] == [
        'not used, hidden or system files: 4 (.DS_Store, Thumbs.db, __MACOSX, ant/._000.png)',
        'not used, files without an image suffix: 1 (bee/notes.txt)',
        'not used, images outside the class folders: 1 (stray.png)',
        'images in subfolders of a class folder, read as that class: 4 '
        '(ant/sub/000.png, ant/sub/001.png, ant/sub.png/000.png, ant/sub.png/001.png)',
    ]
    assert data.notes == FolderLT(str(tmp_path), image_size=8).notes  # from the cache


# ---------------------------------------------------------------------------------------------- unreadable ones


def test_unreadable_images_are_named_and_left_out_only_on_request(tmp_path):
    make(tmp_path, images=12)
    (tmp_path / 'bee' / '003.png').write_bytes(b'not an image')
    (tmp_path / 'bee' / 'dangling.jpg').symlink_to('nowhere')
    os.mkfifo(tmp_path / 'ant' / 'pipe.png')
    (tmp_path / 'ant' / 'round').symlink_to('..')
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / 'cat' / 'float.tif')
    faults = {
        'bee/003.png': 'in no format that Pillow reads',
        'bee/dangling.jpg': 'a broken link',
        'ant/pipe.png': 'not a regular file',
        'ant/round': 'a link to a folder that contains it',
        'cat/float.tif': 'float pixels of TIFF, mode F, declare no range',
    }
    for _ in range(2):  # decoded, and from the cache
        with pytest.raises(DataError, match=r'5 images or folders cannot be read: .*skip_unreadable=True') as error:
            FolderLT(str(tmp_path), image_size=8, test_per_class=4)
        data = FolderLT(str(tmp_path), image_size=8, test_per_class=4, skip_unreadable=True)
        assert data.class_counts == [8, 8, 8]
        assert data.class_names == ('ant', 'cat', 'bee')  # 12, 12 and 11 of them can be read
        assert data.notes[0].startswith(f'folder {tmp_path.name}: left out, unreadable: 5 (')
        for name, reason in faults.items():
            for text in (str(error.value), data.notes[0]):
                assert f'{tmp_path / name} ({reason})' in text
    (tmp_path / 'bee' / '003.png').unlink()
    Image.new('L', (8, 8)).save(tmp_path / 'bee' / '003.png')
    with pytest.raises(DataError, match=r'4 images or folders'):
        FolderLT(str(tmp_path), image_size=8, test_per_class=4)


def test_what_may_not_be_read_is_named_and_can_be_left_out(tmp_path, monkeypatch):
    """Root may read everything, so the refusals are made."""
    make(tmp_path, images=6)
    make(tmp_path / 'ant', ('locked',), images=3)
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith('locked'):
            raise PermissionError(13, 'Permission denied')
        return scan(folder)

    monkeypatch.setattr(class_folders.os, 'access', lambda path, mode: not str(path).endswith('bee/001.png'))
    monkeypatch.setattr(class_folders.os, 'scandir', refuse)
    words = r'2 images .*ant/locked \(Permission denied\), .*bee/001.png \(no permission to read it\)'
    with pytest.raises(DataError, match=words):
        FolderLT(str(tmp_path), image_size=8)
    data = FolderLT(str(tmp_path), image_size=8, skip_unreadable=True)
    assert dict(zip(data.class_names, data.class_counts, strict=True)) == {'ant': 4, 'cat': 4, 'bee': 4}


def test_a_class_of_which_nothing_can_be_read_is_named(tmp_path):
    make(tmp_path, images=6)
    (tmp_path / 'dog').mkdir()
    (tmp_path / 'dog' / '1.png').write_bytes(b'not an image')
    with pytest.raises(DataError, match='classes without a readable image: dog; repair or remove them'):
        FolderLT(str(tmp_path), image_size=8, skip_unreadable=True)


def test_names_that_are_no_utf8_are_read_and_can_be_written_down(tmp_path):
    make(tmp_path, ('ant', os.fsdecode(b'b\xe9b\xe9')), images=6)
    (tmp_path / 'ant' / '000.png').rename(tmp_path / 'ant' / os.fsdecode(b'\xe9.png'))
    data = FolderLT(str(tmp_path), image_size=8)
    assert data.class_names == ('ant', 'b\\xe9b\\xe9')
    assert data.class_counts == [4, 4]
    json.dumps([data.class_names, data.notes], ensure_ascii=False).encode()
    (tmp_path / 'ant' / os.fsdecode(b'\xe9.png')).write_bytes(b'not an image')
    with pytest.raises(DataError, match=r'ant/\\xe9.png'):
        FolderLT(str(tmp_path), image_size=8)


@pytest.mark.parametrize('forms', [('NFC', 'NFD'), ('NFD', 'NFC')])
def test_an_accent_may_be_written_in_two_ways(tmp_path, forms):
    """As in a test part that was copied from macOS; folders that differ in nothing else are two classes."""
    train, test = (unicodedata.normalize(form, 'café') for form in forms)
    make(tmp_path / 'train', (train, 'bee'), (3, 9))
    make(tmp_path / 'test', (test, 'bee'), (2, 4))
    data = FolderLT(str(tmp_path), image_size=8)
    assert (data.class_names, held_out(data)) == (('bee', train), [4, 2])
    make(tmp_path / 'test', (train,), 1)
    with pytest.raises(DataError, match='train and test have different classes: caf'):
        FolderLT(str(tmp_path), image_size=8)
    make(tmp_path / 'train', (test,), 5)
    data = FolderLT(str(tmp_path), image_size=8)
    assert (data.class_names, held_out(data)) == (('bee', test, train), [4, 2, 1])


def test_a_user_who_is_not_there_is_named():
    with pytest.raises(DataError, match='~nobodyx/images: there is no user nobodyx'):
        FolderLT('~nobodyx/images')


# ---------------------------------------------------------------------------------------------- identity


def test_where_the_folder_is_changes_no_fingerprint_but_what_it_holds_does(tmp_path):
    def fingerprint(root):
        benchmark = load_benchmark(f'folder_lt(root={root}, image_size=8, test_per_class=2, imbalance_factor=2)')
        assert benchmark.setting == 'paper, image_size=8, test_per_class=2'
        data = load_data(benchmark.data)
        return make_plan('erm', benchmark, data.fingerprint, 0).stages()[-1].fingerprint

    make(tmp_path / 'a' / 'images')
    make(tmp_path / 'b' / 'images')
    assert fingerprint(tmp_path / 'a' / 'images') == fingerprint(tmp_path / 'b' / 'images')
    path = tmp_path / 'b' / 'images' / 'ant' / '000.png'
    pixels = np.asarray(Image.open(path)) ^ 1
    for number in range(12):  # whichever of them the split takes
        Image.fromarray(pixels).save(path.with_name(f'{number:03d}.png'))
    load_data.__globals__['_load'].cache_clear()
    assert fingerprint(tmp_path / 'a' / 'images') != fingerprint(tmp_path / 'b' / 'images')

"""Any folder of class folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ltbench.config import load_benchmark
from ltbench.data import load_data
from ltbench.data.folder import FolderLT
from ltbench.errors import DataError, MethodWarning, UsageError
from ltbench.method import make_plan


def make(root, classes=('ant', 'bee', 'cat'), images=12, size=8, kind='png'):
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(images):
            pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f'{number:03d}.{kind}')
    return root


def test_train_and_test_folders(tmp_path):
    make(tmp_path / 'train', images=20)
    make(tmp_path / 'test', images=5)
    data = FolderLT(str(tmp_path), image_size=8, imbalance_factor=10)
    assert data.class_counts == [20, 6, 2]
    assert np.bincount(data.test.labels).tolist() == [5, 5, 5]
    assert data.class_names == ('ant', 'bee', 'cat')
    assert data.mean == pytest.approx(data.train.images.mean(axis=(0, 1, 2)) / 255, abs=1e-4)
    first = np.asarray(Image.open(tmp_path / 'test' / 'ant' / '000.png'))
    assert np.array_equal(data.test.images[0], first)


def test_one_tree_is_split_by_the_seed_without_overlap(tmp_path):
    make(tmp_path, images=12)
    data = FolderLT(str(tmp_path), image_size=8, imbalance_factor=2, test_per_class=4)
    assert data.class_counts == [8, 5, 4]
    assert np.bincount(data.test.labels).tolist() == [4, 4, 4]
    train = {image.tobytes() for image in data.train.images}
    assert not train & {image.tobytes() for image in data.test.images}
    other = FolderLT(str(tmp_path), image_size=8, imbalance_factor=2, test_per_class=4, split_seed=1)
    assert other.fingerprint != data.fingerprint


def test_unreadable_images_are_named_and_left_out_only_on_request(tmp_path):
    make(tmp_path, images=12)
    (tmp_path / 'bee' / '003.png').write_bytes(b'not an image')
    with pytest.raises(DataError, match=r'1 images cannot be decoded: .*bee/003.png.*skip_unreadable=True'):
        FolderLT(str(tmp_path), image_size=8, imbalance_factor=1, test_per_class=4)
    with pytest.warns(MethodWarning, match='left out 1 unreadable images: .*bee/003.png'):
        data = FolderLT(str(tmp_path), image_size=8, imbalance_factor=1, test_per_class=4, skip_unreadable=True)
    assert data.class_counts == [7, 7, 7]


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    with pytest.raises(DataError, match='is no folder; name one'):
        FolderLT('')
    (tmp_path / 'empty').mkdir()
    make(tmp_path, images=3)
    with pytest.raises(DataError, match="empty: \\['empty'\\]"):
        FolderLT(str(tmp_path))
    (tmp_path / 'empty').rmdir()
    with pytest.raises(UsageError, match='the smallest class has 3 images, 100 of each are held out'):
        FolderLT(str(tmp_path))
    make(tmp_path / 'train', images=3)
    make(tmp_path / 'test', classes=('ant', 'bee', 'dog'), images=3)
    with pytest.raises(DataError, match='different classes: cat, dog'):
        FolderLT(str(tmp_path), image_size=8, imbalance_factor=1)


def test_where_the_folder_is_changes_no_fingerprint_but_what_it_holds_does(tmp_path):
    def fingerprint(root):
        benchmark = load_benchmark('folder_lt', overrides={'root': str(root), 'image_size': 8, 'test_per_class': 2})
        benchmark = load_benchmark(f'folder_lt(root={root}, image_size=8, test_per_class=2, imbalance_factor=2)')
        assert benchmark.setting == f'paper, image_size=8, root={root.name}, test_per_class=2'
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

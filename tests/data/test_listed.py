"""Large sets are named by what their images hold, wherever they lie."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltbench.benchmark import load_benchmark
from ltbench.data import contents, load_data
from ltbench.data.base import _load
from ltbench.data.inaturalist import INaturalist2018
from ltbench.data.listed import ImageNetLT
from ltbench.engine.job import Runtime, StageContext
from ltbench.errors import DataError
from ltbench.method import make_plan
from ltbench.store import Store, StoreError

NAMES = {part: file.name for part, file in ImageNetLT.lists.items()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two classes of two images a part, all bitmaps of one size and time stamp, which count as old."""
    monkeypatch.setattr(contents, 'SETTLED_NS', -1)
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    _load.cache_clear()
    root = tmp_path / 'imagenet_lt'
    for part, name in NAMES.items():
        lines = []
        for label in range(2):
            for number in range(2):
                path = root / part / f'n{label}' / f'{number}.bmp'
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(path, 100 * label + 10 * number + len(part))
                lines.append(f'{path.relative_to(root)} {label}')
        (root / name).write_text('\n'.join(lines) + '\n')
    return root


def draw(path, grey):
    Image.new('RGB', (4, 4), (grey, grey, grey)).save(path)
    os.utime(path, ns=(10**18, 10**18))


def fingerprint(root):
    return ImageNetLT(root=str(root), verify=False).fingerprint


def test_other_pixels_under_the_same_lists_are_other_data(root):
    before = fingerprint(root)
    assert fingerprint(root) == before
    for part in NAMES:
        draw(root / part / 'n0' / '1.bmp', 7)
        assert fingerprint(root) != before
        before = fingerprint(root)


def test_images_swapped_between_classes_are_other_data(root):
    before = fingerprint(root)
    one, two, third = root / 'train' / 'n0' / '0.bmp', root / 'train' / 'n1' / '0.bmp', root / 'third'
    one.rename(third)
    two.rename(one)
    third.rename(two)
    assert fingerprint(root) != before


def test_other_labels_are_other_data(root):
    before = fingerprint(root)
    path = root / NAMES['test']
    path.write_text(path.read_text().replace('n1/1.bmp 1', 'n1/1.bmp 0'))
    assert fingerprint(root) != before


def test_where_they_lie_makes_no_difference(root, tmp_path, monkeypatch):
    before = fingerprint(root)
    shutil.copytree(root, tmp_path / 'elsewhere' / 'other name')
    assert fingerprint(tmp_path / 'elsewhere' / 'other name') == before
    monkeypatch.chdir(root)
    assert fingerprint('.') == before
    (tmp_path / 'link').symlink_to(root)
    assert fingerprint(tmp_path / 'link') == before
    root.rename(tmp_path / 'renamed')
    assert fingerprint(tmp_path / 'renamed') == before


def test_nothing_is_read_again_where_nothing_changed(root, monkeypatch):
    before = fingerprint(root)
    monkeypatch.setattr(contents, '_read', None)
    assert fingerprint(root) == before


def test_any_missing_image_is_named(root):
    (root / 'test' / 'n1' / '1.bmp').unlink()
    data = ImageNetLT(root=str(root), verify=False)
    with pytest.raises(DataError, match=r'imagenet_lt/test/n1/1\.bmp is missing; put a whole copy in its place'):
        data.fingerprint  # noqa: B018 - asking raises


def test_a_worker_refuses_images_that_changed_since_the_plan(root, tmp_path):
    benchmark = load_benchmark('imagenet_lt(verify=False)')
    planned = load_data(benchmark.data).fingerprint
    stage = make_plan('erm', benchmark, planned, 0).stages()[-1]
    context = StageContext(stage, Store(tmp_path / 'store'), Runtime(device='cpu'))
    _load.cache_clear()  # another process
    assert context.data.fingerprint == planned
    draw(root / 'train' / 'n1' / '0.bmp', 3)
    _load.cache_clear()
    with pytest.raises(StoreError, match='ImageNet-LT has changed on disk since this run was planned'):
        context.data  # noqa: B018 - asking raises
    changed = make_plan('erm', benchmark, load_data(benchmark.data).fingerprint, 0).stages()[-1]
    assert changed.fingerprint != stage.fingerprint  # so that the run is not found in the store


@pytest.mark.parametrize('name', ['/train/n0/0.bmp', 'train/../train/n0/0.bmp'])
def test_a_list_that_leaves_the_folder_is_refused(root, name):
    (root / NAMES['train']).write_text(f'{name} 0\n')
    with pytest.raises(DataError, match=f'ImageNet_LT_train.txt lists {name}; all paths must be relative to {root}'):
        fingerprint(root)


def test_names_need_not_be_utf8(root):
    path = root / 'train' / os.fsdecode(b'n\xe4') / '0.bmp'
    path.parent.mkdir()
    draw(path, 9)
    with (root / NAMES['train']).open('ab') as file:
        file.write(b'train/n\xe4/0.bmp 2\n')
    data = ImageNetLT(root=str(root), verify=False)
    assert data.class_names == ('n0', 'n1', 'n\\xe4')
    before = data.fingerprint
    draw(path, 10)
    assert fingerprint(root) != before
    path.unlink()
    with pytest.raises(DataError, match=r'train/n\\xe4/0.bmp is missing'):
        fingerprint(root)


def test_a_list_that_is_none_is_named(root, monkeypatch):
    path = root / NAMES['train']
    path.write_text(f'train/n0/0.bmp {"9" * 30}\n')
    with pytest.raises(DataError, match='ImageNet_LT_train.txt, line 1: expected "path label"'):
        fingerprint(root)

    def refuse(*_):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(Path, 'read_bytes', refuse)
    with pytest.raises(
        DataError, match=r'ImageNet_LT_train.txt cannot be read \(Permission denied\); make it readable'
    ):
        fingerprint(root)


@pytest.mark.parametrize(
    'broken',
    [
        {'file_name': 5},
        {'file_name': '\ud800.jpg'},
        {'category_id': -1},
        {'category_id': 'a cat'},
        {'category_id': 10**30},
        {'id': [1]},
    ],
)
def test_annotations_that_are_none_are_named(tmp_path, broken):
    row = {'id': 1, 'file_name': 'a.jpg', 'image_id': 1, 'category_id': 0, **broken}
    (tmp_path / 'train2018.json').write_text(json.dumps({'images': [row], 'annotations': [row]}))
    with pytest.raises(DataError, match=r'train2018\.json is not the official annotation file'):
        INaturalist2018(root=str(tmp_path), verify=False)


def test_annotations_with_names_outside_ascii_are_read(tmp_path):
    for part in ('train2018.json', 'val2018.json'):
        row = {'id': 1, 'file_name': 'ü/a.bmp', 'image_id': 1, 'category_id': 0}
        (tmp_path / part).write_text(json.dumps({'images': [row], 'annotations': [row]}))
    (tmp_path / 'ü').mkdir()
    draw(tmp_path / 'ü' / 'a.bmp', 1)
    data = INaturalist2018(root=str(tmp_path), verify=False)
    assert data.class_names == ('ü',)
    assert np.array_equal(data.train.labels, [0])

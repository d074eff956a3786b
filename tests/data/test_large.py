"""Smaller copies of large images: of the image that is there now, and as they were written; loaders that get stuck."""

from __future__ import annotations

import os
import time
import types

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.data import contents
from ltbench.data import large as files
from ltbench.data.base import FileSplit
from ltbench.data.batches import Share, SharedDataset
from ltbench.data.derived import FOLDER
from ltbench.data.large import ResizedCopies
from ltbench.data.samplers import InstanceBalanced, Paired
from ltbench.errors import DataError


@pytest.fixture
def split(tmp_path, monkeypatch):
    """A dark and a light bitmap of one size and time stamp."""
    monkeypatch.setattr(contents, 'SETTLED_NS', -1)
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path / 'data'))
    for name, grey in (('dark.bmp', 10), ('light.bmp', 200)):
        draw(tmp_path / name, grey)
    return FileSplit(tmp_path, np.array([b'dark.bmp', b'light.bmp']), np.array([0, 1]))


def draw(path, grey):
    Image.new('RGB', (20, 10), (grey, grey, grey)).save(path)
    os.utime(path, ns=(10**18, 10**18))


def greys(split):
    copies = ResizedCopies(split, 4)
    images = [copies.read(index) for index in range(len(split))]
    assert {image.size for image in images} == {(8, 4)}
    return [image.getpixel((2, 2))[0] for image in images]


def copy_of(split, name):
    return split.root / FOLDER / 'shorter-side-4' / f'{name}.jpg'


def test_images_that_were_swapped_get_new_copies(split):
    assert greys(split) == greys(split) == [10, 200]
    one, two, third = split.path(0), split.path(1), split.root / 'third'
    one.rename(third)
    two.rename(one)
    third.rename(two)
    assert greys(split) == [200, 10]


def test_copies_of_images_that_did_not_change_are_read_and_not_made(split):
    greys(split)
    before = copy_of(split, 'dark.bmp').stat()
    os.utime(split.path(0))  # another time, the same image
    assert greys(split) == [10, 200]
    assert copy_of(split, 'dark.bmp').stat() == before


@pytest.mark.parametrize('cut', [0, 100])
def test_a_damaged_copy_is_made_again(split, cut):
    greys(split)
    copy = copy_of(split, 'dark.bmp')
    whole = copy.read_bytes()
    if cut:
        copy.write_bytes(whole[:cut])
    else:  # a whole image of other pixels
        Image.new('RGB', (8, 4), 'white').save(copy)
    assert greys(split) == [10, 200]
    assert copy.read_bytes() == whole


def test_an_image_that_changes_during_a_run_gets_no_copy(split):
    copies = ResizedCopies(split, 4)
    draw(split.path(0), 99)
    with pytest.raises(DataError, match=r'dark\.bmp has changed since this run began; run the command again'):
        copies.read(0)
    assert not copy_of(split, 'dark.bmp').exists()
    assert greys(split) == [99, 200]


def test_a_copy_that_cannot_be_written_says_what_to_do(split):
    copies = ResizedCopies(split, 4)
    copies.folder.write_text('a file where the folder belongs')
    with pytest.raises(DataError, match=r'cannot be written .*free some space there, or do without .*pre_resize=None'):
        copies.read(0)


@pytest.mark.parametrize(
    ('free', 'workers', 'batch_bytes', 'fitting'),
    [
        (64 << 20, 4, 512 * 3 * 224**2, 0),  # Docker's default, and one batch of ImageNet-LT: it hung for ever
        (64 << 20, 4, 64 * 3 * 224**2, 2),
        (8 << 30, 4, 512 * 3 * 224**2, 4),
        (0, 0, 1, 0),
        (0, 2, 1, 0),
    ],
)
def test_only_as_many_processes_decode_as_shared_memory_has_room_for(
    free, workers, batch_bytes, fitting, monkeypatch, caplog
):
    monkeypatch.setattr(files.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=free))
    assert files.workers_that_fit(workers, batch_bytes) == fitting
    assert ('docker run --shm-size' in caplog.text) == (fitting < workers)


class Stalled(torch.utils.data.Dataset):
    image_bytes = 1

    def __len__(self):
        return 4

    def __getitems__(self, items):
        time.sleep(1)


def test_a_loader_that_stalls_ends_with_a_reason(monkeypatch):
    monkeypatch.setattr(files, 'STALL_SECONDS', 0.2)
    with pytest.raises(DataError, match='no batch of images has come for 0.2 s; look whether the disk'):
        next(iter(files.file_loader(Stalled(), None, 2, workers=1)))


class Broken(Stalled):
    def __getitems__(self, items):
        raise RuntimeError('out of ideas')


def test_other_errors_of_a_loader_stay_what_they_are(monkeypatch):
    with pytest.raises(RuntimeError, match='out of ideas'):
        next(iter(files.file_loader(Broken(), None, 2, workers=1)))


class Black(Stalled):
    image_bytes = 3 * 224 * 224

    def __getitems__(self, items):
        return {'images': torch.zeros(len(items), 224, 224, 3, dtype=torch.uint8)}


@pytest.mark.parametrize(('free', 'workers'), [(64 << 20, 0), (8 << 30, 2)])
def test_a_loader_decodes_here_where_shared_memory_is_too_small(free, workers, monkeypatch):
    """One batch of ImageNet-LT in a container of Docker's default size: it waited for ever."""
    monkeypatch.setattr(files.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=free))
    loader = files.file_loader(Black(), None, 512, workers=2)
    assert (loader.num_workers, loader.timeout) == (workers, files.STALL_SECONDS if workers else 0)
    assert [batch['images'].shape for batch in loader] == [(4, 224, 224, 3)]


def test_the_processes_of_a_run_have_one_shared_memory():
    """Each loads a part of the batch, and all parts together need room for the whole."""
    assert SharedDataset(Black(), Share(1, 4)).image_bytes == Black.image_bytes


def test_every_view_and_partner_of_an_image_needs_room(split, monkeypatch):
    monkeypatch.setattr(files, 'transform_of', lambda augmentation, training: None)  # would import torchvision
    augmentation = {'random_resized_crop': 224, 'resize': 256, 'center_crop': 192}
    one = 3 * 224 * 224
    assert files.FileDataset(split, augmentation, training=False).image_bytes == 3 * 192 * 192
    assert files.FileDataset(split, augmentation, training=True).image_bytes == one
    views = ['plain', {'random_resized_crop': 112}]
    dataset = files.FileDataset(split, augmentation, training=True, views=views)
    assert dataset.image_bytes == one + one / 4
    asked = []
    monkeypatch.setattr(files, 'workers_that_fit', lambda workers, batch_bytes: asked.append(batch_bytes) or 0)
    sampler = InstanceBalanced(split.labels)
    files.file_loader(dataset, files.SeededSampler(sampler), 8, workers=2)
    files.file_loader(dataset, files.SeededSampler(Paired(sampler, sampler)), 8, workers=2)
    assert asked == [8 * dataset.image_bytes, 16 * dataset.image_bytes]

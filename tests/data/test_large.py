"""Loaders of large images: what fits into shared memory, and what gets stuck."""

from __future__ import annotations

import time
import types

import numpy as np
import pytest
import torch

from ltbench.data import large as files
from ltbench.data.base import FileSplit
from ltbench.data.batches import Share, SharedDataset
from ltbench.data.samplers import InstanceBalanced, Paired
from ltbench.errors import DataError


@pytest.fixture
def split(tmp_path):
    """Two images that are never read."""
    return FileSplit(tmp_path, np.array([b'dark.bmp', b'light.bmp']), np.array([0, 1]))


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
    with pytest.raises(DataError, match='no batch of images has arrived for 0.2 s; check that the disk'):
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

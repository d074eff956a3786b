"""Prepared images: the pixels that decoding gives, of the images that are there now, however often it was cut short."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ltbench.data import contents, prepared
from ltbench.data.base import FileSplit
from ltbench.data.crops import NUMBERS, large_dataset, random_boxes, uniform
from ltbench.data.derived import FOLDER, cache_places
from ltbench.data.images import decode
from ltbench.data.large import file_loader, scaled
from ltbench.data.prepared import prepare
from ltbench.errors import DataError

SIDE = 32
SIZES = [(60, 48), (48, 61), (40, 40), (300, 33), (20, 31), (32, 57), (33, 32)]
"""Width and height: lying, upright, square, very wide, smaller than the side, of its width, of its height."""
AUGMENTATION = {'random_resized_crop': 24, 'flip': True, 'resize': SIDE, 'center_crop': 24, 'prepared': SIDE}


def draw(path, size, seed):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (7, 7, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(int)
    noisy = (pixels + random.integers(-30, 31, pixels.shape)).clip(0, 255)
    Image.fromarray(noisy.astype(np.uint8)).save(path, 'JPEG', quality=95)
    os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def split(tmp_path, monkeypatch):
    """Seven JPEG files, all of one time stamp."""
    monkeypatch.setattr(contents, 'SETTLED_NS', -1)
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path / 'data'))
    root = tmp_path / 'images'
    root.mkdir()
    names = [f'{number}.jpg' for number in range(len(SIZES))]
    for number, size in enumerate(SIZES):
        draw(root / names[number], size, number)
    return FileSplit(root, np.array([name.encode() for name in names]), np.arange(len(names)) % 2)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the images that are decoded to be prepared, those to tell their size by left out."""
    names = []
    monkeypatch.setattr(prepared, 'decode', lambda path: names.append(path.name) or decode(path))
    monkeypatch.setattr(prepared, '_bytes_of', lambda split, side, rows: 1)
    return names


def files_of(split):
    return sorted((split.root / FOLDER).glob(f'shorter-side-{SIDE}-*/*.images'))


def pixels_of(split):
    images = prepare(split, SIDE)
    assert len(images) == len(split)
    return [images[index].numpy() for index in range(len(split))]


def as_decoded(split):
    """What torchvision's ``Resize`` makes of each decoded image."""
    return [np.asarray(v2.Resize(SIDE)(decode(split.path(index)))) for index in range(len(split))]


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_prepared_images_are_those_that_resize_gives_bit_by_bit(split):
    images = pixels_of(split)
    assert [image.shape[:2] for image in images[:4]] == [(32, 40), (40, 32), (32, 32), (32, 290)]
    assert same(images, as_decoded(split))


def test_test_images_are_equal_prepared_and_decoded(split):
    items = [(index, 0) for index in range(len(split))]
    ways = [large_dataset(split, {**AUGMENTATION, 'prepared': side}, training=False) for side in (SIDE, None)]
    ours, theirs = (way.__getitems__(items)['images'] for way in ways)
    assert torch.equal(ours, theirs)


def test_crops_of_pixels_are_pillows_within_one_of_255(split):
    images, far = prepare(split, SIDE), []
    for number in range(200):
        pixels = images[number % len(split)]
        box = random_boxes(np.array([pixels.shape[:2]]), uniform(np.array([number], np.uint64), NUMBERS))[0].tolist()
        top, left, height, width = box
        part = Image.fromarray(pixels.numpy()).crop((left, top, left + width, top + height))
        theirs = np.asarray(part.resize((24, 24), Image.Resampling.BILINEAR)).astype(int)
        far.append(np.abs(scaled(pixels, box, 24).numpy() - theirs))
    assert np.max(far) <= 1
    assert np.mean(far) < 0.05  # sizes so small meet ties more often than photographs


def test_crops_are_drawn_as_torchvision_draws_them():
    """Same area, shape and place in distribution; where nothing fits the same part in the centre."""
    count, size = 20_000, (256, 341)
    ours = random_boxes(np.full((count, 2), size), uniform(np.arange(count, dtype=np.uint64), NUMBERS))
    crop, canvas = v2.RandomResizedCrop(224), torch.empty(3, *size, device='meta')
    torch.manual_seed(0)
    drawn = [crop.make_params([canvas]) for _ in range(5000)]
    theirs = np.array([[one[name] for name in ('top', 'left', 'height', 'width')] for one in drawn])
    assert (ours >= [0, 0, 1, 1]).all()
    assert (ours[:, :2] + ours[:, 2:] <= size).all()
    for quantile in (0.1, 0.5, 0.9):
        assert np.quantile(ours, quantile, axis=0) == pytest.approx(np.quantile(theirs, quantile, axis=0), abs=7)
    assert np.corrcoef(ours.T) == pytest.approx(np.corrcoef(theirs.T), abs=0.05)
    for height, width in ((32, 500), (500, 32)):
        box = random_boxes(np.array([[height, width]]), uniform(np.array([3], np.uint64), NUMBERS))[0].tolist()
        assert box == [
            crop.make_params([torch.empty(3, height, width)])[name] for name in ('top', 'left', 'height', 'width')
        ]


def test_draws_of_neighbours_have_nothing_in_common():
    """Seeds of neighbours in an epoch differ by the step between an image's own numbers."""
    seeds = (7 + np.arange(2000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) % np.uint64(2**63)
    numbers = uniform(seeds, 30)
    assert len(np.unique(numbers)) == numbers.size
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)
    for shift in (0, 1, 2):
        pairs = np.corrcoef(numbers[: 2000 - shift, 5], numbers[shift:, 6])
        assert abs(pairs[0, 1]) < 0.08


# ---------------------------------------------------------------------------------------------- what is made, and when


def test_images_are_decoded_once_and_found_by_parts_of_the_split_too(split, decoded):
    first = pixels_of(split)
    assert len(decoded) == len(split)
    assert same(pixels_of(split), first)
    assert same(pixels_of(split.take(np.array([4, 1]))), [first[4], first[1]])
    os.utime(split.path(0))  # another time, the same image
    pixels_of(split)
    assert len(decoded) == len(split)


def test_an_image_that_changed_is_made_again_and_no_other(split, decoded):
    before = pixels_of(split)
    decoded.clear()
    draw(split.path(2), SIZES[2], seed=99)
    after = pixels_of(split)
    assert decoded == ['2.jpg']
    assert same(after, as_decoded(split))
    assert not np.array_equal(after[2], before[2])


def test_images_that_were_swapped_are_told_apart(split, decoded):
    before = pixels_of(split)
    one, two, third = split.path(0), split.path(1), split.root / 'third'
    one.rename(third)
    two.rename(one)
    third.rename(two)
    assert same(pixels_of(split), [before[1], before[0], *before[2:]])
    assert len(decoded) == len(split)


@pytest.mark.parametrize('damage', ['cut', 'emptied', 'changed', 'taken away'])
def test_a_file_that_is_not_as_it_was_written_is_made_again(split, damage, capsys, monkeypatch):
    monkeypatch.setattr(prepared, 'IMAGES_A_FILE', 3)
    before = pixels_of(split)
    whole = {path: path.read_bytes() for path in files_of(split)}
    assert len(whole) == 3
    path = files_of(split)[1]
    if damage == 'taken away':
        path.unlink()
    elif damage == 'changed':
        path.write_bytes(bytes([whole[path][0] ^ 1]) + whole[path][1:])
    else:
        path.write_bytes(whole[path][: 1000 if damage == 'cut' else 0])
    assert same(pixels_of(split), before)
    assert {path: path.read_bytes() for path in files_of(split)} == whole
    assert ('is damaged: preparing its images again' in capsys.readouterr().err) == (damage != 'taken away')


@pytest.mark.parametrize('workers', [0, 1])
def test_a_file_that_is_cut_while_it_is_used_is_an_error_with_a_name(split, workers):
    """Of a mapped file it would be a signal that ends the process."""
    loader = file_loader(large_dataset(split, AUGMENTATION, training=True), None, 7, workers)
    (path,) = files_of(split)
    whole = path.read_bytes()
    os.truncate(path, 1000)
    with pytest.raises(DataError, match=rf'prepared images in {path} cannot be read \(it is truncated\); run the same'):
        next(iter(loader))
    assert same(pixels_of(split), as_decoded(split))
    assert path.read_bytes() == whole


def test_a_disk_that_fails_while_a_file_is_used_is_an_error_with_a_name(split, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    images = prepare(split, SIDE)
    monkeypatch.setattr(prepared.os, 'preadv', fail)
    with pytest.raises(DataError, match=r'\.images cannot be read \(Input/output error\)'):
        images[3]


def test_a_file_that_cannot_be_read_for_a_moment_is_not_removed(split, decoded, monkeypatch):
    prepare(split, SIDE)
    (path,) = files_of(split)
    unread = contents.Contents(np.array([-1]), np.zeros((1, 32), np.uint8))
    real = prepared.contents_of
    monkeypatch.setattr(prepared, 'contents_of', lambda root, *of, **how: unread if how else real(root, *of))
    with pytest.raises(DataError, match=rf'{path} cannot be read at the moment'):
        prepare(split, SIDE)
    monkeypatch.setattr(prepared, 'contents_of', real)
    decoded.clear()
    prepare(split, SIDE)
    assert not decoded


def test_a_file_that_is_taken_away_while_it_is_used_is_still_read(split):
    images = prepare(split, SIDE)
    for path in files_of(split):
        path.unlink()
    assert np.array_equal(images[3].numpy(), as_decoded(split)[3])


def test_an_image_that_changes_meanwhile_is_not_prepared(split, monkeypatch):
    def change(path):
        image = decode(path)
        if path.name == '3.jpg':
            draw(path, SIZES[3], seed=99)
        return image

    monkeypatch.setattr(prepared, '_bytes_of', lambda split, side, rows: 1)
    monkeypatch.setattr(prepared, 'decode', change)
    with pytest.raises(DataError, match=r'3\.jpg has changed since this command began; run it again'):
        prepare(split, SIDE)
    monkeypatch.undo()
    assert not list((split.root / FOLDER).rglob('*.images'))


def test_one_damaged_image_names_itself(split):
    split.path(5).write_bytes(split.path(5).read_bytes()[:200])
    with pytest.raises(DataError, match=r'5\.jpg cannot be decoded'):
        prepare(split, SIDE)


@pytest.mark.parametrize('side', [SIDE, None])
def test_an_image_that_is_too_long_to_be_scaled_names_itself(split, side):
    """A line of a pixel would be 13 GB at ImageNet's size."""
    Image.new('RGB', (1, 65_000)).save(split.path(4), 'PNG')
    augmentation = {**AUGMENTATION, 'resize': 256, 'prepared': side and 256}
    said = r'4\.jpg is too long: 1 x 65,000 pixels, scaled to a shorter side of 256, become 16,640,000 x 256'
    with pytest.raises(DataError, match=said):
        large_dataset(split, augmentation, training=False).__getitems__([(4, 0)])


def test_what_another_decoder_made_is_not_used_and_removed(split, decoded, monkeypatch):
    pixels_of(split)
    monkeypatch.setattr(prepared, 'decoder', lambda: '01234567')
    pixels_of(split)
    assert len(decoded) == 2 * len(split)
    assert [path.name for path in (split.root / FOLDER).glob('shorter-side-*')] == [f'shorter-side-{SIDE}-01234567']


# ---------------------------------------------------------------------------------------------- cut short


PREPARE = f"""
import time
from pathlib import Path
import numpy as np
from ltbench.data import prepared
from ltbench.data.base import FileSplit
from ltbench.data.images import decode

def slow(path):
    time.sleep(0.1)
    return decode(path)

prepared.decode, prepared.IMAGES_A_FILE = slow, 2
root = Path('ROOT')
names = np.array([path.name.encode() for path in sorted(root.glob('*.jpg'))])
prepared.prepare(FileSplit(root, names, np.zeros(len(names), int)), {SIDE})
"""


@pytest.mark.slow
def test_a_killed_preparation_is_continued(split, decoded):
    for number in range(7, 40):
        draw(split.root / f'{number:02}.jpg', (40, 40), number)
    process = subprocess.Popen([sys.executable, '-c', PREPARE.replace('ROOT', str(split.root))])
    for _ in range(600):
        if len(files_of(split)) >= 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = len(files_of(split))
    assert 3 <= made < 20
    names = np.array([path.name.encode() for path in sorted(split.root.glob('*.jpg'))])
    whole = FileSplit(split.root, names, np.zeros(40, dtype=int))
    assert same(pixels_of(whole), as_decoded(whole))
    assert len(decoded) == 40 - 2 * made  # what was done is not done again


@pytest.mark.slow
def test_processes_that_prepare_at_once_make_each_image_once(split):
    processes = [subprocess.Popen([sys.executable, '-c', PREPARE.replace('ROOT', str(split.root))]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(files_of(split)) == 4
    assert same(pixels_of(split), as_decoded(split))


def test_a_second_one_waits_for_the_first(split, decoded, capsys):
    threads = [threading.Thread(target=prepare, args=(split, SIDE)) for _ in range(3)]
    place = split.root / FOLDER / f'shorter-side-{SIDE}-{prepared.decoder()}'
    place.mkdir(parents=True)
    with prepared._alone(place):
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        assert not decoded
    for thread in threads:
        thread.join()
    assert sorted(decoded) == sorted(path.name for path in split.root.glob('*.jpg'))
    assert f'another process is preparing images in {place}: waiting for it' in capsys.readouterr().err


def test_a_disk_without_room_is_told_before_anything_is_made(split, monkeypatch):
    monkeypatch.setattr(prepared.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=10_000))
    with pytest.raises(DataError) as error:
        prepare(split, SIDE)
    beside, elsewhere = cache_places(split.root)
    size = sum(image.nbytes for image in as_decoded(split)) * prepared.ROOM_TO_SPARE / 1000
    assert str(error.value).startswith(
        f'7 images of shorter side 32 ({size:.1f} kB) of {split.root} cannot be written: '
    )
    assert f'{beside} (the disk is full) nor in {elsewhere} (the disk is full); free some space' in str(error.value)
    assert not list(split.root.parent.rglob('*.images'))


def test_a_disk_that_fills_up_keeps_what_was_made(split, decoded, monkeypatch):
    real, begun, made, two_are_made = prepared._write, itertools.count(), [], threading.Event()

    def write(*arguments):
        if next(begun) >= 2:
            two_are_made.wait()  # by other threads: the failure stops what is unfinished
            raise OSError(errno.ENOSPC, 'No space left on device')
        made.append(real(*arguments))
        if len(made) == 2:
            two_are_made.set()
        return made[-1]

    monkeypatch.setattr(prepared, 'IMAGES_A_FILE', 1)
    monkeypatch.setattr(prepared, '_write', write)
    with pytest.raises(DataError, match=r'cannot be written: .*the disk is full'):
        prepare(split, SIDE)
    monkeypatch.setattr(prepared, '_write', real)
    assert len(files_of(split)) == 2
    decoded.clear()
    assert same(pixels_of(split), as_decoded(split))
    assert len(decoded) == len(split) - 2


def test_where_nothing_can_be_written_beside_the_images_they_are_under_the_data_folder(split):
    (split.root / FOLDER).write_text('a file where the folder belongs')
    assert same(pixels_of(split), as_decoded(split))
    assert list(cache_places(split.root)[1].rglob('*.images'))

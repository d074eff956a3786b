"""Large images decoded once: raw pixels of a fixed shorter side in a few files, found by an image's sha256."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.filesize import decimal
from torch import Tensor

from ltbench.console import say, transfer
from ltbench.data.base import FileSplit
from ltbench.data.contents import Contents, contents_of
from ltbench.data.derived import cache_places, in_first_place
from ltbench.data.images import decode, decoder
from ltbench.data.large import check_shape
from ltbench.errors import DataError
from ltbench.sealed import remove_abandoned, sha256_of, temporary

try:
    import fcntl
except ImportError:  # Windows: several processes may prepare the same images; each file is still whole
    fcntl = None  # type: ignore[assignment]

IMAGES_A_FILE = 1000
"""A killed preparation loses at most this many images per thread: 260 MB at a shorter side of 256, a few seconds.
Each file stays open, and the limit of a process is often 1,024 files: iNaturalist 2018 has 465."""
NAMED = re.compile(r'([0-9a-f]{64})\.images')
LOCK = 'lock'
ENTRY = np.dtype([('sha256', np.uint8, 32), ('height', '<i4'), ('width', '<i4')])
COUNT = np.dtype('<i8')
SAMPLED = 32  # images from which the space of all is estimated
ROOM_TO_SPARE = 1.05


class Pixels:
    """A file of pixels that may be truncated, replaced or lost with its disk while a run uses it.

    It is read, not memory-mapped: then such a loss raises an error with the file's name instead of a signal that ends
    the process. A crop to 224 pixels takes a seventh longer (per core 6,900 a second mapped, 5,900 read).

    Args:
        path: The file; stays open.

    Raises:
        DataError: Here and in :meth:`read`, if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open('rb', buffering=0)
            self.size = os.fstat(self.file.fileno()).st_size
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error

    def read(self, start: int, length: int) -> np.ndarray:
        """uint8 ``[length]``, starting at a byte."""
        found = np.empty(length, np.uint8)
        try:
            count = os.preadv(self.file.fileno(), [found.data], start)  # forked processes share one position
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        if count < length:
            raise self._error('it is truncated')
        return found

    def _error(self, reason: str) -> DataError:
        return DataError(
            f'the prepared images in {self.path} cannot be read ({reason}); run the same command again: damaged files '
            'are rebuilt'
        )


class Prepared:
    """The images of a split at one shorter side, decoded: a sequence of uint8 ``[height, width, 3]``.

    Args:
        files: Pixels of many images, one after the other.
        places: Of each image the number of its file, its first byte there, its height and width: int64 ``[N, 4]``.

    Attributes:
        sizes: Heights and widths, int64 ``[N, 2]``.
    """

    def __init__(self, files: Sequence[Pixels], places: np.ndarray) -> None:
        self.files, self.places, self.sizes = files, places, places[:, 2:]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Tensor:
        return self.lines(index, 0, int(self.sizes[index, 0]))

    def lines(self, index: int, top: int, height: int) -> Tensor:
        """Some lines of an image, uint8 ``[height, width, 3]``."""
        number, start, _, width = self.places[index].tolist()
        found = self.files[number].read(start + 3 * top * width, 3 * height * width)
        return torch.from_numpy(found).view(height, width, 3)


def prepare(split: FileSplit, side: int) -> Prepared:
    """The images of a split with a shorter side of ``side`` pixels; missing ones are prepared.

    Each is the decoded image, scaled up or down (bilinear, antialiased) to the size that torchvision's ``Resize`` gives
    it. A test image that is cropped from it is bit for bit equal to one that was decoded.

    The files are stored beside the images, or under the data folder if that place is not writable. An image is found by
    the sha256 of its file: an image that changed is prepared again, and one that is in several parts or folders of the
    set is prepared once. A file is named by its own sha256, which is compared whenever its size or a time stamp has
    changed: a truncated or changed file is removed and rebuilt. The next preparation continues one that was killed; a
    second process waits for the first.

    Args:
        split: The images.
        side: Shorter side in pixels.

    Raises:
        DataError: If an image is missing, changes or cannot be decoded, or the disk has no room for all of them.
    """
    contents = contents_of(split.root, split.names.tolist())
    name = f'shorter-side-{side}-{decoder()}'
    found, lacking = _find(split, contents.hashes, name)
    if found is not None:
        return found
    needed = _bytes_of(split, side, lacking)

    def make(folder: Path) -> None:
        place = folder / name
        place.mkdir(exist_ok=True)
        remove_abandoned(place)
        with _alone(place):
            _, lacking = _find(split, contents.hashes, name)  # another process may have prepared them meanwhile
            if len(lacking):
                if shutil.disk_usage(place).free < needed:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                _make(split, side, contents, lacking, place)
        for other in folder.glob(f'shorter-side-{side}-*'):
            if other != place:  # from another decoder, which gives other pixels
                shutil.rmtree(other, ignore_errors=True)

    in_first_place(split.root, f'{len(lacking):,} images of shorter side {side} ({decimal(needed)})', make)
    found, lacking = _find(split, contents.hashes, name)
    if found is None:
        raise DataError(f'{len(lacking):,} prepared images of {split.root} were changed or removed; try again')
    return found


def shrunk(image: Image.Image, side: int) -> np.ndarray:
    """Pixels uint8 ``[H, W, 3]`` of a decoded image at the size that torchvision's ``Resize(side)`` gives it."""
    shorter, longer = sorted(image.size)
    portrait = side, side * longer // shorter
    return np.asarray(
        image.resize(portrait if image.height > image.width else portrait[::-1], Image.Resampling.BILINEAR)
    )


def _shrunk_file(path: Path, side: int) -> np.ndarray:
    image = decode(path)
    check_shape(path, image, side)
    return shrunk(image, side)


def _find(split: FileSplit, hashes: np.ndarray, name: str) -> tuple[Prepared | None, np.ndarray]:
    """The images of a split if all are prepared, and the positions ``[M]`` of those that are not."""
    files: list[Pixels] = []
    known, places = [np.empty((0, 32), np.uint8)], [np.empty((0, 4), np.int64)]
    for folder in cache_places(split.root):
        for path in _whole_files(folder / name):
            file = Pixels(path)
            count = int(file.read(file.size - COUNT.itemsize, COUNT.itemsize).view(COUNT)[0])
            length = count * ENTRY.itemsize
            entries = file.read(file.size - COUNT.itemsize - length, length).view(ENTRY)
            heights, widths = entries['height'].astype(np.int64), entries['width'].astype(np.int64)
            lengths = 3 * heights * widths
            number = np.full(count, len(files))
            known.append(entries['sha256'])
            places.append(np.stack([number, np.cumsum(lengths) - lengths, heights, widths], axis=1))
            files.append(file)
    row_of = {key.tobytes(): row for row, key in enumerate(np.concatenate(known))}
    rows = np.array([row_of.get(key.tobytes(), -1) for key in hashes], dtype=np.int64)
    lacking = np.flatnonzero(rows < 0)
    return None if len(lacking) else Prepared(files, np.concatenate(places)[rows]), lacking


def _whole_files(folder: Path) -> Iterator[Path]:
    """The undamaged files of a folder; damaged ones are removed, with a message.

    Raises:
        DataError: If one cannot be read; it may be undamaged.
    """
    if not folder.is_dir():
        return
    names = sorted(path.name for path in folder.iterdir() if NAMED.fullmatch(path.name))
    contents = contents_of(folder, [os.fsencode(name) for name in names], unreadable_ok=True)
    for name, size, sha256 in zip(names, contents.sizes, contents.hashes, strict=True):
        if size < 0 and (folder / name).exists():  # hours of work, perhaps of another user
            raise DataError(
                f'{folder / name} cannot be read at the moment; run the same command again, or remove the file to '
                'prepare its images again'
            )
        if sha256.tobytes().hex() == name.partition('.')[0]:
            yield folder / name
            continue
        say(f'{folder / name} is damaged: preparing its images again')
        with suppress(OSError):  # no permission to remove it; it is not read either
            (folder / name).unlink()


def _bytes_of(split: FileSplit, side: int, rows: np.ndarray) -> int:
    """Estimated bytes of the images at ``rows``, from some of them."""
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLED)).astype(int)]
    return int(ROOM_TO_SPARE * len(rows) * np.mean([_shrunk_file(split.path(row), side).nbytes for row in some]))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other processes that prepare images in a folder.

    On a file system without locks they all do the same work, which does no harm.
    """
    with (folder / LOCK).open('w') as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f'another process is preparing images in {folder}: waiting for it')
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
        yield


def _make(split: FileSplit, side: int, contents: Contents, rows: np.ndarray, folder: Path) -> None:
    """Write the images at ``rows`` into files of a folder, one file per thread at a time."""
    _, first = np.unique(contents.hashes[rows], axis=0, return_index=True)
    rows = rows[np.sort(first)]
    parts = np.split(rows, range(IMAGES_A_FILE, len(rows), IMAGES_A_FILE))
    is_quick = len(rows) <= IMAGES_A_FILE  # no progress bar
    what, stopped = f'preparing {len(rows):,} images, shorter side {side}, in {folder}, only once', threading.Event()
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())
    try:
        showing = nullcontext(lambda count: None) if is_quick else transfer(what, int(contents.sizes[rows].sum()))
        with showing as advance, warnings.catch_warnings():
            warnings.filterwarnings('ignore', module=r'PIL\.')  # thousands of warnings about odd EXIF and large images
            written = [pool.submit(_write, split, side, contents, part, folder, stopped) for part in parts]
            for future in as_completed(written):
                advance(future.result())
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _write(
    split: FileSplit, side: int, contents: Contents, rows: np.ndarray, folder: Path, stopped: threading.Event
) -> int:
    """Write a file of images: their pixels, one after the other, an :data:`ENTRY` for each, and their number.

    Returns:
        Bytes of the source files of the images. An unfinished file is removed.
    """
    unfinished, digest = temporary(folder / 'images'), hashlib.sha256()
    entries = np.empty(len(rows), ENTRY)
    try:
        with unfinished.open('wb') as file:

            def write(block: bytes | memoryview) -> None:
                digest.update(block)
                file.write(block)

            for number, row in enumerate(rows.tolist()):
                if stopped.is_set():
                    return 0
                path = split.path(row)
                pixels = _shrunk_file(path, side)
                if sha256_of(path) != contents.hashes[row].tobytes().hex():
                    raise DataError(f'{path} has changed since this command began; run it again')
                entries[number] = contents.hashes[row], *pixels.shape[:2]
                write(np.ascontiguousarray(pixels).data)
            write(entries.tobytes())
            write(np.array([len(rows)], COUNT).tobytes())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / f'{digest.hexdigest()}.images')
    finally:
        with suppress(OSError):  # its folder may be gone: the first error is the one to show
            unfinished.unlink(missing_ok=True)
    return int(contents.sizes[rows].sum())

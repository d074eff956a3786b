"""Official lists of images in official folder trees; ImageNet-LT and Places-LT, which are downloaded by hand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from ltbench.console import make_console, printable
from ltbench.data.base import FileSplit, FileStatus, LongTailData, Size, data_root
from ltbench.errors import DataError, MethodWarning
from ltbench.registry import DATASETS
from ltbench.sealed import sha256_of

SHOWN = 3  # missing images named in a message
LABEL_DIGITS = 9


@dataclass(frozen=True)
class ListFile:
    """A published list file.

    Attributes:
        name: File name.
        sha256: Of each published version; empty if none is known.
        size: Bytes of the first version; 0 if unknown.
        images: Number of images that it lists; 0 if unknown.
    """

    name: str
    sha256: tuple[str, ...] = ()
    size: int = 0
    images: int = 0


class ListedLT(LongTailData):
    """Lines ``path label``, the paths under one root.

    Args:
        root: Folder of images and lists; empty is ``$LTBENCH_DATA/NAME``.
        verify: Compare the lists with the published checksums and totals. Without it any list in the official format is
            accepted, and the recorded setting shows that.

    Raises:
        DataError: If a list is missing or not the published one, or the first image of a list is missing.
    """

    folder: ClassVar[str]
    benchmark: ClassVar[str]
    lists: ClassVar[dict[str, ListFile]]  # 'train', 'test', perhaps 'validation'
    classes: ClassVar[int]
    train_images: ClassVar[int]
    groups: ClassVar[tuple[int, int, int] | None] = None
    getting: ClassVar[str] = 'says what to put where'
    by_hand: ClassVar[str] = ''  # what to put into {root}, for data that cannot be downloaded
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    @classmethod
    def published_size(cls, **options: Any) -> Size:
        """As the published lists say."""
        return Size(cls.classes, cls.train_images, cls.lists['test'].images, 3, None)

    def __init__(self, root: str = '', verify: bool = True) -> None:
        self.root = Path(root) if root else self.home()
        with readable(self.root):
            splits = {part: self._read(part, verify) for part in self.lists}
        self.train, self.test = splits['train'], splits['test']
        self.validation = splits.get('validation')
        number = int(max(split.labels.max() for split in splits.values())) + 1
        self.class_names = self._names(number)
        if verify:
            self._compare(number)

    def _read(self, part: str, verify: bool) -> FileSplit:
        path = self._list(self.root, part)
        if not path.is_file():
            raise DataError(f'{self.title}: {path} is missing; {self._mend()}')
        if verify and (wrong := self._difference(path, part)):
            raise DataError(f'{path} is not the published list: {wrong}; {self._mend()}')
        names, labels = self._entries(path)
        for name in names.tolist():
            if name.startswith(b'/') or (b'..' in name and b'..' in name.split(b'/')):
                raise DataError(
                    f'{path} lists {printable(name)}; all paths must be relative to {self.root} and inside it'
                )
        split = self._place(FileSplit(self.root, names, labels))
        if verify and (wrong := self._miscount(split, part)):
            raise DataError(f'{path} is not the published list: {wrong}; {self._mend()}')
        if not split.path(0).is_file():
            first = printable(split.path(0))
            raise DataError(f'{first}, the first image of {path.name}, is missing; {self._mend()}')
        return split

    @classmethod
    def _list(cls, root: Path, part: str) -> Path:
        """The file that lists the images of a part, whether or not it exists."""
        return root / cls.lists[part].name

    @classmethod
    def _entries(cls, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Names and labels that a list holds."""
        names, labels = [], []
        with readable(path):
            lines = path.read_bytes().splitlines()
        for number, line in enumerate(lines, start=1):
            name, _, label = line.rpartition(b' ')
            if not name or not label.isdigit() or len(label) > LABEL_DIGITS:
                text = line[:80].decode(errors='replace')
                raise DataError(f'{path}, line {number}: expected "path label", got {text!r}')
            names.append(name)
            labels.append(int(label))
        if not names:
            raise DataError(f'{path} is empty')
        return np.array(names, dtype=np.bytes_), np.array(labels)

    @classmethod
    def _place(cls, split: FileSplit) -> FileSplit:
        """The split with paths that exist, for trees of more than one published layout."""
        return split

    @classmethod
    def _difference(cls, path: Path, part: str) -> str:
        """How the bytes of a list differ from the published one; empty if they do not, or nothing is known."""
        published = cls.lists[part]
        if not published.sha256 or path.name != published.name:
            return ''
        with readable(path):
            actual = sha256_of(path)
        if actual in published.sha256:
            return ''
        size = path.stat().st_size
        return f'{size} bytes with sha256 {actual}, expected {published.size or "?"} bytes with {published.sha256[0]}'

    @classmethod
    def _miscount(cls, split: FileSplit, part: str) -> str:
        """How the length of a list differs from the published one; empty if it does not, or nothing is known."""
        published = cls.lists[part].images
        return f'it lists {len(split)} images, expected {published}' if published not in (0, len(split)) else ''

    @classmethod
    def _mend(cls) -> str:
        return f'`ltbench data get {cls.benchmark}` {cls.getting}'

    def _names(self, number: int) -> tuple[str, ...]:
        """The folder of the first training image of each class."""
        names = [str(label) for label in range(number)]
        labels, first = np.unique(self.train.labels, return_index=True)
        train = cast(FileSplit, self.train)  # as its lists are read
        for label, index in zip(labels, first, strict=True):
            names[label] = printable(train.path(index).parent.name)
        return tuple(names)

    def _compare(self, number: int) -> None:
        counts = np.asarray(self.class_counts)
        if (number, len(self.train)) != (self.classes, self.train_images):
            raise DataError(
                f'{self.title}: the lists have {number} classes and {len(self.train)} training images, '
                f'published are {self.classes} and {self.train_images}'
            )
        groups = (int((counts > 100).sum()), int(((counts >= 20) & (counts <= 100)).sum()), int((counts < 20).sum()))
        if self.groups and groups != self.groups:
            text = f'{self.title}: many / medium / few are {groups}, the literature says {self.groups}'
            warnings.warn(text, MethodWarning, stacklevel=2)

    @classmethod
    def home(cls) -> Path:
        """Folder of images and lists, unless the benchmark sets another one."""
        return data_root() / cls.folder

    @classmethod
    def check(cls) -> list[FileStatus]:
        """State of the lists under ``$LTBENCH_DATA``, and of every image that they list."""
        found = []
        for part in cls.lists:
            path = cls._list(cls.home(), part)
            status = cls._state(path, part)
            images = FileStatus(f'images of {path.name}', 'missing', f'not counted until {path.name} is whole')
            if status.state != 'missing':
                try:
                    split = cls._place(FileSplit(cls.home(), *cls._entries(path)))
                    images = _count(images.name, split)
                    if wrong := cls._miscount(split, part):
                        status = FileStatus(path.name, 'damaged', f'{path} is not the published list: {wrong}')
                except DataError as error:
                    status = FileStatus(path.name, 'damaged', str(error))
            found += [status, images]
        return found

    @classmethod
    def glance(cls) -> list[FileStatus]:
        """State of the lists; hundreds of thousands of images are not counted."""
        found = [cls._state(cls._list(cls.home(), part), part) for part in cls.lists]
        if all(status.state == 'whole' for status in found):
            found.append(FileStatus('images', 'images not counted', ''))
        return found

    @classmethod
    def _state(cls, path: Path, part: str) -> FileStatus:
        if not path.is_file():
            return FileStatus(path.name, 'missing', f'{path} is missing')
        if wrong := cls._difference(path, part):
            return FileStatus(path.name, 'damaged', f'{path} is not the published list: {wrong}')
        return FileStatus(path.name, 'whole', str(path))

    @classmethod
    def get(cls) -> None:
        """Download what is missing; if that needs an account, print what to put where.

        Raises:
            DataError: If something cannot be obtained, or has to be downloaded by hand.
        """
        if not cls.by_hand:
            return super().get()
        lacking = [status for status in cls.check() if status.state != 'whole']
        if not lacking:
            return
        root = cls.home().resolve()
        lines = [f'{cls.title} has to be downloaded by hand. What to put into {root}:', '']
        for published in cls.lists.values():
            known = [f'{published.size:,} bytes'] if published.size else []
            known += [f'sha256 {" or ".join(published.sha256)}'] if published.sha256 else []
            lines.append(f'  {published.name:22}  {", ".join([f"{published.images:,} lines", *known])}')
        lines += [cls.by_hand.format(root=root), 'What is missing or damaged now:', '']
        lines += [f'  {status.state:8} {status.name}  {status.detail}' for status in lacking]
        make_console().print('\n'.join(lines), highlight=False, soft_wrap=True)
        raise DataError(
            f'{cls.title} is not complete in {root}: put the files listed above there, then run '
            f'`ltbench data check {cls.benchmark}`'
        )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an OSError into a DataError that names the list."""
    try:
        yield
    except OSError as error:
        raise DataError(f'{path} cannot be read ({error.strerror}); make it readable') from error


def _count(name: str, split: FileSplit) -> FileStatus:
    """Whether the images exist. Each folder is read once: one look-up per file takes minutes on a network disk."""
    folders: dict[bytes, list[bytes]] = {}
    for listed in split.names.tolist():
        folder, _, file = listed.rpartition(b'/')
        folders.setdefault(folder, []).append(file)
    missing = []
    for folder, files in folders.items():
        try:
            with os.scandir(os.fsencode(split.root) + b'/' + folder) as entries:
                there = {entry.name for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            there = set()
        missing += [split.root / os.fsdecode(folder) / os.fsdecode(file) for file in files if file not in there]
    if not missing:
        return FileStatus(name, 'whole', f'all {len(split):,} are in {split.root}')
    shown = ', '.join(printable(path) for path in missing[:SHOWN])
    more = f' and {len(missing) - SHOWN:,} more' if len(missing) > SHOWN else ''
    there_are = f'{len(split) - len(missing):,} of {len(split):,} are there'
    return FileStatus(name, 'missing', f'{there_are}, {len(missing):,} are missing: {shown}{more}')


@DATASETS.register_module()
class ImageNetLT(ListedLT):
    """ImageNet-LT: 115,846 training, 20,000 validation and 50,000 test images of 1,000 classes.

    Liu et al., "Large-scale long-tailed recognition in an open world", CVPR 2019, https://arxiv.org/abs/1904.05160. The
    test images are ILSVRC's validation images, in wnid folders or flat.
    """

    title = 'ImageNet-LT'
    benchmark = 'imagenet_lt'
    folder = 'imagenet_lt'
    classes, train_images, groups = 1000, 115_846, (385, 479, 136)
    lists = {
        'train': ListFile(
            'ImageNet_LT_train.txt',
            ('efdbdad4f050237c310b2f354cf95a8b1d7c8d57a63c4ea4bb6bf2bcb012f37f',),
            4_658_674,
            115_846,
        ),
        'validation': ListFile(
            'ImageNet_LT_val.txt',
            ('9af7ba688acf9532ff5845a8fb14a1e97fdc4c51ac48bc72c08ea9c3f7ff142e',),
            804_172,
            20_000,
        ),
        'test': ListFile(
            'ImageNet_LT_test.txt',
            ('d1590191cf8a71fada7b1aaedaa2d139a2aea93ff2f1b755319d0bd8dbaa55d5',),
            2_344_500,
            50_000,
        ),
    }
    by_hand = """\
  train/WNID/*.JPEG       ILSVRC 2012's training images: 1,281,167 (or those listed), 148 GB,
                          such as train/n01440764/n01440764_190.JPEG
  val/WNID/*.JPEG         its validation images: 50,000, 7 GB,
                          such as val/n01440764/ILSVRC2012_val_00000293.JPEG; val/*.JPEG without folders also works

The three lists are in https://github.com/facebookresearch/classifier-balancing under data/ImageNet_LT.
For the images, register at https://image-net.org and download
  ILSVRC2012_img_train.tar  147,897,477,120 bytes, md5 1d675b47d978889d74fa0da5fadfb00e
  ILSVRC2012_img_val.tar      6,744,924,160 bytes, md5 29b22e2961454d5413ddabcf34fc5622
The first holds one archive per class, such as n01440764.tar: unpack each in a folder of its name,
{root}/train/n01440764. Unpack the second in {root}/val.
Images that are already on this machine need no copy:
  mkdir -p {root} && ln -s /path/to/ILSVRC2012/train {root}/train
"""

    @classmethod
    def _place(cls, split: FileSplit) -> FileSplit:
        if not split.path(0).is_file():  # the other published style: ILSVRC's validation images in one flat folder
            flat = np.array([b'val/' + name.rpartition(b'/')[2] for name in split.names], dtype=np.bytes_)
            if split.names[0].startswith(b'val/') and (split.root / flat[0].decode()).is_file():
                return FileSplit(split.root, flat, split.labels)
        return split


@DATASETS.register_module()
class PlacesLT(ListedLT):
    """Places-LT: 62,500 training, 7,300 validation and 36,500 test images of 365 classes.

    Liu et al., CVPR 2019, https://arxiv.org/abs/1904.05160. Both published styles of its lists (``train/airfield/...``
    and ``data_256/a/airfield/...``) name the same images.
    """

    title = 'Places-LT'
    benchmark = 'places_lt'
    folder = 'places_lt'
    classes, train_images, groups = 365, 62_500, (131, 163, 71)
    lists = {
        'train': ListFile(
            'Places_LT_train.txt',
            (
                '726c4871dcbf07ce2f857703bfe32e9a83ffbf52d704239f6d95c4f4f4c247f7',
                '09410632a22045212fb3231623261e8426ba8dc1887a2b633afeab78ba9c8868',
            ),
            images=62_500,
        ),
        'validation': ListFile('Places_LT_val.txt', images=7_300),
        'test': ListFile('Places_LT_test.txt', images=36_500),
    }
    by_hand = """\
  train/CLASS/*.jpg       Places365's training images of 256x256 pixels: 1,803,460 (or those listed), 24 GB,
                          such as train/airfield/00004851.jpg
  val/CLASS/*.jpg         its validation images: 36,500, 0.5 GB, such as val/airfield/Places365_val_00000435.jpg

The three lists are in https://github.com/facebookresearch/classifier-balancing under data/Places_LT. The images are
at http://places2.csail.mit.edu/download.html: places365standard_easyformat.tar (24 GB) unpacks to
places365_standard/train and places365_standard/val; move both into {root}.
Lists of the other published style (data_256/a/airfield/00004851.jpg, val_256/...) go with other archives, unpacked
in the same place:
  train_256_places365standard.tar  24 GB, md5 53ca1c756c3d1e7809517cc47c5561c5
  val_256.tar                      0.5 GB, md5 e27b17d8d44f4af9a78502beb927f808
Images that are already on this machine need no copy:
  mkdir -p {root} && ln -s /path/to/places365_standard/train {root}/train
"""

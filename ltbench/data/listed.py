"""ImageNet-LT, iNaturalist 2018 and Places-LT: official lists of images under official trees."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ltbench.data.base import FileSplit, FileStatus, LongTailData, data_root
from ltbench.errors import DataError, MethodWarning
from ltbench.registry import DATASETS


@dataclass(frozen=True)
class ListFile:
    """A published list file.

    Attributes:
        name: Of the file.
        sha256: Of each published version; empty where none is known.
        size: Bytes of the first version; 0 where it is not known.
    """

    name: str
    sha256: tuple[str, ...] = ()
    size: int = 0


class ListedLT(LongTailData):
    """Lines ``path label``, the paths under one root.

    Args:
        root: Folder of images and lists; empty is ``$LTBENCH_DATA/NAME``.
        verify: Compare the lists with the published checksums and totals. Without it anything in the official form is
            taken, and the setting says so.

    Raises:
        DataError: If a list is missing or not the published one, or the first image of a list is not there.
    """

    folder: ClassVar[str]
    benchmark: ClassVar[str]
    lists: ClassVar[dict[str, ListFile]]  # 'train', 'test', perhaps 'validation'
    classes: ClassVar[int]
    train_images: ClassVar[int]
    groups: ClassVar[tuple[int, int, int] | None] = None
    how: ClassVar[str]
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, root: str = '', verify: bool = True) -> None:
        self.root = Path(root) if root else data_root() / self.folder
        splits = {part: self._read(part, verify) for part in self.lists}
        self.train, self.test = splits['train'], splits['test']
        self.validation = splits.get('validation')
        number = int(max(split.labels.max() for split in splits.values())) + 1
        self.class_names = self._names(number)
        if verify:
            self._compare(number)

    def _read(self, part: str, verify: bool) -> FileSplit:
        path = self.root / self.lists[part].name
        if not path.is_file():
            raise DataError(f'{self.title}: {path} is missing. {self.how}')
        if verify and (wrong := _difference(path, self.lists[part])):
            raise DataError(f'{path} is not the published list: {wrong}. {self.how}')
        names, labels = [], []
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
            name, _, label = line.rpartition(' ')
            if not name or not label.isdigit():
                raise DataError(f'{path}, line {number}: expected "path label", got {line[:80]!r}')
            names.append(name)
            labels.append(int(label))
        if not names:
            raise DataError(f'{path} is empty')
        return self._find_images(FileSplit(self.root, np.array(names, dtype=np.bytes_), np.array(labels)), path)

    def _find_images(self, split: FileSplit, path: Path) -> FileSplit:
        if not split.path(0).is_file():
            raise DataError(f'{split.path(0)}, the first image of {path.name}, is missing. {self.how}')
        return split

    def _names(self, number: int) -> tuple[str, ...]:
        """The folder of the first training image of each class."""
        names = [str(label) for label in range(number)]
        labels, first = np.unique(self.train.labels, return_index=True)
        assert isinstance(self.train, FileSplit)
        for label, index in zip(labels, first, strict=True):
            names[label] = self.train.path(index).parent.name
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
    def check(cls) -> list[FileStatus]:
        """State of the lists under ``$LTBENCH_DATA``, and of the images they name."""
        root, found = data_root() / cls.folder, []
        for list_file in cls.lists.values():
            path = root / list_file.name
            if not path.is_file():
                found.append(FileStatus(list_file.name, 'missing', f'{path} is missing. {cls.how}'))
                continue
            wrong = _difference(path, list_file)
            found.append(FileStatus(list_file.name, 'damaged' if wrong else 'whole', wrong or str(path)))
            names = [line.rpartition(' ')[0] for line in path.read_text(encoding='utf-8').splitlines()]
            missing = [name for name in names if not (root / name).is_file()]
            state = 'missing' if missing else 'whole'
            detail = f'{len(missing)} of {len(names)} are missing, first {missing[0]}' if missing else f'{len(names)}'
            found.append(FileStatus(f'images of {list_file.name}', state, detail))
        return found

    @classmethod
    def get(cls) -> None:
        """Nothing that can be downloaded without an account.

        Raises:
            DataError: Says what to put where, unless all is there.
        """
        if any(status.state != 'whole' for status in cls.check()):
            raise DataError(f'{cls.title} must be fetched by hand. {cls.how} Then: ltbench data check {cls.benchmark}')


def _difference(path: Path, expected: ListFile) -> str:
    """What tells a file from the published one; empty if nothing does or nothing is known."""
    if not expected.sha256:
        return ''
    with path.open('rb') as file:
        actual = hashlib.file_digest(file, 'sha256').hexdigest()
    if actual in expected.sha256:
        return ''
    size = path.stat().st_size
    return f'{size} bytes with sha256 {actual}, expected {expected.size or "?"} bytes with {expected.sha256[0]}'


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
            'ImageNet_LT_train.txt', ('efdbdad4f050237c310b2f354cf95a8b1d7c8d57a63c4ea4bb6bf2bcb012f37f',), 4_658_674
        ),
        'validation': ListFile(
            'ImageNet_LT_val.txt', ('9af7ba688acf9532ff5845a8fb14a1e97fdc4c51ac48bc72c08ea9c3f7ff142e',), 804_172
        ),
        'test': ListFile(
            'ImageNet_LT_test.txt', ('d1590191cf8a71fada7b1aaedaa2d139a2aea93ff2f1b755319d0bd8dbaa55d5',), 2_344_500
        ),
    }
    how = (
        'Put the lists of facebookresearch/classifier-balancing (data/ImageNet_LT) into $LTBENCH_DATA/imagenet_lt, and '
        'the images of ILSVRC 2012 (register at image-net.org) beside them as train/WNID/*.JPEG and val/WNID/*.JPEG.'
    )

    def _find_images(self, split: FileSplit, path: Path) -> FileSplit:
        if not split.path(0).is_file():  # the other published style: ILSVRC's validation images in one flat folder
            flat = np.array([b'val/' + name.rpartition(b'/')[2] for name in split.names], dtype=np.bytes_)
            if split.names[0].startswith(b'val/') and (self.root / flat[0].decode()).is_file():
                return FileSplit(split.root, flat, split.labels)
        return super()._find_images(split, path)


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
        ),
        'validation': ListFile('Places_LT_val.txt'),
        'test': ListFile('Places_LT_test.txt'),
    }
    how = (
        'Put the lists of facebookresearch/classifier-balancing (data/Places_LT) into $LTBENCH_DATA/places_lt, and '
        'the images of Places365 (places2.csail.mit.edu, 256x256) beside them in the folders that the lists name.'
    )


@DATASETS.register_module()
class INaturalist2018(ListedLT):
    """iNaturalist 2018: 437,513 training and 24,426 validation images of 8,142 classes; reported on validation.

    Van Horn et al., CVPR 2018, https://arxiv.org/abs/1707.06642. Read from the text lists, or from the official
    ``train2018.json`` and ``val2018.json`` where those are not there.
    """

    title = 'iNaturalist 2018'
    benchmark = 'inat2018'
    folder = 'inat2018'
    classes, train_images, groups = 8142, 437_513, (842, 4076, 3224)
    mean = (0.466, 0.471, 0.380)
    std = (0.195, 0.194, 0.192)
    lists = {
        'train': ListFile(
            'iNaturalist18_train.txt', ('158fa2dca040e6e95b06c68c7cdff40fe696f202793b2aa0e8b854321ffe1adf',), 29_804_998
        ),
        'test': ListFile(
            'iNaturalist18_val.txt', ('efaeff65f80641b60864470e6f255aa69453406ef5717eec8c6681748f3a61f3',), 1_677_390
        ),
    }
    json_files = {'train': 'train2018.json', 'test': 'val2018.json'}
    how = (
        'Put train_val2018.tar.gz of the iNaturalist 2018 competition (visipedia/inat_comp), unpacked, into '
        '$LTBENCH_DATA/inat2018, and either its train2018.json and val2018.json or the lists of '
        'facebookresearch/classifier-balancing beside it.'
    )

    def _read(self, part: str, verify: bool) -> FileSplit:
        path = self.root / self.json_files[part]
        if (self.root / self.lists[part].name).is_file() or not path.is_file():
            return super()._read(part, verify)
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            files = {image['id']: image['file_name'] for image in content['images']}
            pairs = [(files[row['image_id']], row['category_id']) for row in content['annotations']]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f'{path} is not the official annotation file: {error!r}. {self.how}') from error
        names, labels = zip(*pairs, strict=True)
        return self._find_images(FileSplit(self.root, np.array(names, dtype=np.bytes_), np.array(labels)), path)

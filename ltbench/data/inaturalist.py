"""inat2018: iNaturalist 2018, from the text lists or the official annotations."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from ltbench.data.download import RemoteFile
from ltbench.data.listed import ListedLT, ListFile, readable
from ltbench.errors import DataError
from ltbench.registry import DATASETS


@DATASETS.register_module()
class INaturalist2018(ListedLT):
    """iNaturalist 2018: 437,513 training and 24,426 validation images of 8,142 classes; reported on validation.

    Van Horn et al., CVPR 2018, https://arxiv.org/abs/1707.06642. Read from the text lists, or from the official
    ``train2018.json`` and ``val2018.json`` where those are not there.
    """

    title = 'iNaturalist 2018'
    benchmark = 'inat2018'
    folder = 'inat2018'
    getting = 'downloads it (120 GB, and as much again while they are unpacked)'
    classes, train_images, groups = 8142, 437_513, (842, 4076, 3224)
    mean = (0.466, 0.471, 0.380)
    std = (0.195, 0.194, 0.192)
    lists = {
        'train': ListFile(
            'iNaturalist18_train.txt',
            ('158fa2dca040e6e95b06c68c7cdff40fe696f202793b2aa0e8b854321ffe1adf',),
            29_804_998,
            437_513,
        ),
        'test': ListFile(
            'iNaturalist18_val.txt',
            ('efaeff65f80641b60864470e6f255aa69453406ef5717eec8c6681748f3a61f3',),
            1_677_390,
            24_426,
        ),
    }
    json_files = {'train': 'train2018.json', 'test': 'val2018.json'}
    site = 'https://ml-inat-competition-datasets.s3.amazonaws.com/2018'
    annotations = {
        'train2018.json': RemoteFile(
            f'{site}/train2018.json.tar.gz', 'bfa29d89d629cbf04d826a720c0a68b0', folder=folder
        ),
        'val2018.json': RemoteFile(f'{site}/val2018.json.tar.gz', 'f2ed8bfe3e9901cdefceb4e53cd3775d', folder=folder),
    }
    photographs = RemoteFile(f'{site}/train_val2018.tar.gz', 'b1c6952ce38f31868cc50ea72d066cc3', folder=folder)

    @classmethod
    def sources(cls) -> dict[str, RemoteFile]:
        """The official annotations; one archive holds the images of both lists, in either format."""
        lists = [*(published.name for published in cls.lists.values()), *cls.json_files.values()]
        return cls.annotations | {f'images of {name}': cls.photographs for name in lists}

    @classmethod
    def _list(cls, root: Path, part: str) -> Path:
        text = super()._list(root, part)
        return text if text.is_file() else root / cls.json_files[part]

    @classmethod
    def _entries(cls, path: Path) -> tuple[np.ndarray, np.ndarray]:
        if path.suffix != '.json':
            return super()._entries(path)
        try:
            with readable(path):
                content = json.loads(path.read_bytes())
            files = {image['id']: image['file_name'] for image in content['images']}
            pairs = [(files[row['image_id']], row['category_id']) for row in content['annotations']]
            names = np.array([os.fsencode(name) for name, _ in pairs])
            labels = np.array([label for _, label in pairs], dtype=np.int64)
            if labels.min() < 0:
                raise ValueError('a category below 0')
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DataError(f'{path} is not the official annotation file: {error!r}; {cls._mend()}') from error
        return names, labels

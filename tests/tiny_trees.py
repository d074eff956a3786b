"""Tiny data in the official layouts of every benchmark."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ltbench.data import cifar, fashion_mnist
from ltbench.registry import DATASETS

LARGE = {'ImageNetLT': 3, 'INaturalist2018': 3, 'PlacesLT': 3}  # classes of the tiny trees
COUNTS = (12, 5, 3)


def photograph(path: Path, random: np.random.Generator, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)).save(path)


def listed(root: Path, data: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """Official lists over a tree; each data set's own file names."""
    styles = {
        'ImageNetLT': '{part}/n0{label}/{kind}_{number}.JPEG',
        'INaturalist2018': 'train_val2018/Plantae/{label}/{kind}{number}.jpg',
        'PlacesLT': '{part}/airfield{label}/{kind}{number}.jpg',
    }
    for kind, file in DATASETS.get(data['type']).lists.items():
        lines = []
        for label in range(3):
            for number in range(COUNTS[label] if kind == 'train' else 2):
                part = 'val' if kind == 'test' else 'train'
                name = styles[data['type']].format(part=part, label=label, kind=kind, number=number)
                photograph(root / name, random, 40)
                lines.append(f'{name} {label}')
        (root / file.name).write_text('\n'.join(lines) + '\n')
    return {'data.root': str(root), 'data.verify': False}


def folders(root: Path, data: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """ROOT/train/CLASS and ROOT/test/CLASS."""
    for name, (part, count) in itertools.product(('ant', 'bee', 'cat', 'dog'), (('train', 12), ('test', 3))):
        for number in range(count):
            photograph(root / part / name / f'{number}.png', random, 16)
    return {'data.root': str(root), 'data.image_size': 16, 'data.imbalance_factor': 4}


def pickles(root: Path, data: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """The official CIFAR pickles, with fewer images."""
    kind = DATASETS.get(data['type'])
    classes, per_class = (10, 12) if kind is cifar.CIFAR10LT else (100, 4)
    form = kind.pickles
    folder = root.parent / form.folder
    folder.mkdir(parents=True)
    for files, count in ((form.train, per_class), (form.test, 1)):
        labels = random.permutation(np.repeat(np.arange(classes), count))
        for file, mine in zip(files, np.array_split(labels, len(files)), strict=True):
            pixels = random.integers(0, 256, (len(mine), 3072), dtype=np.uint8)
            (folder / file).write_bytes(pickle.dumps({'data': pixels, form.label_key: mine.tolist()}))
    return {'data.imbalance_factor': 4 if classes == 10 else 2}


def idx_files(root: Path, data: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """Fashion-MNIST's four files."""
    folder = root.parent / fashion_mnist.RAW_FOLDER
    folder.mkdir(parents=True)
    for part, count in (('train', 120), ('t10k', 20)):
        labels, images = np.arange(count, dtype=np.uint8) % 10, random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        contents = {
            f'{part}-images-idx3-ubyte': struct.pack('>4i', 2051, count, 28, 28) + images.tobytes(),
            f'{part}-labels-idx1-ubyte': struct.pack('>2i', 2049, count) + labels.tobytes(),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
            fashion_mnist.MD5[name] = hashlib.md5(content).hexdigest()
    return {'data.n_max': 12, 'data.imbalance_factor': 4}


def digits(root: Path, data: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    return {'data.n_max': 30, 'data.imbalance_factor': 10, 'data.test_per_class': 5}


MAKERS: dict[str, Callable[[Path, dict[str, Any], np.random.Generator], dict[str, Any]]] = {
    **dict.fromkeys(LARGE, listed), 'FolderLT': folders, 'CIFAR10LT': pickles, 'CIFAR100LT': pickles,
    'FashionMNISTLT': idx_files, 'DigitsLT': digits,
}  # fmt: skip

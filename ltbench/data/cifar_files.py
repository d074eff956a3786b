"""The two forms in which CIFAR is published: pickles ("python version") and records ("binary version")."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltbench.data.base import FileStatus, data_root
from ltbench.data.download import RemoteFile

PIXELS = 3 * 32 * 32  # bytes of an image: the red plane, then green, then blue, each row by row


@dataclass(frozen=True, kw_only=True)
class Version:
    """One published form of a data set; all forms hold the same images in the same order.

    Attributes:
        archive: The archive that holds it.
        folder: Folder of its files, under the data folder.
        train: Name -> md5 of the files of the training part, in order.
        test: Likewise of the test part.
    """

    archive: RemoteFile
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]

    @property
    def files(self) -> dict[str, str]:
        """Name -> md5 of every file that has to be there."""
        return {**self.train, **self.test}

    @property
    def place(self) -> Path:
        """Its folder."""
        return data_root() / self.folder

    def images(self, file: str) -> np.ndarray:
        """Pixels of one file, uint8 ``[N, 3072]``, planes one after the other."""
        raise NotImplementedError

    def labels(self, file: str) -> np.ndarray:
        """Classes of one file's images, int64 ``[N]``."""
        raise NotImplementedError

    def check(self) -> list[FileStatus]:
        """Compare every file with its published md5."""
        return [_status(self.place / name, md5) for name, md5 in self.files.items()]


@dataclass(frozen=True, kw_only=True)
class Pickles(Version):
    """The "python version": pickled dictionaries.

    Attributes:
        label_key: Key of the labels in these dictionaries.
        meta: Name -> md5 of the file of class names. The md5 shows that they equal ours.
    """

    label_key: str
    meta: Mapping[str, str]

    @property
    def files(self) -> dict[str, str]:
        """Name -> md5 of every file that has to be there."""
        return {**super().files, **self.meta}

    def images(self, file: str) -> np.ndarray:
        """Pixels of one file, uint8 ``[N, 3072]``, planes one after the other."""
        return self._read(file)['data']

    def labels(self, file: str) -> np.ndarray:
        """Classes of one file's images, int64 ``[N]``."""
        return np.asarray(self._read(file)[self.label_key], dtype=np.int64)

    def _read(self, file: str) -> dict[str, np.ndarray]:
        with (self.place / file).open('rb') as opened:
            return pickle.load(opened, encoding='latin1')


@dataclass(frozen=True, kw_only=True)
class Binary(Version):
    """The "binary version": records of one length, labels first.

    Attributes:
        label_bytes: Number of label bytes before the pixels; the last is the class (CIFAR-100: superclass, class).
    """

    label_bytes: int

    def images(self, file: str) -> np.ndarray:
        """Pixels of one file, uint8 ``[N, 3072]``, planes one after the other."""
        return self._records(file)[:, self.label_bytes :]

    def labels(self, file: str) -> np.ndarray:
        """Classes of one file's images, int64 ``[N]``."""
        return self._records(file)[:, self.label_bytes - 1].astype(np.int64)

    def _records(self, file: str) -> np.ndarray:
        return np.fromfile(self.place / file, np.uint8).reshape(-1, self.label_bytes + PIXELS)


def _status(path: Path, md5: str) -> FileStatus:
    if not path.is_file():
        return FileStatus(path.name, 'missing', f'{path} is missing')
    try:
        with path.open('rb') as file:
            actual = hashlib.file_digest(file, 'md5').hexdigest()
    except OSError as error:
        return FileStatus(path.name, 'damaged', f'{path} cannot be read ({error.strerror})')
    if actual != md5:
        return FileStatus(path.name, 'damaged', f'{path} is damaged: md5 is {actual}, expected {md5}')
    return FileStatus(path.name, 'whole', str(path))

"""Contents of a tree of class folders: the images of each class, and all other files, by name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ltbench.console import printable
from ltbench.data.derived import FOLDER as CACHE
from ltbench.data.images import suffixes
from ltbench.errors import DataError

SHOWN = 5  # names listed in a message
TRAIN = ('train', 'training')
TEST = ('test', 'testing', 'val', 'valid', 'validation')  # the first one that exists is used
SYSTEM = ('__macosx', 'thumbs.db', 'desktop.ini', '@eadir', '$recycle.bin', 'system volume information', 'lost+found')

# kinds of files; any other text is the reason why a file cannot be read
IMAGE, OTHER, HIDDEN = 'image', 'files without an image suffix', 'hidden or system files'
OUTSIDE = 'images outside the class folders'


@dataclass
class ClassFolders:
    """One part of a data set.

    Attributes:
        folder: Holds one folder per class.
        images: Name of each class folder -> its images, including those in subfolders, sorted by name.
        unreadable: Files and folders that cannot be read, with the reason.
        left_out: Kind -> names of files that are not used.
        deeper: Names of images that are not directly in their class folder.
    """

    folder: Path
    images: dict[str, list[Path]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    deeper: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """All images, class by class."""
        return [path for paths in self.images.values() for path in paths]

    @property
    def notes(self) -> list[str]:
        """What is not used, and what is read in a way that may surprise."""
        notes = [f'not used, {kind}: {len(names):,} ({some(names)})' for kind, names in self.left_out.items()]
        if self.deeper:
            notes.append(f'images in subfolders of a class folder, read as that class: {_counted(self.deeper)}')
        return notes


@dataclass(frozen=True)
class Parts:
    """The parts of a data set; ``test`` is None where it has no folder. ``notes`` say what is not used."""

    train: ClassFolders
    test: ClassFolders | None
    notes: tuple[str, ...]


def read_parts(root: Path) -> Parts:
    """Find the images of the training part and of the test part below ``root``.

    ``root/train`` is the training part and ``root/test`` (else ``root/val``) the test part, if they contain folders;
    upper or lower case makes no difference. A ``train`` folder with images but without folders is a class of that name.
    If there is no training part, ``root`` itself contains the class folders. Names that differ only in the Unicode form
    of their accents, as after copying from macOS, are the same class.

    Raises:
        DataError: If the training part has fewer than two classes or a class without images, or the test part has a
            class that the training part does not have.
    """
    folders = {path.name.lower(): path for path in _folders(root)}
    train, test = (
        next((folders[name] for name in names if _folders(folders.get(name))), None) for names in (TRAIN, TEST)
    )
    if train is None:
        if test is not None:
            text = f'{printable(test)} contains folders, but there is no train/ next to it'
            raise DataError(f'{text}: move the training classes into train/, or rename that folder if it is a class')
        part = _read(root, '')
        _check_classes(part)
        return Parts(part, None, tuple(part.notes))
    training, testing = _read(train, f'{train.name}/'), _read(test, f'{test.name}/') if test else None
    _check_classes(training)
    notes = training.notes
    if testing:
        _compare(training, testing)
        notes += testing.notes
        if testing.folder.name.lower() not in TEST[:2]:
            notes.append(f'there is no test/: {testing.folder.name}/ is used as the test part')
        if lacking := [name for name in training.images if not testing.images.get(name)]:
            notes.append(f'classes without test images: {_counted(lacking)}; their accuracy is not measured')
    beside = [path for path in sorted(root.iterdir()) if path not in (train, test) and path.name != CACHE]
    if beside:
        parts = ' and '.join(f'{path.name}/' for path in (train, test) if path)
        notes.append(f'not used, next to {parts}: {some([_with_count(path) for path in beside])}')
    return Parts(training, testing, tuple(notes))


def some(names: Sequence[str], shown: int = SHOWN) -> str:
    """The first names, and how many more there are; all of them printable."""
    more = f' and {len(names) - shown:,} more' if len(names) > shown else ''
    return ', '.join(map(printable, names[:shown])) + more


def _counted(names: Sequence[str]) -> str:
    return f'{len(names):,} ({some(names)})'


def _folders(folder: Path | None) -> list[Path]:
    """The folders in a folder that may be classes."""
    if folder is None:
        return []
    try:
        return sorted(path for path in folder.iterdir() if not _is_hidden(path.name) and _is_folder(path))
    except OSError as error:
        raise DataError(f'{printable(folder)} cannot be read ({error.strerror}); make it readable') from error


def _is_folder(path: Path) -> bool:
    """Whether it is one. A link to a place without permission counts as none, unless it is named like a part.

    Raises:
        OSError: If there is no permission to look at it.
    """
    try:
        return path.is_dir()
    except OSError:
        if path.is_symlink() and path.name.lower() not in TRAIN + TEST:
            return False
        raise


def _is_hidden(name: str) -> bool:
    return name.startswith('.') or name.lower() in SYSTEM


def _read(folder: Path, prefix: str) -> ClassFolders:
    part = ClassFolders(folder, {path.name: [] for path in _folders(folder)})
    for name, kind in _walk(folder, '', ()):
        owner, *below = name.split('/')
        if kind == IMAGE and below:
            part.images[owner].append(folder / name)
            if len(below) > 1:
                part.deeper.append(prefix + name)
        elif kind in (IMAGE, OTHER, HIDDEN):
            part.left_out.setdefault(OUTSIDE if kind == IMAGE else kind, []).append(prefix + name)
        else:
            part.unreadable.append(f'{printable(folder / name)} ({kind})')
    return part


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
    """Sorted names below a folder, each with its kind. ``above`` identifies the folders that contain this one."""
    try:
        found = folder.stat()
        here = found.st_dev, found.st_ino
        if here in above:
            yield prefix.rstrip('/'), 'a link to a folder that contains it'
            return
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield prefix.rstrip('/') or '.', str(error.strerror)
        return
    for entry in ordered:
        name, kind = prefix + entry.name, _kind(entry)
        if kind == '':
            yield from _walk(folder / entry.name, f'{name}/', (*above, here))
        elif entry.name != CACHE:
            yield name, kind


def _kind(entry: os.DirEntry[str]) -> str:
    """The kind of a file; empty for a folder."""
    if _is_hidden(entry.name):
        return HIDDEN
    try:
        if entry.is_symlink():
            entry.stat()  # raises the reason; is_dir() and is_file() would return False
        if entry.is_dir():
            return ''
        if os.path.splitext(entry.name)[1].lower() not in suffixes():  # noqa: PTH122 - a Path for each takes longer
            return OTHER
        if not entry.is_file():
            return 'not a regular file'
    except FileNotFoundError:
        return 'a broken link'
    except OSError as error:
        return str(error.strerror)
    return IMAGE if os.access(entry.path, os.R_OK) else 'no permission to read it'


def _check_classes(part: ClassFolders) -> None:
    where, classes = printable(part.folder), list(part.images)
    if len(classes) < 2:
        inner = _folders(part.folder / classes[0]) if classes else []
        hint = f'; {printable(classes[0])}/ contains {len(inner)} folders: use it as root' if len(inner) > 1 else ''
        raise DataError(f'{where} needs two or more class folders, but has {some(classes) or "none"}{hint}')
    empty = [name for name, images in part.images.items() if not images]
    if empty and not part.unreadable:  # those are reported first
        others = part.left_out.get(OTHER, [])
        hint = f'; {len(others):,} files have no image suffix: {some(others)}' if others else ''
        raise DataError(f'{where}: class folders without images: {some(empty)}; fill or remove them{hint}')


def _compare(train: ClassFolders, test: ClassFolders) -> None:
    """Check that all test classes are training classes, and give them the names of these."""
    alike = {_composed(name): name for name in train.images if name not in test.images}
    test.images = {
        name if name in train.images else alike.pop(_composed(name), name): images
        for name, images in test.images.items()
    }
    if set(test.images) - set(train.images):
        odd = sorted(set(test.images) ^ set(train.images))
        raise DataError(
            f'{printable(train.folder.parent)}: {train.folder.name} and {test.folder.name} have different classes: '
            f'{some(odd)}'
        )


def _composed(name: str) -> str:
    """The name with each accented letter as one character; macOS writes two."""
    return unicodedata.normalize('NFC', name)


def _with_count(path: Path) -> str:
    if not _is_folder(path):
        return path.name
    return f'{path.name}/ ({sum(kind == IMAGE for _, kind in _walk(path, "", ())):,} images)'

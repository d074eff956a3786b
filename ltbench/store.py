"""The store: artifacts by fingerprint, written atomically, verified on use, claimed while they are made.

::

    STORE/ltbench-store.json                     marks this folder as a store
    STORE/artifacts/ab/abcdef.../manifest.json   and the files it lists
    STORE/work/abcdef.../                        claim, progress, checkpoints and log of a stage in the making
    STORE/damaged/                               artifacts that failed verification, set aside
    STORE/answers/                               cached output for finished grids, see ltbench.grid.answer

It knows nothing of training.
"""

from __future__ import annotations

import errno
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ltbench.claims import Claim, claim_owner
from ltbench.console import say
from ltbench.errors import StoreError
from ltbench.places import place
from ltbench.sealed import (
    DamagedFileError,
    explained,
    read_document,
    remove,
    remove_abandoned,
    sha256_of,
    sync,
    temporary,
    unreadable,
    write_document,
)

MANIFEST = 'manifest.json'
MARKER = 'ltbench-store.json'
FINGERPRINT = re.compile('[0-9a-f]{64}')
"""Names of artifacts and work folders. Nothing else below a store is ever moved or removed."""


class DamagedArtifactError(StoreError):
    """An artifact's file is missing or does not have the recorded checksum; it has been set aside."""


class FileEntry(TypedDict):
    """One file of the artifact, in its manifest."""

    size: int
    sha256: str


class Manifest(TypedDict):
    """The description of an artifact."""

    meta: dict[str, Any]
    files: dict[str, FileEntry]


class Progress(TypedDict):
    """How far a stage in the making is; further numbers are the latest measurements."""

    done: int
    total: int
    first: int
    started: float
    updated: float


class Failure(TypedDict):
    """Why a stage failed."""

    reason: str
    time: float
    may_pass: NotRequired[bool]


class Worker(TypedDict):
    """The process that works on a stage, and since when."""

    host: str
    pid: int
    started: float


SHAPES: dict[str, Any] = {'progress': Progress, 'failure': Failure, 'worker': Worker, 'submitted': dict[str, Any]}
"""The small files of a stage in the making."""


@dataclass(frozen=True)
class Artifact:
    """The result of a finished stage.

    Attributes:
        folder: Where its files are.
        meta: What the stage recorded about itself.
        files: Size and sha256 of each file.
    """

    store: Store
    fingerprint: str
    folder: Path
    meta: Mapping[str, Any]
    files: Mapping[str, FileEntry]

    def path(self, name: str) -> Path:
        """Path of one file, after its size and checksum were verified.

        Raises:
            DamagedArtifactError: If they differ from the manifest's; the artifact is set aside, so that the next run
                rebuilds it.
            UnreadableFileError: If the file cannot be read at the moment.
        """
        path, expected = self.folder / name, self.files.get(name)
        try:
            whole = expected is not None and sha256_of(path) == expected['sha256']
        except FileNotFoundError:
            whole = False
        except OSError as error:
            raise unreadable(path, error) from error
        if not whole:
            where = self.store.set_aside(self.fingerprint)
            raise DamagedArtifactError(f'{path} is damaged (it differs from its manifest); {where}')
        return path


class Store:
    """Artifacts under one folder, by default ``$LTBENCH_STORE`` or ``./store``."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root if root is not None else place('LTBENCH_STORE', 'store')).absolute()

    # ---- artifacts

    def folder(self, fingerprint: str) -> Path:
        """Where the artifact is, or will be."""
        return self.root / f'artifacts/{fingerprint[:2]}/{fingerprint}'

    def find(self, fingerprint: str) -> Artifact | None:
        """The artifact, if its stage has finished. Its files are verified when they are used.

        One whose manifest is damaged is set aside and reported, and counts as missing.

        Raises:
            UnreadableFileError: If its manifest cannot be read at the moment.
        """
        folder = self.folder(fingerprint)
        try:
            manifest = read_document(folder / MANIFEST, 'manifest', fingerprint, Manifest)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            say(f'{error}; {self.set_aside(fingerprint)}')
            return None
        return Artifact(self, fingerprint, folder, manifest['meta'], manifest['files'])

    def has(self, fingerprint: str) -> bool:
        """Whether the stage has finished; faster than :meth:`find`, which reads the manifest."""
        return (self.folder(fingerprint) / MANIFEST).is_file()

    def fingerprints(self) -> list[str]:
        """Of all artifacts, sorted."""
        prefixes = [name for name in _names_in(self.root / 'artifacts') if re.fullmatch('[0-9a-f]{2}', name)]
        names = (name for prefix in prefixes for name in _names_in(self.root / 'artifacts' / prefix))
        return sorted(name for name in names if FINGERPRINT.fullmatch(name) and self.has(name))

    def publish(self, fingerprint: str, meta: Mapping[str, Any], write: Callable[[Path], None]) -> Artifact:
        """Make an artifact: ``write`` fills a temporary folder, which then appears under its name at once.

        If another process published the same fingerprint first, its artifact stays and ours is dropped.

        Raises:
            StoreError: If the files cannot be written (disk full, read-only, ...).
        """
        target = self.folder(fingerprint)
        unfinished = temporary(target)
        with explained(f'artifact {fingerprint[:12]}', self.root):
            self._mark()
            try:
                unfinished.mkdir(parents=True)
                write(unfinished)
                files = {}
                for path in sorted(unfinished.iterdir()):
                    sync(path)
                    files[path.name] = {'size': path.stat().st_size, 'sha256': sha256_of(path)}
                write_document(unfinished / MANIFEST, 'manifest', fingerprint, {'meta': meta, 'files': files})
                sync(unfinished)
                try:
                    unfinished.rename(target)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
                    if self.find(fingerprint) is None and self.folder(fingerprint).exists():
                        say(f'{target} is not an artifact; {self.set_aside(fingerprint)}')
                        unfinished.rename(target)
                sync(target.parent)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        artifact = self.find(fingerprint)
        if artifact is None:
            raise StoreError(f'{target} vanished as soon as it was written')
        return artifact

    def set_aside(self, fingerprint: str) -> str:
        """Move a damaged artifact away; return a text that says where."""
        target = self.root / 'damaged' / f'{fingerprint}.{uuid.uuid4().hex[:8]}'
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.folder(fingerprint).rename(target)
        except FileNotFoundError:
            return 'another process has set it aside'
        except OSError as error:
            return f'it cannot be set aside: {error.strerror}'
        return f'set aside in {target}'

    # ---- work in the making

    def check_writable(self) -> None:
        """Check that files can be written, before any work is started.

        Raises:
            StoreError: If not, with what to do.
        """
        with explained('anything', self.root):
            probe = temporary(self.root / 'work' / 'probe')
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
            self._mark()

    def is_marked(self) -> bool:
        """Whether this folder is marked as a store, so that it may be cleaned up."""
        try:
            read_document(self.root / MARKER, 'store', 'ltbench')
        except (FileNotFoundError, DamagedFileError):
            return False
        return True

    def _mark(self) -> None:
        if not (self.root / MARKER).is_file():
            self.root.mkdir(parents=True, exist_ok=True)
            write_document(self.root / MARKER, 'store', 'ltbench', {'layout': 1})

    def work(self, fingerprint: str) -> Path:
        """The folder of a stage in the making."""
        return self.root / f'work/{fingerprint}'

    def finish_work(self, fingerprint: str) -> None:
        """Remove the folder of a stage in the making, and what a process left that was killed while publishing."""
        target = self.folder(fingerprint)
        for folder in (self.work(fingerprint), *target.parent.glob(f'.{target.name}.*')):
            shutil.rmtree(folder, ignore_errors=True)

    def tidy(self, fingerprints: Collection[str]) -> None:
        """Remove work folders of finished stages whose process was killed before it could, and old temporary files."""
        found = [path.name for path in self.root.glob('work/*') if path.name in fingerprints]
        for prefix in {fingerprint[:2] for fingerprint in fingerprints}:
            found += [path.name[1:65] for path in self.root.glob(f'artifacts/{prefix}/.*')]
        for fingerprint in found:
            if fingerprint in fingerprints and self.has(fingerprint) and self.owner(fingerprint) is None:
                self.finish_work(fingerprint)
        for folder in (self.root, self.root / 'work'):
            remove_abandoned(folder)

    def read(self, fingerprint: str, name: str) -> dict[str, Any] | None:
        """A small file of a stage in the making (one of :data:`SHAPES`); None if there is none.

        A damaged one is reported and removed: it is written again, or the stage is tried again without it.
        """
        path = self.work(fingerprint) / f'{name}.json'
        try:
            return read_document(path, name, fingerprint, SHAPES[name])
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            say(f'{error}; it is not used')
            with suppress(OSError):
                remove(path)
            return None

    def forget(self, fingerprint: str, name: str) -> None:
        """Remove a small file of a stage in the making, if there is one."""
        with explained(f'{name} of {fingerprint[:12]}', self.root):
            (self.work(fingerprint) / f'{name}.json').unlink(missing_ok=True)

    def write(self, fingerprint: str, name: str, value: Mapping[str, Any]) -> None:
        """Write a small file of a stage in the making."""
        path = self.work(fingerprint) / f'{name}.json'
        with explained(f'{name} of {fingerprint[:12]}', self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_document(path, name, fingerprint, value)

    def claim(self, fingerprint: str) -> Claim | None:
        """Claim the right to make an artifact; None if a living process holds it."""
        return Claim.take(self.work(fingerprint), self.root)

    def owner(self, fingerprint: str) -> dict[str, Any] | None:
        """Host and pid of the process that makes an artifact now; None if none does."""
        return claim_owner(self.work(fingerprint))


def _names_in(folder: Path) -> list[str]:
    """Names in a folder, none if it is missing. Not by glob, which ignores folders that cannot be read."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from error

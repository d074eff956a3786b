"""The store: artifacts by fingerprint, written atomically, verified on use, claimed while they are made.

::

    STORE/artifacts/ab/abcdef.../manifest.json   and the files it lists
    STORE/work/abcdef.../                        claim, progress, checkpoints and log of a stage in the making
    STORE/damaged/                               artifacts that failed verification, set aside

It knows nothing of training.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltbench.errors import StoreError

MANIFEST = 'manifest.json'
HEARTBEAT_SECONDS = 5.0
CLAIM_EXPIRES_SECONDS = 60.0


class DamagedArtifactError(StoreError):
    """An artifact's file is missing or does not have the recorded checksum; it has been set aside."""


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
    files: Mapping[str, Mapping[str, Any]]

    def path(self, name: str) -> Path:
        """Path of one file, after its size and checksum were verified.

        Raises:
            DamagedArtifactError: If they differ from the manifest's; the artifact is set aside, so that the next run
                makes it again.
        """
        path, expected = self.folder / name, self.files[name]
        try:
            whole = path.stat().st_size == expected['size'] and sha256_of(path) == expected['sha256']
        except OSError:
            whole = False
        if not whole:
            moved = self.store.set_aside(self.fingerprint)
            raise DamagedArtifactError(f'{path} is damaged (checksum differs from its manifest); set aside in {moved}')
        return path


class Store:
    """Artifacts under one folder, by default ``$LTBENCH_STORE`` or ``./store``."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get('LTBENCH_STORE', 'store')).absolute()

    # ---- artifacts

    def folder(self, fingerprint: str) -> Path:
        """Where the artifact is, or will be."""
        return self.root / f'artifacts/{fingerprint[:2]}/{fingerprint}'

    def find(self, fingerprint: str) -> Artifact | None:
        """The artifact, if its stage has finished. Its files are verified when they are used."""
        folder = self.folder(fingerprint)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
        except FileNotFoundError:
            return None
        except (OSError, json.JSONDecodeError) as error:
            moved = self.set_aside(fingerprint)
            raise DamagedArtifactError(f'{folder / MANIFEST} cannot be read ({error}); set aside in {moved}') from error
        return Artifact(self, fingerprint, folder, manifest['meta'], manifest['files'])

    def has(self, fingerprint: str) -> bool:
        """Whether the stage has finished; quicker than :meth:`find`, which reads the manifest."""
        return (self.folder(fingerprint) / MANIFEST).is_file()

    def fingerprints(self) -> list[str]:
        """Of all artifacts, sorted."""
        return sorted(path.parent.name for path in self.root.glob(f'artifacts/[0-9a-f][0-9a-f]/[!.]*/{MANIFEST}'))

    def publish(self, fingerprint: str, meta: Mapping[str, Any], write: Callable[[Path], None]) -> Artifact:
        """Make an artifact: ``write`` fills a temporary folder, which then appears under its name at once.

        If another process published the same fingerprint first, its artifact stays and ours is dropped.

        Raises:
            StoreError: If the files cannot be written (disk full, read-only, ...).
        """
        target = self.folder(fingerprint)
        temporary = target.with_name(f'.{target.name}.{uuid.uuid4().hex[:8]}')
        with explained(f'artifact {fingerprint[:12]}', self.root):
            try:
                temporary.mkdir(parents=True)
                write(temporary)
                files = {}
                for path in sorted(temporary.iterdir()):
                    sync(path)
                    files[path.name] = {'size': path.stat().st_size, 'sha256': sha256_of(path)}
                manifest = {'fingerprint': fingerprint, 'meta': meta, 'files': files}
                write_atomically(temporary / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
                sync(temporary)
                try:
                    temporary.rename(target)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                sync(target.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        artifact = self.find(fingerprint)
        assert artifact is not None
        return artifact

    def set_aside(self, fingerprint: str) -> Path:
        """Move a damaged artifact out of the way."""
        target = self.root / 'damaged' / f'{fingerprint}.{uuid.uuid4().hex[:8]}'
        with explained(f'damaged artifact {fingerprint[:12]}', self.root):
            target.parent.mkdir(parents=True, exist_ok=True)
            self.folder(fingerprint).rename(target)
        return target

    # ---- work in the making

    def check_writable(self) -> None:
        """See that something can be written, before anything is worked on.

        Raises:
            StoreError: If not, with what to do.
        """
        with explained('anything', self.root):
            probe = self.root / 'work' / f'.{uuid.uuid4().hex[:8]}'
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()

    def work(self, fingerprint: str) -> Path:
        """The folder of a stage in the making."""
        return self.root / f'work/{fingerprint}'

    def finish_work(self, fingerprint: str) -> None:
        """Remove the folder of a stage in the making."""
        shutil.rmtree(self.work(fingerprint), ignore_errors=True)

    def read(self, fingerprint: str, name: str) -> dict[str, Any] | None:
        """A small JSON file of a stage in the making (``progress``, ``failure``), None if there is none."""
        try:
            return json.loads((self.work(fingerprint) / f'{name}.json').read_text(encoding='utf-8'))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def forget(self, fingerprint: str, name: str) -> None:
        """Remove a small JSON file of a stage in the making, if there is one."""
        with explained(f'{name} of {fingerprint[:12]}', self.root):
            (self.work(fingerprint) / f'{name}.json').unlink(missing_ok=True)

    def write(self, fingerprint: str, name: str, value: Mapping[str, Any]) -> None:
        """Write a small JSON file of a stage in the making."""
        with explained(f'{name} of {fingerprint[:12]}', self.root):
            self.work(fingerprint).mkdir(parents=True, exist_ok=True)
            write_atomically(self.work(fingerprint) / f'{name}.json', json.dumps(value))

    def claim(self, fingerprint: str) -> Claim | None:
        """Claim the making of an artifact; None if somebody alive holds it."""
        return Claim.take(self.work(fingerprint), self.root)


class Claim:
    """The right to make one artifact.

    Claims are numbered files and the highest number holds. A claim whose owner has let go, is dead or has not been
    heard of for a minute is overtaken by creating the next number, which only one process can do. The owner renews its
    file's time stamp and notices when it has been overtaken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def take(cls, work: Path, root: Path) -> Claim | None:
        """See :meth:`Store.claim`."""
        with explained(f'work folder {work.name[:12]}', root):
            work.mkdir(parents=True, exist_ok=True)
            last = _last_claim(work)
            if last is not None and _is_held(last):
                return None
            number = int(last.suffix[1:]) + 1 if last else 1
            path = work / f'claim.{number}'
            owner = {'host': socket.gethostname(), 'pid': os.getpid(), 'state': 'held'}
            try:
                with path.open('x', encoding='utf-8') as file:
                    file.write(json.dumps(owner))
            except FileExistsError:
                return None
        return cls(path)

    def keep_alive(self, lost: Callable[[], None]) -> None:
        """Renew the claim in the background; ``lost`` is called once if another process has overtaken it."""

        def beat() -> None:
            while not self._stop.wait(HEARTBEAT_SECONDS):
                if not self.is_held():
                    lost()
                    return

        self._thread = threading.Thread(target=beat, daemon=True)
        self._thread.start()

    def is_held(self) -> bool:
        """Renew the time stamp; whether this is still the highest claim."""
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        return _last_claim(self.path.parent) == self.path

    def release(self) -> None:
        """Let go, so that the next process need not wait."""
        self._stop.set()
        if self.path.exists():
            self.path.write_text(json.dumps({'state': 'released'}), encoding='utf-8')


def claim_owner(work: Path) -> dict[str, Any] | None:
    """Host and pid of whoever makes an artifact right now; None if nobody does."""
    last = _last_claim(work)
    return _read_owner(last) if last is not None and _is_held(last) else None


def _last_claim(work: Path) -> Path | None:
    return max(work.glob('claim.[0-9]*'), key=lambda path: int(path.suffix[1:]), default=None)


def _read_owner(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, json.JSONDecodeError):  # in the middle of being written: judged by its age
        return {}


def _is_held(path: Path) -> bool:
    owner = _read_owner(path)
    if owner.get('state') == 'released':
        return False
    if owner.get('host') == socket.gethostname() and not is_alive(owner['pid']):
        return False
    try:
        # a time stamp far in the future is as dead as an old one: the clock has been set back since
        return abs(_file_clock(path.parent) - path.stat().st_mtime) < CLAIM_EXPIRES_SECONDS
    except FileNotFoundError:
        return False


def _file_clock(folder: Path) -> float:
    """The file system's idea of now: this machine's clock may differ from the one that stamps the claims."""
    probe = folder / f'.clock.{uuid.uuid4().hex[:8]}'
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a killed child that nobody has waited for yet is not alive
        return Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return True


# ---------------------------------------------------------------------------------------------- files


def write_atomically(path: Path, contents: str | bytes) -> None:
    """Write a file so that readers see the old or the new contents, never a part, even after a crash."""
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex[:8]}')
    try:
        with temporary.open('wb') as file:
            file.write(contents.encode() if isinstance(contents, str) else contents)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Sha256 of a file's contents."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


@contextmanager
def explained(what: str, root: Path, variable: str = 'LTBENCH_STORE') -> Iterator[None]:
    """Turn the operating system's errors into one line that says what to do.

    Args:
        what: What was to be written.
        root: Where.
        variable: Environment variable that chooses another place.
    """
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: 'the disk is full; free some space and run the same command again',
            errno.EDQUOT: 'your quota is used up; free some space and run the same command again',
            errno.EROFS: f'the file system is read-only; set {variable} to a folder that can be written',
            errno.EACCES: f'permission denied; set {variable} to a folder that can be written',
        }.get(error.errno or 0, str(error))
        raise StoreError(f'cannot write {what} in {root}: {advice}') from error

"""Claims: the right of one process to make one artifact, kept in files only."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ltbench.sealed import contents_of, explained, temporary

HEARTBEAT_SECONDS = 5.0
CLAIM_EXPIRES_SECONDS = 60.0
UNHEARD_SECONDS = 40.0
"""An owner gives up so long after its last renewal on disk, before another process may take over."""
TRIES = 20
"""To claim in a folder that other processes, which have finished, are removing."""


class Claim:
    """The right to make one artifact.

    Claims are numbered files and the highest number is valid. If its owner has released it, is dead or has not renewed
    it for a minute, another process takes over by creating the next number, which only one process can do. The owner
    renews its file's time stamp and notices if another has taken over, or if its renewals do not reach the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def take(cls, work: Path, root: Path) -> Claim | None:
        """Claim what is made in the folder ``work`` of the store ``root``; None if somebody alive holds it."""
        with explained(f'work folder {work.name[:12]}', root):
            for _ in range(TRIES):
                work.mkdir(parents=True, exist_ok=True)
                last = _last_claim(work)
                if last is not None and _is_held(last):
                    return None
                path = work / f'claim.{int(last.suffix[1:]) + 1 if last else 1}'
                try:
                    with path.open('x', encoding='utf-8') as file:
                        file.write(json.dumps({**own_process(), 'state': 'held'}))
                except FileExistsError:
                    return None
                except FileNotFoundError:  # whoever has just finished removed the folder
                    continue
                return cls(path)
        return None

    def keep_alive(self, lost: Callable[[], None]) -> None:
        """Renew the claim in the background; ``lost`` is called once if another process has taken over, or soon may."""

        def beat() -> None:
            renewed = time.monotonic()
            while not self._stop.wait(HEARTBEAT_SECONDS):
                try:
                    held = self.is_held()
                    renewed = time.monotonic()
                except OSError:  # a disk error, which may pass
                    held = time.monotonic() - renewed < UNHEARD_SECONDS
                if not held:
                    if not self._stop.is_set():  # released meanwhile: it does not matter who holds it now
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
        """Release the claim, so that the next process need not wait."""
        self._stop.set()
        if self.path.exists():
            self.path.write_text(json.dumps({'state': 'released'}), encoding='utf-8')


def claim_owner(work: Path) -> dict[str, Any] | None:
    """Host and pid of the process that makes an artifact now; None if none does."""
    last = _last_claim(work)
    return _read_owner(last) if last is not None and _is_held(last) else None


def _last_claim(work: Path) -> Path | None:
    try:
        names = [path.name for path in work.iterdir()]  # glob passes over what cannot be read
    except (FileNotFoundError, NotADirectoryError):
        return None
    numbers = [int(name[6:]) for name in names if name.startswith('claim.') and name[6:].isdecimal()]
    return work / f'claim.{max(numbers)}' if numbers else None


def _read_owner(path: Path) -> dict[str, Any]:
    """The content of a claim; empty while it is being written or if it is damaged: then only its age counts."""
    try:
        owner = json.loads(contents_of(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_held(path: Path) -> bool:
    owner = _read_owner(path)
    if owner.get('state') == 'released' or is_dead(owner):
        return False
    try:
        # a time stamp far in the future is as invalid as an old one: the clock was set back later
        return abs(_file_clock(path.parent) - path.lstat().st_mtime) < CLAIM_EXPIRES_SECONDS
    except FileNotFoundError:
        return False


def _file_clock(folder: Path) -> float:
    """The present time of the file system: this machine's clock may differ from the one that stamps the claims."""
    probe = temporary(folder / 'clock')
    try:
        probe.touch()
        return probe.stat().st_mtime
    except FileNotFoundError:
        raise
    except OSError:  # read-only or full: use this machine's clock
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- processes


def own_process() -> dict[str, Any]:
    """What identifies this process to :func:`is_dead`, also in another process on a shared disk."""
    pid = os.getpid()
    return {'host': socket.gethostname(), 'machine': _machine(), 'pid': pid, 'began': _beginning(pid)}


@cache
def _machine() -> str:
    """This boot of this machine and its process namespace: containers share a host's name, not its process numbers."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()
        return f'{boot} {Path("/proc/self/ns/pid").readlink()}'
    except OSError:  # not Linux: only the age of claims counts
        return uuid.uuid4().hex


def _beginning(pid: int) -> str:
    """Start of a process in ticks since the boot, as process numbers are used again; '' if the process has ended."""
    try:
        state, *rest = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    except OSError:
        return ''
    return '' if state == 'Z' else rest[18]  # a killed child that is not reaped yet has ended


def is_dead(owner: dict[str, Any]) -> bool:
    """Whether a process, given by :func:`own_process`, was one of this very machine and has ended."""
    if owner.get('machine') != _machine() or not isinstance(owner.get('pid'), int):
        return False
    return _beginning(owner['pid']) != owner.get('began')

"""Write each record to each tracker once, also if other processes write there too, or a tracker fails."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ltbench.errors import UsageError, unknown
from ltbench.record import read_record, results_root
from ltbench.sealed import explained, locked
from ltbench.tracking.trackers import TRACKERS, Tracker


def check_installed(names: Sequence[str]) -> None:
    """Check that trackers exist and their packages are installed; writes and imports nothing.

    Raises:
        UsageError: If not, with near misses or the command that installs the package.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown('tracker', name, TRACKERS)
        package = TRACKERS[name].package
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:  # without an origin it is a folder of that name, not a package
            raise UsageError(f'--track {name} needs the package {package}: pip install {package}')


class Tracking:
    """The trackers of one suite. One that fails is not used any more: runs matter more than their plots.

    Args:
        names: Of :data:`TRACKERS`; none at all makes every method do nothing.
        suite: Name of the suite.

    Attributes:
        failed: Tracker -> its error.

    Raises:
        UsageError: If a package is missing, or a tracker cannot be reached.
        StoreError: If nothing can be written.
    """

    def __init__(self, names: Sequence[str], suite: str) -> None:
        check_installed(names)
        self.folder = results_root() / suite / 'tracking'
        self.failed: dict[str, str] = {}
        self._written: dict[str, int] = {}
        self._trackers: dict[str, Tracker] = {}
        for name in dict.fromkeys(names):
            with explained(f'runs for {name}', self.folder, 'LTBENCH_RESULTS'):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            try:
                self._trackers[name] = TRACKERS[name](suite, (self.folder / name).absolute())
            except Exception as error:
                raise UsageError(
                    f'{name} cannot be opened; fix that, or leave out --track {name}: {_line(error)}'
                ) from error
            self._written[name] = 0

    def log(self, path: Path) -> list[str]:
        """Write a record to every tracker that does not have it.

        Args:
            path: Of the record.

        Returns:
            Messages for the user: the trackers that have just failed.
        """
        messages = []
        for name, tracker in list(self._trackers.items()):
            try:
                if tracker.knows(path.stem):
                    continue
                with locked(self.folder / '.lock'):  # another driver may be about to write the same run
                    if not tracker.has(path.stem):
                        tracker.write(path.stem, read_record(path), path)
                        self._written[name] += 1
            except Exception as error:  # noqa: BLE001 - foreign code, and perhaps a server; training continues
                self.failed[name] = _line(error)
                del self._trackers[name]
                messages.append(f'--track {name} failed at {path.stem} and is not used any more: {self.failed[name]}')
        return messages

    def summary(self) -> list[str]:
        """One line per tracker: how many runs it got, and how to view them, or what to do after a failure."""
        lines = [
            f'{name}: {_runs(self._written[name])} written; look at them with: {tracker.viewer()}'
            for name, tracker in self._trackers.items()
        ]
        return lines + [
            f'{name}: failed after {_runs(self._written[name])} ({reason}). No record is lost: once '
            f'{name} works again, the same command writes the missing runs'
            for name, reason in self.failed.items()
        ]


def _line(error: Exception) -> str:
    """An error of foreign code, in one short line."""
    text = ' '.join(str(error).split()).rstrip('.')
    return f'{type(error).__name__}: {text if len(text) <= 200 else text[:199] + "…"}'


def _runs(count: int) -> str:
    return 'no new run' if count == 0 else f'{count} run{"s" if count > 1 else ""}'

"""Cache of what commands printed; valid while the files it was computed from are unchanged.

A cached answer needs neither torch nor a plan nor a report: the output for a finished grid, the stages of a selection,
the list of methods. If a file has changed or an answer is missing, the command computes everything as usual.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

from rich.console import Console
from rich.table import Table

from ltbench.config import configs_root
from ltbench.errors import StoreError
from ltbench.fingerprint import fingerprint
from ltbench.grid.selection import Selection, has_plug_ins
from ltbench.places import ROOT_OF_PACKAGE, cache_root
from ltbench.sealed import DamagedFileError, UnreadableFileError, explained, read_document, write_document

KIND = 'answer'
KEPT_SECONDS = 30 * 86_400.0
LIBRARIES = (
    'ltbench', 'matplotlib', 'mmengine', 'numpy', 'pandas', 'scikit-learn', 'scikit-posthocs', 'scipy', 'seaborn',
    'statsmodels', 'torch', 'torchvision',
)  # fmt: skip
"""What plans, tables and figures depend on."""
LEFT_OUT = ('__pycache__', 'tracking')
"""Folders to ignore: compiled code, and what trackers write beside the results."""
Stamp = list[int]
"""Size, mtime, ctime and inode of a file: they change when it is modified or replaced."""


class ShownTable(TypedDict):
    """A table as it is printed: all cells are text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Answer(TypedDict):
    """An answer, and everything that it depends on.

    Every file in ``folders`` counts; ``read`` has the stamps of these and of single files, by path; ``content`` is the
    answer itself.
    """

    libraries: dict[str, str]
    folders: list[str]
    read: dict[str, Stamp]
    content: Any


def question_of(verb: str, selection: Selection | None = None, figures: bool = False) -> str | None:
    """Cache key, 64 hex digits: the command, its folder and environment variables. None if the answer is not cached.

    Not cached are commands that use files of the user: plug-ins and the user's own configs.
    """
    selection = selection or Selection()
    names = (selection.suite or '', *selection.benchmarks, *selection.methods)
    foreign = any('.py' in name or '/' in name for name in names) or selection.skip_recorded
    foreign = foreign or selection.skip_missing
    if foreign or os.environ.get('LTBENCH_CONFIGS') or has_plug_ins():
        return None
    variables = {name: value for name, value in os.environ.items() if name.startswith('LTBENCH_')}
    code = list(map(str, _code()))  # two checkouts may share a folder and a store
    return fingerprint([verb, repr(selection), figures, variables, str(Path.cwd()), code])


class Answers:
    """The cached answers in a folder: a store, or the user's cache.

    Args:
        root: The folder; they are in its subfolder ``answers``.
        question: From :func:`question_of`.
    """

    def __init__(self, root: Path, question: str) -> None:
        self.root, self.question = root, question
        self.path = root / 'answers' / f'{question}.json'
        self._code, self._watched = list(map(str, _code())), list[str]()
        self._before = _look(self._code, ())

    def watch(self, files: Iterable[Path]) -> None:
        """Note how files are now that the command works with: if they change until :meth:`keep`, nothing is stored.

        Code and configs are noted from the beginning.
        """
        new = [str(path.absolute()) for path in files]
        self._watched += new
        self._before |= _look((), new)

    def find(self) -> Answer | None:
        """The answer, if no file that it depends on has changed; None if there is none, or it is damaged."""
        answer = self._read()
        if answer is None or answer['libraries'] != _libraries():
            return None
        files = [path for path in answer['read'] if not any(Path(path).is_relative_to(f) for f in answer['folders'])]
        return answer if _look(answer['folders'], files) == answer['read'] else None

    def is_outdated(self) -> bool:
        """Whether there is an answer that is no longer valid: what was made from the records must then be rebuilt."""
        return self.path.exists() and self.find() is None

    def keep(self, content: Any, files: Iterable[Path] = (), folders: Iterable[Path] = ()) -> None:
        """Store an answer. If the folder is not writable, nothing is stored.

        Args:
            content: The answer, plain data.
            files: Files that it depends on.
            folders: Folders in which every file counts, in addition to all code and configs.
        """
        if _look(self._code, self._watched) != self._before:  # edited while the command worked with what was there
            return
        whole = [*self._code, *(str(path.absolute()) for path in folders)]
        single = [str(path.absolute()) for path in files]
        read = _look(whole, single)
        if any(file not in read for file in single):  # another process has just removed a file
            return
        answer = Answer(libraries=_libraries(), folders=whole, read=read, content=content)
        with suppress(StoreError), explained(KIND, self.root):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for old in self.path.parent.iterdir():
                if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                    old.unlink(missing_ok=True)
            write_document(self.path, KIND, self.question, answer)

    def _read(self) -> Answer | None:
        try:
            return read_document(self.path, KIND, self.question, Answer)
        except (FileNotFoundError, DamagedFileError, UnreadableFileError):
            return None


def cached_answers(verb: str, selection: Selection | None = None) -> Answers | None:
    """The answers to a question in this user's cache; None if they are not cached, see :func:`question_of`."""
    question, root = question_of(verb, selection), cache_root()
    return Answers(root, question) if question and root else None


def show(shown: Iterable[str | ShownTable], console: Console) -> None:
    """Print lines and tables."""
    for item in shown:
        if isinstance(item, str):
            console.print(item, highlight=False, soft_wrap=True)
            continue
        table = Table(title=item['title'], title_justify='left', box=None)
        for column in item['columns']:
            table.add_column(column, overflow='fold')  # no name is cut
        for row in item['rows']:
            table.add_row(*row)
        console.print(table)


def _code() -> list[Path]:
    """Folders of all code and configs that plans and reports depend on."""
    methods = find_spec('methods')
    return [ROOT_OF_PACKAGE, *(Path(path) for path in (methods and methods.submodule_search_locations) or ()),
            configs_root()]  # fmt: skip


def _libraries() -> dict[str, str]:
    found = {'python': sys.version}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _look(folders: Iterable[str], files: Iterable[str]) -> dict[str, Stamp]:
    """Stamps of all files in the folders, at any depth, and of single files; missing files are left out."""
    stamps: dict[str, Stamp] = {}
    waiting: list[str] = list(folders)
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith('.') or entry.name in LEFT_OUT:
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                else:
                    stamps |= _stamp(entry.path)
    for file in files:
        stamps |= _stamp(file)
    return stamps


def _stamp(path: str) -> dict[str, Stamp]:
    with suppress(OSError):
        found: Any = os.stat(path)  # noqa: PTH116 - a Path for each file would take three times as long
        return {path: [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]}
    return {}

"""Answers to questions that were asked before, and the files that they came from.

As long as these files are as they were, the same question has the same answer, and to give it takes neither torch nor
a plan nor a report: what is shown of a finished grid, the stages of a selection, the list of methods. Whatever is not
as it was, or not known, leads the long way, which finds what there is to do.
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
"""What plans, tables and figures are made with."""
LEFT_OUT = ('__pycache__', 'tracking')
"""Folders that change while what counts does not: compiled code, and what trackers write beside the results."""
Stamp = list[int]
"""Size, mtime, ctime and inode of a file: what changes when it is written to, or another takes its place."""


class ShownTable(TypedDict):
    """A table as it is shown, in words."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Answer(TypedDict):
    """What was answered, and everything that it came from or rests on.

    ``folders`` are those whose every file counts, ``read`` has the stamps of these and of single files by path.
    """

    libraries: dict[str, str]
    folders: list[str]
    read: dict[str, Stamp]
    said: Any


def question_of(verb: str, selection: Selection | None = None, figures: bool = False) -> str | None:
    """64 hex digits for what was asked, where, and with which variables set; None where the answer is not kept.

    That is where files take part that are not known by name: plug-ins, configs of one's own.
    """
    selection = selection or Selection()
    names = (selection.suite or '', *selection.benchmarks, *selection.methods)
    foreign = any('.py' in name or '/' in name for name in names) or selection.skip_recorded
    foreign = foreign or selection.skip_missing
    if foreign or os.environ.get('LTBENCH_CONFIGS') or has_plug_ins():
        return None
    variables = {name: value for name, value in os.environ.items() if name.startswith('LTBENCH_')}
    return fingerprint([verb, repr(selection), figures, variables, str(Path.cwd())])


class Answers:
    """The answers in a folder: a store, or the user's cache.

    Args:
        root: Where they are kept, in ``answers``.
        question: From :func:`question_of`.
    """

    def __init__(self, root: Path, question: str) -> None:
        self.root, self.question = root, question
        self.path = root / 'answers' / f'{question}.json'

    def find(self) -> Answer | None:
        """The answer, if nothing that it came from has changed. One that is damaged is none."""
        answer = self._read()
        if answer is None or answer['libraries'] != _libraries():
            return None
        files = [path for path in answer['read'] if not any(Path(path).is_relative_to(f) for f in answer['folders'])]
        return answer if _look(answer['folders'], files) == answer['read'] else None

    def is_outdated(self) -> bool:
        """Whether there is one that no longer holds: what was made from the records is made again then."""
        return self.path.exists() and self.find() is None

    def keep(self, said: Any, files: Iterable[Path] = (), folders: Iterable[Path] = ()) -> None:
        """Keep an answer; where the folder cannot be written to, the long way is gone again.

        Args:
            said: Plain data.
            files: That it rests on.
            folders: Whose every file it rests on, beside those of all code and configs.
        """
        whole = [str(path.absolute()) for path in (*_code(), *folders)]
        single = [str(path.absolute()) for path in files]
        read = _look(whole, single)
        if any(file not in read for file in single):  # another process removes what was just found
            return
        answer = Answer(libraries=_libraries(), folders=whole, read=read, said=said)
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


def remembered(verb: str, selection: Selection | None = None) -> Answers | None:
    """What this user's cache has on a question; None where answers to it are not kept, see :func:`question_of`."""
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
    """Folders of everything that plans and reports are made by, or read from."""
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
    """Stamps of all files in the folders, at whatever depth, and of single files; nothing of one that is not there."""
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
        found: Any = os.stat(path)  # noqa: PTH116 - a Path a file would take three times as long
        return {path: [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]}
    return {}

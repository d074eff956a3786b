"""The verb `data`: list, check, download and prepare the data of benchmarks."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.filesize import decimal
from rich.table import Table

from ltbench.benchmark import load_benchmark
from ltbench.config import config_names
from ltbench.console import make_console, say
from ltbench.data import FileSplit, LongTailData, load_data
from ltbench.data.base import FileStatus
from ltbench.data.derived import data_root
from ltbench.data.folder import FolderLT, find_folder
from ltbench.data.listed import ListedLT
from ltbench.errors import EXIT_FAILED, DataError, UsageError
from ltbench.grid.answer import cached_answers
from ltbench.registry import DATASETS, lookup


def list_data() -> None:
    """Print the state of every benchmark's data."""
    table = Table('benchmark', 'data set', 'state', box=None)
    for name in config_names('benchmarks'):
        data_class = _data_class(name)
        states = [status.state for status in _folder(name)] or _states(data_class)
        table.add_row(name, data_class.title, ', '.join(states) or 'nothing to download')
    make_console().print(table)


def _states(data_class: type[LongTailData]) -> list[str]:
    """States of its files. If all are whole, this is cached until a file or one of their folders changes."""
    answers = cached_answers(f'data ls {data_class.__name__}')
    if answers is not None and (answer := answers.find()) is not None:
        return answer['content']
    statuses = data_class.glance()
    states = list(dict.fromkeys(status.state for status in statuses))
    if answers is not None and states == ['whole']:
        files = [Path(status.detail) for status in statuses]
        answers.keep(states, [*files, *(path.parent for path in files), data_root()])
    return states


def get_data(benchmark: str) -> int:
    """Download the missing data of a benchmark; return 0 if all are whole afterwards, else 1."""
    _data_class(benchmark).get()
    return check_data(benchmark)


def prepare_data(benchmark: str, side: int | None = None) -> None:
    """Decode the large images of a benchmark once, for training on them with ``prepared=SIDE``.

    Args:
        benchmark: ``NAME`` or ``NAME(...)``.
        side: Shorter side in pixels; None: as in the recipe, for prepared images or else for test images.

    Raises:
        UsageError: If its images are held in memory.
        DataError: See :func:`~ltbench.data.prepared.prepare`.
    """
    from ltbench.data.prepared import prepare  # imports torch

    chosen = load_benchmark(benchmark)
    augmentation = chosen.recipe['augmentation']
    if 'resize' not in augmentation:
        raise UsageError(f'the images of {chosen.name} are held in memory: there is nothing to prepare')
    wanted = side or augmentation.get('prepared') or augmentation['resize']
    data = load_data(chosen.data)
    for name, split in (('training', data.train), ('validation', data.validation), ('test', data.test)):
        if isinstance(split, FileSplit):
            size = decimal(int(3 * prepare(split, wanted).sizes.prod(axis=1).sum()))
            make_console().print(f'whole    {len(split):,} {name} images of shorter side {wanted}, {size}')
    say(f'train on them with: {shlex.join(["ltbench", "run", "-b", benchmark, "-o", f"prepared={wanted}"])}')


def check_data(benchmark: str) -> int:
    """Print the state of each file; return 0 if all are whole, else 1."""
    console = make_console()
    statuses = _folder(benchmark) or _data_class(benchmark).check()
    if not statuses:
        console.print(f'{benchmark}: nothing to download, nothing to check')
    for status in statuses:
        console.print(f'{status.state:8} {status.name}  {status.detail}', soft_wrap=True)
    return 0 if all(status.state in ('whole', 'here') for status in statuses) else EXIT_FAILED


def _folder(benchmark: str) -> list[FileStatus]:
    """State of the image folder that a benchmark names; empty if it names none, or uses lists of files."""
    chosen = load_benchmark(benchmark)
    root = chosen.data.get('root')
    if not root or not issubclass(lookup(DATASETS, chosen.data['type']), FolderLT):
        return []
    try:
        return [FileStatus(root, 'here', str(find_folder(root)))]
    except DataError as error:
        return [FileStatus(root, 'missing', f'{error}; `ltbench show {chosen.name}` says what belongs there')]


def _data_class(benchmark: str) -> type[LongTailData]:
    data = load_benchmark(benchmark).data
    data_class = lookup(DATASETS, data['type'])
    if data.get('root') and issubclass(data_class, ListedLT):
        place = data_class.home().absolute()
        raise UsageError(
            f'`ltbench data` searches only {place}; link {data["root"]} there: ln -s {data["root"]} {place}'
        )
    return data_class

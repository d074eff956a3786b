"""The files under ``configs/``, and the nested plain data that they hold."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltbench.errors import UsageError, unknown
from ltbench.places import ROOT_OF_PACKAGE


def configs_root() -> Path:
    """The folder that holds ``benchmarks/`` and ``suites/``.

    ``$LTBENCH_CONFIGS`` if set, else the folder shipped in the wheel, else the one of the checkout.
    """
    chosen = os.environ.get('LTBENCH_CONFIGS')
    candidates = [Path(chosen)] if chosen else [ROOT_OF_PACKAGE / 'configs', ROOT_OF_PACKAGE.parent / 'configs']
    for folder in candidates:
        if (folder / 'benchmarks').is_dir():
            return folder
    raise UsageError(f'no configs found in {" or ".join(map(str, candidates))}; set LTBENCH_CONFIGS to their folder')


def config_names(kind: str) -> list[str]:
    """Names of all files of one kind: ``'benchmarks'`` or ``'suites'``."""
    return sorted(p.stem for p in (configs_root() / kind).glob('*.py') if not p.stem.startswith('_'))


def read_config(kind: str, name: str) -> tuple[dict[str, Any], str]:
    """The contents and the docstring of ``configs/KIND/NAME.py``, or of a file given by its path.

    Its ``_base_`` is a path relative to the file, or the name of a built-in config, as in ``_base_ = 'folder_lt'``.

    Raises:
        UsageError: If there is no such file (with near misses), or it does not load.
    """
    path = Path(name)
    if path.suffix != '.py':
        path = configs_root() / kind / f'{name}.py'
        if name not in config_names(kind):
            is_folder = kind == 'benchmarks' and Path(name).is_dir()
            hint = f'; a folder of images is -b "folder_lt(root={name})"' if is_folder else ''
            raise unknown(kind.rstrip('s'), name, config_names(kind), hint)
    elif not path.is_file():
        raise UsageError(f'no such file: {path}')
    from mmengine.config import Config

    text = ''
    try:
        text = path.read_text(encoding='utf-8')
        tree = ast.parse(text)
        line = _base_by_name(tree)
        contents = Config.fromfile(path).to_dict() if line is None else _on_top_of(kind, line, text, path)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(_why_not(path, text, error)) from error
    return contents, ast.get_docstring(tree) or ''


def _why_not(path: Path, text: str, error: Exception) -> str:
    """Why a file does not load, and what to do about it where that is known."""
    if 'register_module' in text:
        return f'{path} is not a config but a method: --plugin {path} -m NAME'
    for each in (error, error.__context__):  # mmengine's own clean-up may fail after it, and hide it
        if isinstance(each, OSError) and each.errno is not None and each.filename is None:
            return f'{path} cannot be loaded, as no temporary file can be written: {each}; set TMPDIR'
    reason = str(error) or 'no reason given; a config cannot call what it imports'
    return f'{path} does not load: {type(error).__name__}: {reason}'


def _base_by_name(tree: ast.Module) -> ast.Assign | None:
    """The line ``_base_ = 'folder_lt'``; None where the base is a path or there is none."""
    for line in tree.body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == '_base_':
            value = getattr(line.value, 'value', None)
            return line if isinstance(value, str) and Path(value).name == value and not Path(value).suffix else None
    return None


def _on_top_of(kind: str, line: ast.Assign, text: str, path: Path) -> dict[str, Any]:
    """The contents of ``text``, merged into those of the config that its ``line`` names."""
    from mmengine.config import Config

    base = ast.literal_eval(line.value)
    if base not in config_names(kind):
        raise unknown(f'{kind.rstrip("s")} as _base_ of {path}:', base, config_names(kind))
    lines = text.splitlines(keepends=True)
    del lines[line.lineno - 1 : line.end_lineno]
    whole = Config(read_config(kind, base)[0])
    whole.merge_from_dict(Config.fromstring(''.join(lines), '.py').to_dict())
    return whole.to_dict()


def leaves(tree: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every entry of nested dicts that is not a dict."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value


def private(value: Any) -> Any:
    """A deep copy of plain data, ten times as fast as ``copy.deepcopy``."""
    if isinstance(value, dict):
        return {key: private(item) for key, item in value.items()}
    if isinstance(value, list):
        return [private(item) for item in value]
    return tuple(private(item) for item in value) if isinstance(value, tuple) else value

"""What names a computation: a sha256 over everything that can change its result, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

PROTOCOL_VERSION = 1
"""Raised whenever ltbench's own code changes what a stage computes; old artifacts and records are then never reused."""


LOCATION_KEYS = ('root',)
"""Keys of a ``data`` section that say where files are. What they hold is in the data's own fingerprint."""


def fingerprint(value: Any) -> str:
    """Sha256 (64 hex digits) of plain data: dicts, lists, tuples, strings, numbers, booleans and None.

    Key order, tuple against list, and ``1`` against ``1.0`` make no difference.

    Raises:
        TypeError: If something else is inside; it could not be written down and re-made.
        ValueError: If a number is NaN or infinite.
    """
    return hashlib.sha256(_ENCODER.encode(canonical(value)).encode()).hexdigest()


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(',', ':'), allow_nan=False)
_AS_IT_IS = frozenset((str, int, bool, type(None)))
"""Types of values with one spelling. Most of a config's are; a look at the type spares them a call."""
_LEAVES = _AS_IT_IS | {float}
_SCALARS, _LISTS, _MAPPINGS = (str, int), (list, tuple), (dict, Mapping)  # ``dict | Mapping`` is made anew at each test


def canonical(value: Any) -> Any:
    """``value`` with one spelling for what means the same."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, _LISTS):
        return [item if type(item) in _AS_IT_IS else canonical(item) for item in value]
    if value is None or isinstance(value, _SCALARS):  # before mappings: asking for one takes ten times as long
        return value
    if isinstance(value, _MAPPINGS):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f'only string keys can be fingerprinted, got {list(value)}')
            plain[key] = item if type(item) in _AS_IT_IS else canonical(item)
        return plain
    raise TypeError(f'{value!r} ({type(value).__name__}) is not plain data and cannot be part of a config')


def foreign_code(config: Any) -> dict[str, str]:
    """Code hashes of the parts in ``config`` that live outside the ``ltbench`` package.

    Parts inside ``ltbench`` are covered by :data:`PROTOCOL_VERSION`. A loss in a method file or a plug-in changes
    while its author works on it, so its code is part of what it computes: that of its module, of its base classes'
    modules, and of what those import from beside them.
    """
    return dict(sorted({name: code for name in _types(config) if (code := _code(name))}.items()))


def _types(config: Any) -> set[str]:
    """Names of the parts that a config speaks of, at whatever depth."""
    names, waiting = set(), [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _LISTS):
            waiting += [item for item in value if type(item) not in _LEAVES]
        elif isinstance(value, _MAPPINGS):
            if isinstance(name := value.get('type'), str):
                names.add(name)
            waiting += [item for item in value.values() if type(item) not in _LEAVES]
    return names


def _code(type_name: str) -> str | None:
    from ltbench.registry import DATASETS, MODELS, SAMPLERS  # brings mmengine, a second that the report need not wait

    name = type_name.removeprefix('ltbench.')
    for registry in (MODELS, SAMPLERS, DATASETS):
        part = registry.module_dict.get(name)
        if part is not None:
            modules = _modules_of(part)
            return fingerprint([_module_code(path) for path in modules])[:16] if modules else None
    return None


@cache
def _modules_of(part: Any) -> list[str]:
    """Files outside ``ltbench`` that a part is made of, in order of their modules' names."""
    modules: dict[str, Path] = {}
    for owner in inspect.getmro(part) if inspect.isclass(part) else (part,):
        _gather(owner.__module__, modules)
    return [str(modules[name]) for name in sorted(modules)]


def _gather(name: str, modules: dict[str, Path]) -> None:
    """Add a module that is a method or a plug-in, and those beside it that it imports."""
    file = getattr(sys.modules.get(name), '__file__', None)
    if file is None or name in modules or name.split('.')[0] in ('ltbench', 'builtins'):
        return
    if _is_installed(file):
        return
    modules[name] = Path(file)
    for other in _imports(file):
        _gather(other, modules)


@cache
def _is_installed(path: str) -> bool:
    return Path(path).is_relative_to(sys.base_prefix) or 'site-packages' in Path(path).parts


@cache
def _imports(path: str) -> list[str]:
    """Names of the modules, and of what might be modules, that a file imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(Path(path).read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
    return names


@cache
def _module_code(path: str) -> str:
    """Hash of a module's syntax tree without what cannot change a computation.

    Comments, docstrings, annotations and layout do not count, nor do its `Method` classes: what they say is in the
    config already. The tree is written down field by field, because the text that ``ast.dump`` prints differs
    between versions of Python.
    """
    from ltbench.registry import METHODS

    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    methods = {cls.__name__ for cls in METHODS.module_dict.values() if inspect.getsourcefile(cls) == path}
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ClassDef) and node.name in methods)]

    def counts(node: Any) -> bool:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        annotation = isinstance(node, ast.AnnAssign) and node.value is None
        return not (docstring or annotation)

    def plain(node: Any) -> Any:
        if isinstance(node, ast.AST):
            fields = {
                name: plain(item)
                for name, item in ast.iter_fields(node)
                if item is not None and item != [] and name not in ('annotation', 'returns')
            }
            return [type(node).__name__, fields]
        if isinstance(node, list):
            return [plain(item) for item in node if counts(item)]
        return node if isinstance(node, str | int | float | bool) else repr(node)

    return fingerprint(plain(tree))[:16]

"""Hashes of the code of a computation: its syntax, for parts outside of ``ltbench`` and for the engine itself."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltbench.errors import UsageError
from ltbench.places import ROOT_OF_PACKAGE

if TYPE_CHECKING:
    from ltbench.registry import Registry

DEPENDENCIES = frozenset((
    'torch', 'torchvision', 'mmengine', 'cv2', 'numpy', 'msgspec', 'PIL', 'sklearn', 'pandas', 'seaborn', 'matplotlib',
    'filelock', 'scipy', 'scikit_posthocs', 'statsmodels', 'jinja2', 'typer', 'rich', 'ray', 'submitit', 'tensorboard',
    'mlflow', 'wandb',
))  # fmt: skip
"""Packages that ``pyproject.toml`` declares: known by their versions, which records hold."""

COMPUTES_NOTHING = frozenset((
    'report', 'tracking', 'verbs', 'grid', 'cli', 'face', 'console', 'record', 'store', 'sealed', 'claims', 'places',
    'suite', 'errors', 'configs', 'processes', 'method_files', '__init__',
))  # fmt: skip
"""Modules and folders of ``ltbench`` that affect no trained number; all others are the engine.

The contents of configs are in each stage's own config.
"""


def foreign_code(config: Any) -> dict[str, str]:
    """Code hashes of the parts in ``config`` that live outside the ``ltbench`` package, by their names.

    A loss in a method file or a plug-in changes while its author works on it, so its code is part of what it computes,
    wherever it is installed: the code of its module, of its base classes' modules, and of what those import, except the
    standard library, our declared dependencies and ``ltbench`` (see :func:`engine_code`). For a probe, which no golden
    result checks, its module counts even if it is in ``ltbench``.

    Raises:
        UsageError: If a part has no readable file, or is in the running script, which the processes that train do not
            run.
    """
    kind = 'probe' if isinstance(config, _MAPPINGS) and 'probe' in config else 'part'
    return dict(sorted({name: code for name in _types(config) if (code := _code(name, kind))}.items()))


@cache
def engine_code() -> str:
    """Hash (16 hex digits) of the syntax of everything in ``ltbench`` that affects a trained number.

    Comments, docstrings, annotations and layout do not count. ``tests/lock.json`` ties it to golden results.
    """
    files = {path.relative_to(ROOT_OF_PACKAGE).as_posix(): path for path in ROOT_OF_PACKAGE.rglob('*.py')}
    kept = {
        name: path for name, path in files.items() if name.partition('/')[0].removesuffix('.py') not in COMPUTES_NOTHING
    }
    digest = hashlib.sha256()
    for name in sorted(kept):
        digest.update(f'{name} {_code_of_file(str(kept[name]), frozenset(), frozenset())}\n'.encode())
    return digest.hexdigest()[:16]


def code_of(path: str) -> str:
    """Hash (8 hex digits) of the syntax of one file."""
    return _code_of_file(path, frozenset(), frozenset())[:8]


def forget() -> None:
    """Clear the caches of files of parts: in a notebook they are edited while this process runs."""
    for cached in (_code_of_part, _file_of, _imports, _identifiers, _code_of_file):
        cached.cache_clear()


# ---------------------------------------------------------------------------------------------- which files


def _types(config: Any) -> set[str]:
    """Names of the parts in a config, at any depth."""
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


_LEAVES = frozenset((str, int, bool, type(None), float))
_LISTS, _MAPPINGS = (list, tuple), (dict, Mapping)  # ``dict | Mapping`` would be rebuilt at each test, which is slow


@cache
def _registries(kind: str) -> tuple[Registry, ...]:
    from ltbench.registry import (  # imports mmengine, which takes a second that the report need not wait
        DATASETS,
        MODELS,
        POLICIES,
        PROBES,
        SAMPLERS,
    )

    return (PROBES,) if kind == 'probe' else (MODELS, SAMPLERS, POLICIES, DATASETS)


def _code(type_name: str, kind: str) -> str | None:
    name = type_name.removeprefix('ltbench.')
    found = set()  # a name may be in several registries, and a config does not say which one is meant
    for registry in _registries(kind):
        part = registry.module_dict.get(name)
        if part is None and registry.parent is not None:  # what another package has registered with mmengine
            part = registry.get(name) if '.' in name else registry.parent.module_dict.get(name)
        if part is not None:
            found.add(_code_of_part(part, registry.registered_in.get((name, part), part.__module__)))
            if kind == 'probe' and part.__module__.partition('.')[0] == 'ltbench':
                found.add(code_of(inspect.getfile(part)))
    codes = sorted(code for code in found if code is not None)
    return '+'.join(codes) or None


@cache
def _code_of_part(part: Any, site: str) -> str | None:
    """Hash of the files outside ``ltbench`` that a part is made of; None if there are none.

    Args:
        part: A class or function.
        site: Module in which it was registered; if a function of another module made it, the arguments are there.
    """
    modules: dict[str, str] = {}
    owners = inspect.getmro(part) if inspect.isclass(part) else (part,)
    for owner in owners:
        if owner.__module__ == '__main__':
            raise UsageError(
                f'{getattr(owner, "__qualname__", owner)} is defined in the running script or notebook, which the '
                'processes that train do not run: put it into a separate file, and name that as a plug-in'
            )
        if not _is_known(owner.__module__) and _file_of(owner.__module__) is None:
            raise UsageError(
                f'the code of {getattr(owner, "__qualname__", owner)} is in no readable file, so its results could '
                'not be distinguished from those of another version: put it into a separate file'
            )
        _gather(owner.__module__, modules)
    _gather(site, modules)
    if not modules:
        return None
    methods = {name: _methods_in(name) for name in modules}
    # a Method class acts through the config only; but other code that names one may use a constant of it
    named = frozenset().union(*(_identifiers(file, methods[name]) for name, file in modules.items()))
    named |= {owner.__qualname__.partition('.')[0] for owner in owners}  # a part may be defined in a Method class
    digest = hashlib.sha256()
    for name in sorted(modules):
        called = '' if name in (part.__module__, site) else name  # the file may have another name and place
        digest.update(f'{called} {_code_of_file(modules[name], methods[name], named)}\n'.encode())
    return digest.hexdigest()[:16]


def _is_known(module: str) -> bool:
    """Whether a module is known by its version: the standard library, a dependency, or ours."""
    top = module.partition('.')[0]
    return top == 'ltbench' or top in DEPENDENCIES or top in sys.stdlib_module_names


def _gather(name: str, modules: dict[str, str]) -> None:
    """Add a module's file, its packages', and those of what it imports."""
    if name in modules or _is_known(name):
        return
    file = _file_of(name)
    if file is None:  # not a module but something in one, or a package without a file
        return
    modules[name] = file
    if '.' in name:
        _gather(name.rpartition('.')[0], modules)
    for other in _imports(file, name):
        _gather(other, modules)


@cache
def _file_of(name: str) -> str | None:
    """The file of a module, loaded or not; None if there is none."""
    if name in sys.modules:
        return getattr(sys.modules[name], '__file__', None)
    parent = name.rpartition('.')[0]
    try:
        spec = importlib.machinery.PathFinder.find_spec(name, _folders_of(parent) if parent else None)
    except (ImportError, ValueError, KeyError):  # KeyError: a folder without a file, in a package that is not loaded
        return None
    return spec.origin if spec is not None and spec.has_location else None


def _folders_of(package: str) -> list[str]:
    """Folders of the modules of a package, loaded or not, with or without an ``__init__.py``."""
    if package in sys.modules:
        return list(getattr(sys.modules[package], '__path__', ()))
    file = _file_of(package)
    if file is not None:
        return [str(Path(file).parent)] if Path(file).stem == '__init__' else []
    parent, _, last = package.rpartition('.')
    return [
        str(folder) for above in (_folders_of(parent) if parent else sys.path) if (folder := Path(above, last)).is_dir()
    ]


# ---------------------------------------------------------------------------------------------- their contents


def _bytes_of(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:  # moved since it was imported, or within a zip
        raise UsageError(
            f'{path} was imported but cannot be read ({error.strerror}), so results could not be distinguished '
            'from those of another version: put it back, and unpack what is in a zip'
        ) from error


def _tree(path: str) -> ast.Module | None:
    """The syntax of a file; None if it is compiled, or can no longer be read as Python."""
    if not path.endswith('.py'):
        return None
    try:
        return ast.parse(_bytes_of(path))  # bytes: the file declares its encoding
    except (SyntaxError, ValueError):
        return None


@cache
def _imports(path: str, module: str) -> list[str]:
    """Full names of the modules, and of what might be modules, that the file of ``module`` imports."""
    names: list[str] = []
    package = module if Path(path).stem == '__init__' else module.rpartition('.')[0]
    for node in ast.walk(_tree(path) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[: len(package.split('.')) + 1 - node.level] if node.level else []
            start = '.'.join([*above, *([node.module] if node.module else [])])
            names += [start, *(f'{start}.{alias.name}' for alias in node.names)]
        elif isinstance(node, ast.Call) and _last_name(node.func) in ('import_module', '__import__'):
            names += [_absolute(a.value, package) for a in node.args[:1] if isinstance(a, ast.Constant)]
    return [name for name in names if name and not _is_known(name)]


def _last_name(called: ast.expr) -> str:
    return getattr(called, 'attr', getattr(called, 'id', ''))


def _absolute(name: Any, package: str) -> str:
    """The full name of a module that is imported by a call; empty if that would fail."""
    try:
        return importlib.util.resolve_name(name, package)
    except (ImportError, AttributeError):
        return ''


def _methods_in(module: str) -> frozenset[str]:
    """Names of the registered Method classes of a module, and of its probes, which look at what others compute."""
    from ltbench.registry import METHODS, PROBES

    classes = (*METHODS.module_dict.values(), *PROBES.module_dict.values())
    return frozenset(cls.__name__ for cls in classes if cls.__module__ == module)


def _body(tree: ast.Module, left_out: frozenset[str]) -> list[ast.stmt]:
    return [node for node in tree.body if not (isinstance(node, ast.ClassDef) and node.name in left_out)]


@cache
def _identifiers(path: str, methods: frozenset[str]) -> frozenset[str]:
    """All names that the code of a file uses outside of its Method classes, annotations apart."""
    tree = _tree(path)
    return frozenset(_names(_body(tree, methods))) if tree is not None else frozenset()


def _names(nodes: Iterable[Any]) -> Iterator[str]:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):  # under another name, or to re-export it
            yield from (node.name, *([node.asname] if node.asname else []))
        if isinstance(node, ast.AST):
            waiting += [item for name, item in ast.iter_fields(node) if name not in _IGNORED_FIELDS]
        elif isinstance(node, list):
            waiting += node


@cache
def _code_of_file(path: str, methods: frozenset[str], named: frozenset[str]) -> str:
    """Hash of the code of a file, without the Method classes that no code names.

    Comments, docstrings, annotations, layout, titles and families of methods do not count, nor which of our modules
    a name is imported from. The tree is written field by field, because the text that ``ast.dump`` prints
    differs between versions of Python. What cannot be parsed counts byte by byte.
    """
    tree = _tree(path)
    if tree is None:
        return hashlib.sha256(_bytes_of(path)).hexdigest()
    body = _body(tree, methods - named)
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name in methods:
            node.body = [line for line in node.body if not _is_for_readers(line)]
    used = frozenset(_names(node for node in body if not isinstance(node, _IMPORT)))
    spelling: list[str] = []
    _write(body, spelling, used, 'dataclass' in used or 'NamedTuple' in used)
    return hashlib.sha256(''.join(spelling).encode('utf-8', 'surrogatepass')).hexdigest()


def _is_for_readers(line: ast.stmt) -> bool:
    """Whether a line only sets the title or family of a method, for figures."""
    return isinstance(line, ast.Assign) and [_last_name(target) for target in line.targets] in (['title'], ['family'])


_IMPORT = (ast.Import, ast.ImportFrom)
_IGNORED_FIELDS = frozenset(('annotation', 'returns', 'type_comment', 'kind', 'ctx'))


def _write(value: Any, spelling: list[str], used: frozenset[str], fields_count: bool) -> None:
    """Append the spelling of a syntax tree; ``repr`` distinguishes 1, 1.0 and True."""
    if isinstance(value, ast.ImportFrom):
        ours = value.level == 0 and (value.module or '').partition('.')[0] == 'ltbench'
        kept = [(a.name, a.asname) for a in value.names if (a.asname or a.name) in used or a.name == '*']
        if kept:
            spelling.append(repr(('from', 'ltbench' if ours else (value.level, value.module), sorted(kept, key=repr))))
    elif isinstance(value, ast.AST):
        spelling.append(f'{type(value).__name__}(')
        for name, item in ast.iter_fields(value):
            if item is not None and item != [] and name not in _IGNORED_FIELDS:
                spelling.append(f'{name}=')
                _write(item, spelling, used, fields_count)
        spelling.append(')')
    elif isinstance(value, list):
        spelling.append('[')
        for item in value:
            docstring = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
            bare = isinstance(item, ast.AnnAssign) and item.value is None and not fields_count
            if not (docstring or bare):
                _write(item, spelling, used, fields_count)
        spelling.append(']')
    else:
        spelling.append(f'{value!r},')

"""Load methods: the built-in files, installed plug-ins, and single files. A broken one does not affect the others."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ltbench.errors import LTBenchError, UsageError
from ltbench.places import ENTRY_POINT_GROUP
from ltbench.registry import DATASETS, METHODS, MODELS, POLICIES, PROBES, SAMPLERS, Registry
from ltbench.source import forget
from ltbench.spec import Spec, parse_specs

REGISTRIES = (METHODS, MODELS, SAMPLERS, POLICIES, DATASETS, PROBES)
"""Those that methods and plug-ins add to."""
OURS = frozenset(('ltbench', 'methods'))
INSTALLED = frozenset(('site-packages', 'dist-packages'))
KEPT_BY_PYTHON = frozenset(('__annotations__', '__annotations_cache__', '__slotnames__'))
"""Attributes that Python adds to a class when its annotations are read or one of its objects is copied."""

Contents = dict[type, dict[str, Any]]

_broken: dict[str, Exception] = {}
_loaded: dict[str, dict[Path, str]] = {}
"""Name of what was imported -> the files that were read for it -> their sha256 at that time."""
_origins: dict[str, dict[str, str]] = {}


def load(files: Iterable[str | Path] = ()) -> dict[str, Exception]:
    """Import every method once; return what could not be imported, by file or plug-in name.

    Built-in files come first and cannot be changed: a plug-in that registers an existing name, or changes a class of
    ltbench, is rejected and reported. The next call tries again what could not be imported.

    Args:
        files: Plug-in files, beside those named in ``$LTBENCH_PLUGINS`` (separated like ``$PATH``).

    Raises:
        LTBenchError: If another package called ``methods`` is imported instead of ours.
        UsageError: If a plug-in file does not exist.
    """
    folder = _methods_folder()
    for path in sorted(folder.glob('*.py')):
        if not path.stem.startswith('_'):
            _try(f'methods/{path.name}', partial(importlib.import_module, f'methods.{path.stem}'), path)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        _try(name := f'plug-in {point.name} ({point.value})', point.load, is_plug_in=True)
        if name not in _broken and point.dist is not None:
            _origins[name] = {'plugin': point.name, 'distribution': point.dist.name, 'version': point.dist.version}
    for path in plugin_files(files):
        _try(str(path), partial(_import_file, path), path, is_plug_in=True)
    return dict(_broken)


def check_unchanged() -> None:
    """Before a command plans: check that no imported file has changed since.

    A module stays in memory as it was imported, so in a notebook an edited file would be planned with its old code.
    Commands that already carry out a plan continue with it.

    Raises:
        UsageError: If a file was edited.
    """
    for path, digest in (item for files in _loaded.values() for item in files.items()):
        if path.is_file() and _digest(path) != digest:
            raise UsageError(f'{path} has changed since it was imported: restart the kernel (this Python process)')
    forget()


def check_loaded(files: Iterable[str | Path]) -> None:
    """After :func:`load`: check that these files were imported.

    Raises:
        UsageError: With the reason, if one was not.
    """
    for path in (Path(file).resolve() for file in files):
        error = _broken.pop(str(path), None)  # reported here, and not by :func:`not_loaded` once more
        if error is not None:
            raise UsageError(f'{path} does not load: {type(error).__name__}: {error}') from error


def plugin_files(files: Iterable[str | Path] = ()) -> list[Path]:
    """The plug-in files that were named, each resolved; see :func:`load`."""
    named = [item for item in os.environ.get('LTBENCH_PLUGINS', '').split(os.pathsep) if item]
    paths = list(dict.fromkeys(Path(item).resolve() for item in (*named, *files)))
    for path in paths:
        if not path.is_file():
            raise UsageError(f'plug-in file not found: {path}')
    return paths


def origins() -> list[dict[str, str]]:
    """``plugin``, ``distribution`` and ``version`` of every plug-in that is installed and was loaded."""
    return [_origins[name] for name in sorted(_origins)]


def not_loaded() -> list[str]:
    """A line for each file and plug-in that could not be loaded, with the reason."""
    return [f'not loaded: {name}: {type(error).__name__}: {error}' for name, error in _broken.items()]


def method_names() -> list[str]:
    """Names of all registered methods, sorted."""
    return sorted(METHODS.module_dict)


def _methods_folder() -> Path:
    methods = importlib.import_module('methods')
    folder = Path(next(iter(methods.__path__))).resolve()
    home = Path(__file__).resolve().parent
    if folder.parent != home.parent or methods.__file__ is None:
        raise LTBenchError(
            f'another package called "methods" is imported from {folder}; ltbench needs its own, '
            f'{home.parent / "methods"}. '
            'Remove the other one from sys.path (working directory, PYTHONPATH) or uninstall it'
        )
    return folder


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _try(name: str, action: Callable[[], object], file: Path | None = None, is_plug_in: bool = False) -> None:
    if name in _loaded:
        return
    contents = _contents_of_classes() if is_plug_in else {}
    before = {registry: dict(registry.module_dict) for registry in REGISTRIES}
    modules = set(sys.modules)
    _loaded[name] = {}
    try:
        if file is not None:
            _loaded[name][file] = _digest(file)
        try:
            action()
        finally:
            changed = _restore(contents)
        if changed:
            raise LTBenchError(f'it changes {", ".join(changed)}; derive your own class')
        _check_registered(before, must_register=is_plug_in and file is not None)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in is foreign code: anything can be wrong with it
        _broken[name] = error if isinstance(error, Exception) else LTBenchError('it calls sys.exit')
        del _loaded[name]
        for registry, parts in before.items():
            kept = parts | _own(registry)  # these may have been imported only now
            registry.module_dict.clear()
            registry.module_dict.update(kept)
        for module in _editable(modules):  # its parts are no longer registered; the next import registers them again
            del sys.modules[module]
    else:
        _broken.pop(name, None)
        _loaded[name] |= {path: _digest(path) for path in _editable(modules).values() if path.is_file()}


def _check_registered(before: Mapping[Registry, Mapping[str, Any]], must_register: bool) -> None:
    """Check what is registered now and was not before.

    Raises:
        LTBenchError: If a built-in part was replaced, the name of a method cannot be typed, or nothing is registered
            although something must be.
    """
    if must_register and not any(
        registry.module_dict.keys() - {*parts, *_own(registry)} for registry, parts in before.items()
    ):
        raise LTBenchError('it registers nothing, neither a method nor a part; `ltbench new` writes an example')
    for registry, parts in before.items():
        for taken in parts:
            if registry.module_dict[taken] is not parts[taken]:
                raise LTBenchError(f'it replaces the {registry.name} {taken!r}; choose another name')
    for name in METHODS.module_dict.keys() - before[METHODS].keys():
        if not _can_be_typed(name):
            raise LTBenchError(f'the name of its method {name!r} cannot be typed; use letters, digits and _')


def _can_be_typed(name: str) -> bool:
    try:
        return parse_specs(name) == (Spec(name),)
    except UsageError:
        return False


def _contents_of_classes() -> Contents:
    """Attributes of our registered classes and of their base classes in ltbench."""
    for registry in REGISTRIES:
        for module in registry.unread:  # else a plug-in would be the first to import it
            importlib.import_module(module)
    guarded = (registry for registry in REGISTRIES if registry is not DATASETS)  # data are identified by their contents
    parts = (part for registry in guarded for part in registry.module_dict.values() if inspect.isclass(part))
    classes = {cls for part in parts for cls in inspect.getmro(part) if cls.__module__.partition('.')[0] in OURS}
    return {cls: dict(vars(cls)) for cls in classes}


def _restore(contents: Contents) -> list[str]:
    """Restore the attributes of classes; return names of those that were changed, as ``Class.attribute``."""
    changed = []
    for cls, held in contents.items():
        now = dict(vars(cls))
        for name in (held.keys() | now.keys()) - KEPT_BY_PYTHON:
            if name not in held:
                delattr(cls, name)
            elif name not in now or now[name] is not held[name]:
                setattr(cls, name, held[name])
            else:
                continue
            changed.append(f'{cls.__name__}.{name}')
    return sorted(changed)


def _editable(before: set[str]) -> dict[str, Path]:
    """Modules that were imported since, and their files; without those of ltbench, Python and installed packages."""
    known = sys.stdlib_module_names | {'ltbench'}
    found = {}
    for name, module in list(sys.modules.items()):  # other threads import meanwhile
        if name not in before and name.partition('.')[0] not in known:
            path = Path(getattr(module, '__file__', None) or '')
            if path.suffix == '.py' and not INSTALLED & {*path.parts}:
                found[name] = path
    return found


def _own(registry: Registry) -> dict[str, Any]:
    """The parts that a module of ``ltbench`` has registered."""
    sites = {name: registry.registered_in.get((name, part), '') for name, part in registry.module_dict.items()}
    return {name: registry.module_dict[name] for name, site in sites.items() if site.partition('.')[0] == 'ltbench'}


def _import_file(path: Path) -> None:
    name = f'ltbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}'
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # it may import files beside it; last, so that these shadow nothing
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LTBenchError('it is not a Python file: its name does not end in .py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)

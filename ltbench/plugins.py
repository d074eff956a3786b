"""Load methods: the built-in files, installed plug-ins, and single files. One that breaks never breaks the rest."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ltbench.errors import LTBenchError, UsageError
from ltbench.places import ENTRY_POINT_GROUP
from ltbench.registry import DATASETS, METHODS, MODELS, PROBES, SAMPLERS, Registry

_broken: dict[str, Exception] = {}
_loaded: set[str] = set()
_origins: dict[str, dict[str, str]] = {}


def load(files: Iterable[str | Path] = ()) -> dict[str, Exception]:
    """Import every method once; return what could not be imported, by file or plug-in name.

    Built-in files come first and keep their names: a plug-in that registers a taken name is reported, not obeyed.

    Args:
        files: Plug-in files, beside those named in ``$LTBENCH_PLUGINS`` (separated like ``$PATH``).

    Raises:
        LTBenchError: If another package called ``methods`` is imported instead of ours.
        UsageError: If a plug-in file does not exist.
    """
    folder = _methods_folder()
    for path in sorted(folder.glob('*.py')):
        if not path.stem.startswith('_'):
            _try(f'methods/{path.name}', lambda path=path: importlib.import_module(f'methods.{path.stem}'))
    for point in entry_points(group=ENTRY_POINT_GROUP):
        _try(name := f'plug-in {point.name} ({point.value})', point.load)
        if name not in _broken and point.dist is not None:
            _origins[name] = {'plugin': point.name, 'distribution': point.dist.name, 'version': point.dist.version}
    for path in plugin_files(files):
        _try(str(path), lambda path=path: _import_file(path), must_register=True)
    return dict(_broken)


def plugin_files(files: Iterable[str | Path] = ()) -> list[Path]:
    """The plug-in files that were named, each resolved; see :func:`load`."""
    named = [item for item in os.environ.get('LTBENCH_PLUGINS', '').split(os.pathsep) if item]
    paths = list(dict.fromkeys(Path(item).resolve() for item in (*named, *files)))
    for path in paths:
        if not path.is_file():
            raise UsageError(f'plug-in file not found: {path}')
    return paths


def origins() -> list[dict[str, str]]:
    """``plugin``, ``distribution`` and ``version`` of every plug-in that was found installed and loaded."""
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
            f'a foreign package called "methods" is imported from {folder}; ltbench needs its own, '
            f'{home.parent / "methods"}. '
            'Remove the former from sys.path (working directory, PYTHONPATH) or uninstall it'
        )
    return folder


def _try(name: str, action: object, must_register: bool = False) -> None:
    if name in _loaded:
        return
    _loaded.add(name)
    before = {registry: dict(registry.module_dict) for registry in (METHODS, MODELS, SAMPLERS, DATASETS, PROBES)}
    try:
        action()  # type: ignore[operator]
        if must_register and not any(
            registry.module_dict.keys() - {*parts, *_own(registry)} for registry, parts in before.items()
        ):
            raise LTBenchError('it registers nothing, neither a method nor a part; `ltbench new` writes an example')
        for registry, parts in before.items():
            for taken in parts:
                if registry.module_dict[taken] is not parts[taken]:
                    raise LTBenchError(f'it replaces the {registry.name} {taken!r}; choose another name')
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in is foreign code: anything can be wrong with it
        _broken[name] = error if isinstance(error, Exception) else LTBenchError('it calls sys.exit')
        for registry, parts in before.items():
            kept = parts | _own(registry)  # which may have been imported only now
            registry.module_dict.clear()
            registry.module_dict.update(kept)


def _own(registry: Registry) -> dict[str, Any]:
    """The parts that a module of ``ltbench`` has registered."""
    sites = {name: registry.registered_in.get((name, part), '') for name, part in registry.module_dict.items()}
    return {name: registry.module_dict[name] for name, site in sites.items() if site.partition('.')[0] == 'ltbench'}


def _import_file(path: Path) -> None:
    name = f'ltbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}'
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what it imports may lie beside it; last, so that it shadows nothing
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LTBenchError('it is no Python file: its name does not end in .py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)

"""The registries: where methods, data sets, models and samplers are found by name.

Children of mmengine's roots: a part that mmengine, or a package on top of it, has registered is found by name too.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry as PlainRegistry

from ltbench.errors import UsageError, unknown
from ltbench.recipe import check_arguments


class Registry(PlainRegistry):
    """A registry that knows in which module each part was registered: that of the part itself, or another one that
    created the part with arguments that affect what it computes.

    Args:
        locations: Modules that hold its parts, imported before a name is looked up.
        beside_methods: Whether the files of methods hold such parts too.
    """

    def __init__(self, *args: Any, locations: Sequence[str] = (), beside_methods: bool = True, **options: Any) -> None:
        self.registered_in: dict[tuple[str, Any], str] = {}  # by name and part: a name may be used again
        self.unread, self.beside_methods = list(locations), beside_methods
        super().__init__(*args, **options)

    def _register_module(self, module: Any, module_name: Any = None, force: bool = False) -> None:
        super()._register_module(module=module, module_name=module_name, force=force)
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals['__name__'].partition('.')[0] == 'mmengine':
            frame = frame.f_back
        names = [module_name] if isinstance(module_name, str) else module_name or [module.__name__]
        self.registered_in |= {(name, module): frame.f_globals['__name__'] for name in names}

    def import_from_location(self) -> None:
        """Import all modules with parts, once. mmengine's own method logs each module, and its logger imports torch."""
        while self.unread:
            importlib.import_module(self.unread.pop(0))
        if self.beside_methods:
            self.beside_methods = False
            importlib.import_module('ltbench.plugins').load()

    def get(self, key: str) -> Any:
        """What is registered under a name, here, in a parent, or as ``scope.name`` in another package's registry.

        Nothing else: mmengine would also import a module of that name, and so run a file of the working directory. A
        plug-in must import the packages whose parts it uses.
        """
        self.import_from_location()
        scope, name = self.split_scope_key(key)
        if scope not in (None, self.scope):
            root = self if self.parent is None else self.root
            registry = root if scope == root.scope else root.children.get(scope)
            return None if registry is None else registry.module_dict.get(name)
        registry = self
        while registry is not None and name not in registry.module_dict:
            registry = registry.parent if scope is None else None
        return None if registry is None else registry.module_dict[name]


METHODS = Registry('method', scope='ltbench')
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='ltbench',
    locations=[
        f'ltbench.data.{name}'
        for name in ('cifar', 'digits', 'fashion_mnist', 'folder', 'inaturalist', 'listed', 'noise')
    ],
    beside_methods=False,
)
MODELS = Registry('model', parent=MMENGINE_MODELS, scope='ltbench', locations=['ltbench.models'])
SAMPLERS = Registry('sampler', parent=DATA_SAMPLERS, scope='ltbench', locations=['ltbench.data.samplers'])
POLICIES = Registry(
    'augmentation policy', scope='ltbench', locations=['ltbench.data.policies', 'ltbench.data.sim_augment']
)
PROBES = Registry('probe', scope='ltbench', locations=['ltbench.probes'])
EXECUTORS = Registry(
    'executor',
    scope='ltbench',
    locations=[f'ltbench.grid.executors.{name}' for name in ('local', 'ray', 'slurm')],
    beside_methods=False,
)


def lookup(registry: Registry, name: str) -> Any:
    """The class registered as ``name``.

    Raises:
        UsageError: If there is none; the message lists near misses.
    """
    found = registry.module_dict.get(name) or registry.get(name)
    if found is None:
        raise unknown(registry.name, name, registry.module_dict)
    return found


def build(registry: Registry, config: Mapping[str, Any], **context: Any) -> Any:
    """Build the part that ``config`` declares.

    A config holds what a person chooses (``dict(type='LDAMLoss', max_margin=0.5)``); ``context`` holds what only
    the data or the model provide (``class_counts``, ``in_features``, ...). The part receives those of the context that
    its constructor names, unless the config already sets them.

    Raises:
        UsageError: If the type is unknown, or an argument does not fit its constructor or the plain type it has there.
    """
    arguments = dict(config)
    part = lookup(registry, arguments.pop('type'))
    accepted = inspect.signature(part).parameters
    for name, value in context.items():
        if name in accepted:
            arguments.setdefault(name, value)
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        for name in arguments:
            if name not in accepted:
                raise unknown(f'argument of {config["type"]}', name, accepted)
    missing = [
        name
        for name, p in accepted.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in arguments
    ]
    if missing:
        raise UsageError(f'{config["type"]} needs {", ".join(missing)}')
    check_arguments(part, config['type'], {key: value for key, value in config.items() if key != 'type'})
    return part(**arguments)

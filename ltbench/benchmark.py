"""A benchmark: its file, a preset and the user's changes, resolved."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ltbench.config import private, read_config
from ltbench.errors import UsageError, unknown
from ltbench.fingerprint import LOCATION_KEYS, PROTOCOL_VERSION, fingerprint, without_location
from ltbench.recipe import WORDS, augmentation_of, check_contents, shortened
from ltbench.spec import as_typed, parse_specs


@dataclass(frozen=True)
class Benchmark:
    """One resolved benchmark: what a method's plan starts from."""

    name: str
    preset: str
    data: Mapping[str, Any]
    backbone: Mapping[str, Any]
    recipe: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    has_validation: bool = False
    doc: str = ''
    caveat: str = ''  # shown with every table of its results

    def private(self) -> Benchmark:
        """A deep copy, which can be modified safely."""
        return replace(self, **{name: private(getattr(self, name)) for name in (*SECTIONS, 'overrides')})

    def computes_as(self, other: Benchmark) -> bool:
        """Whether both have the same data, backbone, recipe and overrides."""
        return all(getattr(self, name) == getattr(other, name) for name in (*SECTIONS, 'overrides'))

    @cached_property
    def setting(self) -> str:
        """The preset and what was changed by hand: rows with different settings never share a table.

        The location of the data is not part of it; tables are identified by their contents, see :func:`table_of`.
        """
        tree = {'data': self.data, 'backbone': self.backbone, 'recipe': self.recipe}
        last = [leaf.rpartition('.')[2] for leaf in _paths(tree)]
        names = {key: name for key in self.overrides if (name := key.rpartition('.')[2]) not in LOCATION_KEYS}
        shown = {key: name if last.count(name) == 1 else key for key, name in names.items()}
        changed = ', '.join(f'{shown[key]}={as_typed(self.overrides[key])}' for key in sorted(names))
        return f'{self.preset}, {changed}' if changed else self.preset

    def table(self, data: str) -> str:
        """The table of its results on data with this fingerprint, see :func:`table_of`."""
        if data not in self._tables:
            self._tables[data] = table_of(PROTOCOL_VERSION, data, self.backbone, self.recipe, self.has_validation)
        return self._tables[data]

    @cached_property
    def _tables(self) -> dict[str, str]:
        """Cache by data: thousands of runs ask for the same."""
        return {}

    @property
    def notes(self) -> list[str]:
        """What a user should know about what was changed by hand."""
        notes = []
        if 'recipe.batch_size' in self.overrides:
            is_lr_set = 'recipe.optimizer.lr' in self.overrides
            size, lr = self.recipe['batch_size'], self.recipe['optimizer']['lr']
            kept = '' if is_lr_set else ' as before; --scale-lr scales it along'
            notes.append(f'{self.name}: batch size {size}, learning rate {lr:g}{kept}')
        crop, prepared = (self.recipe['augmentation'].get(name) for name in ('random_resized_crop', 'prepared'))
        if prepared is not None and prepared < crop:
            notes.append(
                f'{self.name}: images prepared with a shorter side of {prepared} are enlarged to crops of {crop}'
            )
        return notes

    @property
    def resolved(self) -> dict[str, Any]:
        """The plain dict that goes into records."""
        return copy.deepcopy(
            {
                'name': self.name,
                'preset': self.preset,
                'data': dict(self.data),
                'backbone': dict(self.backbone),
                'recipe': dict(self.recipe),
                'overrides': dict(self.overrides),
                **({'caveat': self.caveat} if self.caveat else {}),
            }
        )


def table_of(
    protocol: int, data: str, backbone: Mapping[str, Any], recipe: Mapping[str, Any], has_validation: bool = False
) -> str:
    """16 hex digits that all rows of a table share: a hash of all that results depend on before a method is applied.

    Args:
        protocol: Version of the computation.
        data: Fingerprint of the images and labels, which does not depend on their location.
        backbone: Of the resolved benchmark.
        recipe: Likewise.
        has_validation: Whether values are chosen on a validation part of the data.
    """
    content = {'protocol': protocol, 'data': data, 'backbone': without_location(backbone), 'recipe': recipe}
    return fingerprint(content | ({'has_validation': True} if has_validation else {}))[:16]


SECTIONS = ('data', 'backbone', 'recipe')


def load_benchmark(
    text: str, preset: str | None = None, overrides: Mapping[str, Any] | None = None, scale_lr: bool = False
) -> Benchmark:
    """Read and resolve ``NAME`` or ``NAME(imbalance_factor=50, ...)``.

    Args:
        text: The benchmark's name, with options in brackets.
        preset: One of the file's presets; None is the plain (published) recipe.
        overrides: Dotted paths (``recipe.epochs``) or unique last names (``epochs``) -> value.
        scale_lr: Multiply the learning rate by what the batch size was multiplied by (Goyal et al., 2017,
            https://arxiv.org/abs/1706.02677). Without it a changed batch size leaves the learning rate as it is.

    Raises:
        UsageError: If the benchmark, the preset or a key is unknown, or two values are given for one key.
    """
    specs = parse_specs(text)
    if len(specs) != 1:
        raise UsageError(f'{text!r}: benchmarks cannot be joined by +')
    contents, doc = read_config('benchmarks', specs[0].name)
    name = Path(specs[0].name).stem
    if 'version' in contents:
        raise UsageError(
            f'benchmark {name} has an entry version; remove it: results are identified by their data, '
            'backbone and recipe, so versions are no longer needed'
        )
    check_contents(contents, name)
    tree = {section: contents[section] for section in SECTIONS}
    presets = contents.get('presets', {})
    if preset not in (None, 'paper'):
        if preset not in presets:
            raise unknown(f'preset of {name}', str(preset), ['paper', *presets])
        _merge(tree, presets[preset], f'preset {preset} of {name}')
        check_contents({**contents, **tree}, name)
    published = copy.deepcopy(tree['recipe'])
    changed, replaced = {}, {}
    for path, value in {**_given(tree, specs[0].options, name), **_given(tree, overrides or {}, name)}.items():
        if _get(tree, path) != value:
            replaced[path] = _set(tree, path, value)
            if path != 'data.imbalance_factor':  # every table has a column for it
                changed[path] = value
    check_contents({**contents, **tree}, name)
    for path, (old, new) in replaced.items():
        _refuse_another_kind(path, old, new, name)
    if scale_lr:
        _scale_lr(tree['recipe'], published, changed)
    try:
        fingerprint(tree)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f'benchmark {name} must hold only plain finite data: {error}') from error
    return Benchmark(
        name,
        preset or 'paper',
        **tree,
        overrides=changed,
        has_validation=contents.get('has_validation', False),
        doc=doc,
        caveat=contents.get('caveat', ''),
    )


def _scale_lr(recipe: dict[str, Any], published: Mapping[str, Any], changed: dict[str, Any]) -> None:
    if 'recipe.batch_size' not in changed:
        raise UsageError('the learning rate is scaled with the batch size, which is not changed: -o batch_size=...')
    if 'recipe.optimizer.lr' in changed:
        raise UsageError('set the learning rate or scale it with the batch size, not both')
    recipe['optimizer']['lr'] *= recipe['batch_size'] / published['batch_size']
    changed['recipe.optimizer.lr'] = recipe['optimizer']['lr']


def _merge(tree: dict[str, Any], changes: Mapping[str, Any], where: str, path: str = '') -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict) and 'type' not in value:
            _merge(tree[key], value, where, f'{path}.{key}')
        elif key in tree or path == '.recipe.augmentation':  # all its entries are optional; it is checked as a whole
            tree[key] = value
        else:
            raise unknown(f'key in {where}', key, tree)


def _paths(tree: Mapping[str, Any], prefix: str = '') -> Iterator[str]:
    """Paths of all entries, also of dicts, which can be set as a whole."""
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _paths(value, f'{prefix}{key}.')


def _given(tree: Mapping[str, Any], options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options by the full paths of their entries; UsageError if two set one entry to different values."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        path = _full_path(tree, key, name)
        if path in found and found[path] != value:
            raise UsageError(
                f'{path} of {name} is set twice, to {shortened(found[path])} and to {shortened(value)}: give one'
            )
        found[path] = value
    return found


def _full_path(tree: Mapping[str, Any], key: str, name: str) -> str:
    where = 'recipe.augmentation'
    optional = (f'{where}.{entry}' for entry in augmentation_of(_get(tree, where)).__struct_fields__)
    paths = list(dict.fromkeys([*_paths(tree), *optional]))
    if key in paths:
        return key
    matches = [path for path in paths if path.endswith('.' + key)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(f'option {key!r} of {name} is ambiguous: {", ".join(matches)}')
    raise unknown(f'option of {name}', key, {path.rpartition('.')[2] for path in paths} | set(paths))


def _get(tree: Any, path: str) -> Any:
    *parents, last = path.split('.')
    for key in parents:
        tree = tree[key]
    return tree.get(last)


def _set(tree: dict[str, Any], path: str, value: Any) -> tuple[Any, Any]:
    """Set a value; return the old one and the new one."""
    *parents, last = path.split('.')
    for key in parents:
        tree = tree[key]
    old = tree.get(last)
    if isinstance(old, str) and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a folder may be called 2024
    tree[last] = value
    return old, value


def _refuse_another_kind(path: str, old: Any, value: Any, name: str) -> None:
    """Refuse a value of another type than in the benchmark's file; for entries without a declared type."""
    kinds = [float if type(item) is int else tuple if type(item) is list else type(item) for item in (old, value)]
    if old is not None and value is not None and kinds[0] is not kinds[1]:
        kind = WORDS.get(kinds[0], kinds[0].__name__)
        raise UsageError(f'{path} of {name} is {kind}, as {shortened(old)}, got {shortened(value)}')

"""Find, read and resolve the files under ``configs/``; parse what a person types on the command line."""

from __future__ import annotations

import ast
import copy
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ltbench.errors import UsageError, unknown
from ltbench.fingerprint import LOCATION_KEYS, PROTOCOL_VERSION, fingerprint, wherever_it_lies
from ltbench.recipe import WORDS, augmentation_of, check_contents, shortened

ENTRY_POINT_GROUP = 'ltbench.methods'
"""Where installed packages say which of their modules hold methods."""
ROOT_OF_PACKAGE = Path(__file__).resolve().parent


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

    Raises:
        UsageError: If there is no such file (with near misses), or it does not load.
    """
    path = Path(name)
    if path.suffix != '.py':
        path = configs_root() / kind / f'{name}.py'
        if name not in config_names(kind):
            raise unknown(kind.rstrip('s'), name, config_names(kind))
    elif not path.is_file():
        raise UsageError(f'no such file: {path}')
    from mmengine.config import Config

    try:
        contents = Config.fromfile(path).to_dict()
        doc = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    except Exception as error:
        raise UsageError(f'{path} does not load: {type(error).__name__}: {error}') from error
    return contents, doc


# ---------------------------------------------------------------------------------------------- specs


@dataclass(frozen=True)
class Spec:
    """A name with options, as typed: ``nbn(normalize=weight)``."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        inner = ', '.join(f'{key}={_show(value)}' for key, value in self.options.items())
        return f'{self.name}({inner})' if inner else self.name


class Specs(tuple[Spec, ...]):
    """The parts of what is joined by +, in order: a method as it is carried from its suite to its record."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(spec.name for spec in self))

    def __str__(self) -> str:
        return '+'.join(map(str, self))


def parse_specs(text: str | Mapping[str, Any]) -> Specs:
    """Read ``a(x=1, y=two)+b`` into its parts, in order.

    A mapping ``dict(type='a+b', **{'a.x': 1})`` is accepted too; an option without a prefix belongs to the first part.
    """
    if isinstance(text, Mapping):
        if not all(isinstance(key, str) for key in text):
            raise UsageError(f'cannot read {shortened(text)}: options have names')
        options = dict(text)
        specs = list(parse_specs(options.pop('type', '')))
        for key, value in options.items():
            owner, _, option = key.rpartition('.')
            index = next((i for i, spec in enumerate(specs) if spec.name == owner), None) if owner else 0
            if index is None:
                raise unknown('part of ' + str(text['type']), owner, [spec.name for spec in specs])
            specs[index] = Spec(specs[index].name, {**specs[index].options, option: value})
        return Specs(specs)
    if not isinstance(text, str):
        raise UsageError(f'cannot read {shortened(text)}: expected a name, with options in brackets')
    specs = []
    for part in pieces(text, '+'):
        match = re.fullmatch(r'([\w./~-]+|[^()+]+\.py)\s*(?:\((.*)\))?', part.strip(), flags=re.DOTALL)
        if match is None:
            raise UsageError(f'cannot read {text!r}: expected NAME, NAME(option=value, ...), or several joined by +')
        pairs = [parse_assignment(item) for item in pieces(match[2] or '', ',')]
        options = dict(pairs)
        if len(options) < len(pairs):
            raise UsageError(f'{text!r} sets an option twice')
        specs.append(Spec(match[1], options))
    if not specs or text.strip().startswith('+') or text.strip().endswith('+') or '++' in text:
        raise UsageError(f'cannot read {text!r}: a name is missing')
    return Specs(specs)


def parse_assignment(text: str) -> tuple[str, Any]:
    """``'recipe.epochs=5'`` -> ``('recipe.epochs', 5)``. A value that is no Python literal stays a string."""
    key, separator, value = text.partition('=')
    if not separator or not key.strip() or not value.strip():
        raise UsageError(f'cannot read {text!r}: expected key=value')
    try:
        read = ast.literal_eval(value.strip())
        if isinstance(read, float) and not math.isfinite(read):
            raise UsageError(f'{text!r}: the value is not finite')
        return key.strip(), read
    except (ValueError, SyntaxError):
        words = {'true': True, 'false': False, 'none': None}
        return key.strip(), words.get(value.strip().lower(), value.strip())


def pieces(text: str, separator: str) -> list[str]:
    """Split at ``separator`` outside of brackets and quotes, dropping empty pieces."""
    found, depth, quote, before = [''], 0, '', ''
    for character in text:
        if quote:
            quote = '' if character == quote else quote
        elif character in '\'"' and before in '=([{,: ':  # where a value begins: a name may hold an apostrophe
            quote = character
        else:
            depth += (character in '([{') - (character in ')]}')
        before = character
        if character == separator and depth == 0 and not quote:
            found.append('')
        else:
            found[-1] += character
    return [piece.strip() for piece in found if piece.strip()]


def _show(value: Any) -> str:
    """Text that :func:`parse_assignment` reads back as ``value``."""
    if isinstance(value, str) and value.strip() and parse_assignment(f'key={value}')[1] == value:
        return value
    return repr(value)


# ---------------------------------------------------------------------------------------------- benchmarks


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
    caveat: str = ''  # what every table of its results must say

    def private(self) -> Benchmark:
        """A copy that shares nothing that could be written into."""
        return replace(self, **{name: private(getattr(self, name)) for name in (*SECTIONS, 'overrides')})

    def computes_as(self, other: Benchmark) -> bool:
        """Whether both have the same data, backbone, recipe and overrides."""
        return all(getattr(self, name) == getattr(other, name) for name in (*SECTIONS, 'overrides'))

    @cached_property
    def setting(self) -> str:
        """The preset and what was changed by hand: rows with different settings never share a table.

        Where the data lie is not part of it: what they hold tells tables apart, see :func:`table_of`.
        """
        tree = {'data': self.data, 'backbone': self.backbone, 'recipe': self.recipe}
        last = [leaf.rpartition('.')[2] for leaf in _paths(tree)]
        names = {key: name for key in self.overrides if (name := key.rpartition('.')[2]) not in LOCATION_KEYS}
        shown = {key: name if last.count(name) == 1 else key for key, name in names.items()}
        changed = ', '.join(f'{shown[key]}={_show(self.overrides[key])}' for key in sorted(names))
        return f'{self.preset}, {changed}' if changed else self.preset

    def table(self, data: str) -> str:
        """What its results on data of this fingerprint have in common, see :func:`table_of`."""
        if data not in self._tables:
            self._tables[data] = table_of(PROTOCOL_VERSION, data, self.backbone, self.recipe, self.has_validation)
        return self._tables[data]

    @cached_property
    def _tables(self) -> dict[str, str]:
        """By data: thousands of runs ask for the same."""
        return {}

    @property
    def notes(self) -> list[str]:
        """What a user should know about what was changed by hand."""
        notes = []
        if 'recipe.batch_size' in self.overrides:
            is_other = 'recipe.optimizer.lr' in self.overrides
            size, lr = self.recipe['batch_size'], self.recipe['optimizer']['lr']
            kept = '' if is_other else ' as before; --scale-lr scales it along'
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
    """16 hex digits that all rows of a table share: what was computed before a method changed anything.

    Args:
        protocol: Version of the computation.
        data: Fingerprint of the images and labels, wherever they lie and however the folder is called.
        backbone: Of the resolved benchmark.
        recipe: Likewise.
        has_validation: Whether values are chosen on a validation part of the data.
    """
    content = {'protocol': protocol, 'data': data, 'backbone': wherever_it_lies(backbone), 'recipe': recipe}
    return fingerprint(content | ({'has_validation': True} if has_validation else {}))[:16]


def private(value: Any) -> Any:
    """A deep copy of plain data, ten times as fast as ``copy.deepcopy``."""
    if isinstance(value, dict):
        return {key: private(item) for key, item in value.items()}
    if isinstance(value, list):
        return [private(item) for item in value]
    return tuple(private(item) for item in value) if isinstance(value, tuple) else value


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
        UsageError: If the benchmark, the preset or a key is unknown.
    """
    specs = parse_specs(text)
    if len(specs) != 1:
        raise UsageError(f'{text!r}: benchmarks cannot be joined by +')
    contents, doc = read_config('benchmarks', specs[0].name)
    name = Path(specs[0].name).stem
    if 'version' in contents:
        raise UsageError(
            f'benchmark {name} has an entry version; remove it: results are told apart by what they were made from '
            '(data, backbone and recipe), so versions are no longer needed'
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
    for key, value in {**specs[0].options, **(overrides or {})}.items():
        path = _full_path(tree, key, name)
        if _get(tree, path) != value:
            replaced[path] = _set(tree, path, value)
            if path != 'data.imbalance_factor':  # has a column of its own in every table
                changed[path] = value
    check_contents({**contents, **tree}, name)
    for path, (old, new) in replaced.items():
        _refuse_another_kind(path, old, new, name)
    if scale_lr:
        _scale_lr(tree['recipe'], published, changed)
    try:
        fingerprint(tree)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f'benchmark {name} holds something else than plain finite data: {error}') from error
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
        raise UsageError('the learning rate is scaled with the batch size, and that is not changed: -o batch_size=...')
    if 'recipe.optimizer.lr' in changed:
        raise UsageError('give the learning rate or let it be scaled with the batch size, not both')
    recipe['optimizer']['lr'] *= recipe['batch_size'] / published['batch_size']
    changed['recipe.optimizer.lr'] = recipe['optimizer']['lr']


def _only_known(given: Mapping[str, Any], known: Sequence[str], noun: str) -> None:
    for key in given:
        if key not in known:
            raise unknown(noun, key, known)


def _merge(tree: dict[str, Any], changes: Mapping[str, Any], where: str, path: str = '') -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict) and 'type' not in value:
            _merge(tree[key], value, where, f'{path}.{key}')
        elif key in tree or path == '.recipe.augmentation':  # all of its entries are optional, and it is checked whole
            tree[key] = value
        else:
            raise unknown(f'key in {where}', key, tree)


def leaves(tree: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every entry of nested dicts that is no dict itself."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value


def _paths(tree: Mapping[str, Any], prefix: str = '') -> Iterator[str]:
    """Also of entries that are dicts: a whole one can be set."""
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _paths(value, f'{prefix}{key}.')


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
    """Put a value in its place; returns what was there and what is there now."""
    *parents, last = path.split('.')
    for key in parents:
        tree = tree[key]
    old = tree.get(last)
    if isinstance(old, str) and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a folder may be called 2024
    tree[last] = value
    return old, value


def _refuse_another_kind(path: str, old: Any, value: Any, name: str) -> None:
    """What no type is declared for is of the kind that the benchmark's file has."""
    kinds = [float if type(item) is int else tuple if type(item) is list else type(item) for item in (old, value)]
    if old is not None and value is not None and kinds[0] is not kinds[1]:
        kind = WORDS.get(kinds[0], kinds[0].__name__)
        raise UsageError(f'{path} of {name} is {kind}, as {shortened(old)}, got {shortened(value)}')


# ---------------------------------------------------------------------------------------------- suites


@dataclass(frozen=True)
class Suite:
    """A grid of runs: every benchmark x method x seed.

    Attributes:
        benchmarks: As typed, options included.
        methods: Of each benchmark that has none of its own.
        seeds: Likewise.
        preset: One that all benchmarks have.
        source: Its file, where that was given by a path.
        probes: What is measured inside the network of every run, beside what methods ask for themselves.
        ablate: Options whose values its report compares.
        own_methods: Of benchmarks that have their own.
        own_seeds: Likewise.
    """

    name: str
    benchmarks: tuple[str, ...]
    methods: tuple[Specs, ...]
    seeds: tuple[int, ...]
    preset: str | None = None
    doc: str = ''
    source: str = ''
    probes: tuple[str, ...] = ()
    ablate: tuple[str, ...] = ()
    own_methods: Mapping[str, tuple[Specs, ...]] = field(default_factory=dict)
    own_seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def methods_on(self, benchmark: str) -> tuple[Specs, ...]:
        """Those that are run on one of its benchmarks."""
        return self.own_methods.get(benchmark, self.methods)

    def seeds_on(self, benchmark: str) -> tuple[int, ...]:
        """Likewise."""
        return self.own_seeds.get(benchmark, self.seeds)

    @property
    def all_methods(self) -> tuple[Specs, ...]:
        """Those of all benchmarks, each once, as typed."""
        found = {str(method): method for each in self.benchmarks for method in self.methods_on(each)}
        return tuple(found.values())

    @property
    def number_of_runs(self) -> int:
        """Benchmark x method x seed."""
        return sum(len(self.methods_on(each)) * len(self.seeds_on(each)) for each in self.benchmarks)


def load_suite(name: str) -> Suite:
    """Read ``configs/suites/NAME.py`` or a file given by its path.

    A benchmark with methods or seeds of its own is ``dict(benchmark='inat2018', methods=['erm'], seeds=[0])``.

    Raises:
        UsageError: If it is unknown, lacks ``benchmarks``, ``methods`` or ``seeds``, or names a benchmark twice.
    """
    contents, doc = read_config('suites', name)
    name = Path(name).stem
    _only_known(contents, ('benchmarks', 'methods', 'seeds', 'preset', 'ablate', 'probes'), f'entry of suite {name}')
    for key in ('benchmarks', 'methods', 'seeds'):
        if not contents.get(key) or not isinstance(contents[key], list | tuple):
            raise UsageError(f'suite {name} needs a list {key}, got {shortened(contents.get(key))}')
    benchmarks, own = _benchmarks_of(contents['benchmarks'], name)
    for seeds in (contents['seeds'], *(each['seeds'] for each in own.values() if 'seeds' in each)):
        if not all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds):
            raise UsageError(f'seeds of suite {name} are whole numbers, 0 or larger, got {shortened(seeds)}')
    for key, what in {'ablate': 'options', 'probes': 'names'}.items():
        listed = contents.get(key, [])
        if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise UsageError(f'{key} of suite {name} is a list of {what}, got {shortened(listed)}')
    preset = contents.get('preset')
    if not isinstance(preset, str | None):
        raise UsageError(f'preset of suite {name} is text, got {shortened(preset)}')
    return Suite(
        name=name,
        benchmarks=benchmarks,
        methods=tuple(map(parse_specs, contents['methods'])),
        seeds=tuple(contents['seeds']),
        preset=preset,
        doc=doc,
        probes=tuple(contents.get('probes', [])),
        ablate=tuple(contents.get('ablate', [])),
        own_methods={text: tuple(map(parse_specs, each['methods'])) for text, each in own.items() if 'methods' in each},
        own_seeds={text: tuple(each['seeds']) for text, each in own.items() if 'seeds' in each},
    )


def _benchmarks_of(listed: Sequence[Any], suite: str) -> tuple[tuple[str, ...], dict[str, Mapping[str, Any]]]:
    """Benchmarks as typed, and what those that have it hold of their own."""
    own: dict[str, Mapping[str, Any]] = {}
    for item in listed:
        if isinstance(item, Mapping) and not {'benchmark', 'type'} & item.keys():
            raise UsageError(f'suite {suite} has an entry of benchmarks without benchmark: {shortened(dict(item))}')
        entry = item if isinstance(item, Mapping) and 'benchmark' in item else {'benchmark': item}
        text = entry['benchmark'] if isinstance(entry['benchmark'], str) else str(parse_specs(entry['benchmark']))
        _only_known(entry, ('benchmark', 'methods', 'seeds'), f'entry of {text} in suite {suite}')
        for key in ('methods', 'seeds'):
            if key in entry and not (entry[key] and isinstance(entry[key], list | tuple)):
                raise UsageError(
                    f'{key} of {text} in suite {suite} is a list with entries, got {shortened(entry[key])}'
                )
        if text in own:
            raise UsageError(f'suite {suite} names the benchmark {text} twice')
        own[text] = entry
    return tuple(own), own

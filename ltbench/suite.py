"""A suite: a grid of benchmarks, methods and seeds, read from its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltbench.config import config_names, read_config
from ltbench.errors import UsageError, unknown
from ltbench.method_files import built_in_methods
from ltbench.recipe import shortened
from ltbench.spec import LARGEST_SEED, Specs, parse_specs


@dataclass(frozen=True)
class Suite:
    """A grid of runs: every benchmark x method x seed.

    Attributes:
        benchmarks: As typed, options included.
        methods: For each benchmark without separate ones.
        seeds: Likewise.
        preset: One that all benchmarks have.
        source: Its file, where that was given by a path.
        probes: Probes of the network of every run, in addition to those that methods request.
        ablate: Options whose values its report compares.
        own_methods: Benchmark -> its separate methods.
        own_seeds: Benchmark -> its separate seeds.
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
        """The methods for one of its benchmarks."""
        return self.own_methods.get(benchmark, self.methods)

    def seeds_on(self, benchmark: str) -> tuple[int, ...]:
        """The seeds for one of its benchmarks."""
        return self.own_seeds.get(benchmark, self.seeds)

    @property
    def all_methods(self) -> tuple[Specs, ...]:
        """The methods of all benchmarks, each once, as typed."""
        found = {str(method): method for each in self.benchmarks for method in self.methods_on(each)}
        return tuple(found.values())

    @property
    def number_of_runs(self) -> int:
        """Benchmark x method x seed."""
        return sum(len(self.methods_on(each)) * len(self.seeds_on(each)) for each in self.benchmarks)


def load_suite(name: str) -> Suite:
    """Read ``configs/suites/NAME.py`` or a file given by its path.

    A benchmark with separate methods or seeds is ``dict(benchmark='inat2018', methods=['erm'], seeds=[0])``.

    Raises:
        UsageError: If it is unknown, lacks ``benchmarks``, ``methods`` or ``seeds``, or names a benchmark twice.
    """
    if name not in config_names('suites'):
        for kind, known in (('benchmark', config_names('benchmarks')), ('method', built_in_methods())):
            if name in known:
                raise UsageError(f'{name} is a {kind}, not a suite: `ltbench run -{kind[0]} {name}`')
    contents, doc = read_config('suites', name)
    name = Path(name).stem
    _only_known(contents, ('benchmarks', 'methods', 'seeds', 'preset', 'ablate', 'probes'), f'entry of suite {name}')
    for key in ('benchmarks', 'methods', 'seeds'):
        if not contents.get(key) or not isinstance(contents[key], list | tuple):
            raise UsageError(f'suite {name} needs a list {key}, got {shortened(contents.get(key))}')
    benchmarks, own = _benchmarks_of(contents['benchmarks'], name)
    for seeds in (contents['seeds'], *(each['seeds'] for each in own.values() if 'seeds' in each)):
        if not all(type(seed) is int and 0 <= seed <= LARGEST_SEED for seed in seeds):
            raise UsageError(f'seeds of suite {name} are whole numbers from 0 to 2^63 - 1, got {shortened(seeds)}')
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
        methods=each_once(contents['methods']),
        seeds=tuple(dict.fromkeys(contents['seeds'])),
        preset=preset,
        doc=doc,
        probes=tuple(contents.get('probes', [])),
        ablate=tuple(contents.get('ablate', [])),
        own_methods={text: each_once(each['methods']) for text, each in own.items() if 'methods' in each},
        own_seeds={text: tuple(dict.fromkeys(each['seeds'])) for text, each in own.items() if 'seeds' in each},
    )


def each_once(methods: Iterable[str | Mapping[str, Any]]) -> tuple[Specs, ...]:
    """Methods as typed, without repeats."""
    return tuple({str(method): method for method in map(parse_specs, methods)}.values())


def _benchmarks_of(listed: Sequence[Any], suite: str) -> tuple[tuple[str, ...], dict[str, Mapping[str, Any]]]:
    """Benchmarks as typed, and the entry of each, which may have separate methods or seeds."""
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


def _only_known(given: Mapping[str, Any], known: Sequence[str], noun: str) -> None:
    for key in given:
        if key not in known:
            raise unknown(noun, key, known)

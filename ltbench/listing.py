"""The verbs `ls` and `data`: what there is, and whether it is whole."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from rich.table import Table

from ltbench import plugins
from ltbench.config import config_names, load_benchmark, load_suite
from ltbench.console import make_console
from ltbench.data import LongTailData
from ltbench.errors import EXIT_FAILED, unknown
from ltbench.record import read_record, results_root
from ltbench.registry import DATASETS, METHODS, lookup


def show(what: str, plugin_files: Iterable[str]) -> None:
    """Print one line for each thing of a kind."""
    tables = {'methods': _methods, 'benchmarks': _benchmarks, 'suites': _suites, 'runs': _runs}
    if what not in tables:
        raise unknown('thing to list', what, tables)
    broken = plugins.load(plugin_files) if what == 'methods' else {}
    make_console().print(tables[what]())
    for name, error in broken.items():
        make_console().print(f'not loaded: {name}: {type(error).__name__}: {error}', style='yellow', markup=False)


def show_data() -> None:
    """Print the state of every benchmark's data."""
    table = Table('benchmark', 'data set', 'state', box=None)
    for name in config_names('benchmarks'):
        data_class = _data_class(name)
        states = [status.state for status in data_class.check()]
        state = 'embedded' if not states else 'whole' if set(states) == {'whole'} else ', '.join(sorted(set(states)))
        table.add_row(name, data_class.title, state)
    make_console().print(table)


def get_data(benchmark: str) -> None:
    """Download what a benchmark's data lack."""
    _data_class(benchmark).get()
    check_data(benchmark)


def check_data(benchmark: str) -> int:
    """Print the state of each file; return 0 if all are whole, else 1."""
    console = make_console()
    statuses = _data_class(benchmark).check()
    if not statuses:
        console.print(f'{benchmark}: embedded, nothing to check')
    for status in statuses:
        console.print(f'{status.state:8} {status.name}  {status.detail}', markup=False, soft_wrap=True)
    return 0 if all(status.state == 'whole' for status in statuses) else EXIT_FAILED


def _data_class(benchmark: str) -> type[LongTailData]:
    return lookup(DATASETS, load_benchmark(benchmark).data['type'])


def _methods() -> Table:
    table = Table('method', 'what it does', 'options', box=None)
    for name in plugins.method_names():
        method = METHODS.module_dict[name]
        options = ', '.join(f'{key}={option.default}' for key, option in method.options().items())
        table.add_row(name, (inspect.getdoc(method) or '').partition('\n')[0], options)
    return table


def _benchmarks() -> Table:
    table = Table('benchmark', 'what it is', 'presets', box=None)
    for name in config_names('benchmarks'):
        table.add_row(name, load_benchmark(name).doc.partition('\n')[0].partition(': ')[2], '')
    return table


def _suites() -> Table:
    table = Table('suite', 'runs', 'what it is', box=None)
    for name in config_names('suites'):
        suite = load_suite(name)
        count = len(suite.benchmarks) * len(suite.methods) * len(suite.seeds)
        table.add_row(name, str(count), suite.doc.partition('\n')[0])
    return table


def _runs() -> Table:
    table = Table('suite', 'benchmark', 'IF', 'setting', 'method', 'seed', 'top-1', 'fingerprint', box=None)
    for path in sorted(results_root().glob('*/records/*.json')):
        record = read_record(path)
        table.add_row(
            path.parts[-3],
            record['benchmark'],
            '' if record['imbalance_factor'] is None else f'{record["imbalance_factor"]:g}',
            record['setting'],
            record['method'],
            str(record['run_seed']),
            f'{record["metrics"]["top1"]:.1f}',
            record['fingerprint'][:12],
        )
    return table

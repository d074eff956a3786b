"""What can be said of a selection before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from ltbench import method_files, plugins
from ltbench.errors import UsageError
from ltbench.grid.selection import Selection, check_names, choose_suite
from ltbench.method_files import built_in_methods
from ltbench.registry import METHODS


def test_names_read_from_text_are_those_that_are_registered():
    plugins.load()
    assert built_in_methods().keys() == {
        name for name, part in METHODS.module_dict.items() if part.__module__.startswith('methods.')
    }


@pytest.mark.parametrize(
    ('selection', 'said'),
    [
        (Selection('digitz'), "unknown suite 'digitz': did you mean digits"),
        (Selection(benchmarks=('cifar10_l',)), "unknown benchmark 'cifar10_l': did you mean cifar10_lt"),
        (Selection(benchmarks=('digits_lt',), methods=('nbn+emr',)), "unknown method 'emr': did you mean erm"),
        (Selection('digits', preset='quikc'), "unknown preset"),
        (Selection(''), "unknown suite ''"),
        (Selection('digits', preset=''), "unknown preset of digits_lt ''"),
        (Selection(benchmarks=('digits_lt',), preset=''), "unknown preset of digits_lt ''"),
        (Selection(benchmarks=('',)), 'a name is missing'),
        (Selection(methods=('',)), 'a name is missing'),
    ],
)  # fmt: skip
def test_a_misspelled_name_is_told(selection, said):
    with pytest.raises(UsageError, match=said):
        check_names(selection)


@pytest.mark.parametrize(
    ('benchmarks', 'name'),
    [
        (('cifar100_lt(imbalance_factor=10)',), 'cifar100_lt'),
        (('cifar10_lt',), 'cifar10_lt_runs'),  # there is a suite cifar10_lt
        (('cifar10_lt', 'digits_lt', 'cifar10_lt(epochs=5)'), 'cifar10_lt+digits_lt'),
    ],
)
def test_runs_of_a_benchmark_alone_are_not_among_the_results_of_a_suite(benchmarks, name):
    suite = choose_suite(Selection(benchmarks=benchmarks))
    assert (suite.name, suite.benchmarks, suite.seeds) == (name, benchmarks, (0,))


def test_what_is_typed_twice_is_run_once():
    suite = choose_suite(Selection(benchmarks=('digits_lt', 'digits_lt'), methods=('erm', 'nbn', 'erm'), seeds=(0, 1)))
    assert suite.number_of_runs == 4


def test_methods_of_plug_ins_are_looked_up_later(monkeypatch):
    selection = Selection(benchmarks=('digits_lt',), methods=('mine',))
    check_names(selection, ['mine.py'])
    monkeypatch.setenv('LTBENCH_PLUGINS', 'mine.py')
    check_names(selection)


def test_a_method_file_that_cannot_be_read_is_no_traceback(tmp_path, monkeypatch):
    """Whoever imports it says what is wrong; until then no name is known to be misspelled."""
    (tmp_path / 'broken.py').write_text('def (')
    monkeypatch.setattr(method_files, 'find_spec', lambda _: SimpleNamespace(submodule_search_locations=[tmp_path]))
    built_in_methods.cache_clear()
    assert built_in_methods() == {}
    check_names(Selection(benchmarks=('digits_lt',), methods=('mine',)))
    built_in_methods.cache_clear()


COMMANDS = [
    ('run', '-m', 'emr'), ('run', 'digitz'), ('status', '-m', 'emr'), ('status', 'digits'),
    ('run', 'digits', '--dry-run'), ('ls', 'methods'), ('ls', 'suites'), ('data', 'ls'),
    ('show', 'nbn+crt'), ('show', 'nbm'), ('show', 'digits_lt'),
]  # fmt: skip


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_what_is_answered_without_torch(sandbox, words):
    """What takes code is cached from the first time on."""
    code = 'import sys\nfrom ltbench.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n'
    code += "assert 'torch' not in sys.modules, 'torch'"
    if words[0] in ('status', 'ls', 'show') or '--dry-run' in words:
        subprocess.run([sys.executable, '-m', 'ltbench.cli', *words], capture_output=True, check=False)
    ended = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr

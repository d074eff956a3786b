"""What a started process does not take over from a script."""

from __future__ import annotations

import os
import pickle
import sys
from multiprocessing import spawn

import pytest

from ltbench.processes import isolated


def test_the_main_module_is_not_handed_on_and_all_is_as_before_afterwards(monkeypatch):
    main = sys.modules['__main__']
    monkeypatch.setattr(main, '__spec__', None)
    monkeypatch.setattr(main, '__file__', '/somewhere/script.py', raising=False)
    monkeypatch.delenv('LTBENCH_A', raising=False)
    monkeypatch.setenv('LTBENCH_B', 'mine')
    assert spawn.get_preparation_data('x')['init_main_from_path'] == '/somewhere/script.py'
    with isolated(LTBENCH_A='1', LTBENCH_B='1'):
        assert not {'init_main_from_path', 'init_main_from_name'} & spawn.get_preparation_data('x').keys()
        assert (os.environ['LTBENCH_A'], os.environ['LTBENCH_B']) == ('1', '1')
    assert sys.modules['__main__'] is main
    assert ('LTBENCH_A' in os.environ, os.environ['LTBENCH_B']) == (False, 'mine')


def test_a_script_that_is_run_as_a_module_is_not_handed_on_either(monkeypatch):
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', spawn.__spec__)
    assert spawn.get_preparation_data('x')['init_main_from_name'] == 'multiprocessing.spawn'
    with isolated():
        assert 'init_main_from_name' not in spawn.get_preparation_data('x')


def test_another_thread_still_finds_what_the_main_module_holds(monkeypatch):
    main = sys.modules['__main__']
    typed = type('Typed', (), {'__module__': '__main__', '__qualname__': 'Typed'})
    monkeypatch.setattr(main, 'Typed', typed, raising=False)
    with isolated():
        assert pickle.loads(pickle.dumps(typed)) is typed
        sys.modules['__main__'].Typed = None
    assert main.Typed is None


def test_it_ends_also_where_what_is_done_meanwhile_fails():
    main = sys.modules['__main__']
    with pytest.raises(ValueError, match='x'), isolated(LTBENCH_A='1'):
        raise ValueError('x')
    assert sys.modules['__main__'] is main
    assert 'LTBENCH_A' not in os.environ

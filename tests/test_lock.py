"""The engine's code is what the lock says, the goldens hold, and the command refuses what it has to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import goldens
import lock
import pytest
import torch

from ltbench.fingerprint import PROTOCOL_VERSION
from ltbench.source import engine_code

HERE = Path(__file__).parent
LOCKED = lock.read(HERE)
assert LOCKED is not None


@pytest.fixture(scope='module')
def chosen():
    return goldens.cases()


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """Stores and images of all goldens that one process makes."""
    return tmp_path_factory.mktemp('goldens')


def test_the_engine_is_the_one_that_is_locked():
    assert engine_code() == LOCKED.engine, 'the code of the engine changed: run `python tests/lock.py`'


def test_the_protocol_is_the_one_that_is_locked():
    assert LOCKED.protocol == PROTOCOL_VERSION, 'PROTOCOL_VERSION changed: run `python tests/lock.py`'


def test_every_method_has_a_golden(chosen):
    assert sorted(chosen) == sorted(LOCKED.goldens), 'methods or cases changed: run `python tests/lock.py`'
    named = {name.partition('/')[2].partition('(')[0] for name in LOCKED.goldens}
    assert set(goldens.built_in()) <= named


@pytest.mark.parametrize('name', sorted(LOCKED.goldens))
def test_golden_holds(name, chosen, shared):
    torch.set_num_threads(1)
    if name not in chosen:
        pytest.fail(f'there is no {name} any more: run `python tests/lock.py`')
    far, what = lock.moved(LOCKED.goldens[name], chosen[name].make(shared))
    if far > chosen[name].tolerance and (there := lock.installed()) != LOCKED.libraries:
        pytest.skip(f'{what} is other by {far:.1e}; made with {dict(LOCKED.libraries)}, here are {there}')
    assert far <= chosen[name].tolerance, f'{what} moved by {far:.1e}: run `python tests/lock.py`'


# ---------------------------------------------------------------------------------------------- what may be locked

OLD = lock.Lock(
    protocol=2,
    engine='old',
    libraries={'torch': '1'},
    goldens={'a': {'identity': 'x', 'loss': [1.0, 4.0]}, 'b': {'sha256': 'f00'}},
)


def judged(protocol=2, engine='old', torch='1', old=OLD, **values):
    made = {name: {**old.goldens.get(name, {}), **changed} for name, changed in {'a': {}, 'b': {}, **values}.items()}
    new = lock.Lock(protocol, engine, {'torch': torch}, {name: made[name] for name in made if made[name]})
    said, locked = lock.judge(old, new, dict.fromkeys(made, 1e-3))
    return '\n'.join(said), locked


def test_nothing_moved_and_nothing_is_written():
    said, locked = judged()
    assert locked is OLD
    assert 'nothing moved' in said


def test_other_code_with_the_same_results_is_locked_and_small_differences_do_not_add_up():
    said, locked = judged(engine='new', a={'identity': 'y', 'loss': [1.0, 4.003]})
    assert 'engine old -> new' in said
    assert locked.engine == 'new'
    assert locked.goldens['a'] == {'identity': 'y', 'loss': [1.0, 4.0]}


@pytest.mark.parametrize(
    ('moved', 'said'),
    [
        ({'a': {'loss': [1.0, 4.1]}}, 'a: loss moved by 2.5e-02'),
        ({'a': {'loss': [1.0]}}, 'a: loss moved by inf'),
        ({'a': {'loss': [1.0, float('inf')]}}, 'a: loss moved by inf'),
        ({'b': {'sha256': 'bad'}}, 'b: sha256 moved by inf'),
    ],
)
@pytest.mark.parametrize('engine', ['old', 'new'])
def test_what_moved_is_named_and_refused_until_the_protocol_is_raised(moved, said, engine):
    refused, locked = judged(engine=engine, **moved)
    assert locked is None
    assert said in refused
    assert 'raise PROTOCOL_VERSION in ltbench/fingerprint.py' in refused
    raised, locked = judged(engine=engine, protocol=3, **moved)
    assert f'{said} of the largest value (tolerance 1e-03); the protocol is raised' in raised
    assert locked.protocol == 3
    assert {name: locked.goldens[name] for name in moved} == {n: {**OLD.goldens[n], **v} for n, v in moved.items()}


@pytest.mark.parametrize('value', [[1.0, float('nan')], [float('nan'), 4.0]])
def test_a_golden_that_became_nan_moved(value):
    said, locked = judged(engine='new', a={'loss': value})
    assert locked is None
    assert 'a: loss moved by inf' in said


def test_the_protocol_is_never_lowered():
    assert judged(protocol=1)[1] is None


def test_a_method_that_says_something_else_has_another_name_but_not_beside_another_engine():
    other = {'identity': 'y', 'loss': [1.0, 5.0]}
    said, locked = judged(a=other)
    assert 'it says something else now' in said
    assert locked.goldens['a'] == other
    assert judged(engine='new', a=other)[1] is None


def test_another_library_may_move_goldens_but_not_beside_another_engine():
    said, locked = judged(torch='2', a={'loss': [1.0, 5.0]})
    assert 'other versions: torch 1 -> 2' in said
    assert 'a library is another' in said
    assert locked.libraries == {'torch': '2'}
    assert judged(torch='2', engine='new', a={'loss': [1.0, 5.0]})[1] is None


def test_new_methods_come_and_old_ones_go():
    said, locked = judged(c={'loss': [7.0]})
    assert 'c: new' in said
    assert locked.goldens['c'] == {'loss': [7.0]}
    said, locked = judged(old=replace(OLD, goldens={**OLD.goldens, 'd': {'loss': [1.0]}}))
    assert 'd: gone' in said
    assert set(locked.goldens) == {'a', 'b'}


def test_a_lock_is_read_as_it_was_written(tmp_path):
    assert lock.read(tmp_path) is None
    lock.write(tmp_path, OLD)
    assert lock.read(tmp_path) == OLD
    lock.write(tmp_path, LOCKED)
    for name in ('lock.json', 'goldens.json'):
        assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


# ---------------------------------------------------------------------------------------------- on a copy of the code

FEW = """
import sys, goldens, lock
every = goldens.cases
lock.cases = lambda: {name: case for name, case in every().items() if name in ('digits/focal', 'pixels/digits')}
sys.exit(lock.main(sys.argv[1:]))
"""


class Copy:
    """The engine, the methods and the lock in a folder of their own, with two goldens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ('ltbench', 'methods'):
            shutil.copytree(HERE.parent / name, folder / name)
        (folder / 'tests').mkdir()
        for name in ('lock.py', 'goldens.py'):
            shutil.copy(HERE / name, folder / 'tests')
        (folder / 'few.py').write_text(FEW)
        names = ('digits/focal', 'pixels/digits')
        # of the code as it is, whether or not it is locked: what is tested here is what the command does
        few = replace(LOCKED, engine=engine_code(), protocol=PROTOCOL_VERSION, libraries=lock.installed())
        lock.write(folder / 'tests', replace(few, goldens={name: LOCKED.goldens[name] for name in names}))

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.folder / file).read_text()
        assert text.count(old) == 1, f'{file} has {old!r} {text.count(old)} times'
        (self.folder / file).write_text(text.replace(old, new))

    def run(self, *arguments: str, code: int, command: str = 'few.py') -> str:
        """The command's output, after comparing its exit code."""
        env = {name: value for name, value in os.environ.items() if not name.startswith('LTBENCH_')}
        env |= {'PYTHONPATH': f'{self.folder}:{self.folder / "tests"}', 'PYTHONDONTWRITEBYTECODE': '1'}
        words = [sys.executable, command, *arguments]
        result = subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300)
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout

    @property
    def locked(self) -> dict[str, bytes]:
        return {name: (self.folder / 'tests' / name).read_bytes() for name in ('lock.json', 'goldens.json')}


@pytest.fixture
def code(tmp_path):
    return Copy(tmp_path)


WARM_UP = ('ltbench/engine/optim.py', 'lr * (epoch + 1) / warmup', 'lr * (epoch + 2) / warmup')


def test_a_changed_constant_of_the_engine_is_refused(code):
    before = code.locked
    code.edit(*WARM_UP)
    said = code.run(code=1)
    assert 'digits/focal: ' in said
    assert 'pixels' not in said
    assert 'refused: 1 goldens moved' in said
    assert 'raise PROTOCOL_VERSION in ltbench/fingerprint.py' in said
    assert code.locked == before


@pytest.mark.slow
def test_from_a_comment_to_a_raised_protocol(code):
    before = code.locked
    code.edit('ltbench/engine/optim.py', 'import math\n', 'import math  # cosines\n')
    assert 'nothing moved' in code.run(code=0)
    assert code.locked == before

    code.edit('ltbench/engine/optim.py', 'kind = schedule[', 'form = kind = schedule[')
    assert 'to be locked' in code.run('--check', code=1)
    assert code.locked == before
    assert 'written' in code.run(code=0)
    assert code.locked['goldens.json'] == before['goldens.json']
    assert json.loads(code.locked['lock.json'])['engine'] != json.loads(before['lock.json'])['engine']

    code.edit(*WARM_UP)
    protocol = 'PROTOCOL_VERSION = {}\n'
    code.edit('ltbench/fingerprint.py', protocol.format(PROTOCOL_VERSION), protocol.format(PROTOCOL_VERSION + 1))
    said = code.run(code=0)
    assert 'digits/focal: ' in said
    assert 'the protocol is raised' in said
    assert json.loads(code.locked['lock.json'])['protocol'] == PROTOCOL_VERSION + 1
    was, now = (json.loads(files['goldens.json']) for files in (before, code.locked))
    assert now['digits/focal'] != was['digits/focal']
    assert now['pixels/digits'] == was['pixels/digits']


@pytest.mark.slow
def test_one_method_alone_is_compared_and_never_written(code):
    code.edit('ltbench/engine/optim.py', 'kind = schedule[', 'form = kind = schedule[')
    before = code.locked
    assert 'to be locked' in code.run('--only', 'focal', code=0)
    code.edit('methods/focal.py', 'gamma = Option(1.0', 'gamma = Option(2.0')
    assert 'digits/focal: ' in code.run('--only', 'focal', code=1)  # the engine is another, too
    code.edit('ltbench/engine/optim.py', 'form = kind = schedule[', 'kind = schedule[')
    assert 'it says something else now' in code.run('--only', 'focal', code=0)
    code.run('--only', 'focla', code=2)
    assert code.locked == before

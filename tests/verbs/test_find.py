"""Which recorded run a person means."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

from ltbench.benchmark import load_benchmark
from ltbench.errors import StoreError, UsageError
from ltbench.store import Store
from ltbench.verbs.find import find_run, how_to_make, stored_logits


def test_every_form_finds_the_run(recorded):
    paths = [recorded('erm', seed) for seed in (0, 1)]
    wanted = paths[1]
    name, key = wanted.stem, find_run(str(wanted)).record['fingerprint']
    for text in (wanted, name, f'{name}.json', f'digits/{name}', key, key[:6], f'digits/{key[:12]}'):
        assert find_run(str(text)).path.samefile(wanted), text
    assert find_run(name).name == f'digits/{name}'
    assert str(find_run(name)) == 'digits_lt IF 40 (paper) / erm / seed 1'


def test_a_fingerprint_is_that_of_the_run_and_not_of_what_it_rests_on(recorded):
    parent = 'feed' * 16
    stages = [{'kind': 'train', 'fingerprint': parent, 'epochs': 1, 'cost': {}}]
    recorded('crt', stages=stages)
    with pytest.raises(UsageError, match='unknown run'):
        find_run(parent)
    path = recorded('erm', stages=stages, key=parent)
    assert find_run(parent[:8]).path.samefile(path)


def test_what_is_ambiguous_lists_the_candidates(recorded):
    key = 'abcdef' + 58 * '0'
    names = [recorded(method, suite=suite, key=key).stem for suite, method in (('digits', 'erm'), ('mine', 'la_loss'))]
    with pytest.raises(UsageError) as error:
        find_run('abcdef')
    assert str(error.value) == f"'abcdef' names 2 runs; give one: digits/{names[0]}, mine/{names[1]}"
    assert find_run('mine/abcdef').record['method'] == 'la_loss'


@pytest.mark.parametrize(
    ('text', 'advice'),
    [
        ('digits_lt-if40-erm-s0', 'did you mean digits/{name}? `ltbench ls runs` lists all'),
        ('digits_lt-if40-emr-s0-00000000', 'did you mean digits/{name}?'),
        ('digit/{name}', 'no such suite or file; did you mean digits/{name}?'),
        ('abcde', 'give at least 6 digits of a fingerprint'),
        (
            'zzz',
            'expected the path or the name of a record, SUITE/NAME, or the first 6 or more digits of a fingerprint;',
        ),
    ],
)
def test_near_misses(recorded, text, advice):
    name = recorded('erm').stem
    with pytest.raises(UsageError) as error:
        find_run(text.format(name=name))
    assert advice.format(name=name) in str(error.value)


def test_without_records_that_is_said(sandbox):
    with pytest.raises(UsageError, match='there are no records in .*results; `ltbench run` makes some'):
        find_run('erm')


def test_a_record_that_is_cut_off_is_named(recorded):
    path = recorded()
    path.write_text(path.read_text()[:100])
    with pytest.raises(StoreError, match=path.name):
        find_run(path.stem)


def test_the_command_makes_the_same_run(recorded):
    """Its words resolve to the setting that was recorded."""
    benchmark = load_benchmark('digits_lt(imbalance_factor=10)', overrides={'epochs': 5, 'schedule.type': 'step'})
    config = {'benchmark': benchmark.resolved, 'stages': []}
    path = recorded('nbn(normalize=weight)', 3, config=config, imbalance_factor=10, setting=benchmark.setting)
    words = shlex.split(how_to_make(find_run(path.stem)))
    assert words[:4] == ['ltbench', 'run', 'digits', '-b']
    assert words[5:] == ['-m', 'nbn(normalize=weight)', '--seeds', '3']
    again = load_benchmark(words[4])
    assert (again.resolved, again.setting) == (benchmark.resolved, benchmark.setting)
    elsewhere = recorded('erm', suite='my_own')
    assert shlex.split(how_to_make(find_run(f'my_own/{elsewhere.stem}')))[:3] == ['ltbench', 'run', '-b']


def test_logits_are_verified(recorded):
    logits = np.eye(10, dtype=np.float32)
    run = find_run(str(recorded(logits=logits, labels=np.arange(10))))
    found = stored_logits(run, Store())
    assert found is not None
    assert np.array_equal(found[0], logits)
    assert np.array_equal(found[1], np.arange(10))
    file = Store().folder(run.record['fingerprint']) / 'test.npz'
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match='is damaged'):
        stored_logits(run, Store())
    assert stored_logits(run, Store()) is None

"""The table of a grid as a person sees it: 80 columns, a row a method, a sign a seed, nothing said twice or cut."""

from __future__ import annotations

import io

from rich.console import Console

from ltbench.verbs.view import Line, draw_grid


def drawn(lines, height=24, width=80, encoding='utf-8', **options):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, height=height)
    console.print(draw_grid(lines, console, **options))
    stream.seek(0)
    return [line.rstrip() for line in stream.read().splitlines()]


def seeds(method, *states, where='digits_lt IF 40'):
    return [Line(where, method, seed, *state) for seed, state in enumerate(states)]


def test_what_is_the_same_for_all_seeds_is_said_once():
    reason = 'made with another store; `ltbench run --skip-recorded` skips it'
    lines = seeds('erm', *[('recorded', reason)] * 3)
    text = drawn(lines)
    assert text[0] == 'digits_lt IF 40'
    assert text[1].split()[:4] == ['erm', '●●●', 'recorded,', 'made']
    assert ' '.join(' '.join(text).split()).count('made with another store') == 1
    assert text[-1] == '3 recorded'


def test_seeds_that_differ_are_named():
    lines = seeds('crt', ('done', 'top-1 91.4'), ('running', 'epoch 3/60'), ('pending',), ('pending',))
    text = drawn(lines)
    assert 'seed 0: top-1 91.4' in text[1]
    assert 'seed 1: running, epoch 3/60' in text[2]
    assert 'seeds 2, 3: pending' in text[3]
    assert '●◐··' in text[1]


def test_a_long_name_is_folded_and_never_cut():
    name = 'nbn(normalize=bias, scope=all, bias_init=normal)+balanced_softmax+deferred_resampling'
    text = drawn(seeds(name, ('pending',)))
    assert '…' not in ''.join(text)
    told = ''.join(line[:52] for line in text[1:-1]).replace('·', '').replace('pending', '')
    assert ''.join(told.split()) == name.replace(' ', '')
    assert max(map(len, text)) <= 80


def test_what_runs_comes_first_and_what_does_not_fit_is_counted():
    lines = [line for number in range(30) for line in seeds(f'm{number}', ('pending',))]
    lines += seeds('last', ('running', 'epoch 1/2'))
    text = drawn(lines, height=12, running_first=True)
    assert len(text) <= 12
    assert text[1].split()[0] == 'last'
    assert text[-1] == '1 running, 30 pending; 24 more methods not shown'
    whole = drawn(lines, height=12, whole=True)
    assert len(whole) == 33


def test_tables_are_blocks_and_ascii_has_letters():
    lines = seeds('erm', ('failed', 'the loss became nan')) + seeds('erm', ('done',), where='cifar10_lt IF 100')
    text = drawn(lines, encoding='ascii')
    assert [line for line in text if 'IF' in line] == ['digits_lt IF 40', 'cifar10_lt IF 100']
    assert text[1].split()[:2] == ['erm', 'f']
    assert text[3].split() == ['erm', 'd', 'done']

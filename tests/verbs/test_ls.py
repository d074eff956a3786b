"""What `ltbench ls` says of methods."""

from __future__ import annotations

import inspect
import json

import pytest
from made_records import make_record, write

from ltbench import plugins
from ltbench.errors import UsageError
from ltbench.grid.shares import stages_and_shares
from ltbench.registry import METHODS
from ltbench.verbs.ls import Filter, list_things, paper_of


@pytest.mark.parametrize(
    ('name', 'paper'),
    [
        ('drw', 'Cao et al., NeurIPS 2019'),
        ('nbn', 'Bao et al., IEEE TIP 2024'),
        ('tau_norm', 'Kang et al., ICLR 2020'),
        ('focal', 'Lin et al., ICCV 2017'),
        ('erm', ''),
    ],
)
def test_paper_and_year_come_from_the_docstring(name, paper):
    assert paper_of(inspect.getdoc(METHODS.get(name))) == paper


def test_every_method_but_the_plain_ones_names_a_paper_and_its_code():
    for name in set(plugins.method_names()) - {'erm', 'wide'}:
        doc = inspect.getdoc(METHODS.get(name))
        assert paper_of(doc)[-4:].isdigit(), name
        assert 'http' in doc, name


def test_stages_and_what_is_shared():
    described = stages_and_shares(plugins.method_names())
    assert described['balanced_softmax'] == ('train', 'everything with la_loss')
    assert described['crt'][0] == 'train > features > head'
    assert described['crt'][1].startswith('60 of 60 epochs with erm')
    assert described['ldam_drw'] == ('train x2', '48 of 60 epochs with ldam')
    assert described['tau_norm'][0] == 'train > features > posthoc > (train on less data, to choose values)'


# ---------------------------------------------------------------------------------------------- runs


@pytest.fixture
def runs(sandbox):
    """The runs that are listed, as ``suite benchmark method seed``."""
    for method in ('erm', 'nbn', 'nbn(scope=all)', 'nbn+la_loss'):
        for seed in (0, 1):
            write(make_record(method, seed), 'first')
    write(make_record('erm', 0, benchmark='places_lt', factor=None), 'second')

    def listed(**wanted):
        written = []
        assert list_things('runs', [], written.append, Filter(**wanted)) == 0
        return [f'{row["suite"]} {row["benchmark"]} {row["method"]} {row["seed"]}' for row in json.loads(written[0])]

    return listed


def test_runs_are_filtered_by_suite_benchmark_method_and_seed(runs):
    assert len(runs()) == 9
    assert runs(suite='second') == ['second places_lt erm 0']
    assert runs(benchmarks=('places_lt',)) == ['second places_lt erm 0']
    assert runs(methods=('nbn',), seeds=(1,)) == ['first cifar10_lt nbn 1']  # not what nbn is a part of
    assert runs(methods=('nbn(scope=all)', 'erm'), seeds=(0,), suite='first') == [
        'first cifar10_lt erm 0', 'first cifar10_lt nbn(scope=all) 0',
    ]  # fmt: skip
    assert runs(methods=('nbn',), seeds=(7,)) == []
    assert runs(methods=('nbn',), suite='first', benchmarks=('cifar*',), seeds=(0,)) == ['first cifar10_lt nbn 0']


def test_a_pattern_matches_brackets_as_they_are(runs):
    assert len(runs(methods=('*nbn*',))) == 6
    assert runs(methods=('nbn(*',), seeds=(0,)) == ['first cifar10_lt nbn(scope=all) 0']
    write(make_record('mine(at=[0, 1])', 0), 'first')
    assert runs(methods=('mine(at=[0*',)) == ['first cifar10_lt mine(at=[0, 1]) 0']


@pytest.mark.parametrize(
    ('what', 'wanted', 'message'),
    [
        ('runs', dict(methods=('nbm',)), "unknown recorded method 'nbm': did you mean nbn"),
        ('runs', dict(benchmarks=('place_lt',)), "unknown recorded benchmark 'place_lt': did you mean places_lt?"),
        ('runs', dict(suite='frist'), "unknown recorded suite 'frist': did you mean first?"),
        ('runs', dict(methods=('x*',)), r"unknown recorded method 'x\*'"),
        ('suites', dict(suite='first'), 'filter runs, not suites'),
        ('methods', dict(seeds=(0,)), 'filter runs, not methods'),
    ],
)
def test_a_filter_that_nothing_is_called_by_is_refused(runs, what, wanted, message):
    with pytest.raises(UsageError, match=message):
        list_things(what, [], None, Filter(**wanted))


def test_names_in_lists_are_folded_not_cut(runs, capsys, monkeypatch):
    write(make_record('a_method_with_a_name_that_is_longer_than_any_column_of_a_terminal', 0), 'first')
    printed = []
    for width in (300, 60):
        monkeypatch.setattr('ltbench.console.WIDTH_ELSEWHERE', width)
        assert list_things('runs', [], None, Filter(suite='first')) == 0
        printed.append(capsys.readouterr().out)
    assert max(map(len, printed[1].splitlines())) <= 60
    letters = [sorted(''.join(text.split())) for text in printed]
    assert letters[0] == letters[1]

"""What `ltbench show` says of a method, a benchmark, a suite."""

from __future__ import annotations

import json

import pytest
from made_records import make_record, write

from ltbench.config import config_names
from ltbench.errors import UsageError
from ltbench.method import Option
from ltbench.plugins import method_names
from ltbench.verbs import show as verb
from ltbench.verbs.show import show


@pytest.fixture
def text(sandbox, capsys):
    """What is printed; or with ``as_json`` what is written for programs."""

    def call(name: str, benchmark: str = 'digits_lt', as_json: bool = False):
        written: list[str] = []
        show(name, benchmark, [], written.append if as_json else None)
        printed = capsys.readouterr().out
        assert not (as_json and printed)
        return json.loads(written[0]) if as_json else printed

    return call


def test_a_method_shows_paper_options_plan_and_results(text):
    for seed in (0, 1, 2):
        write(make_record('crt', seed, hits=[50 - seed] * 8), 'cifar')
    write(make_record('crt', 0, benchmark='places_lt', factor=None), 'places')
    write(make_record('nbn+crt', 0), 'cifar')
    write(make_record('erm', 0), 'cifar')
    printed = text('crt', 'cifar100_lt')
    assert printed.startswith('crt: a method (Kang et al., ICLR 2020)\n')
    assert 'https://arxiv.org/abs/1910.09217' in printed
    assert (
        '  epochs = 30: a whole number from 1 to 1000\n      epochs of the new head\n      on imagenet_lt: 10\n'
        in printed
    )
    assert '  bn = eval: eval or train\n' in printed
    assert (
        'crt on cifar100_lt (imbalance factor 100, paper)\n\nstages\n  1. train: epochs 1 to 200 (shared with erm)'
        in printed
    )
    # 50, 49 and 48 of 50 images
    assert '  98.0 ± 2.0, 3 seeds: cifar10_lt IF 100 (paper),' in printed
    assert printed.count('/places\n') == 1
    assert (
        '  1 more row with other options or combined with other methods:\n      ltbench ls runs -m "*crt*"\n' in printed
    )
    assert '``' not in printed


def test_json_has_what_the_text_has(text):
    write(make_record('nbn', 0, hits=[25] * 8), 'cifar')
    (found,) = text('nbn+la_loss(tau=0.5)', as_json=True)
    assert [part['name'] for part in found['parts']] == ['nbn', 'la_loss']
    assert found['parts'][1]['options']['tau'] == {
        'default': 1.0, 'values': 'a number from 0 to 10', 'on': {}, 'help': 'strength of the adjustment',
    }  # fmt: skip
    assert found['plan']['differences'][1] == {
        'where': 'loss', 'plain': 'CrossEntropyLoss', 'here': 'LogitAdjustedLoss(tau=0.5)',
    }  # fmt: skip
    (found,) = text('nbn', as_json=True)
    (row,) = found['recorded']
    assert (row['suite'], row['seeds'], row['top1_mean'], row['top1_std']) == ('cifar', 1, 50.0, None)


def test_what_is_remembered_is_what_was_found(text, monkeypatch):
    """Of all methods alone, and of some with options: the same text, and the same for programs."""
    names = [*method_names(), 'nbn(normalize=weight)+crt']
    found = [(text(name), text(name, as_json=True)) for name in names]
    monkeypatch.setattr(verb, '_method', lambda *_: pytest.fail('asked again'))
    assert [(text(name), text(name, as_json=True)) for name in names] == found
    with pytest.raises(pytest.fail.Exception):
        text('nbn', 'cifar100_lt')


def test_what_is_called_alike_is_shown_one_after_the_other(text):
    kinds = [thing['kind'] for thing in text('cifar10_lt', as_json=True)]
    assert kinds == ['benchmark', 'suite']
    assert [thing['kind'] for thing in text('cifar10_lt(imbalance_factor=50)', as_json=True)] == ['benchmark']


def test_a_benchmark_shows_recipe_presets_and_counts(text):
    (found,) = text('digits_lt(imbalance_factor=20)', as_json=True)
    assert found['data']['imbalance_factor'] == 20
    assert found['class_counts'][0] == 120
    assert found['class_counts'][-1] == 6
    assert found['groups'] == {'many': 1, 'medium': 5, 'few': 4}
    (found,) = text('cifar100_lt', as_json=True)
    assert found['presets']['quick'] == {
        'recipe.epochs': 30, 'recipe.schedule.type': 'cosine', 'recipe.schedule.warmup_epochs': 0, 'backbone.depth': 20,
    }  # fmt: skip
    assert found['class_counts'] is None
    printed = text('cifar100_lt')
    assert 'optimizer: SGD(lr=0.1, momentum=0.9, weight_decay=0.0002)' in printed
    assert 'not known without the data' in printed
    assert 'ltbench data get cifar100_lt' in printed


def test_a_suite_shows_its_grid(text):
    write(make_record('erm', 0), 'digits')
    printed = text('digits')
    assert '24 runs, 1 records; preset paper\nseeds: 0, 1, 2\nbenchmarks\n  digits_lt\nmethods\n  erm\n' in printed


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('nbm', "unknown method, benchmark or suite 'nbm': did you mean ncm or nbn?"),
        ('digit_lt', 'did you mean digits_lt'),
        ('nbn_ablatio', 'did you mean nbn_ablation'),
        ('nbn+la_los', "'la_los': did you mean la_loss"),
        ('nbn(normalise=weight)', 'did you mean normalize?'),
        ('digits(seeds=3)', 'joins names that are not all methods, or sets options of a suite'),
        ('nbn+digits', 'joins names that are not all methods'),
        ('nbn+', 'a name is missing'),
        ('la_loss+ldam', 'la_loss and ldam cannot be combined'),
    ],
)
def test_unknown_names_are_looked_for_among_all_three_kinds(sandbox, name, message):
    with pytest.raises(UsageError) as raised:
        show(name, 'digits_lt', [])
    assert message in str(raised.value)


def test_everything_there_is_is_readable_at_80_columns(text):
    """Nothing is cut, and no line is longer, unless it is a single word."""
    for name in dict.fromkeys((*method_names(), *config_names('benchmarks'), *config_names('suites'))):
        for line in text(name).splitlines():
            assert len(line) <= 80 or ' ' not in line.strip(), line
            assert '…' not in line


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        (Option('a', choices=('a', 'b', 'c')), 'a, b or c'),
        (Option(0.5, between=(0, 1)), 'a number from 0 to 1'),
        (Option(3), 'a whole number'),
        (Option('auto', between=(0, 1), words=('auto',)), 'a number from 0 to 1 or auto'),
        (Option(True), 'True or False'),
        (Option('text'), 'text'),
    ],
)
def test_values_of_options_in_words(option, words):
    assert verb._values(option) == words

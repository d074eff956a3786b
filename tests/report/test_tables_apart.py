"""What is not of one data set and recipe stands in tables of its own, and each says what is different about it."""

from __future__ import annotations

import csv
import re

import pytest
from made_records import make_record, write

from ltbench.record import write_failure
from ltbench.report import Report, read_suite, write_report
from ltbench.report.ablation import ablate
from ltbench.report.excerpt import table_names
from ltbench.report.figures.material import materials, over_factors
from ltbench.report.frame import distinguish, runs_frame
from ltbench.report.tables import leaderboard
from ltbench.verbs.report import report


def settings(*told):
    return [one['setting'] for one in distinguish(told)]


def slow(method='erm', seed=0, **changes):
    """With half the learning rate, as after an edit of the benchmark's file."""
    optimizer = {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9, 'weight_decay': 2e-4}
    return make_record(method, seed, recipe={'optimizer': optimizer}, **changes)


def test_one_table_keeps_its_setting():
    assert settings(make_record('erm'), make_record('a', 1)) == ['paper', 'paper']


def test_what_differs_is_named_and_nothing_else():
    assert settings(make_record(), slow()) == ['paper, recipe.optimizer.lr=0.1', 'paper, recipe.optimizer.lr=0.05']
    assert settings(make_record(), make_record(backbone={'depth': 20})) == [
        'paper, backbone.depth=32',
        'paper, backbone.depth=20',
    ]
    assert settings(make_record(), make_record(backbone={'width': 2.0})) == ['paper', 'paper, backbone.width=2']
    assert settings(make_record(), make_record(protocol=2)) == ['paper, protocol 1', 'paper, protocol 2']
    birds, fish = make_record(data='birds'), make_record(data='fish')
    assert settings(birds, fish) == [f'paper, data {one["data"][:6]}' for one in (birds, fish)]
    both = [slow(data='birds'), make_record(data='fish')]
    assert settings(*both) == [
        f'paper, recipe.optimizer.lr={lr}, data {one["data"][:6]}' for lr, one in zip((0.05, 0.1), both, strict=True)
    ]


def test_what_is_another_setting_anyway_is_not_named():
    assert settings(make_record(), make_record(setting='paper, depth=20', backbone={'depth': 20})) == [
        'paper',
        'paper, depth=20',
    ]


def test_data_of_two_factors_are_expected_to_differ_and_recipes_are_not():
    assert settings(make_record(factor=10), make_record(factor=100)) == ['paper', 'paper']
    assert settings(make_record(factor=10), slow(factor=100)) == [
        'paper, recipe.optimizer.lr=0.1',
        'paper, recipe.optimizer.lr=0.05',
    ]


def test_many_differences_are_counted():
    recipe = {'epochs': 60, 'batch_size': 64, 'precision': 'bf16', 'devices': 2, 'augmentation': {}}
    one, other = make_record(), make_record(recipe=recipe)
    shown = settings(one, other)
    assert shown[1] == f'paper, recipe.epochs=60, recipe.batch_size=64, and 2 more, table {other["table"][:6]}'
    assert settings(one | {'setting': shown[0]}, other | {'setting': shown[1]}) == shown  # said once, not again


def test_a_run_that_only_failed_says_its_table():
    failed = make_record('gone', data='fish')
    failed = {key: failed[key] for key in ('benchmark', 'imbalance_factor', 'setting', 'table')}
    assert settings(make_record(data='fish'), failed) == ['paper', 'paper']
    assert settings(make_record(data='birds'), failed) == ['paper', f'paper, table {failed["table"][:6]}']


def test_each_recipe_has_a_table_in_all_that_is_made(results):
    """A benchmark's learning rate was edited between two methods."""
    records = [make_record('erm', seed) for seed in (0, 1)]
    records += [make_record('nbn', seed, options={'normalize': 'both'}) for seed in (0, 1)]
    records += [slow(method, seed) for method in ('erm', 'a') for seed in (0, 1)]
    for record in records:
        write(record)
    report('made', figures=False, latex=True)
    made = results / 'made'
    with (made / 'leaderboard.csv').open() as file:
        rows = {(row['setting'], row['table'], row['method'], row['n_seeds']) for row in csv.DictReader(file)}
    before, after = records[0]['table'], records[4]['table']
    assert rows == {
        ('paper, recipe.optimizer.lr=0.1', before, 'erm', '2'), ('paper, recipe.optimizer.lr=0.1', before, 'nbn', '2'),
        ('paper, recipe.optimizer.lr=0.05', after, 'erm', '2'), ('paper, recipe.optimizer.lr=0.05', after, 'a', '2'),
    }  # fmt: skip
    for name in ('statistics.csv', 'ablation_nbn.csv'):
        with (made / name).open() as file:
            methods = {(row['table'], row['method']) for row in csv.DictReader(file)}
        assert (before, 'nbn') in methods
        assert (after, 'nbn') not in methods
    for lr in ('0.1', '0.05'):
        title = f'cifar10_lt, imbalance factor 100 (paper, recipe.optimizer.lr={lr})'
        slug = f'cifar10_lt-if100-paper__recipe.optimizer.lr={lr}'
        assert f'## {title}\n' in (made / 'leaderboard.md').read_text()
        assert f'"title":"{title}"' in (results / 'index.html').read_text()
        assert title.replace('_', r'\_') in (made / f'leaderboard-{slug}.tex').read_text()
        assert slug in table_names(Report(read_suite('made')).board)  # of which figures have theirs
    assert f'- Data: {records[0]["data"][:12]}.' in (made / 'leaderboard.md').read_text()


@pytest.mark.parametrize(('factor', 'told'), [(100, ', imbalance factor 100'), (None, '')])
def test_two_folders_of_one_name_are_never_ranked_together(results, factor, told):
    roots = {'birds': 'birds/images', 'fish': 'fish/images'}
    for name, root in roots.items():
        for method in ('erm', 'a'):
            write(make_record(method, benchmark='folder_lt', factor=factor, data=name, root=root))
    report('made', figures=False)
    text = (results / 'made/leaderboard.md').read_text()
    assert len(re.findall(rf'^## folder_lt{told} \(paper, data [0-9a-f]{{6}}\)$', text, re.M)) == 2
    assert all(f', read from {root}.\n' in text for root in roots.values())
    board = leaderboard(runs_frame(read_suite('made').records))
    assert board['rank'].tolist() == [1, 1, 1, 1]


def test_factors_of_two_sources_share_no_figure():
    def shown(records):
        return [material.title for material in over_factors(materials(distinguish(records), runs_frame(records)))]

    factors = [make_record('erm', factor=factor, root='birds') for factor in (10, 100)]
    assert shown(factors) == ['cifar10_lt (paper)']
    assert shown([factors[0], make_record('erm', factor=100, root='fish')]) == []
    assert shown([factors[0], slow(factor=100, root='birds')]) == []


def test_failures_are_counted_in_their_own_table(results):
    write(make_record('erm', data='birds'))
    write_failure('made', make_record('erm', 1, data='fish'), 'train', 'lost')
    write_failure('made', make_record('erm', 2, data='birds'), 'train', 'lost')
    write_report(Report(read_suite('made')), figures=False)
    with (results / 'made/leaderboard.csv').open() as file:
        rows = {row['table']: (row['n_seeds'], row['n_failed']) for row in csv.DictReader(file)}
    assert rows == {make_record(data='birds')['table']: ('1', '1'), make_record(data='fish')['table']: ('0', '1')}


def test_an_edited_option_is_compared_and_other_data_are_not():
    made = [make_record('erm', seed, hits=[40] * 8) for seed in (0, 1)]
    made += [slow('erm', seed, hits=[30] * 8) for seed in (0, 1)]
    table = ablate(distinguish(made), 'recipe.optimizer.lr')
    assert set(table['setting']) == {'paper'}
    assert table.loc[table['score'] == 'top1', ['value', 'difference']].to_numpy().tolist()[1] == ['0.1', 20.0]
    assert table['table'].nunique() == 1
    other = [make_record('erm', data='fish'), slow('erm', data='birds')]
    assert ablate(distinguish(other), 'recipe.optimizer.lr', required=False).empty


@pytest.mark.parametrize('name', ['erm', 'a'])
def test_the_order_of_records_changes_no_name(name):
    records = [make_record(name), slow(name), make_record(name, data='fish'), make_record(name, factor=10)]
    forward = {record['table']: setting for record, setting in zip(records, settings(*records), strict=True)}
    backward = {r['table']: s for r, s in zip(records[::-1], settings(*records[::-1]), strict=True)}
    assert forward == backward
    assert len(set(forward.values())) == 4


def test_nor_does_it_change_the_order_of_what_differs():
    records = [
        make_record(backbone={'a': 1}, recipe={'epochs': 9}), make_record(backbone={'z': 2}), make_record(),
    ]  # fmt: skip
    forward, backward = settings(*records), settings(*records[::-1])[::-1]
    assert forward == backward

"""Ablations: what is compared with what, paired by seed."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest
from made_records import make_record
from scipy import stats

from ltbench.errors import UsageError
from ltbench.report import ablation
from ltbench.report.intervals import smallest_steps
from ltbench.report.noise import fit
from ltbench.report.tables import csv

NBN = {'bias_init': 'zeros', 'normalize': 'both', 'scalar': 'network', 'scope': 'last_stage'}


def run(method: str, seed: int, top1: float, few: float | None = 50.0, **nbn: Any) -> dict[str, Any]:
    record = make_record(method, seed)
    names = [part.partition('(')[0] for part in method.split('+')]
    record['methods'] = [{'name': n, 'options': {**NBN, **nbn} if n == 'nbn' else {}} for n in names]
    record['metrics'] = {**record['metrics'], 'top1': top1, 'few': few}
    return record


def row(table: Any, score: str = 'top1', **wanted: Any) -> dict[str, Any]:
    rows = table[table.score == score]
    for key, value in wanted.items():
        rows = rows[rows[key] == value]
    (found,) = rows.to_dict('records')
    return found


def records() -> list[dict[str, Any]]:
    made = [run('erm', seed, 70.0 + seed) for seed in range(3)]
    made += [run('nbn', seed, 70.0 + seed + (1, 2, 4)[seed]) for seed in range(3)]
    made += [run('nbn(normalize=weight)', seed, 69.0 + seed, normalize='weight') for seed in range(3)]
    made += [run('balanced_softmax', 0, 75.0), run('nbn+balanced_softmax', 0, 76.0)]
    return [*made, run('nbn+ldam', 0, 60.0, few=None), run('focal', 0, 1.0)]


def test_differences_are_paired_by_seed():
    table = ablation.summarise(ablation.part_differences(records(), 'nbn'))
    both = row(table, normalize='both', **{'with': ''})
    assert (both['mean'], both['difference'], both['n'], both['n_pairs']) == pytest.approx((71 + 7 / 3, 7 / 3, 3, 3))
    assert both['difference_std'] == pytest.approx((7 / 3) ** 0.5)
    weight = row(table, normalize='weight')
    assert (weight['difference'], weight['difference_std']) == (-1.0, 0.0)
    scores = [[70, 71, 72], [71, 73, 76], [69, 70, 71], [75, nan, nan], [76, nan, nan], [60, nan, nan]]
    found = fit(np.array(scores)).against(0)  # all runs of the table together
    p = 2 * stats.t.sf(abs(found.points / found.errors), found.freedom)
    assert (both['p'], weight['p']) == pytest.approx((p[1], p[2]))


def test_the_difference_is_the_one_that_p_is_of():
    """Where nothing is known of seeds, that of the means: not the one of the seed that both have."""
    made = [run('erm', seed, 70.0 + seed) for seed in range(3)] + [run('nbn', 0, 72.0)]
    found = row(ablation.summarise(ablation.part_differences(made, 'nbn')), normalize='both')
    assert (found['difference'], found['n_pairs']) == (1.0, 1)
    assert found['p'] == pytest.approx(2 * stats.t.sf(1 / (4 / 3) ** 0.5, 2))


def test_one_seed_and_a_missing_reference_are_left_open():
    table = ablation.summarise(ablation.part_differences(records(), 'nbn'))
    one = row(table, normalize='both', **{'with': 'balanced_softmax'})
    assert (one['difference'], one['n_pairs']) == (1.0, 1)
    assert one['std'] != one['std']
    assert 0 < one['p'] < 1  # by the variance of the other rows
    alone = row(table, **{'with': 'ldam'})
    assert alone['difference'] != alone['difference'] and alone['n_pairs'] == 0
    empty = row(table, 'few', **{'with': 'ldam'})
    assert empty['mean'] != empty['mean'] and empty['n'] == 0


def test_rows_without_the_part_are_listed_once_and_unrelated_ones_never():
    table = ablation.summarise(ablation.part_differences(records(), 'nbn'))
    references = table[table.is_reference & (table.score == 'top1')]
    assert references.method.tolist() == ['erm', 'balanced_softmax']
    assert set(references.normalize) == {'none'}
    assert ablation.summarise(ablation.part_differences([run('focal', 0, 1.0)], 'nbn')).empty


def test_holm_is_over_the_rows_of_one_score():
    made = [run('erm', seed, 70.0) for seed in range(3)]
    for value, steps in (('weight', (1, 2, 3)), ('bias', (1, 2, 9))):
        made += [run(f'nbn(normalize={value})', s, 70.0 + steps[s], normalize=value) for s in range(3)]
    table = ablation.summarise(ablation.part_differences(made, 'nbn'))
    small, large = row(table, normalize='weight'), row(table, normalize='bias')
    assert large['p'] < small['p']
    assert large['p_holm'] == pytest.approx(2 * large['p'])
    assert small['p_holm'] == pytest.approx(max(small['p'], 2 * large['p']))


def test_seeds_that_agree_by_chance_leave_the_rounding_to_one_image():
    made = [run('erm', seed, 70.0 + seed) for seed in range(3)]
    made += [run('nbn', seed, 70.25 + seed) for seed in range(3)]  # one of 400 images in each seed
    (p,) = ablation.summarise(ablation.part_differences(made, 'nbn')).query('score == "top1"')['p'].dropna()
    step = 100 / sum(made[0]['metrics']['test_images'])
    assert p == pytest.approx(2 * stats.t.sf(0.25 / (step**2 / 12 * 2 / 3) ** 0.5, 2))
    assert p > 0.01


def test_all_rows_of_the_table_tell_of_the_noise():
    """Two pairs that differ alike by chance: two other methods show how much runs vary."""
    made = [run('erm', seed, 70.0 + seed) for seed in range(2)] + [run('nbn', seed, 73.0 + seed) for seed in range(2)]
    others = [run(m, s, 70.0 + d * (-1) ** s) for m, d in (('focal', 3), ('ldam', 5)) for s in range(2)]
    (alone,), (beside,) = (
        ablation.summarise(ablation.part_differences(records, 'nbn')).query('score == "top1"')['p'].dropna()
        for records in (made, made + others)
    )
    assert alone < 0.05 < beside
    assert {*ablation.summarise(ablation.part_differences(made + others, 'nbn'))['method']} == {'erm', 'nbn'}


def test_rounding_is_that_of_the_images_of_a_group():
    assert smallest_steps([100, 100, 6, 4], [500, 200, 15, 10]) == pytest.approx(
        {'top1': 100 / 210, 'many': 0.5, 'medium': float('nan'), 'few': 100 / 12, 'macro': 0.25}, nan_ok=True
    )


def test_an_option_is_compared_with_its_default():
    table = ablation.ablate(records(), 'nbn.normalize')
    assert row(table, value='both')['is_reference']
    assert row(table, value='weight')['difference'] == pytest.approx(-10 / 3)
    assert set(table.method) == {'nbn'}  # nbn+ldam has only one value


def test_a_recipe_option_joins_the_settings_that_differ_by_it_alone():
    made = [run('erm', seed, 70.0) for seed in range(2)]
    for seed in range(2):
        longer = run('erm', seed, 72.0 + seed) | {'setting': 'paper, epochs=9'}
        benchmark = longer['config']['benchmark']
        benchmark['recipe'] = {**benchmark['recipe'], 'epochs': 9}
        benchmark['overrides'] = {'recipe.epochs': 9}
        made.append(longer)
    table = ablation.ablate(made, 'recipe.epochs')
    assert set(table.setting) == {'paper'}
    assert row(table, value='3')['is_reference']
    assert row(table, value='9')['difference'] == 2.5


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('nbn.scope', r'no two rows differ in nbn.scope alone; varied alone: nbn.normalize \(both, weight\)'),
        ('nbn.normalise', 'did you mean nbn.normalize'),
        ('nbm.scope', 'did you mean nbn'),
    ],
)
def test_what_cannot_be_compared_is_said(option: str, words: str):
    with pytest.raises(UsageError, match=words):
        ablation.ablate(records(), option)


def test_the_same_bytes_in_any_order():
    tables = [ablation.summarise(ablation.part_differences(order, 'nbn')) for order in (records(), records()[::-1])]
    first, second = (csv(table) + ablation.markdown(table, 'nbn') for table in tables)
    assert first == second
    assert '| nbn | both | 3 | 73.3 ± 2.5 | +2.3 ± 1.5 |' in first  # no column of options that do not vary


def test_the_same_options_in_another_order_are_not_taken_for_one():
    made = [run('crt', 0, 70.0), run('nbn+crt', 0, 71.0), run('crt+nbn', 0, 73.0)]
    table = ablation.summarise(ablation.part_differences(made, 'nbn'))
    assert row(table, method='crt+nbn', **{'with': 'crt'})['difference'] == 3
    assert row(table, method='nbn+crt', **{'with': 'crt (as nbn+crt)'})['difference'] == 1


def test_one_run_typed_in_two_ways_counts_once():
    typed = run('nbn(scope=last_stage)', 0, 71.0) | {'computation': run('nbn', 0, 71.0)['computation']}
    table = ablation.summarise(ablation.part_differences([run('erm', 0, 70.0), run('nbn', 0, 71.0), typed], 'nbn'))
    assert row(table, normalize='both')['n'] == 1
    other_code = [run('erm', 0, 70.0), run('nbn', 0, 71.0), run('nbn(scope=last_stage)', 0, 75.0)]
    table = ablation.summarise(ablation.part_differences(other_code, 'nbn'))
    assert row(table, method='nbn')['difference'] == 1
    assert row(table, **{'with': '(as nbn(scope=last_stage))'})['difference'] == 5


def test_a_score_is_rounded_as_on_the_leaderboard():
    assert f'{40.849999999999994:.1f}' == '40.8'
    made = [run('erm', 0, 40.849999999999994), run('nbn', 0, 43.8)]
    table = ablation.summarise(ablation.part_differences(made, 'nbn'))
    assert row(table, method='erm')['mean'] == 40.85

"""The bench measures two things that do the same; its figures are ratios from one run."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from ltbench.benchmark import load_benchmark
from ltbench.data.base import load_data
from ltbench.errors import UsageError
from ltbench.grid.graph import epochs_of
from ltbench.verbs.bench import bench, show
from ltbench.verbs.bench.measure import Case, measure_alternating
from ltbench.verbs.bench.references import _network
from ltbench.verbs.bench.train import recommended, train_alternating
from ltbench.verbs.bench.workload import cifar_shaped, graph_of


def test_median_and_spread_of_the_ratio_are_those_of_single_turns():
    # turn by turn the ratios are 2, 1 and 10; the ratio of the medians would be 3 / 2
    figures = [(2.0, 1.0), (3.0, 3.0), (20.0, 2.0)]
    result = Case('w', 'images/s', goal=1.9).result(figures)
    assert (result['ours'], result['reference'], result['ratio']) == (3.0, 2.0, 2.0)
    assert (result['ratio_min'], result['ratio_max'], result['rounds'], result['holds']) == (1.0, 10.0, 3, True)
    assert not Case('w', 's', goal=1.9, less_is_better=True).result(figures)['holds']
    assert Case('w', 's', goal=None).result(figures)['holds'] is None


def test_ways_take_turns_and_the_first_round_does_not_count():
    said = []

    def way(name):
        said.append(name)
        return float(len(said) - 1)

    measured = measure_alternating(2, [lambda: way('ours'), lambda: way('reference')])
    assert said == ['reference', 'ours', 'ours', 'reference', 'reference', 'ours']
    assert measured == [(2.0, 3.0), (5.0, 4.0)]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('dta',), "unknown part to measure 'dta': did you mean data?"),
        (('data', None, 4), '4 rounds are too few'),
    ],
)
def test_what_cannot_be_measured_is_an_error(arguments, message):
    with pytest.raises(UsageError, match=message):
        bench(*arguments)


@pytest.mark.parametrize(('part', 'option'), [('data', 'threads'), ('report', 'threads'), ('grid', 'model')])
def test_an_option_that_changes_nothing_is_an_error(part, option):
    with pytest.raises(UsageError, match=f'--{option} has no effect on part {part}'):
        bench(part, **{option: 2})


def test_an_unknown_model_is_an_error():
    with pytest.raises(UsageError, match='did you mean resnet32'):
        bench('train', model='resnet23')


def test_every_epoch_of_ours_is_timed_once_and_the_others_have_as_many_turns():
    calls = []

    def other() -> float:
        calls.append(1)
        return 7.0

    benchmark = load_benchmark('digits_lt', overrides={'epochs': 6})
    turns, evaluation = train_alternating(benchmark, [other], threads=1, epochs=2)
    assert len(calls) == 3
    assert [turn[1] for turn in turns] == [7.0, 7.0]  # without the first
    assert all(0 < turn[0] < 7 for turn in turns)
    assert evaluation > 0


def test_the_reference_trains_the_network_that_a_stage_trains():
    from ltbench.models.classifier import LongTailClassifier

    benchmark = cifar_shaped(1, n_max=20, num_classes=10, imbalance_factor=2, test_per_class=1)
    data = load_data(benchmark.data)
    (run,) = graph_of(benchmark, 'erm').runs
    ours = LongTailClassifier(run.plan.settings, data.num_classes, data.channels)

    def shapes(network: nn.Module) -> list[torch.Size]:
        return sorted(parameter.shape for parameter in network.parameters())

    assert shapes(_network(benchmark, data)) == shapes(ours)


def test_the_grid_that_is_measured_shares_more_than_half_of_its_epochs():
    from ltbench.verbs.bench.grid import METHODS

    benchmark = cifar_shaped(200, n_max=20, num_classes=10, imbalance_factor=2, test_per_class=1)
    together = graph_of(benchmark, *METHODS)
    alone = sum(epochs_of(stage) for m in METHODS for stage in graph_of(benchmark, m).stages.values())
    assert len(METHODS) == 14
    assert sum(epochs_of(stage) for stage in together.stages.values()) <= 0.5 * alone


def test_augmentation_and_its_reference_make_alike_images():
    from PIL import Image

    from ltbench.data.noise import NoiseLT
    from ltbench.verbs.bench import views

    data = NoiseLT(n_max=150, num_classes=10, imbalance_factor=2)
    torch.manual_seed(0)
    for names, one_by_one in (
        (['strong'], views._strong_one_by_one(data)),
        (['plain'], views._plain_one_by_one(data)),
        (['contrastive'], views._contrastive_one_by_one(data)),
    ):
        ours = torch.cat([batch['images'] for batch in views._Views(data, names).loader])
        theirs = torch.stack([one_by_one(Image.fromarray(image)) for image in data.train.images])
        assert ours.shape == theirs.shape
        black = -torch.tensor(data.mean).view(3, 1, 1) / torch.tensor(data.std).view(3, 1, 1)
        shares = [((part - black).abs() < 1e-3).all(dim=1).float().mean().item() for part in (ours, theirs)]
        assert shares[0] == pytest.approx(shares[1], abs=0.03), names
        for moment in (torch.mean, torch.std):
            assert moment(ours).item() == pytest.approx(moment(theirs).item(), abs=0.12), names


def test_the_contrastive_step_is_measured_against_the_parts_that_it_has():
    from ltbench.method import make_plan
    from ltbench.verbs.bench import views

    method, names, size = views.CONTRAST
    settings = make_plan(method, views._small(128), '', 0).settings
    assert (tuple(settings['views']), settings['objective']['features']) == (names, size)
    assert len(load_data(views._small(128).data).train) % (3 * 128) == 0  # batches of both sizes are whole


@pytest.mark.slow
def test_the_data_path_is_as_fast_as_was_asked_for(tmp_path):
    """The other parts take too long here, and their bounds too close for a shared machine: see results/bench."""
    result = bench('data', tmp_path / 'bench.json', rounds=9)
    assert json.loads((tmp_path / 'bench.json').read_text()) == result
    (case,) = result['cases']
    assert case['ratio_min'] <= case['ratio'] <= case['ratio_max']
    assert case['holds'], show(result)


@pytest.mark.slow
def test_stages_start_as_fast_as_was_asked_for():
    from ltbench.verbs.bench.start import measure

    _, first, following = measure(rounds=1)
    assert first['ours'] <= 4
    assert following['ours'] <= 0.7


@pytest.mark.slow
def test_a_report_of_300_records_is_timed():
    (case,) = bench('report', rounds=5)['cases']
    assert case['ours'] < 30
    assert case['ratio'] > 1  # it has at least to read them


def test_a_precision_is_recommended_and_not_chosen():
    assert recommended(100.0, 180.0) == 'bf16 is 1.8 times as fast as fp32 here: -o precision=bf16.'
    assert recommended(100.0, 30.0) == 'bf16 is 0.3 times as fast as fp32 here: not worth using.'


def test_crops_of_large_images_are_measured_on_ones_own_files_or_drawn_ones(tmp_path, monkeypatch):
    from PIL import Image

    from ltbench.verbs.bench import large

    monkeypatch.setattr(large, 'IMAGES', 3)
    for number in range(4):
        Image.new('RGB', (300, 280), (40 * number, 9, 9)).save(tmp_path / f'{number}.jpg')
    for folder, said in (('', '3 generated files, '), (tmp_path, f'3 files of {tmp_path.name}, ')):
        monkeypatch.setenv(large.FOLDER, str(folder))
        cases = large.measure(rounds=1)
        assert [case['goal'] for case in cases] == [12.82, 1.33, None, None, None, None]
        assert all(case['note'].startswith(said) and case['ours'] > 0 for case in cases)
    assert not (tmp_path / '.ltbench-cache').exists()  # copies of them are prepared
    monkeypatch.setenv(large.FOLDER, str(tmp_path / 'nowhere'))
    with pytest.raises(
        UsageError, match='has no images; set LTBENCH_BENCH_IMAGES to a folder with images, or unset it'
    ):
        large.measure(rounds=1)

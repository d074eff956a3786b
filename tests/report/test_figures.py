"""Figures show what the records hold, and the same bytes each time."""

from __future__ import annotations

import numpy as np
import pytest
from made_records import make_record
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ltbench.report import tables
from ltbench.report.figures import (
    accuracy,
    calibration,
    chosen_methods,
    comparison,
    draw_all,
    inside,
    related_methods,
    style,
    training,
)
from ltbench.report.figures.material import materials, over_factors
from ltbench.report.figures.style import add_title, broken
from ltbench.report.frame import TableKey


def material_of(records):
    [found] = materials(records, tables.runs_frame(records))
    return found


def files_of(records, folder, **more):
    paths = draw_all(records, tables.runs_frame(records), folder, **more)
    return {path.name: path.read_bytes() for path in paths}


def two(method='nbn', **changes):
    return [make_record(name, seed, **changes) for name in ('erm', method) for seed in (0, 1)]


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_however_many_processes_draw(tmp_path):
    once = files_of(two(), tmp_path / 'a', processes=1)
    assert len(once) == 22
    assert files_of(two(), tmp_path / 'b', processes=1) == once
    assert files_of(two()[::-1], tmp_path / 'c', processes=2) == once


def test_the_pareto_front_of_a_hand_example():
    cost = np.array([1, 2, 2, 3, 4, 1])
    gain = np.array([50, 60, 55, 60, 70, 50])
    assert comparison.pareto_front(cost, gain).tolist() == [0, 5, 1, 4]  # equal points are both on it; 3 costs more


def test_labels_do_not_touch_and_stay_inside():
    centres = comparison.spread([0.99, 0.98, 0.5, 0.02, 0.01], [0.2] * 5)
    assert centres == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])


def test_the_leaderboard_is_in_order_with_seeds_means_and_intervals_of_single_seeds_only():
    records = [make_record('erm', s, hits=[10 + s] * 8) for s in (0, 1)] + [make_record('crt', hits=[40] * 8)]
    found = material_of(records)
    found.intervals.update(crt=(75.0, 85.0), erm=(0.0, 1.0))
    with style():
        figure, _ = accuracy.leaderboard(found)
    [axes] = figure.axes
    assert [name.get_text() for name in axes.texts] == ['crt', 'erm']
    assert sorted(map(tuple, axes.collections[0].get_offsets())) == [(20, 1), (22, 1), (80, 0)]
    assert axes.lines[0].get_xdata().tolist() == [80, 21]
    intervals = next(c for c in axes.collections if 'bootstrap' in str(c.get_label()))
    assert [segment.tolist() for segment in intervals.get_segments()] == [[[75, 0], [85, 0]]]


@pytest.mark.parametrize('counts', [(500, 300), (500, 300, 50), (500, 50, 5)])
def test_no_text_of_a_narrow_figure_is_cut_off(counts):
    """One short method: figures are at their narrowest, and as many panels as there are groups."""
    records = [
        make_record('erm', seed, benchmark='fashion_mnist_lt', setting='quick', counts=counts) for seed in (0, 1)
    ]
    found = material_of(records)
    with style():
        for draw in (accuracy.leaderboard, accuracy.groups, calibration.confusion):
            drawn = draw(found)
            if drawn is None:
                continue
            figure, note = drawn
            add_title(
                figure, TableKey('fashion_mnist_lt', 100, 'quick', '').title + ', 5 seeds', f'{draw.__name__}. {note}.'
            )
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            wide, tall = canvas.get_width_height()
            texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
            for axes in figure.axes:
                texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
            for text in texts:
                box = text.get_window_extent()
                inside_it = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= wide and box.y1 <= tall
                assert inside_it or not text.get_text(), (draw.__name__, text.get_text(), box, wide, tall)


def test_an_empty_group_has_no_panel_and_is_named():
    found = material_of(two(counts=(500, 300, 50)))
    with style():
        figure, note = accuracy.groups(found)
        assert [axes.get_title() for axes in figure.axes] == ['many (> 100)', 'medium (20 to 100)']
        assert 'few (< 20)' in note
        assert len(calibration.confusion(found).figure.axes) == 1
        assert calibration.confusion(material_of(two(counts=(50, 30, 5)))) is None  # there is no head


def test_the_confusion_leaves_out_what_is_right():
    with style():
        figure, _ = calibration.confusion(material_of(two(counts=(500, 50, 5), hits=(50, 30, 10))))
    ends = [axes.collections[0].get_paths()[0].vertices[:, 0].max() for axes in figure.axes]
    assert ends == pytest.approx([80, 40])  # of few and medium, all taken for the first class


def test_classes_share_points_by_size_and_bins_keep_the_mean():
    x, y = accuracy.by_count(np.array([100, 10, 10, 5]), np.array([90.0, 20, 40, np.nan]))
    assert (x.round(6).tolist(), y.tolist()) == ([10, 100], [30, 90])
    counts = np.arange(1, 1001)
    x, y = accuracy.by_count(counts, np.full(1000, 7.0))
    assert len(x) <= accuracy.BINS and (y == 7).all() and (np.diff(x) > 0).all()


def test_a_class_without_test_images_is_not_drawn_as_zero():
    records = two()
    for record in records:
        record['metrics']['per_class'][3] = None
    with style():
        figure, _ = accuracy.per_class(material_of(records))
    line = next(line for line in figure.axes[0].lines if line.get_label() == 'erm')
    assert 120 not in line.get_xdata().round().tolist() and len(line.get_xdata()) == 7


def test_reliability_pools_images_of_seeds():
    one = {'images': [1, 3, 0], 'confidence': [20.0, 50.0, None], 'accuracy': [0.0, 100.0, None]}
    other = {'images': [3, 0, 0], 'confidence': [40.0, None, None], 'accuracy': [100.0, None, None]}
    images, confidence, right = calibration.pool([one, other, None])
    assert (images.tolist(), confidence.tolist(), right.tolist()) == ([4, 3], [35, 50], [75, 100])
    assert calibration.pool([None]) is None


def test_methods_on_the_same_training_share_a_line_with_a_bar_where_a_stage_begins():
    records = [make_record(method, epochs=4) for method in ('erm', 'crt')]
    records[0]['stages'] = [records[0]['stages'][0] | {'epochs': epochs} for epochs in (3, 1)]
    with style():
        figure, _ = training.curves(material_of(records))
    lines = figure.axes[0].lines
    assert lines[0].get_label() == 'erm = crt'
    assert lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert lines[1].get_xdata().tolist() == [4]


def test_scores_on_the_way_have_a_panel_where_a_drawn_line_has_some():
    def titles(scored):
        records = [make_record(method, epochs=4) for method in ('erm', 'crt', 'nbn')]
        records[scored]['curve'][1]['test_top1'] = 40.0
        records[2]['curve'][0]['loss'] = 7.0  # another training than that of erm and crt
        with style():
            figure, _ = training.curves(material_of(records))
        return figure.axes

    assert len(titles(1)) == 2  # the line of erm stands for crt
    last = titles(2)[-1]
    assert last.get_ylabel() == 'test top-1 of the network so far (%)'
    assert [line.get_xdata().tolist() for line in last.lines if len(line.get_xdata())] == [[2]]


def test_relatives_are_told_from_the_records():
    plain, scaled, other, decayed = (make_record(name) for name in ('erm', 'nbn', 'a', 'b'))
    other['config']['stages'] = [{'kind': 'train', 'normalization': {'type': 'X'}}]
    decayed['config']['stages'] = [{'kind': 'train', 'recipe': {'optimizer': {'paramwise': {'norm': {}}}}}]
    assert related_methods([plain, scaled, other, decayed]) == ['a', 'b', 'nbn']


def test_a_method_that_asks_for_the_probes_of_bn_is_a_relative_whatever_else_its_record_holds():
    records = [make_record(name) for name in ('erm', 'mine', 'other')]
    records[1]['config']['probes'] = ['channel_strength']
    records[2]['config']['probes'] = ['feature_norms']
    assert related_methods(records) == ['mine']
    with style():
        figure, _ = inside.bn_vectors(material_of(records))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['erm', 'mine']


def test_norms_of_features_are_drawn_where_they_were_measured():
    records = two('crt')
    with style():
        assert inside.feature_norms(material_of(records)) is None  # as in every older record
        for record, far in zip(records[2:], (1.0, 3.0), strict=True):
            record['analysis']['feature_norms'] = {'mean': [None, *(far + c for c in range(7))]}
        figure, _ = inside.feature_norms(material_of(records))
    [axes] = figure.axes
    [line] = [line for line in axes.lines if line.get_label() == 'crt']
    assert 'erm' not in {line.get_label() for line in axes.lines}
    assert line.get_ydata().tolist() == [8, 7, 6, 5, 4, 3, 2]  # means of two seeds, smallest class first
    assert axes.get_ylim()[0] == 0


def test_the_inside_is_drawn_for_relatives_only_and_evenness_is_one_for_equal_channels():
    with style():
        assert inside.bn_vectors(material_of(two('crt'))) is None
        figure, _ = inside.strength(material_of(two()))
    assert figure.axes[1].lines[0].get_xdata().tolist() == [0.5, 0.5]  # 0.4 / 0.8
    assert inside.evenness([2, -2]).tolist() == [1, 1]
    assert inside.evenness([0, 0]) is None


def test_imbalance_needs_two_factors():
    records = [make_record(factor=factor) for factor in (10, 100)]
    found = materials(records, tables.runs_frame(records))
    with style():
        figure, _ = comparison.imbalance(over_factors(found)[0])
    assert figure.axes[0].lines[0].get_xdata().tolist() == [10, 100]
    assert over_factors(found[:1]) == []


def test_an_imported_record_without_curve_cost_and_analysis_is_drawn_as_far_as_it_goes(tmp_path):
    cost = make_record()['cost'] | {'cpu_seconds': 0.0, 'wall_seconds': 0.0}
    record = make_record('imported:x(file, sha256=0)', curve=[], analysis={}, cost=cost, factor=None)
    names = {name.partition('-')[0] for name in files_of([record], tmp_path)}
    assert names == {'leaderboard', 'groups', 'per_class', 'reliability', 'confusion'}


def test_the_baseline_and_the_best_are_chosen():
    records = [make_record('erm', hits=[1] * 8), *(make_record(f'm{n}', hits=[10 + n] * 8) for n in range(8))]
    assert chosen_methods(tables.runs_frame(records), 3) == ['m7', 'm6', 'erm']


def test_long_names_break_and_lose_nothing():
    name = 'nbn(normalize=weight, bias_init=normal)+balanced_softmax'
    lines = broken(name).split('\n')
    assert len(lines) > 1 and max(map(len, lines)) <= 40
    assert ''.join(lines).replace(' ', '') == name.replace(' ', '')


@pytest.mark.parametrize(('seeds', 'averaged'), [((0,), False), ((0, 1), True)])
def test_titles_say_the_caveat_and_speak_of_means_only_where_there_are_several_seeds(tmp_path, seeds, averaged):
    records = [make_record(method, seed) for method in ('erm', 'crt') for seed in seeds]
    for record in records:
        record['config']['benchmark']['caveat'] = 'Re-encoded.'
    files = files_of(records, tmp_path)
    for kind in ('per_class', 'cost', 'leaderboard'):
        said = files[f'{kind}-cifar10_lt-if100.svg'].decode()
        assert 'Re-encoded.' in said
        assert ('over seeds' in said) == averaged, kind

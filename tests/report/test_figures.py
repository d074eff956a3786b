"""Figures show what the records hold."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from made_records import make_record
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ltbench.errors import UsageError
from ltbench.report import figures, names
from ltbench.report.families import look_of
from ltbench.report.figures import (
    FIGURES,
    WIDTHS,
    _carry_out,
    _tasks,
    accuracy,
    calibration,
    comparison,
    draw_all,
    inside,
    style,
    training,
)
from ltbench.report.figures.material import chosen_methods, materials, over_factors, related_methods
from ltbench.report.figures.style import GROUP_LOOKS
from ltbench.report.frame import runs_frame

WIDE = WIDTHS['text']


def material_of(records, show=()):
    [found] = materials(records, runs_frame(records), show=show)
    return found


def drawn(draw, records, width=WIDE, show=()):
    with style():
        return draw(material_of(records, show), width)


def files_of(records, folder, **more):
    paths = draw_all(records, runs_frame(records), folder, **more)
    return {path.name: path.read_bytes() for path in paths}


def two(method='nbn', **changes):
    return [make_record(name, seed, **changes) for name in ('erm', method) for seed in (0, 1)]


def test_all_kinds_are_drawn_however_many_processes_draw(tmp_path):
    once = files_of(two(), tmp_path / 'a', processes=1)
    assert {name.partition('-')[0] for name in once} == {*FIGURES} - {'imbalance', 'feature_norms'}


@pytest.mark.slow
def test_several_processes_draw_the_same(tmp_path):
    once = files_of(two(), tmp_path / 'a', processes=1)
    assert files_of(two()[::-1], tmp_path / 'b', processes=2) == once


@pytest.mark.parametrize(('named', 'after'), [('of_another_environment', 'agg'), ('svg', 'svg')])
def test_a_backend_that_matplotlib_does_not_know_is_no_obstacle(named, after):
    """One that it knows is left to whoever draws after us."""
    code = 'import os, ltbench.report.figures, matplotlib; print(os.environ["MPLBACKEND"], matplotlib.get_backend())'
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, env={**os.environ, 'MPLBACKEND': named}, capture_output=True, text=True)
    assert done.stdout.split() == [named, after], done.stderr


def test_processes_that_draw_have_a_backend_that_matplotlib_knows(tmp_path, monkeypatch):
    class Pool(ThreadPoolExecutor):
        def __init__(self, processes, *_):
            super().__init__(processes)

        def map(self, *_):
            seen.append(os.environ['MPLBACKEND'])
            return []

    seen = []
    monkeypatch.setenv('MPLBACKEND', 'of_another_environment')
    monkeypatch.setattr(figures, 'ProcessPoolExecutor', Pool)
    files_of(two(), tmp_path, processes=2)
    assert seen == ['agg']
    assert os.environ['MPLBACKEND'] == 'of_another_environment'


def test_labels_do_not_touch_and_stay_inside():
    centres = comparison.spread(np.array([0.99, 0.98, 0.5, 0.02, 0.01]), np.full(5, 0.2))
    assert centres == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])


def test_the_leaderboard_is_in_order_with_seeds_means_and_intervals_of_single_seeds_only():
    records = [make_record('erm', s, hits=[10 + s] * 8) for s in (0, 1)] + [make_record('crt', hits=[40] * 8)]
    found = material_of(records)
    found.intervals.update(crt=(75.0, 85.0), erm=(0.0, 1.0))
    with style():
        figure, _ = accuracy.leaderboard(found, WIDE)
    [axes] = figure.axes
    assert [name.get_text() for name in axes.get_yticklabels()] == ['cRT', 'ERM']
    rows = dict(zip(axes.get_yticks(), ('crt', 'erm'), strict=True))
    seeds, means = axes.lines[:2], axes.containers[0]
    assert {(x, rows[y]) for line in seeds for x, y in line.get_xydata()} == {(20, 'erm'), (22, 'erm'), (80, 'crt')}
    assert [line.get_marker() for line in seeds] == [look_of(method).marker for method in ('crt', 'erm')]
    assert [(x, rows[y]) for x, y in means.lines[0].get_xydata()] == [(21, 'erm')]  # none of one seed, drawn already
    intervals = next(c for c in axes.collections if 'interval over' in str(c.get_label()))
    assert [[(x, rows[y]) for x, y in segment] for segment in intervals.get_segments()] == [[(75, 'crt'), (85, 'crt')]]


LONG = 'nbn(normalize=weight, bias_init=normal)+balanced_softmax'


@pytest.mark.parametrize('width', WIDTHS.values())
@pytest.mark.parametrize('name', FIGURES)
def test_nothing_is_cut_off_and_no_panel_lies_on_another(name, width, tmp_path):
    """With long names of a method, a loss and classes, and many methods, at the widths of a paper and on a screen."""
    records = [
        make_record(method, seed, factor=factor, class_names=[f'a rather long name {c}' for c in range(8)])
        for method in ('erm', LONG, *(f'resample_{n}' for n in range(5)))
        for seed in (0, 1)
        for factor in (10, 100)
    ]
    plain, weights = {'type': 'CrossEntropyLoss'}, {'type': 'EffectiveNumber', 'beta': 0.9999}
    for record in records:
        record['analysis']['feature_norms'] = {'mean': [1.0] * 8}
        if record['method'] == 'erm':
            spans = [{'loss': plain, 'class_weights': each} for each in (None, weights)]
            record['config']['stages'][0]['history'] = spans
    found = materials(records, runs_frame(records))
    material = over_factors(found)[0] if FIGURES[name].factors else found[0]
    with style():
        figure, _ = FIGURES[name].draw(material, width)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    wide, tall = canvas.get_width_height()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for n, box in enumerate(boxes):
        assert box.width > 0.1 * figure.dpi and box.height > 0.1 * figure.dpi
        assert not any(box.overlaps(other) for other in boxes[:n])
    parts = [*figure.legends, *(label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label, axes))]
    for part in parts:
        box = part.get_tightbbox() if hasattr(part, 'get_tightbbox') else part.get_window_extent()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= wide + 1 and box.y1 <= tall + 1, (part, box, wide, tall)


def test_the_legend_names_each_thing_once():
    for draw in (accuracy.leaderboard, accuracy.groups, accuracy.per_class, calibration.reliability, training.curves):
        legend = drawn(draw, two()).figure.legends[0]
        labels = [text.get_text() for text in legend.get_texts()]
        assert len(labels) == len(set(labels)) > 0


def test_groups_have_their_colours_here_and_on_the_page():
    css = (Path(names.__file__).parent / 'page_files' / 'page.css').read_text()
    for group, look in GROUP_LOOKS.items():
        assert f'--{group}: light-dark({look["color"]}, ' in css
    axes = drawn(accuracy.groups, two()).figure.axes[0]
    assert [one.lines[0].get_color() for one in axes.containers] == [look['color'] for look in GROUP_LOOKS.values()]


def test_an_empty_group_is_named():
    records = two(counts=(500, 300, 50))
    figure, note = drawn(accuracy.groups, records)
    assert [one.get_label() for one in figure.axes[0].containers] == ['many (> 100)', 'medium (20 to 100)']
    assert note == 'no such classes here: few (< 20)'
    assert len(drawn(calibration.confusion, records).figure.axes) == 1
    assert drawn(calibration.confusion, two(counts=(50, 30, 5))) is None  # there is no head


def test_the_confusion_leaves_out_what_is_right():
    figure, _ = drawn(calibration.confusion, two(counts=(500, 50, 5), hits=(50, 30, 10)))
    ends = [max(bar.get_x() + bar.get_width() for bar in axes.patches) for axes in figure.axes]
    assert ends == pytest.approx([80, 40])  # of few and medium, all taken for the first class


def test_classes_are_named_and_compared_with_the_baseline_seed_by_seed():
    records = [make_record('erm', s, hits=[10 * s] * 8) for s in (0, 1)]
    records += [make_record('crt', s, hits=[10 * s + 5 + s] * 8) for s in (0, 1, 2)]  # 2: no such seed of the baseline
    records[0]['metrics']['per_class'][3] = None
    figure, _ = drawn(accuracy.per_class, records)
    [axes] = figure.axes
    bars = axes.containers[0 if len(axes.containers[0]) > 1 else 1]
    heights = [bar.get_height() for bar in axes.patches[:8]]
    assert axes.get_title('left') == 'cRT' and len(bars) > 0
    assert heights == pytest.approx([11, 11, 11, 12, 11, 11, 11, 11])  # 10 and 12 points more, in percent
    assert [text.get_text() for text in axes.get_xticklabels()][:2] == ['class 0 (5000)', 'class 1 (1500)']
    assert drawn(accuracy.per_class, records[2:]) is None


def test_classes_without_room_stand_together_with_those_of_their_group():
    counts = [*range(1000, 900, -1), *range(100, 50, -1), *range(19, 9, -1)]
    found = material_of(two(counts=counts, hits=[1] * len(counts)))
    bins, labels, colours = accuracy.class_bins(found, WIDE)
    assert bins.max() + 1 == len(labels) == len(colours) <= 6 * WIDE + 3
    assert (np.diff(bins) >= 0).all() and bins[99] < bins[100] and bins[149] < bins[150]
    assert labels[0] == '1000 to 997'


def test_reliability_pools_images_of_seeds():
    one = {'images': [1, 3, 0], 'confidence': [20.0, 50.0, None], 'accuracy': [0.0, 100.0, None]}
    other = {'images': [3, 0, 0], 'confidence': [40.0, None, None], 'accuracy': [100.0, None, None]}
    images, confidence, right = calibration.pool([one, other, None])
    assert (images.tolist(), confidence.tolist(), right.tolist()) == ([4, 3], [35, 50], [75, 100])
    assert len(calibration.pool([None])[0]) == 0


def test_methods_on_the_same_training_share_a_line_with_a_bar_where_a_stage_begins():
    records = [make_record(method, epochs=4) for method in ('erm', 'crt')]
    records[0]['stages'] = [records[0]['stages'][0] | {'epochs': epochs} for epochs in (3, 1)]
    lines = drawn(training.curves, records).figure.axes[0].lines
    assert lines[0].get_label() == 'ERM = cRT'
    assert lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert lines[1].get_xdata().tolist() == [4]


def test_each_loss_has_a_panel_of_its_own():
    records = [make_record(method, epochs=4) for method in ('erm', 'ldam', 'ldam_drw', 'resample_sqrt')]
    plain, margin = {'type': 'CrossEntropyLoss'}, {'type': 'LDAMLoss', 'scale': 30}
    weights = {'type': 'EffectiveNumber'}
    spans = [[(plain, None)], [(margin, None)], [(margin, None), (margin, weights)], [(plain, None)]]
    for number, (record, parts) in enumerate(zip(records, spans, strict=True)):
        record['config']['stages'][0]['history'] = [{'loss': loss, 'class_weights': w} for loss, w in parts]
        record['curve'][0]['loss'] = 7.0 + number
    records[1]['curve'][1]['test_top1'] = 40.0
    axes = drawn(training.curves, records).figure.axes
    assert [one.get_ylabel() for one in axes[:2]] == ['training accuracy (%)', 'test top-1 (%)']
    assert [line.get_xdata().tolist() for line in axes[1].lines] == [[2]]
    assert {one.get_title(): len(one.lines) for one in axes[2:5]} == {
        'Cross Entropy Loss': 2, 'LDAMLoss (scale=30)': 1,
        'LDAMLoss (scale=30), then\nLDAMLoss (scale=30) with\nEffective Number': 1,
    }  # fmt: skip


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
    figure, _ = drawn(inside.bn_vectors, records)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['ERM', 'Mine']


def test_norms_of_features_are_drawn_where_they_were_measured():
    records = two('crt')
    assert drawn(inside.feature_norms, records) is None  # as in every older record
    for record, far in zip(records[2:], (1.0, 3.0), strict=True):
        record['analysis']['feature_norms'] = {'mean': [None, *(far + c for c in range(7))]}
    [axes] = drawn(inside.feature_norms, records).figure.axes
    [line] = axes.lines
    assert line.get_label() == 'cRT'
    assert line.get_ydata()[1:].tolist() == [2, 3, 4, 5, 6, 7, 8]  # means of two seeds, largest class first
    assert axes.get_ylim()[0] == 0


def test_the_inside_is_drawn_for_relatives_only_and_evenness_is_one_for_equal_channels():
    assert drawn(inside.bn_vectors, two('crt')) is None
    figure, _ = drawn(inside.strength, two())
    assert figure.axes[1].containers[0].lines[0].get_xdata().tolist() == [0.5, 0.5]  # 0.4 / 0.8
    assert inside.evenness([2, -2]).tolist() == [1, 1]
    assert inside.evenness([0, 0]) is None


def test_imbalance_shows_the_seeds_that_are_at_every_factor():
    records = [make_record(method, factor=factor) for method in ('erm', 'crt') for factor in (10, 100)]
    records += [make_record('erm', 1, factor=100, hits=[0] * 8), make_record('ldam', factor=10)]
    found = materials(records, runs_frame(records))
    with style():
        figure, note = comparison.imbalance(over_factors(found)[0], WIDE)
    [axes] = figure.axes
    lines = {one.get_label(): one.lines[0].get_xydata().tolist() for one in axes.containers}
    top1 = records[0]['metrics']['top1']
    assert lines == {'cRT': [[10, top1], [100, top1]], 'ERM': [[10, top1], [100, top1]]}
    assert note.startswith('seed 0 at every factor')
    assert over_factors(found[:1]) == []


def test_cost_is_relative_to_the_baseline_of_the_same_seed_and_all_points_are_named():
    def costs(seconds):
        return make_record()['cost'] | {'cpu_seconds': seconds}

    records = [make_record('erm', seed, cost=costs(10.0 * (1 + seed))) for seed in (0, 1)]
    records += [make_record('crt', seed, cost=costs((1.5 + seed) * 10 * (1 + seed))) for seed in (0, 1)]
    records += [make_record(f'm{n}', 0, cost=costs(10.0)) for n in range(20)]
    figure, _ = drawn(comparison.cost, records)
    [axes] = figure.axes
    shown = {text.get_text(): (*text.xy, text.get_weight()) for text in axes.texts}
    assert len(shown) == 22 and {weight for *_, weight in shown.values()} == {'normal'}
    assert (shown['ERM'][0], shown['cRT'][0]) == (1, 2)  # 1.5 and 2.5 times
    assert drawn(comparison.cost, records[2:]) is None


def test_the_reader_chooses_the_methods_and_their_order():
    records = [make_record(name, hits=[n] * 8) for n, name in enumerate(('erm', LONG, 'crt', 'lws'))]
    show = [LONG, 'lws', 'erm']
    axes = drawn(accuracy.leaderboard, records, show=show).figure.axes[0]
    assert [name.get_text().partition(' ')[0] for name in axes.get_yticklabels()] == ['NBN', 'LWS', 'ERM']
    figure, note = drawn(accuracy.per_class, records, show=show)
    assert [one.get_title('left')[:3] for one in figure.axes] == ['NBN', 'LWS'] and note == ''


def test_a_method_to_show_that_no_record_has_is_an_error(tmp_path):
    with pytest.raises(UsageError, match='crtt.*did you mean.*crt'):
        files_of(two('crt'), tmp_path, show=['erm', 'crtt'])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('asked', ['balanced_softmax', 'la_loss'])
def test_a_row_of_two_names_is_shown_by_either(asked):
    records = [
        make_record(name, seed, computation='ab' * 32, fingerprint=f'{seed}d' * 32)
        for name, seed in (('la_loss', 0), ('balanced_softmax', 0), ('balanced_softmax', 1))
    ]
    material = material_of([make_record('erm'), *records], show=['erm', asked])
    assert material.show == ('erm', 'la_loss') and len(material.details['la_loss']) == 2
    assert material.names['la_loss'] == {'balanced_softmax': 'Balanced softmax', 'la_loss': 'Logit adjustment'}[asked]
    with style():
        figure = accuracy.leaderboard(material, WIDE).figure
    assert material.names['la_loss'] in [name.get_text() for name in figure.axes[0].get_yticklabels()]


def test_names_are_those_of_papers():
    records = [make_record(name) for name in ('ldam_drw', LONG, 'my_method', 'mixup+drw')]
    records.append(make_record('imported:nbn(best, sha256=0)'))
    records[-1]['config']['imported'] = {}
    assert list(names.display_names(records).values()) == [
        'LDAM-DRW', 'NBN (normalize=weight, bias_init=normal) + Balanced softmax', 'My method', 'mixup + DRW',
        'imported:nbn(best, sha256=0)',
    ]  # fmt: skip


def test_a_plug_in_file_says_what_its_method_is_called(tmp_path, monkeypatch):
    path = tmp_path / 'mine.py'
    path.write_text("@METHODS.register_module(name='mine')\nclass Mine(Method):\n    title = 'Ours'\n")
    monkeypatch.setenv('LTBENCH_PLUGINS', str(path))
    names._declarations.cache_clear()
    try:
        assert names.display_names([make_record('mine')]) == {'mine': 'Ours'}
    finally:
        names._declarations.cache_clear()


def test_for_a_paper_there_are_two_widths_without_title_and_a_file_of_captions(tmp_path):
    records = [make_record(method, seed) for method in ('erm', 'crt') for seed in (0, 1)]
    for record in records:
        record['config']['benchmark']['caveat'] = 'Re-encoded.'
    [material] = materials(records, runs_frame(records))
    [task] = [task for task in _tasks([material]) if task.file == 'groups-cifar10_lt-if100']
    made = _carry_out(task, tmp_path, paper=True)
    assert sorted(path.name.removeprefix(task.file) for path in made) == [
        '-column.pdf', '-column.svg', '-text.pdf', '-text.svg',
    ]  # fmt: skip
    for width, inches in WIDTHS.items():
        drawing = (tmp_path / f'{task.file}-{width}.svg').read_text()
        assert f'width="{72 * inches:g}pt"' in drawing
        assert 'cifar10_lt' not in drawing and 'few (&lt; 20)' in drawing
    [caption] = set(made.values())
    assert 'cifar10_lt, imbalance factor 100 (paper), 2 seeds' in caption and caption.endswith('Re-encoded.')


def test_an_imported_record_without_curve_cost_and_analysis_is_drawn_as_far_as_it_goes(tmp_path):
    cost = make_record()['cost'] | {'cpu_seconds': 0.0, 'wall_seconds': 0.0}
    record = make_record('imported:x(file, sha256=0)', curve=[], analysis={}, cost=cost, factor=None)
    record['config']['imported'] = {}
    names = {name.partition('-')[0] for name in files_of([record], tmp_path)}
    assert names == {'leaderboard', 'groups', 'reliability', 'confusion'}


def test_the_baseline_and_the_best_are_chosen():
    records = [make_record('erm', hits=[1] * 8), *(make_record(f'm{n}', hits=[10 + n] * 8) for n in range(8))]
    assert chosen_methods(runs_frame(records), 3) == ['m7', 'm6', 'erm']


@pytest.mark.parametrize(('seeds', 'said'), [((0,), '1 seed'), ((0, 1), '2 seeds')])
def test_titles_say_the_caveat_and_how_many_seeds(seeds, said, tmp_path, monkeypatch):
    records = [make_record(method, seed) for method in ('erm', 'crt') for seed in seeds]
    for record in records:
        record['config']['benchmark']['caveat'] = 'Re-encoded.'
    [task] = [task for task in _tasks([material_of(records)]) if task.file == 'cost-cifar10_lt-if100']
    titles = []
    monkeypatch.setattr(figures, '_save_for_screen', lambda figure, path: titles.append(figure.get_suptitle()) or path)
    _carry_out(task, tmp_path, paper=False)
    assert said in titles[0] and titles[0].endswith('\nRe-encoded.')

"""Metrics by hand, and the promises about empty groups."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ltbench.evaluation import evaluate, group_members
from ltbench.evaluation.metrics import describe_groups, expected_calibration_error, in_words

# Eight test images of four classes; class 0 and 1 are many-shot, 2 medium, 3 few.
#    label  probabilities          right?  confidence  bin of 15
#    0      .70 .10 .10 .10        yes     .70         11
#    0      .45 .25 .20 .10        yes     .45          7
#    1      .95 .03 .01 .01        no      .95         15
#    1      .05 .85 .05 .05        yes     .85         13
#    2      .10 .10 .70 .10        yes     .70         11
#    3      .45 .25 .20 .10        no      .45          7
#    3      .10 .10 .10 .70        yes     .70         11
#    3      .10 .10 .30 .50        yes     .50          8
COUNTS = [150, 101, 60, 4]
LABELS = np.array([0, 0, 1, 1, 2, 3, 3, 3])
PROBABILITIES = np.array(
    [
        [0.70, 0.10, 0.10, 0.10],
        [0.45, 0.25, 0.20, 0.10],
        [0.95, 0.03, 0.01, 0.01],
        [0.05, 0.85, 0.05, 0.05],
        [0.10, 0.10, 0.70, 0.10],
        [0.45, 0.25, 0.20, 0.10],
        [0.10, 0.10, 0.10, 0.70],
        [0.10, 0.10, 0.30, 0.50],
    ]
)
LOGITS = np.log(PROBABILITIES)


def test_accuracies() -> None:
    metrics = evaluate(LOGITS, LABELS, COUNTS)
    assert metrics['test_images'] == [2, 2, 1, 3]
    assert metrics['per_class'] == pytest.approx([100, 50, 100, 200 / 3])
    assert metrics['top1'] == pytest.approx(75)  # 6 of 8 images
    assert metrics['macro'] == pytest.approx((100 + 50 + 100 + 200 / 3) / 4)  # 79.17
    assert metrics['balanced_error'] == pytest.approx(100 - 79.1666667)
    assert metrics['geometric_mean'] == pytest.approx(100 * (1 * 0.5 * 1 * 2 / 3) ** 0.25)  # 75.98


def test_a_group_is_the_mean_of_its_classes() -> None:
    """Not of its images: the classes of a group weigh the same."""
    metrics = evaluate(LOGITS, LABELS, COUNTS)
    assert (metrics['many'], metrics['medium']) == (75, 100)
    assert metrics['few'] == pytest.approx(200 / 3)
    # four more right images of class 0: many = (100 + 50) / 2 still, over images it would be 7 of 8
    more = evaluate(np.vstack([LOGITS, LOGITS[[0] * 4]]), np.concatenate([LABELS, [0] * 4]), COUNTS)
    assert more['many'] == 75


def test_nll() -> None:
    # the probabilities of the labels: .70 .45 .03 .85 .70 .10 .70 .50
    expected = -sum(map(math.log, (0.70, 0.45, 0.03, 0.85, 0.70, 0.10, 0.70, 0.50))) / 8
    assert evaluate(LOGITS, LABELS, COUNTS)['nll'] == pytest.approx(expected)
    assert evaluate(LOGITS + 1000, LABELS, COUNTS)['nll'] == pytest.approx(expected)  # without overflow
    assert evaluate(np.array([[0.0, 2000.0]]), np.array([0]), [5, 5])['nll'] == pytest.approx(2000)


def test_ece() -> None:
    # sum over bins of |sum of confidences - right ones|: bin 7: |.9 - 1|, 8: |.5 - 1|, 11: |2.1 - 3|,
    # 13: |.85 - 1|, 15: |.95 - 0|; together .1 + .5 + .9 + .15 + .95 = 2.6, over 8 images
    metrics = evaluate(LOGITS, LABELS, COUNTS)
    assert metrics['ece'] == pytest.approx(100 * 2.6 / 8)
    assert metrics['ece_many'] == pytest.approx(100 * (0.3 + 0.55 + 0.95 + 0.15) / 4)
    assert metrics['ece_medium'] == pytest.approx(30)
    assert metrics['ece_few'] == pytest.approx(100 * (0.45 + 0.3 + 0.5) / 3)


def test_ece_bins_are_closed_on_the_right() -> None:
    # 7/15 belongs to bin 7 with .45: |.45 + .4667 - 1| = .0833; in bin 8 it would stand alone: .45 + .5333
    pair = expected_calibration_error(np.array([0.45, 7 / 15]), np.array([False, True]))
    assert pair == pytest.approx(100 * (1 - 0.45 - 7 / 15) / 2)
    assert expected_calibration_error(np.array([1.0, 0.95]), np.array([True, False])) == pytest.approx(47.5)


def test_one_hopeless_class_makes_the_geometric_mean_zero() -> None:
    logits = LOGITS.copy()
    logits[4] = LOGITS[0]  # the only image of class 2 is now taken for class 0
    metrics = evaluate(logits, LABELS, COUNTS)
    assert metrics['geometric_mean'] == 0
    assert metrics['medium'] == 0  # a group that is there and always wrong is 0, unlike one that is not there


def test_an_empty_group_is_none() -> None:
    metrics = evaluate(LOGITS, LABELS, [5000, 2997, 1796, 50])
    assert metrics['few'] is None
    assert metrics['ece_few'] is None
    assert metrics['many'] == pytest.approx((100 + 50 + 100) / 3)
    assert describe_groups([5000, 2997, 1796, 50]) == {'many': 3, 'medium': 1, 'few': 0}


def test_a_class_without_test_images_is_none_and_counts_nowhere() -> None:
    keep = LABELS != 1
    metrics = evaluate(LOGITS[keep], LABELS[keep], COUNTS)
    assert metrics['per_class'][1] is None
    assert metrics['test_images'] == [2, 0, 1, 3]
    assert metrics['macro'] == pytest.approx((100 + 100 + 200 / 3) / 3)
    assert metrics['geometric_mean'] == pytest.approx(100 * (2 / 3) ** (1 / 3))
    assert metrics['many'] == 100  # class 0 alone
    keep = LABELS != 2
    metrics = evaluate(LOGITS[keep], LABELS[keep], COUNTS)
    assert metrics['medium'] is None  # its only class was not tested
    assert metrics['ece_medium'] is None


def test_metrics_are_plain_numbers() -> None:
    """They go into JSON records; NaN is no JSON."""
    metrics = evaluate(LOGITS[:2].astype(np.float32), LABELS[:2], COUNTS)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_boundary_classes_are_medium() -> None:
    members = group_members([101, 100, 99, 20, 19, 1])
    assert {name: classes.tolist() for name, classes in members.items()} == {
        'many': [0],
        'medium': [1, 2, 3],
        'few': [4, 5],
    }


def test_imagenet_lt_groups() -> None:
    """The published 385 / 479 / 136; with >= 100 and <= 20 it would be 391 many and 146 few."""
    histogram = json.loads((Path(__file__).parent / 'imagenet_lt_counts.json').read_text(encoding='utf-8'))
    counts = [int(images) for images, classes in histogram.items() for _ in range(classes)]
    assert (len(counts), sum(counts), max(counts), min(counts)) == (1000, 115846, 1280, 5)
    assert describe_groups(counts) == {'many': 385, 'medium': 479, 'few': 136}


@pytest.mark.parametrize(
    ('classes', 'n_max', 'factor', 'groups'),
    [
        (10, 5000, 10, (10, 0, 0)),
        (10, 5000, 50, (9, 1, 0)),
        (10, 5000, 100, (8, 2, 0)),
        (10, 5000, 200, (7, 3, 0)),
        (100, 500, 10, (69, 31, 0)),
        (100, 500, 50, (41, 41, 18)),
        (100, 500, 100, (35, 35, 30)),
        (100, 500, 200, (30, 31, 39)),
    ],
)
def test_cifar_lt_groups(classes: int, n_max: int, factor: int, groups: tuple[int, int, int]) -> None:
    counts = [int(n_max * (1 / factor) ** (i / (classes - 1))) for i in range(classes)]
    assert tuple(describe_groups(counts).values()) == groups


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits = LOGITS.copy()
    logits[3, 2] = bad
    with pytest.raises(ValueError, match='not all finite'):
        evaluate(logits, LABELS, COUNTS)


def test_rows_and_labels_must_match() -> None:
    with pytest.raises(ValueError, match='7 rows of logits for 8 labels'):
        evaluate(LOGITS[:7], LABELS, COUNTS)
    with pytest.raises(ValueError, match='0 labels'):
        evaluate(LOGITS[:0], LABELS[:0], COUNTS)


@given(
    arrays(np.float64, (12, 4), elements=st.floats(-20, 20), unique=True),
    arrays(np.int64, 12, elements=st.integers(0, 3)),
    st.permutations(range(12)),
    st.permutations(range(4)),
)
def test_order_of_images_and_names_of_classes_do_not_matter(
    logits: np.ndarray, labels: np.ndarray, images: list[int], classes: list[int]
) -> None:
    before = evaluate(logits, labels, COUNTS)
    renamed = np.argsort(classes)[labels]  # class c is now called classes.index(c)
    after = evaluate(logits[images][:, classes], renamed[images], np.array(COUNTS)[classes].tolist())
    for metric, value in before.items():
        if metric in ('per_class', 'test_images', 'predicted'):
            assert after[metric] == [value[c] for c in classes]
        elif metric in ('reliability', 'confusion'):
            assert value.keys() == after[metric].keys()
            for group, told in value.items():
                if metric == 'reliability' and told is not None:
                    assert after[metric][group]['images'] == told['images']
                else:
                    assert after[metric][group] == (None if told is None else pytest.approx(told))
        elif metric == 'shifted':
            assert after[metric] == {prior: pytest.approx(row, abs=1e-9) for prior, row in value.items()}
        else:
            assert after[metric] == (None if value is None else pytest.approx(value, abs=1e-9))


@given(
    arrays(np.float64, (9, 3), elements=st.floats(-20, 20), unique=True),
    arrays(np.int64, 9, elements=st.integers(0, 2)),
    arrays(np.float64, (9, 1), elements=st.floats(-50, 50)),
)
def test_metrics_are_those_of_the_softmax(logits: np.ndarray, labels: np.ndarray, shift: np.ndarray) -> None:
    """A constant added to all logits of an image changes no probability."""
    before, after = evaluate(logits, labels, [200, 50, 5]), evaluate(logits + shift, labels, [200, 50, 5])
    assert after['nll'] == pytest.approx(before['nll'], abs=1e-9)
    assert 0 <= after['ece'] <= 100
    assert after['nll'] >= 0


def test_reliability_and_confusion_by_hand() -> None:
    # classes 0 and 1 are many-shot, 2 is medium, 3 few-shot; confidence 0.7 where right by much, 0.4 where wrong
    confident = np.log([[0.7, 0.1, 0.1, 0.1]])
    rows = {0: confident[0], 3: np.log([0.4, 0.2, 0.2, 0.2])}
    logits = np.stack([rows[0], rows[0], rows[3], np.log([0.1, 0.1, 0.1, 0.7])])
    metrics = evaluate(logits, np.array([0, 2, 3, 3]), [500, 200, 50, 5])
    assert metrics['predicted'] == [3, 0, 0, 1]
    assert metrics['confusion']['many'] == {'many': 100.0, 'medium': 0.0, 'few': 0.0, 'correct': 100.0}
    assert metrics['confusion']['medium'] == {'many': 100.0, 'medium': 0.0, 'few': 0.0, 'correct': 0.0}
    assert metrics['confusion']['few'] == {'many': 50.0, 'medium': 0.0, 'few': 50.0, 'correct': 50.0}
    bins = metrics['reliability']['all']
    assert (bins['images'][5], bins['confidence'][5], bins['accuracy'][5]) == (1, 40.0, 0.0)
    assert (bins['images'][10], bins['confidence'][10]) == (3, 70.0)
    assert bins['accuracy'][10] == pytest.approx(66.6667)
    assert sum(bins['images']) == 4
    assert bins['accuracy'][0] is None
    gaps = [abs(c - a) * n for n, c, a in zip(bins['images'], bins['confidence'], bins['accuracy'], strict=True) if n]
    assert sum(gaps) / 4 == pytest.approx(metrics['ece'], abs=1e-3)
    assert metrics['reliability']['medium']['images'][10] == 1


def test_a_group_without_images_has_no_bins() -> None:
    metrics = evaluate(np.eye(2), np.array([0, 1]), [500, 200])
    assert metrics['reliability']['few'] is None
    assert metrics['confusion']['few'] is None


TWO, TRUTH, OF_THREE = [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], [0, 1], [200, 50, 5]


def test_lists_are_taken_as_arrays_are():
    assert evaluate(TWO, TRUTH, OF_THREE)['top1'] == 50
    assert evaluate(np.array(TWO, np.float32), np.array(TRUTH, np.int32), OF_THREE)['top1'] == 50


@pytest.mark.parametrize(
    ('logits', 'labels', 'counts', 'said'),
    [
        (TWO, TRUTH, [1, 2], '3 columns of logits for 2 class counts'),
        (np.zeros((2, 5)), TRUTH, OF_THREE, '5 columns of logits for 3 class counts'),
        (TWO[0], TRUTH, OF_THREE, r'real numbers \[N, C\], got float64 \[3\]'),
        (TWO, [0], OF_THREE, '2 rows of logits for 1 labels'),
        (TWO, [[0], [1]], OF_THREE, r'labels are \[N\]'),
        (np.zeros((0, 3)), [], OF_THREE, '0 rows of logits'),
        (TWO, [0.0, 1.0], OF_THREE, 'labels are whole numbers, got float64'),
        (TWO, [0, 3], OF_THREE, 'labels are 0 to 2, got 0 to 3'),
        (TWO, [-1, 0], OF_THREE, 'labels are 0 to 2, got -1 to 0'),
        (np.array(TWO) > 1, TRUTH, OF_THREE, 'got bool'),
        (np.array(TWO) * 1j, TRUTH, OF_THREE, 'got complex128'),
        ([['a', 'b', 'c']] * 2, TRUTH, OF_THREE, 'real numbers'),
    ],
)
def test_what_does_not_fit_together_is_said(logits, labels, counts, said):
    with pytest.raises(ValueError, match=said):
        evaluate(logits, labels, counts)


# ---------------------------------------------------------------------------------------------- what else logits hold


def test_worst_class_harmonic_mean_and_auroc() -> None:
    metrics = evaluate(LOGITS, LABELS, COUNTS)
    assert metrics['worst_class'] == pytest.approx(50)
    assert metrics['harmonic_mean'] == pytest.approx(4 / (1 / 100 + 1 / 50 + 1 / 100 + 3 / 200))
    # right: .70 .45 .85 .70 .70 .50; wrong: .95 .45: above .45 are five, and one is a tie
    assert metrics['auroc'] == pytest.approx(100 * 5.5 / 12)
    assert metrics['top5'] is None  # of four classes
    assert evaluate(LOGITS[[0, 4]], LABELS[[0, 4]], COUNTS)['auroc'] is None


def test_top5_is_that_of_a_sorted_list() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.integers(0, 4, (300, 12)).astype(float), random.integers(0, 12, 300)
    first_five = np.argsort(-logits, axis=1, kind='stable')[:, :5]
    assert evaluate(logits, labels, [9] * 12)['top5'] == pytest.approx(
        100 * (first_five == labels[:, None]).any(1).mean()
    )


def test_shifted_priors_are_those_of_test_sets_that_are_long_tailed() -> None:
    """Against test sets that are really made: copies of each image in proportion to the prior of its class."""
    random = np.random.default_rng(1)
    counts = [20, 300, 5, 80]  # in order of size: 1, 3, 0, 2
    logits, labels = random.normal(size=(400, 4)), np.repeat(np.arange(4), 100)
    shifted = evaluate(logits, labels, counts)['shifted']
    assert list(shifted) == [
        'forward50', 'forward25', 'forward10', 'forward5', 'forward2', 'uniform',
        'backward2', 'backward5', 'backward10', 'backward25', 'backward50',
    ]  # fmt: skip
    right = logits.argmax(1) == labels
    assert shifted['uniform']['plain'] == shifted['uniform']['from_uniform'] == pytest.approx(100 * right.mean())
    for name, images in {'forward2': [63, 100, 50, 79], 'backward2': [79, 50, 100, 63]}.items():
        chosen = np.concatenate([np.tile(np.flatnonzero(labels == c), images[c]) for c in range(4)])
        prior = np.array(images) / sum(images)
        for kind, added in {
            'plain': 0, 'from_uniform': np.log(prior), 'from_training': np.log(prior) - np.log(np.array(counts) / 405),
        }.items():  # fmt: skip
            made = ((logits + added)[chosen].argmax(1) == labels[chosen]).mean()
            assert shifted[name][kind] == pytest.approx(100 * made, abs=0.3)


def test_no_prior_is_known_better_than_by_the_network_that_was_made_for_it() -> None:
    """Logits that are the true log posterior of the training images: their prior off, that of the test on is best."""
    random = np.random.default_rng(2)
    counts = np.array([600, 120, 24, 6])
    labels = np.repeat(np.arange(4), 4000)
    x = labels + random.normal(size=labels.size)
    likelihood = -0.5 * (x[:, None] - np.arange(4)) ** 2
    shifted = evaluate(likelihood + np.log(counts / counts.sum()), labels, counts.tolist())['shifted']
    for name, row in shifted.items():
        assert row['from_training'] >= max(row['plain'], row['from_uniform']) - 0.3, name
    assert shifted['backward50']['from_training'] > shifted['backward50']['plain'] + 20


def test_words_round_as_tables_do() -> None:
    metrics = {'top1': 70.18, 'many': 77.5125, 'medium': 40.849999999999994, 'few': None}
    assert in_words(metrics) == 'top-1 70.2 many 77.5 medium 40.9'
    assert in_words(metrics, 2) == 'top-1 70.18 many 77.51 medium 40.85'

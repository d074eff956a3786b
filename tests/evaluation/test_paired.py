"""The paired test against numbers worked out by hand and against scipy's own bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from ltbench.evaluation.paired import paired_test


def outcomes(both, only_first, only_second, neither):
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first, second


def test_mcnemar_by_hand():
    test = paired_test(*outcomes(10, 1, 5, 4))
    assert (test.images, test.only_first, test.only_second) == (20, 1, 5)
    # six fair coins, one or fewer heads, or one or fewer tails: 2 * (1 + 6) / 64
    assert test.p_value == pytest.approx(14 / 64)
    assert test.difference == pytest.approx(20)


def test_it_is_paired():
    """The same two accuracies, by images that agree and by images that do not."""
    agreeing, crossing = paired_test(*outcomes(50, 0, 10, 40)), paired_test(*outcomes(0, 50, 60, 0))
    assert agreeing.difference == pytest.approx(10)
    assert agreeing.p_value == pytest.approx(2 / 2**10)
    assert agreeing.low > 0
    assert crossing.difference == pytest.approx(100 * 10 / 110)
    assert crossing.p_value > 0.3
    assert crossing.low < 0


def test_the_interval_is_that_of_a_bootstrap_over_images():
    first, second = outcomes(200, 40, 70, 90)
    test = paired_test(first, second)
    values = second.astype(float) - first
    expected = bootstrap((100 * values,), np.mean, n_resamples=9999, method='percentile', rng=1).confidence_interval
    assert (test.low, test.high) == pytest.approx((expected.low, expected.high), abs=0.3)  # of a width of 10


def test_swapping_the_runs_turns_the_sign():
    first, second = outcomes(30, 12, 4, 54)
    there, back = paired_test(first, second), paired_test(second, first)
    assert there.difference == -back.difference
    assert there.p_value == back.p_value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1)


def test_runs_that_agree_everywhere_do_not_differ():
    test = paired_test(*outcomes(7, 0, 0, 3))
    assert (test.p_value, test.difference, test.low, test.high) == (1, 0, 0, 0)

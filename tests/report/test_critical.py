"""The critical-difference diagram says what the test says."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from made_records import make_record

from ltbench.report.figures import critical, style
from ltbench.report.frame import runs_frame
from ltbench.report.statistics import MIN_BLOCKS, mean_ranks

mpl.use('Agg')


def ranks_of(blocks: int, noise: float):
    frame = runs_frame([make_record(f'm_{m}', factor=f + 1) for f in range(blocks) for m in range(4)])
    chance = np.random.default_rng(0).normal(0, noise, len(frame))
    frame['top1'] = frame['method'].str[-1].astype(int) * 10.0 + chance
    return mean_ranks(frame)


def test_a_bar_joins_what_is_not_told_apart():
    ranks = ranks_of(MIN_BLOCKS, 0.1)  # the same order everywhere; a difference of 1.48 is critical
    with style():
        figure, _ = critical.draw(ranks, {'m_3': 'Three'}, 6.75)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {'Three (1.00)', 'm_2 (2.00)', '(3.00) m_1', '(4.00) m_0'} <= texts
    bars = {
        tuple(sorted(set(map(float, line.get_xdata()))))
        for line in figure.axes[0].lines
        if len(set(line.get_ydata())) == 1 and line.get_ydata()[0] < 0 and line.get_linewidth() == 2
    }
    assert {(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)} <= bars


def test_without_a_test_there_is_no_diagram():
    with pytest.raises(ValueError, match='too few'):
        critical.draw(ranks_of(3, 0.1), {}, 6.75)

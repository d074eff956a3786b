"""The bench measures two things that do the same; its figures are ratios from one run."""

from __future__ import annotations

import json

import pytest

from ltbench.bench import bench
from ltbench.errors import UsageError


@pytest.mark.slow
def test_batched_augmentation_is_ten_times_as_fast_as_one_image_after_another(tmp_path):
    result = bench('data', tmp_path / 'data.json')
    assert result['ratio'] >= 10
    assert json.loads((tmp_path / 'data.json').read_text()) == result
    assert result['ratio_min'] <= result['ratio'] <= result['ratio_max']


def test_an_unknown_part_is_an_error():
    with pytest.raises(UsageError, match="unknown part to measure 'dta': did you mean data?"):
        bench('dta')

"""Parts are built by name, with what they are given and nothing more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ltbench.errors import UsageError
from ltbench.registry import MODELS, SAMPLERS, build


def test_every_loss_of_the_contract_is_found_by_name_alone():
    """In a fresh interpreter: nobody has imported the method that a loss belongs to."""
    code = (
        'import torch\nfrom ltbench.registry import MODELS, SAMPLERS\n'
        "for name in ['CrossEntropyLoss', 'LDAMLoss', 'LogitAdjustedLoss', 'BalancedSoftmaxLoss', 'FocalLoss',\n"
        "             'ClassBalancedLoss', 'VSLoss', 'LabelAwareSmoothingLoss']:\n"
        '    loss = MODELS.build(dict(type=name, class_counts=[8, 4, 2]))\n'
        '    value = loss(torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1]))\n'
        '    assert isinstance(loss, torch.nn.Module) and value.shape == () and value.isfinite(), name\n'
        "sampler = SAMPLERS.build(dict(type='RepeatFactor', labels=[0] * 8 + [1] * 2, threshold=0.5, length=7))\n"
        'assert len(list(sampler)) == 7\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_context_reaches_only_who_asks_for_it():
    head = build(MODELS, {'type': 'LinearHead'}, in_features=4, num_classes=3, class_counts=[1, 1, 1])
    assert head.weight.shape == (3, 4)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'type': 'LinearHaed'}, "unknown model 'LinearHaed': did you mean LinearHead"),
        ({'type': 'CosineHead', 'sclae': 3.0}, "unknown argument of CosineHead 'sclae': did you mean scale"),
        ({'type': 'CosineHead'}, 'CosineHead needs in_features, num_classes'),
    ],
)
def test_a_wrong_config_says_what_is_wrong(config, message):
    with pytest.raises(UsageError, match=message.replace('(', r'\(')):
        build(MODELS, config)


def test_a_part_that_another_package_registers_can_be_named():
    import mmengine.dataset  # noqa: F401 - registers it

    assert SAMPLERS.get('mmengine.DefaultSampler').__name__ == 'DefaultSampler'

"""Parts are built by name, with what they are given and nothing more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ltbench.errors import UsageError
from ltbench.registry import DATASETS, METHODS, MODELS, SAMPLERS, build, lookup


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


@pytest.mark.parametrize('name', ['beside_the_data', 'beside_the_data.x', 'beside_the_data.Thing'])
@pytest.mark.parametrize('registry', [METHODS, MODELS, SAMPLERS, DATASETS])
def test_a_name_that_is_not_registered_imports_no_file_of_that_name(registry, name, tmp_path, monkeypatch):
    """mmengine's registries would: `ltbench run -m train` ran the user's train.py."""
    (tmp_path / 'beside_the_data.py').write_text('class Thing:\n    pass\nraise SystemExit("it was run")\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=f"unknown {registry.name} '{name}'"):
        lookup(registry, name)
    assert 'beside_the_data' not in sys.modules


def test_parts_of_other_packages_are_found_through_the_parent():
    import mmengine.model  # noqa: F401 - registers it

    assert lookup(MODELS, 'ImgDataPreprocessor') is lookup(MODELS, 'mmengine.ImgDataPreprocessor')
    assert lookup(MODELS, 'ltbench.LinearHead') is lookup(MODELS, 'LinearHead')

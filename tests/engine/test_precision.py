"""bfloat16 where it is asked for, and only there."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional

from ltbench.config import load_benchmark
from ltbench.errors import UsageError
from ltbench.method import make_plan
from ltbench.models import bf16
from ltbench.models.classifier import LongTailClassifier


def test_the_backbone_computes_in_bf16_and_all_else_in_fp32():
    plan = make_plan('ldam', load_benchmark('cifar10_lt(depth=8, precision=bf16)'), '', 0)
    model = LongTailClassifier(plan.settings, num_classes=10, in_channels=3)
    seen = {}

    def note(module, inputs, output):
        seen[type(module).__name__] = (inputs[0].dtype, output.dtype)

    for module in (*model.backbone.modules(), model.head):
        if not list(module.children()):
            module.register_forward_hook(note)
    logits = model(torch.randn(4, 3, 32, 32))
    assert seen['Conv2d'] == (torch.bfloat16, torch.bfloat16)
    assert seen['CosineHead'] == (torch.float32, torch.float32)
    assert logits.dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(b.dtype != torch.bfloat16 for b in model.buffers())
    logits.sum().backward()
    assert next(m for m in model.modules() if isinstance(m, nn.Conv2d)).weight.grad.dtype == torch.float32


def test_without_bf16_instructions_results_and_gradients_are_the_exact_ones_rounded(monkeypatch):
    monkeypatch.setattr(bf16, 'has_bf16', lambda device_type: False)
    conv = nn.Conv2d(16, 32, 3, padding=1)
    images = torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    exact_images = images.detach().bfloat16().double().requires_grad_()
    exact_weight = conv.weight.detach().bfloat16().double().requires_grad_()
    exact = functional.conv2d(exact_images, exact_weight, conv.bias.detach().bfloat16().double(), padding=1)
    bf16.compute_in_bf16(conv)
    output = conv(images)
    sent_back = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    output.backward(sent_back.float())
    exact.backward(sent_back.double())
    for ours, theirs in (
        (output, exact), (images.grad, exact_images.grad), (conv.weight.grad, exact_weight.grad),
    ):  # fmt: skip
        assert ours.dtype == torch.float32
        # the sum of a few products in float32 may fall on the other side of the middle between two bfloat16 numbers
        assert (ours == theirs.bfloat16().float()).float().mean() > 0.999


def test_no_timing_chooses_what_is_computed():
    with pytest.raises(UsageError, match="unknown precision of digits_lt 'auto'"):
        load_benchmark('digits_lt(precision=auto)')


@pytest.mark.slow
def test_a_run_in_bf16_ends_near_the_one_in_fp32(ltbench, sandbox):
    for asked in ('fp32', 'bf16'):
        ltbench('run', '-b', 'digits_lt', '-m', 'erm', '-m', 'crt', '-o', f'precision={asked}')
    top1 = {}
    for path in sandbox.glob('results/digits_lt/records/*.json'):
        record = json.loads(path.read_text())
        top1[record['method'], record['config']['benchmark']['recipe']['precision']] = record['metrics']['top1']
    assert len(top1) == 4
    for method in ('erm', 'crt'):
        assert abs(top1[method, 'fp32'] - top1[method, 'bf16']) < 4

"""16 bits where they are asked for, and only there."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn import functional

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine import hooks, optim
from ltbench.engine.job import Job, Runtime
from ltbench.engine.optim import ScaledSteps, build_optimizer, can_fuse
from ltbench.engine.worker import carry_out
from ltbench.errors import UsageError
from ltbench.grid.graph import Graph, Run
from ltbench.method import make_plan
from ltbench.models import precision
from ltbench.models.classifier import LongTailClassifier
from ltbench.plan import Plan
from ltbench.spec import parse_specs
from ltbench.store import Store


@pytest.mark.parametrize(
    ('asked', 'method', 'of_convolutions', 'of_head'),
    [
        ('fp32', 'erm', torch.float32, torch.float32),
        ('bf16', 'erm', torch.bfloat16, torch.float32),
        ('amp_bf16', 'erm', torch.bfloat16, torch.bfloat16),
        ('amp_fp16', 'erm', torch.float16, torch.float16),
        ('amp_bf16', 'ldam', torch.bfloat16, torch.float32),  # a cosine head is float32 whatever is asked for
    ],
)
def test_what_computes_in_what(asked, method, of_convolutions, of_head):
    plan = make_plan(method, load_benchmark(f'cifar10_lt(depth=8, precision={asked})'), '', 0)
    model = LongTailClassifier(plan.settings, num_classes=10, in_channels=3)
    seen = {}

    def note(module, inputs, output):
        seen[type(module).__name__] = output.dtype

    for module in model.backbone.modules():
        module.register_forward_hook(note)
    linear, of_products = functional.linear, []

    def noted(*arguments):
        of_products.append(linear(*arguments).dtype)
        return linear(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, 'linear', noted)
        logits = model(torch.randn(4, 3, 32, 32))
    assert seen['Conv2d'] == of_convolutions
    assert of_products == [of_head]
    assert seen['CIFARResNet'] == logits.dtype == torch.float32
    assert {part.dtype for part in (*model.parameters(), *model.buffers())} <= {torch.float32, torch.int64}
    logits.sum().backward()
    assert {part.grad.dtype for part in model.parameters()} == {torch.float32}


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_without_instructions_results_and_gradients_are_the_exact_ones_rounded(monkeypatch, dtype):
    monkeypatch.setattr(precision, 'has_instructions', lambda *_: False)
    conv = nn.Conv2d(16, 32, 3, padding=1)
    images = torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    exact_images = images.detach().to(dtype).double().requires_grad_()
    exact_weight = conv.weight.detach().to(dtype).double().requires_grad_()
    exact = functional.conv2d(exact_images, exact_weight, conv.bias.detach().to(dtype).double(), padding=1)
    precision.compute_under_autocast(conv, dtype)
    output = conv(images)
    sent_back = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    output.backward(sent_back.float())
    exact.backward(sent_back.double())
    for ours, theirs in (
        (output, exact), (images.grad, exact_images.grad), (conv.weight.grad, exact_weight.grad),
    ):  # fmt: skip
        assert ours.dtype == torch.float32
        # the sum of a few products in float32 may fall on the other side of the middle between two rounded numbers
        assert (ours == theirs.to(dtype).float()).float().mean() > 0.99


def test_a_part_under_autocast_takes_what_it_takes_without():
    """The branches of one network, say: ``backbone(images, expert=0)``."""
    plan = make_plan('ride', load_benchmark('digits_lt(precision=amp_bf16)'), '', 0)
    model = LongTailClassifier(plan.settings, num_classes=10, in_channels=1).eval()
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(model.backbone(images, expert=1), model.backbone(images)[:, 1])


def graph_of(method: str, asked: str, epochs: int) -> Graph:
    benchmark = load_benchmark('digits_lt', overrides={'epochs': epochs, 'precision': asked})
    data = load_data(benchmark.data).fingerprint
    return Graph([Run(benchmark, parse_specs(method), 0, make_plan(method, benchmark, data, 0))])


@pytest.mark.parametrize('asked', ['amp_bf16', 'amp_fp16'])
def test_a_stage_that_dies_after_any_epoch_ends_with_the_same_bits(tmp_path, monkeypatch, logits_files, asked):
    """Also where steps are skipped: the scale is doubled after each, until gradients overflow."""
    monkeypatch.setattr(optim, 'GradScaler', partial(GradScaler, init_scale=2.0**12, growth_interval=1))
    graph, whole, cut = graph_of('crt(epochs=2)', asked, 3), Store(tmp_path / 'whole'), Store(tmp_path / 'cut')
    scales, saved = {'whole': [], 'cut': []}, hooks.Checkpoints.after_train_epoch

    def note(self, runner):
        saved(self, runner)
        if asked == 'amp_fp16':
            scales[self.context.store.root.name].append(runner.optim_wrapper.scaler.get_scale())

    def note_then_die(self, runner):
        note(self, runner)
        raise KeyboardInterrupt

    for stage in graph.stages.values():
        monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', note)
        assert carry_out(Job(stage, str(whole.root), Runtime(device='cpu'))) == 0
        monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', note_then_die)
        for _ in range({'train': 2, 'head': 1}.get(stage.kind, 0)):
            with pytest.raises(KeyboardInterrupt):
                carry_out(Job(stage, str(cut.root), Runtime(device='cpu', checkpoint_seconds=0)))
        monkeypatch.setattr(hooks.Checkpoints, 'after_train_epoch', note)
        assert carry_out(Job(stage, str(cut.root), Runtime(device='cpu'))) == 0
    assert logits_files(whole.root) == logits_files(cut.root)
    assert scales['whole'] == scales['cut']
    if asked == 'amp_fp16':
        assert len(scales['cut']) == 5
        assert scales['cut'][0] == 2.0**18  # of 6 steps
        assert scales['cut'][2] < 2.0**30  # of 18, some of them skipped


def test_the_scale_goes_on_where_a_cut_brings_another_loss(tmp_path, monkeypatch):
    benchmark = load_benchmark('digits_lt', overrides={'epochs': 2, 'precision': 'amp_fp16'})
    plan = Plan.plain(benchmark, load_data(benchmark.data).fingerprint, 0)
    plan = plan.cut(at=0.5).after(loss=dict(type='LogitAdjustedLoss'))
    monkeypatch.setattr(optim, 'GradScaler', partial(GradScaler, init_scale=2.0**12, growth_interval=1))
    store, loaded, load = Store(tmp_path), [], ScaledSteps.load_scaler

    def note(self, state_dict):
        load(self, state_dict)
        loaded.append(self.scaler.get_scale())

    monkeypatch.setattr(ScaledSteps, 'load_scaler', note)
    first, second = plan.stages()
    for stage in (first, second):
        assert carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) == 0
    state = torch.load(store.find(first.fingerprint).path('state.pt'), weights_only=True)
    assert loaded == [state['optimizer']['scaler']['scale']]
    assert loaded[0] == 2.0**18


@pytest.mark.parametrize('method', ['sam', 'ride', 'bcl'])
def test_methods_with_steps_experts_and_objectives_of_their_own_learn_with_a_scaled_loss(tmp_path, method):
    graph, store = graph_of(method, 'amp_fp16', 4), Store(tmp_path)
    for stage in graph.stages.values():
        assert carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) == 0
    losses = [row['loss'] for row in store.find(stage.fingerprint).meta['model']['curve']]
    assert losses[2] < losses[0]


def test_a_first_step_that_is_skipped_leaves_no_trace():
    """Gradients that are not finite: weights stay, the scale is halved, and the next step is a first one."""
    network = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(network, {'type': 'SGD', 'lr': 0.5, 'momentum': 0.9}, fused=can_fuse('amp_fp16'))
    steps, start = ScaledSteps(optimizer, 'cpu'), network.weight.item()
    steps.update_params((network.weight * torch.inf).sum())
    assert network.weight.item() == start
    assert steps.scaler.get_scale() == 2.0**15
    steps.update_params(network.weight.sum())
    assert network.weight.item() == pytest.approx(start - 0.5)
    again = ScaledSteps(build_optimizer(network, {'type': 'SGD', 'lr': 0.5, 'momentum': 0.9}), 'cpu')
    again.load_state_dict(steps.state_dict())
    again.update_params(network.weight.sum())
    assert network.weight.item() == pytest.approx(start - 0.5 - 0.5 * 1.9)
    assert again.scaler.get_scale() == 2.0**15


def test_no_timing_chooses_what_is_computed():
    with pytest.raises(UsageError, match="unknown precision of digits_lt 'auto'"):
        load_benchmark('digits_lt(precision=auto)')


PRECISIONS = ('fp32', 'bf16', 'amp_bf16', 'amp_fp16')


@pytest.mark.slow
def test_a_run_in_16_bits_ends_near_the_one_in_fp32(ltbench, sandbox):
    benchmarks = [word for asked in PRECISIONS for word in ('-b', f'digits_lt(precision={asked})')]
    ltbench('run', *benchmarks, '-m', 'erm', '-m', 'crt')
    top1 = {}
    for path in sandbox.glob('results/*/records/*.json'):
        record = json.loads(path.read_text())
        top1[record['method'], record['config']['benchmark']['recipe']['precision']] = record['metrics']['top1']
    assert len(top1) == 2 * len(PRECISIONS)
    for (method, _), found in top1.items():
        assert abs(top1[method, 'fp32'] - found) < 4

"""Methods on views, partners, updates, averages and teachers: values against slow computations of the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ltbench.benchmark import load_benchmark
from ltbench.method import make_plan
from ltbench.models.objective import Batch
from ltbench.registry import MODELS, build
from methods.bcl import balanced_contrastive_loss

COUNTS = [50, 12, 4, 3]


def unit(rows: int, seed: int, size: int = 6) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, size, generator=random, dtype=torch.float64))


@pytest.mark.parametrize('labels', [[0, 0, 1], [0, 1, 2, 3], [3, 3, 3, 3, 0]])
@pytest.mark.parametrize('temperature', [0.07, 0.5])
def test_the_balanced_contrastive_loss_is_the_mean_over_classes_written_out(labels, temperature):
    """Equation by equation in Python: the mean over a class's images in the batch, prototypes among them."""
    views, prototypes = unit(2 * len(labels), 1).requires_grad_(), unit(4, 2)
    ours = balanced_contrastive_loss(views, torch.tensor(labels), prototypes, temperature)

    vectors, classes = [*views.detach().numpy(), *prototypes.numpy()], [*labels, *labels, 0, 1, 2, 3]
    losses = []
    for i in range(2 * len(labels)):

        def similarity(j: int, i: int = i) -> float:
            return float(vectors[i] @ vectors[j]) / temperature

        others = [j for j in range(len(vectors)) if j != i]
        denominator = sum(np.mean([math.exp(similarity(j)) for j in others if classes[j] == c]) for c in range(4))
        positives = [j for j in others if classes[j] == classes[i]]
        losses.append(-np.mean([math.log(math.exp(similarity(p)) / denominator) for p in positives]))
    assert ours.item() == pytest.approx(np.mean(losses), rel=1e-10)

    (gradient,) = torch.autograd.grad(ours, views)
    moved = views.detach().clone()
    moved[0, 0] += 1e-6
    change = balanced_contrastive_loss(moved, torch.tensor(labels), prototypes, temperature) - ours
    assert gradient[0, 0].item() == pytest.approx(change.item() / 1e-6, rel=1e-4)


def test_pasted_boxes_hold_the_partners_pixels_and_their_share_is_exact():
    mixing = build(MODELS, dict(type='PastePartners', probability=1.0), class_counts=COUNTS, seed=3, epochs=20)
    mixing.set_epoch(10)
    images, partners = torch.zeros(4, 3, 8, 6), torch.ones(4, 3, 8, 6)
    labels, others = torch.tensor([0, 1, 2, 3]), torch.tensor([3, 2, 1, 0])
    areas = []
    for _ in range(200):
        mixed, second, share = mixing(images, labels, partners, others)
        assert torch.equal(second, others)
        assert share.tolist() == pytest.approx([1 - mixed[0, 0].mean().item()] * 4)
        assert torch.equal(mixed, mixed[:1, :1].expand_as(mixed))  # one box for the whole batch
        rows, columns = mixed[0, 0].sum(1), mixed[0, 0].sum(0)
        assert len(set(rows.tolist()) - {0.0}) <= 1  # a rectangle
        assert len(set(columns.tolist()) - {0.0}) <= 1
        areas.append(1 - share[0].item())
    # boxes of share 1 - lambda with lambda uniform, cut at the borders
    assert 0.2 < np.mean(areas) < 0.45
    assert images.sum() == 0


def test_nothing_is_pasted_in_the_first_four_and_last_three_epochs_nor_in_half_of_the_batches():
    mixing = build(MODELS, dict(type='PastePartners'), class_counts=COUNTS, seed=0, epochs=200)
    images, partners, labels = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8), torch.tensor([0, 1])

    def pasted(epoch: int) -> int:
        mixing.set_epoch(epoch)
        return sum(float(mixing(images, labels, partners, labels)[2][0]) < 1 for _ in range(400))

    assert [epoch for epoch in (0, 1, 2, 3, 4, 5, 196, 197, 198, 199) if pasted(epoch)] == [4, 5, 196]
    assert pasted(50) == pytest.approx(200, abs=45)
    short = build(MODELS, dict(type='PastePartners'), class_counts=COUNTS, seed=0, epochs=3)
    assert list(short.active) == [0, 1, 2]


def test_the_second_stream_is_balanced():
    plan = make_plan('cmo', load_benchmark('digits_lt'), 'f' * 64, 0)
    assert plan.settings['partner_sampler'] == dict(type='PowerBalanced', power=0.0)
    half = make_plan('cmo(power=0.5)', load_benchmark('digits_lt'), 'f' * 64, 0)
    assert half.settings['partner_sampler']['power'] == 0.5


@pytest.mark.parametrize('kept', [1, 2, 3, 4])
def test_hard_categories_are_the_largest_logits_and_the_others_are_zero(kept):
    random = np.random.default_rng(kept)
    logits, labels = random.normal(0, 3, (9, 4)), random.integers(0, 4, 9)
    ours = build(MODELS, dict(type='HardCategoryLoss', share=kept / 4), class_counts=COUNTS).double()(
        torch.tensor(logits), torch.tensor(labels)
    )
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        adjusted = row + np.log(COUNTS)
        hardest = sorted((c for c in range(4) if c != label), key=lambda c: -row[c])[: kept - 1]
        masked = np.array([adjusted[c] if c == label or c in hardest else 0.0 for c in range(4)])
        for values in (adjusted, masked):
            total += -math.log(math.exp(values[label]) / np.exp(values).sum())
    assert ours.item() == pytest.approx(total / 9, rel=1e-5)


def test_a_sharpness_aware_step_by_hand():
    """On half a x^2 + half b y^2 the gradient is taken at w + radius * g / |g|."""

    class Bowl(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.tensor([2.0, 1.0], dtype=torch.float64))

    from mmengine.optim import OptimWrapper

    bowl, steep = Bowl(), torch.tensor([1.0, 10.0], dtype=torch.float64)
    optimizer = OptimWrapper(torch.optim.SGD(bowl.parameters(), lr=0.1))
    update = build(MODELS, dict(type='SharpnessAware', radius=0.5), class_counts=COUNTS)

    def loss_of(batch: Any) -> dict[str, torch.Tensor]:
        return {'loss': 0.5 * (steep * bowl.place**2).sum(), 'correct': torch.zeros(())}

    told = update(loss_of, Batch((torch.zeros(1),), torch.zeros(1)), bowl, optimizer)
    start = np.array([2.0, 1.0])
    gradient = np.array([1.0, 10.0]) * start
    ahead = start + 0.5 * gradient / np.linalg.norm(gradient)
    assert told['loss'].item() == pytest.approx(7.0)
    assert bowl.place.detach().numpy() == pytest.approx(start - 0.1 * np.array([1.0, 10.0]) * ahead, rel=1e-9)


def test_averages_of_weights_by_hand():
    values = [[('w', torch.tensor([float(step)])), ('n', torch.tensor(step))] for step in range(40)]
    exponential = build(MODELS, dict(type='ExponentialAverage', decay=0.9), epochs=4)
    expected = 0.0
    for step, value in enumerate(values):
        exponential.after_step(value)
        keep = min(0.9, (1 + step) / (10 + step)) if step else 0.0
        expected = keep * expected + (1 - keep) * step
    assert exponential.values['w'].item() == pytest.approx(expected, rel=1e-6)
    assert exponential.values['n'].item() == 39

    plain = build(MODELS, dict(type='PlainAverage', start=0.75), epochs=40)
    for epoch, value in enumerate(values):
        plain.after_epoch(value, epoch)
    assert plain.values['w'].item() == pytest.approx(np.mean(range(30, 40)))
    late = build(MODELS, dict(type='PlainAverage', start=1.0), epochs=40)
    for epoch, value in enumerate(values):
        late.after_epoch(value, epoch)
    assert late.values['w'].item() == 39  # the last epoch at least


def test_distillation_is_the_divergence_of_softened_predictions():
    class Student(nn.Module):
        loss = staticmethod(functional.cross_entropy)

        def logits(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def teacher(self, images: torch.Tensor) -> torch.Tensor:
            return images.flip(1)

    images = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0])
    objective = build(MODELS, dict(type='Distillation', weight=0.3, temperature=2.0))
    loss, logits = objective(Student(), Batch((images,), labels))
    assert torch.equal(logits, images)
    p, q = (
        np.exp(part / 2) / np.exp(part / 2).sum(1, keepdims=True) for part in (images.flip(1).numpy(), images.numpy())
    )
    divergence = (p * np.log(p / q)).sum(1).mean()
    expected = 0.7 * functional.cross_entropy(images, labels).item() + 0.3 * 4 * divergence
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_students_of_one_teacher_share_it():
    benchmark = load_benchmark('digits_lt')
    plans = [make_plan(f'distill(weight={weight})', benchmark, 'f' * 64, 0) for weight in (0.2, 0.8)]
    erm = make_plan('erm', benchmark, 'f' * 64, 0).stages()[-1]
    assert [plan.stages()[-1].teacher.fingerprint for plan in plans] == [erm.fingerprint] * 2
    assert plans[0].stages()[-1].fingerprint != plans[1].stages()[-1].fingerprint

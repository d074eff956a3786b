"""More diverse experts with consistency self-distillation (MDCS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import AdjustedExpertsLoss, positive_counts
from ltbench.models.objective import Batch, Objective
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class PoweredPriorsLoss(AdjustedExpertsLoss):
    """For experts 1, 2, 3 softmax cross-entropy on ``logits + power * log(n)``.

    Args:
        class_counts: Training images per class, ``[C]``.
        spread: The powers are ``1 - spread``, 1 and ``1 + spread``, for frequent, all and rare classes.
    """

    def __init__(self, class_counts: Sequence[int], spread: float = 1.5) -> None:
        powers = torch.tensor([[1 - spread], [1.0], [1 + spread]])
        super().__init__(class_counts, powers * positive_counts(class_counts).log())


@MODELS.register_module()
class ConsistentExperts(Objective):
    """The current loss on both views; and each expert learns for the second view what it predicts for the first.

    Only for images whose first view it classifies correctly: ``KL(first || second)`` of adjusted softmaxes, a mean over
    those images, summed over experts.

    Args:
        weight: Weight of the divergences.
        warmup: Share of the epochs in which that weight rises: 20 of 400 as published.
    """

    views = 2

    def __init__(self, weight: float, warmup: float = 0.05) -> None:
        super().__init__()
        self.full, self.warmup, self.weight = weight, warmup, weight

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Raise the weight."""
        self.weight = self.full * min((epoch + 1) / max(self.warmup * epochs, 1), 1)

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the logits of the first view."""
        logits = model.logits(torch.cat(batch.views[:2]))
        log_p = functional.log_softmax(logits.float() + model.loss.adjustment, dim=2)
        first, second = log_p.chunk(2)
        right = first.argmax(dim=2) == batch.labels[:, None]
        divergence = functional.kl_div(second, first.detach(), reduction='none', log_target=True).sum(dim=2)
        learnt = (divergence * right).sum(dim=0) / right.sum(dim=0).clamp(min=1)
        loss: Tensor = model.loss(logits, batch.labels.repeat(2)) + self.weight * learnt.sum()
        return loss, logits[: len(batch.labels)]


@METHODS.register_module(name='mdcs')
class MoreDiverseExperts(Method):
    """Three experts, for frequent, all and rare classes, that keep correct predictions when an image is changed.

    Zhao et al., "MDCS: more diverse experts with consistency self-distillation for long-tailed recognition", ICCV
    2023, https://arxiv.org/abs/2308.09922; official code fistyee/MDCS@1a1d54e.
    Differs: the benchmark's recipe (published: CIFAR 400 epochs, batch 64, weight decay 5e-4, warm-up 20; ImageNet-LT
    180 and 400 epochs), and its crop and flip as the weak view (published on CIFAR also with rotations of up to 15
    degrees). The code has only the powers of CIFAR-100. A step processes twice as many images as in other methods.
    """

    title = 'MDCS'
    family = 'experts'
    spread = Option(1.5, between=(0, 10), help='powers of the priors are 1 - spread, 1 and 1 + spread')
    weight = Option(0.6, between=(0, 100), help='of the self-distillation')
    expert_width = Option(0.75, between=(0.5, 4), on={'places_lt': 1.0}, help="channels of the experts' stages")

    def apply(self, plan: Plan) -> Plan:
        """Two views; experts, their heads and loss; the objective."""
        return plan.reshape(experts=3, expert_width=self.expert_width).replace(
            views=[dict(policies=None), 'strong'],  # the weak one also where the recipe's is strong
            head=dict(type='HeadOfEach', experts=3, head=dict(type='CosineHead', scale=30.0)),
            loss=dict(type='PoweredPriorsLoss', spread=self.spread),
            objective=dict(type='ConsistentExperts', weight=self.weight),
            mixing=None,  # an image has one label here
        )

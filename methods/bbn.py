"""Bilateral-branch network (BBN)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ltbench.errors import given
from ltbench.method import Method, Option, Plan
from ltbench.models.objective import Batch, Objective
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class BilateralHead(nn.Linear):
    """One linear classifier on the features of two branches, side by side: ``[B, 2, F]`` -> logits ``[B, C]``.

    Args:
        in_features: F.
        num_classes: C.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(2 * in_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Both branches have equal weight."""
        return super().forward(features.flatten(1))


@MODELS.register_module()
class CumulativeLearning(Objective):
    """Images pass through the first branch, their partners through the second; attention moves from one to the other.

    ``a * loss(z, label) + (1 - a) * loss(z, partner's label)`` of the logits z of ``2 * [a * f1, (1 - a) * f2]``, where
    ``a = 1 - (epoch / epochs) ** power``.

    Args:
        power: Exponent of the share of the epochs that are done.
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power, self.share = power, 1.0

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Move from the images to their partners."""
        self.share = 1 - (epoch / epochs) ** self.power

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the logits."""
        first, second = model.backbone(batch.images, expert=0), model.backbone(batch.partners[0], expert=1)
        mixed = torch.stack([self.share * first, (1 - self.share) * second], dim=1)
        logits = model.classify(2 * mixed)
        losses = (model.loss(logits, labels) for labels in (batch.labels, given(batch.partner_labels)))
        return self.share * next(losses) + (1 - self.share) * next(losses), logits


@METHODS.register_module(name='bbn')
class BilateralBranch(Method):
    """Two branches on shared stages, of plain and of reversed sampling; learning moves from the first to the second.

    Zhou et al., "BBN: bilateral-branch network with cumulative learning for long-tailed visual recognition", CVPR 2020,
    https://arxiv.org/abs/1912.02413; official code Megvii-Nanjing/BBN@7992e90.
    The branches are the last residual block of the last stage. At test time both have equal weight.
    Differs: the benchmark's recipe (published: CIFAR x0.01 at 120 and 160 of 200 epochs; iNaturalist 180 epochs, where
    the code divides by 200, not by the epochs as here and in the paper). The last batch of an epoch is not dropped.
    A step processes twice as many images as in other methods. Another loss may replace the cross-entropy.
    """

    title = 'BBN'
    family = 'experts'
    power = Option(2.0, between=(0.1, 10), help='how late learning moves: 2 is the parabola of the paper')
    reversal = Option(1.0, between=(0, 10), help='a class of the second stream is drawn with weight 1 / n ** reversal')

    def apply(self, plan: Plan) -> Plan:
        """Branches, their classifier, the second stream and the objective."""
        return plan.reshape(experts=2, experts_from='last_block').replace(
            head=dict(type='BilateralHead'),
            partner_sampler=dict(type='PowerBalanced', power=-self.reversal),
            objective=dict(type='CumulativeLearning', power=self.power),
            mixing=None,  # images are mixed as features
        )

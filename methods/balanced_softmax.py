"""Balanced softmax."""

from __future__ import annotations

from collections.abc import Sequence

from ltbench.method import Method, Plan
from ltbench.registry import METHODS, MODELS
from methods.la_loss import LogitAdjustedLoss


@MODELS.register_module()
class BalancedSoftmaxLoss(LogitAdjustedLoss):
    """Softmax cross-entropy on ``logits + log(n)``: the logit-adjusted loss at tau = 1.

    Args:
        class_counts: Training images per class, all larger than 0.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        super().__init__(class_counts, tau=1.0)


@METHODS.register_module(name='balanced_softmax')
class BalancedSoftmax(Method):
    """Softmax with each class multiplied by its number of training images while training.

    Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020 (equation 3),
    https://arxiv.org/abs/2007.10740; official code jiawei-ren/BalancedMetaSoftmax-Classification@34a61e4.
    Differs: without the meta sampler, and with the benchmark's recipe (published CIFAR rows: AutoAugment and Cutout,
    batch 512, 13,000 steps, cosine, weight decay 5e-4). It is ``la_loss`` at tau 1, so the two share one stage.
    """

    title = 'Balanced softmax'
    family = 'logit adjustment'

    def apply(self, plan: Plan) -> Plan:
        """Replace the loss."""
        return plan.replace(loss=dict(type='LogitAdjustedLoss', tau=1.0))

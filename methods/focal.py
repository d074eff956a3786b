"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class FocalLoss(Loss):
    """``-(1 - p_y) ** gamma * log p_y`` of the softmax probability.

    Args:
        class_counts: Training images per class, all larger than 0.
        gamma: 0 is cross-entropy.
    """

    def __init__(self, class_counts: Sequence[int], gamma: float = 1.0) -> None:
        super().__init__(class_counts)
        self.gamma = gamma

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        losses = functional.cross_entropy(logits, labels, reduction='none')
        miss = (-losses.neg().expm1()).clamp(min=torch.finfo(losses.dtype).tiny)  # 1 - p, exact for p close to 1
        return miss.pow(self.gamma) * losses


@METHODS.register_module(name='focal')
class Focal(Method):
    """Give less weight to images that are already classified well.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, https://arxiv.org/abs/1708.02002; in softmax form
    and with gamma 1 as in kaidic/LDAM-DRW@2536330.
    Differs: where class weights are set too, p is that of the unweighted loss (LDAM's code takes the weighted one), and
    the loss is a weighted mean (LDAM's code divides by the batch size: ``focal+drw(divide_by=batch)``).
    """

    title = 'Focal loss'
    family = 're-weighting'
    gamma = Option(1.0, between=(0, 10), help='0 is cross-entropy')

    def apply(self, plan: Plan) -> Plan:
        """Replace the loss."""
        return plan.replace(loss=dict(type='FocalLoss', gamma=self.gamma))

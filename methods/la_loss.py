"""Logit adjustment inside the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class LogitAdjustedLoss(Loss):
    """Softmax cross-entropy on ``logits + tau * log(prior)``; the raw logits are used at test time.

    Args:
        class_counts: Training images per class, all larger than 0.
        tau: Strength of the adjustment; 0 is cross-entropy, 1 is balanced softmax.
    """

    corrects_prior = True
    adjustment: Tensor

    def __init__(self, class_counts: Sequence[int], tau: float = 1.0) -> None:
        super().__init__(class_counts)
        prior = self.class_counts / self.class_counts.sum()
        self.register_buffer('adjustment', tau * torch.log(prior), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        return functional.cross_entropy(logits + self.adjustment, labels, reduction='none')


@METHODS.register_module(name='la_loss')
class LogitAdjustment(Method):
    """Add the log prior to the logits while training, so that the plain logits are balanced at test time.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021 (equation 10), https://arxiv.org/abs/2007.07314;
    official code google-research/google-research, folder logit_adjustment.
    Differs: no 1e-12 inside the logarithm (a class without training images is an error here), and the benchmark's
    recipe (the official code's CIFAR-10: 1,241 epochs, Nesterov, warm-up 20, a network of three-convolution blocks).
    """

    title = 'Logit adjustment'
    family = 'logit adjustment'
    tau = Option(1.0, between=(0, 10), help='strength of the adjustment')

    def apply(self, plan: Plan) -> Plan:
        """Replace the loss."""
        return plan.replace(loss=dict(type='LogitAdjustedLoss', tau=self.tau))

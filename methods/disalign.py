"""Distribution alignment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import positive_counts
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class AlignedHead(nn.Module):
    """``s * (a_c z_c + b_c) + (1 - s) * z_c`` with ``s = sigmoid(linear(features))``, on a frozen head's logits z.

    Args:
        base: The trained head, frozen.
        in_features: F.
        num_classes: C.
    """

    def __init__(self, base: nn.Module, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.confidence = nn.Linear(in_features, 1)
        self.scale = nn.Parameter(torch.ones(num_classes))
        self.shift = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, F]`` -> logits ``[B, C]``."""
        logits, confidence = self.base(features), self.confidence(features).sigmoid()
        return confidence * (self.scale * logits + self.shift) + (1 - confidence) * logits


@MODELS.register_module(name='GeneralizedReweighting')
def generalized_weights(class_counts: Sequence[int], rho: float = 1.2) -> Tensor:
    """Class weights ``[C]`` proportional to ``(1 / prior_c) ** rho``, scaled to sum to C."""
    counts = positive_counts(class_counts)
    weights = (counts.sum() / counts) ** rho
    return (weights * len(weights) / weights.sum()).float()


@METHODS.register_module(name='disalign')
class DisAlign(Method):
    """Train plainly, then learn an input-dependent scale and shift of the frozen classifier's logits.

    Zhang et al., "Distribution alignment: a unified framework for long-tail visual recognition", CVPR 2021
    (equations 7 and 10), https://arxiv.org/abs/2103.16370; official code Megvii-BaseDetection/DisAlign@a2fc350.
    Differs: the frozen backbone's BN uses its running statistics by default, see ``crt``; the batch size is the
    benchmark's (the paper's is 256).
    """

    rho = Option(1.2, between=(0, 10), help='exponent of the class weights; 1.5 for a cosine head')
    epochs = Option(10, between=(1, 1000), on={'inat2018': 30})
    lr = Option(0.1, between=(0, 100))
    bn = Option('eval', choices=('eval', 'train'), help='BN mode of the frozen backbone')

    def apply(self, plan: Plan) -> Plan:
        """Append the head stage."""
        return plan.retrain_head(
            dict(type='AlignedHead'),
            epochs=self.epochs,
            class_weights=dict(type='GeneralizedReweighting', rho=self.rho),
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=5e-4),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(type='InstanceBalanced'),
            bn=self.bn,
        )

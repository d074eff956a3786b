"""Distribution alignment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ltbench.errors import unknown
from ltbench.method import Method, Option, Plan
from ltbench.models.losses import positive_counts
from ltbench.registry import METHODS, MODELS

STARTS = ('paper', 'code')


@MODELS.register_module()
class AlignedHead(nn.Module):
    """``s * (a_c z_c + b_c) + (1 - s) * z_c`` with ``s = sigmoid(linear(features))``, on a frozen head's logits z.

    Args:
        base: The trained head, frozen.
        in_features: F.
        num_classes: C.
        start: ``'paper'``: a = 1, so that training begins with the frozen head's logits; ``'code'``: the official
            code's ``(1 + s * a_c) * z_c + s * b_c`` with a = 1 (the paper's a = 2), so that weight decay pulls towards
            the frozen head's logits, and 0.1 for the weights of the linear layer.

    Raises:
        UsageError: For another start.
    """

    def __init__(self, base: nn.Module, in_features: int, num_classes: int, start: str = 'paper') -> None:
        super().__init__()
        if start not in STARTS:
            raise unknown('start of AlignedHead', start, STARTS)
        self.base = base.requires_grad_(False)
        self.confidence = nn.Linear(in_features, 1)
        self.scale = nn.Parameter(torch.ones(num_classes))
        self.shift = nn.Parameter(torch.zeros(num_classes))
        self.start = start
        if start == 'code':
            nn.init.constant_(self.confidence.weight, 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, F]`` -> logits ``[B, C]``."""
        logits, confidence = self.base(features), self.confidence(features).sigmoid()
        if self.start == 'code':
            return (1 + confidence * self.scale) * logits + confidence * self.shift
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
    benchmark's (the paper's is 256). The layer of the official code (``DisAlignLinear`` of cvpods) starts with other
    logits than the paper's equation, 1.5 to 2 times as large: ``start='code'``.
    """

    title = 'DisAlign'
    family = 'two-stage'
    rho = Option(1.2, between=(0, 10), help='exponent of the class weights; 1.5 for a cosine head')
    epochs = Option(10, between=(1, 1000), on={'inat2018': 30})
    lr = Option(0.1, between=(0, 100))
    bn = Option('eval', choices=('eval', 'train'), help='BN mode of the frozen backbone')
    start = Option('paper', choices=STARTS, help="logits to begin with: the frozen head's, or as in the official code")

    def apply(self, plan: Plan) -> Plan:
        """Append the head stage."""
        start = {'start': self.start} if self.start != 'paper' else {}
        return plan.retrain_head(
            dict(type='AlignedHead', **start),
            epochs=self.epochs,
            class_weights=dict(type='GeneralizedReweighting', rho=self.rho),
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=5e-4),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(type='InstanceBalanced'),
            bn=self.bn,
        )

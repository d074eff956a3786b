"""Balanced contrastive learning (BCL)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.heads import linear_weight
from ltbench.models.objective import Batch, Objective
from ltbench.registry import METHODS, MODELS


def balanced_contrastive_loss(projected: Tensor, labels: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss in which each class counts once in the denominator, however many images it has.

    Args:
        projected: Unit vectors of two views, one view after the other, ``[2B, D]``.
        labels: ``[B]``.
        prototypes: A unit vector per class, ``[C, D]``; each counts as one more image of its class.
        temperature: Temperature of the similarities.
    """
    anchors, classes = labels.repeat(2), torch.arange(len(prototypes), device=labels.device)
    others = torch.cat([anchors, classes])
    similarity = projected @ torch.cat([projected, prototypes]).T / temperature
    is_self = torch.eye(len(anchors), len(others), dtype=torch.bool, device=labels.device)
    positive = (anchors[:, None] == others) & ~is_self
    sizes = torch.bincount(others, minlength=len(prototypes))[others] - (positive | is_self).to(torch.int64)
    weighted = (similarity - sizes.to(similarity.dtype).log()).masked_fill(is_self, -torch.inf)
    log_probability = similarity - weighted.logsumexp(dim=1, keepdim=True)
    return -((positive * log_probability).sum(dim=1) / positive.sum(dim=1)).mean()


@MODELS.register_module()
class BalancedContrast(Objective):
    """The current loss on the first view, and a balanced contrastive loss between the second and third.

    Args:
        in_features, features: F, and the size D of the projections.
        weight, classification: Weights of the contrastive loss and of the current loss.
        temperature: Temperature of the similarities.
    """

    views = 3

    def __init__(
        self, in_features: int, features: int, weight: float, classification: float, temperature: float
    ) -> None:
        super().__init__()
        self.weight, self.classification, self.temperature = weight, classification, temperature
        self.project, self.project_classes = (_mlp(in_features, features) for _ in range(2))

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both losses, and the logits of the first view."""
        features = model.backbone(torch.cat(batch.views))
        logits = model.classify(features[: len(batch.labels)])
        projected = functional.normalize(self.project(features))[len(batch.labels) :]
        prototypes = functional.normalize(self.project_classes(linear_weight(model.head)))
        contrast = balanced_contrastive_loss(projected, batch.labels, prototypes, self.temperature)
        return self.classification * model.loss(logits, batch.labels) + self.weight * contrast, logits


def _mlp(in_features: int, features: int) -> nn.Module:
    hidden = max(in_features, 512)  # as in the codes for CIFAR and for large networks
    first = [nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, nn.Linear(hidden, features))


@METHODS.register_module(name='bcl')
class BalancedContrastiveLearning(Method):
    """Logit-adjusted loss on one view, and between two others a contrastive loss whose classes are balanced.

    Zhu et al., "Balanced contrastive learning for long-tailed visual recognition", CVPR 2022,
    https://arxiv.org/abs/2207.09052; official code FlamieZhu/Balanced-Contrastive-Learning@f72d070. Its CIFAR code was
    never released: weights, hidden layer and blur are as in ConCutMix and CUDA_LTR, whose heads are linear. Differs:
    cosine head also on CIFAR; benchmark's optimizer, epochs and batch (published: CIFAR lr 0.15, batch 256, weight
    decay 5e-4). The recipe augments the first view; the published rows have AutoAugment or RandAugment there.
    """

    title = 'BCL'
    family = 'contrastive'
    weight = Option(0.6, between=(0, 100), on={'imagenet_lt': 0.35, 'inat2018': 0.35}, help='of the contrastive loss')
    classification = Option(1.0, between=(0, 100), on={'cifar10_lt': 2.0, 'cifar100_lt': 2.0}, help='of the other loss')
    blurred = Option(0.0, between=(0, 1), on={'cifar10_lt': 0.5, 'cifar100_lt': 0.5}, help='share of its views')
    temperature = Option(0.1, between=(1e-3, 10), on={'imagenet_lt': 0.07, 'inat2018': 0.07})
    features = Option(128, between=(1, 65536), on={'imagenet_lt': 1024, 'inat2018': 1024}, help='of the projections')

    def apply(self, plan: Plan) -> Plan:
        """Three views, a cosine head, both losses."""
        contrast = dict(self.values)
        return plan.replace(
            views=['plain', *[dict(name='contrastive', blurred=contrast.pop('blurred'))] * 2],
            head=dict(type='CosineHead', scale=30.0),
            loss=dict(type='LogitAdjustedLoss', tau=1.0),
            objective=dict(type='BalancedContrast', **contrast),
            mixing=None,  # an image has one label here
        )

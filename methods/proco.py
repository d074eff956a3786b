"""Probabilistic contrastive learning (ProCo)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.bessel import log_bessel
from ltbench.models.objective import Batch, Objective
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class ProbabilisticContrast(Objective):
    """The current loss on the first view, and on logits that compare the other views with the class distributions.

    A class is a von Mises-Fisher distribution, estimated in this epoch and the one before.

    Args:
        in_features, num_classes: F, C; weight, temperature: of the contrastive loss, t; features: p, of projections.
    """

    views = 3
    means: Tensor
    counts: Tensor

    def __init__(self, in_features: int, num_classes: int, weight: float, temperature: float, features: int) -> None:
        super().__init__()
        self.weight, self.temperature, hidden = weight, temperature, max(in_features, 512)
        layers = (nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, features))
        self.project = nn.Sequential(*layers)
        self.register_buffer('means', torch.stack([_anywhere(num_classes, features) for _ in range(2)]))
        self.register_buffer('counts', torch.zeros(2, num_classes))

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Keep two statistics: since the start of the epoch before, and since the start of this one."""
        self.means.copy_(torch.stack([self.means[1], _anywhere(*self.means[1].shape).to(self.means)]))
        self.counts.copy_(torch.stack([self.counts[1], torch.zeros_like(self.counts[1])]))

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both losses, and the logits of the first view."""
        features, count = model.backbone(torch.cat(batch.views)), len(batch.labels)
        logits = model.classify(features[:count])
        loss = model.loss(logits, batch.labels)
        for view in functional.normalize(self.project(features)).chunk(3)[1:]:
            self._add(view.detach(), batch.labels)
            loss = loss + self.weight / 2 * model.loss(self.contrast(view), batch.labels)
        return loss, logits

    def contrast(self, images: Tensor) -> Tensor:
        """Logits ``[B, C]`` of unit vectors ``[B, p]``: their log-density under each class, expected over it."""
        mean, size = self.means[0].double(), images.shape[1]
        kappa = (size * mean.norm(dim=1) / (1 - mean.square().sum(dim=1)).clamp(min=1e-9)).clamp(max=1e5)
        cosine = images.double() @ functional.normalize(mean).T
        squared = kappa**2 + 2 * kappa * cosine / self.temperature + 1 / self.temperature**2
        moved = squared.clamp(min=1e-12).sqrt()  # |kappa mu + z / t|
        return (log_bessel(moved, size) - log_bessel(kappa, size)).to(images.dtype)

    def _add(self, images: Tensor, labels: Tensor) -> None:
        chosen = functional.one_hot(labels, self.counts.shape[1]).to(images.dtype)
        newest, sums = chosen.sum(dim=0), chosen.T @ images
        self.counts += newest
        total = self.counts.clamp(min=1)[:, :, None]
        self.means += torch.where(newest[:, None] > 0, (sums - newest[:, None] * self.means) / total, 0.0)


def _anywhere(classes: int, features: int) -> Tensor:
    """Means of classes of which no image was seen yet, as in the official code."""
    return 0.9 * functional.normalize(torch.randn(classes, features))


@METHODS.register_module(name='proco')
class ProbabilisticContrastiveLearning(Method):
    """Contrast with the estimated distribution of each class instead of with its images, logit-adjusted.

    Du et al., "Probabilistic contrastive learning for long-tailed visual recognition", TPAMI 2024,
    https://arxiv.org/abs/2403.06726; official code LeapLabTHU/ProCo@af9e78e.
    Differs: the benchmark's recipe (published: CIFAR lr 0.3, batch 256) augments the first view (there AutoAugment and
    Cutout, or RandAugment); Bessel functions by an expansion, not a recurrence whose gradients are 1 to 2 % off.
    """

    title = 'ProCo'
    family = 'contrastive'
    weight = Option(1.0, between=(0, 100), help='of the contrastive loss')
    temperature = Option(0.1, between=(1e-3, 10), on={'imagenet_lt': 0.07, 'inat2018': 0.07})
    features = Option(128, between=(32, 65536), on={'imagenet_lt': 1024, 'inat2018': 1024}, help='of the projections')
    cosine = Option(False, on={'imagenet_lt': True, 'inat2018': True}, help='classify by cosines')

    def apply(self, plan: Plan) -> Plan:
        """Three views, both losses."""
        contrast = dict(type='ProbabilisticContrast', **self.values)
        head = dict(type='CosineHead' if contrast.pop('cosine') else 'LinearHead')
        policies = [dict(type='RandomResizedCrop', least=0.08), dict(type='SimAugment', blurred=0.0)]
        view = dict(name='contrastive', blurred=0.0) if plan.large_images else dict(crop_padding=0, policies=policies)
        plan = plan.replace(views=['plain', view, view], head=head, objective=contrast, mixing=None)
        return plan.replace(loss=dict(type='LogitAdjustedLoss', tau=1.0))

"""Generalised parametric contrastive learning (GPaCo)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.objective import Batch, Objective
from ltbench.registry import METHODS, MODELS

LARGE = ('imagenet_lt', 'inat2018', 'places_lt')


def parametric_contrastive_losses(
    centres: Tensor, similarity: Tensor, labels: Tensor, others: Tensor, weight: float
) -> Tensor:
    """Weighted mean of ``-log p`` over an anchor's class and its other images, in one softmax with all; ``[N]``.

    Args:
        centres: Logits of the N anchors with log prior added, ``[N, C]``.
        similarity: Between anchors and images, ``[N, M]``; the first N images are the anchors.
        labels, others: Classes of the anchors, ``[N]``, and of the images, ``[M]``; -1 for an empty place.
        weight: Weight of an image; that of the class is 1.
    """
    is_self = torch.eye(*similarity.shape, dtype=torch.bool, device=similarity.device)
    compared = similarity.masked_fill(is_self | (others < 0), -torch.inf)
    log_sum = torch.cat([centres, compared], dim=1).logsumexp(dim=1, keepdim=True)
    positive = weight * ((labels[:, None] == others) & ~is_self).to(similarity)
    weights = torch.cat([functional.one_hot(labels, centres.shape[1]), positive], dim=1)
    log_probability = torch.cat([centres, similarity], dim=1) - log_sum
    return -(weights * log_probability).sum(dim=1) / weights.sum(dim=1)


@MODELS.register_module()
class ParametricContrast(Objective):
    """GPaCo's loss: both views of every image are anchors; the second ones enter a queue of images to compare with.

    Args:
        in_features: F.
        weight, temperature: See :func:`parametric_contrastive_losses`; temperature of the similarities.
        features, queue: Size D of the projections; number of places for images of earlier batches.
    """

    views = 2
    queue: Tensor
    queue_labels: Tensor

    def __init__(self, in_features: int, weight: float, temperature: float, features: int, queue: int) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature
        hidden = [layer for _ in range(2) for layer in (nn.Linear(in_features, in_features), nn.ReLU())]
        self.project = nn.Sequential(*hidden, nn.Linear(in_features, features))
        self.register_buffer('queue', torch.zeros(queue, features))
        self.register_buffer('queue_labels', torch.full((queue,), -1))

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the logits of the first view."""
        features = torch.cat([model.backbone(view) for view in batch.views])
        logits, images = model.classify(features), functional.normalize(self.project(features))
        return self.compare(model, logits, images, batch.labels), logits[: len(batch.labels)]

    def compare(self, model: Any, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of the first N of both views' images ``[2B, D]``, those with logits ``[N, C]``."""
        classes, centres = torch.cat([labels.repeat(2), self.queue_labels]), logits + model.loss.adjustment
        anchors = classes[: len(logits)]
        similarity = images[: len(logits)] @ torch.cat([images, self.queue]).T / self.temperature
        losses = parametric_contrastive_losses(centres, similarity, anchors, classes, self.weight)
        for queue, newest in ((self.queue, images[len(labels) :].detach()), (self.queue_labels, labels)):
            queue.copy_(torch.cat([newest, queue])[: len(queue)])
        return cast(Tensor, model.loss.mean(losses, anchors))


@METHODS.register_module(name='gpaco')
class GeneralizedParametricContrast(Method):
    """Supervised contrast between images in which each class takes part as one learned centre, logit-adjusted.

    Cui et al., "Generalized parametric contrastive learning", TPAMI 2023, https://arxiv.org/abs/2209.12400; official
    code dvlab-research/Parametric-Contrastive-Learning@fe56535, ``GPaCo/LT`` (no CIFAR-LT script: values of PaCo's).
    Differs: the benchmark's recipe (published: 400 epochs), which augments the first view (there AutoAugment and Cutout
    on CIFAR, RandAugment on ImageNet-LT's two); on large images also hue; its queue begins with random vectors.
    """

    title = 'GPaCo'
    family = 'contrastive'
    contrast = 'ParametricContrast'
    weight = Option(0.01, between=(0, 1), on=dict(zip(LARGE, (0.045, 0.05, 0.02), strict=True)), help='of an image')
    temperature = Option(0.05, between=(1e-3, 10), on=dict.fromkeys(LARGE, 0.2))
    features = Option(32, between=(1, 65536), on=dict.fromkeys(LARGE, 128), help='of the projections')
    blurred = Option(0.5, between=(0, 1), on={'cifar10_lt': 0.2, 'cifar100_lt': 0.2}, help='share of second views')
    queue = Option(1024, between=(1, 2**20), on={**dict.fromkeys(LARGE, 8192), 'digits_lt': 64}, help='places in it')

    def apply(self, plan: Plan) -> Plan:
        """Two views, the objective, the prior."""
        loss, contrast = dict(type='LogitAdjustedLoss', tau=1.0), dict(type=self.contrast, **self.values)
        views = ['plain', dict(name='contrastive', blurred=contrast.pop('blurred'))]
        return plan.replace(views=views, loss=loss, objective=contrast, mixing=None)

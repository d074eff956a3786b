"""Parametric contrastive learning (PaCo)."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.method import Option
from ltbench.models.objective import Batch
from ltbench.registry import METHODS, MODELS
from methods.gpaco import LARGE, GeneralizedParametricContrast, ParametricContrast


@MODELS.register_module()
class MomentumContrast(ParametricContrast):
    """PaCo's loss: the second views pass through a running average of the network and are not anchors.

    Args:
        backbone: The network's backbone.
        in_features: F.
        momentum: Share of the average that a step keeps.
        features: Size D of the projections.
        others: As for :class:`ParametricContrast`.
    """

    def __init__(self, backbone: nn.Module, in_features: int, momentum: float, features: int, **others: Any) -> None:
        super().__init__(in_features, features=features, **others)
        self.momentum, hidden = momentum, nn.Linear(in_features, in_features)
        norm, last = nn.BatchNorm1d(in_features), nn.Linear(in_features, features)
        self.project = nn.Sequential(hidden, norm, nn.ReLU(), last)
        self.average = copy.deepcopy(nn.Sequential(backbone, self.project)).requires_grad_(False)

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the logits of the first view."""
        with torch.no_grad():
            trained = chain(model.backbone.parameters(), self.project.parameters())
            for average, newest in zip(self.average.parameters(), trained, strict=True):
                average.lerp_(newest, 1 - self.momentum)
            keys = functional.normalize(self.average(batch.views[1]))
        features = model.backbone(batch.images)
        logits, images = model.classify(features), functional.normalize(self.project(features))
        return self.compare(model, logits, torch.cat([images, keys]), batch.labels), logits


@METHODS.register_module(name='paco')
class ParametricContrastiveLearning(GeneralizedParametricContrast):
    """Supervised contrast with keys of a momentum encoder, in which each class takes part as one learned centre.

    Cui et al., "Parametric contrastive learning", ICCV 2021, https://arxiv.org/abs/2107.12028; official code
    dvlab-research/Parametric-Contrastive-Learning@fe56535, ``PaCo/LT``.
    Differs: the benchmark's recipe (published: CIFAR 400 epochs, lr 0.05, batch 128, weight decay 5e-4); the first view
    is augmented as the recipe says (published: AutoAugment and Cutout, or RandAugment). On one device, images need not
    be shuffled for BN. The queue starts empty (published: with random vectors of random classes). For the same weights,
    queue and batches, eight steps of SGD in float64 give the losses of the official code to 3e-7.

    The published temperature is too low for few images and classes. On ``digits_lt`` (5 seeds) 0.05 has top-1 91.0 +-
    0.9, and 0.2, the value of the large sets, 95.4 +- 0.6, like ``la_loss`` (95.4 +- 1.4); with 240 epochs in place of
    60 these are 93.4 +- 1.7, 95.8 +- 1.5 and 96.1 +- 1.3. Similarities of up to 1 / 0.05 outweigh the classes in the
    first epochs (classes get 3 % of the softmax; 33 % at 0.2), and projections become alike: their mean cosine is 0.76
    within and 0.65 between classes, at 0.2 0.69 and 0.24. The momentum is not the cause (90.4 +- 2.7 at 0); the queue
    is in part (93.3 +- 1.5 with one place).
    """

    title = 'PaCo'
    family = 'contrastive'
    contrast = 'MomentumContrast'
    weight = Option(0.01, between=(0, 1), on=dict.fromkeys(LARGE, 0.05), help='of an image')
    blurred = Option(0.5, between=(0, 1), help='share of the second views')
    momentum = Option(0.999, between=(0, 1), help='share of the momentum encoder that a step keeps')

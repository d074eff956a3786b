"""Global and local mixture consistency cumulative learning (GLMC)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import given
from ltbench.method import Method, Option, Plan
from ltbench.models.heads import LinearHead
from ltbench.models.objective import Batch, Objective
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class MixtureConsistency(Objective):
    """Classify one view mixed with its partners by mixup and one by CutMix, and make their features agree.

    At first only a plain head counts, at the end only the network's own, whose losses are weighted by class.

    Args:
        backbone, in_features, num_classes: The network's backbone, F and C.
        weight: Weight of the agreement.
    """

    views = 2

    def __init__(self, backbone: nn.Module, in_features: int, num_classes: int, weight: float) -> None:
        super().__init__()
        self.weight, self.progress = weight, 0.0
        self.plain_head = LinearHead(in_features, num_classes, getattr(backbone, 'head_init', 'default'))
        size = 128 if in_features <= 256 else 256  # for CIFAR's and for large networks, as in the official code
        self.project, self.predict = nn.Linear(in_features, size), nn.Linear(size, size)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Move from the plain head to the network's."""
        self.progress = (epoch / epochs) ** 2

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the logits of the view mixed by mixup."""
        share = float(torch.rand(()))
        mixup = share * batch.views[0] + (1 - share) * batch.partners[0]
        pasted = cut_and_paste(batch.views[1], batch.partners[1], share)
        features = torch.cat([model.backbone(mixup), model.backbone(pasted)])
        logits, hidden = model.classify(features), self.project(features)
        others = hidden.detach().roll(len(batch.labels), dims=0)  # the other mixture of each image
        loss = -2 * self.weight * functional.cosine_similarity(self.predict(hidden), others).mean()
        for labels, part in ((batch.labels, share), (given(batch.partner_labels), 1 - share)):
            labels = labels.repeat(2)
            plain, own = (model.loss.per_sample(z.float(), labels) for z in (self.plain_head(features), logits))
            cumulated = (1 - self.progress) * plain + self.progress * model.loss.class_weights[labels] * own
            loss = loss + 2 * part * cumulated.mean()  # twice the mean of both views is the sum of their means
        return loss, logits[: len(batch.labels)]


def cut_and_paste(images: Tensor, partners: Tensor, share: float) -> Tensor:
    """A box of ``1 - share`` of the partners' pixels on the images, cut at the borders: labels keep that share."""
    box = []
    for length in images.shape[-2:]:
        half, centre = math.ceil(length * math.sqrt(1 - share)) // 2, int(torch.randint(length, ()))
        box.append(slice(max(centre - half, 0), centre + half))
    mixed = images.clone()
    mixed[..., box[0], box[1]] = partners[..., box[0], box[1]]
    return mixed


@METHODS.register_module(name='glmc')
class GlobalLocalMixtureConsistency(Method):
    """Two mixtures of an image and a partner should agree; the loss moves from a plain head to a re-weighted one.

    Du et al., "Global and local mixture consistency cumulative learning for long-tailed visual recognitions", CVPR
    2023, https://arxiv.org/abs/2305.08661; official code ynu-yangpeng/GLMC@2c0261c. Differs: benchmark's network and
    recipe: large images also grey or blurred; the code's "ResNet-32" is four times as wide, ``wide(width=4)+glmc``; lr
    0.01, batch 64, weight decay 5e-3. Its README has ``consistency`` as 4 and as 1 (C10, 100).
    """

    title = 'GLMC'
    family = 'contrastive'
    consistency = Option(4.0, between=(0, 100), help='weight of the agreement', on={
        'cifar10_lt': 1.0, 'cifar10_lt(imbalance_factor=10)': 2.0, 'cifar100_lt(imbalance_factor=50)': 6.0,
        'imagenet_lt': 10.0, 'inat2018': 10.0,
    })  # fmt: skip
    rho = Option(1.2, between=(0, 10), help='class weights are 1 / n ** rho', on={
        'cifar10_lt(imbalance_factor=10)': 1.0, 'imagenet_lt': 1.0, 'inat2018': 1.0,
    })  # fmt: skip
    power = Option(0.0, between=(0, 10), help='partners are drawn with weight 1 / n ** power', on={
        'cifar10_lt(imbalance_factor=10)': 0.2, 'cifar100_lt(imbalance_factor=50)': 0.2,
        'cifar100_lt(imbalance_factor=10)': 0.2, 'imagenet_lt': 0.2, 'inat2018': 0.2,
    })  # fmt: skip

    def apply(self, plan: Plan) -> Plan:
        """Two views, partners, weights and the objective."""
        plan = plan.replace(views=['plain', 'plain'], partner_sampler=dict(type='PowerBalanced', power=1 - self.power))
        loss, weights = dict(type='CrossEntropyLoss'), dict(type='GeneralizedReweighting', rho=self.rho)
        objective = dict(type='MixtureConsistency', weight=self.consistency)
        return plan.replace(loss=loss, class_weights=weights, mixing=None, objective=objective)

"""Learnable weight scaling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ltbench.method import Method, Option, Plan
from ltbench.models.heads import linear_weight
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class ScaledHead(nn.Module):
    """``scale_c * base(features)_c`` with one learnable scale per class; the scale also multiplies the bias.

    Args:
        base: The trained head, frozen unless ``train_base``.
        num_classes: C.
        train_base: Also train the base head.
    """

    def __init__(self, base: nn.Module, num_classes: int, train_base: bool = False) -> None:
        super().__init__()
        self.base = base.requires_grad_(train_base)
        self.scale = nn.Parameter(torch.ones(num_classes))

    @property
    def weight(self) -> Tensor:
        """The scaled classifier's weight ``[C, F]``."""
        return self.scale[:, None] * linear_weight(self.base)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, F]`` -> logits ``[B, C]``."""
        return self.scale * self.base(features)


@METHODS.register_module(name='lws')
class LearnableWeightScaling(Method):
    """Train plainly, then learn one factor per class for the trained classifier, with class-balanced sampling.

    Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020 (section 4.1),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    Differs: ``bn='eval'`` and samplers that restart each epoch are the defaults here, the cosine starts at the full
    rate, and on CIFAR the values are those of another code, see ``crt``. As in the official code the factor also scales
    the bias, and weight decay pulls the factors towards 0. ``train_classifier`` also trains the classifier (not in the
    paper).
    """

    title = 'LWS'
    family = 'two-stage'
    epochs = Option(30, between=(1, 1000), on={'imagenet_lt': 5, 'inat2018': 5, 'places_lt': 5, 'fashion_mnist_lt': 10})
    lr = Option(0.1, between=(0, 100), on={'imagenet_lt': 0.2, 'inat2018': 0.2, 'places_lt': 0.2})
    weight_decay = Option(5e-4, between=(0, 1), on={'inat2018': 1e-4})
    train_classifier = Option(False, help='train the classifier together with its factors')
    bn = Option('eval', choices=('eval', 'train'), help='BN mode of the frozen backbone')
    across_epochs = Option(False, help='each epoch goes on with the images that the one before it left')

    def apply(self, plan: Plan) -> Plan:
        """Append the head stage."""
        return plan.retrain_head(
            dict(type='ScaledHead', train_base=self.train_classifier),
            epochs=self.epochs,
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=self.weight_decay),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(
                type='ClassAware', images_per_turn=4, **({'across_epochs': True} if self.across_epochs else {})
            ),
            bn=self.bn,
        )

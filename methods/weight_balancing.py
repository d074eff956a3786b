"""Weight balancing."""

from __future__ import annotations

import torch
from torch import nn

from ltbench.method import Method, Option, Plan
from ltbench.models.heads import linear_weight
from ltbench.registry import METHODS, MODELS


@MODELS.register_module(name='TrainedHead')
def trained_head(base: nn.Module) -> nn.Module:
    """The trained head itself, to be trained on."""
    return base


@MODELS.register_module()
class MaxNorm:
    """Shrink classifier weights whose norm exceeds ``min + share * (max - min)`` of the norms at the start.

    Args:
        head: The head whose weights are projected.
        share: 0 makes all norms at most the smallest, 1 at most the largest.
    """

    def __init__(self, head: nn.Module, share: float = 0.1) -> None:
        self.weight = linear_weight(head)
        norms = self.weight.detach().norm(dim=1)
        self.limit = norms.min() + share * (norms.max() - norms.min())

    def __call__(self) -> None:
        """Project, in place."""
        with torch.no_grad():
            norms = self.weight.norm(dim=1, keepdim=True)
            self.weight.mul_((self.limit / norms).clamp(max=1.0))


@METHODS.register_module(name='weight_balancing')
class WeightBalancing(Method):
    """Strong weight decay first; then the classifier alone with a maximal norm, weight decay and class weights.

    Alshammari et al., "Long-tailed recognition via weight balancing", CVPR 2022, https://arxiv.org/abs/2203.14197;
    official code ShadeAlsha/LTR-weight-balancing@e89f292.
    Differs: the benchmark's own network (published CIFAR rows: a torchvision ResNet-34, flips at test time) and its
    batch size and epochs; class weights act on softmax cross-entropy (the code's class-balanced loss is a binary
    cross-entropy on softmax probabilities). The projection follows every step. The weights of the second stage are
    projected once before it begins, too.
    """

    weight_decay = Option(5e-3, between=(0, 1), help='of the first stage')
    lr = Option(0.01, between=(0, 100), help='of both stages')
    share = Option(0.1, between=(0, 1), help='of the range of norms that is kept')
    head_decay = Option(0.1, between=(0, 1), help='weight decay of the second stage')
    beta = Option(0.9999, between=(0, 0.9999999), help='of the effective number')
    epochs = Option(10, between=(1, 1000), help='of the second stage')
    bn = Option('train', choices=('eval', 'train'), help='BN mode of the frozen backbone')

    def apply(self, plan: Plan) -> Plan:
        """Tune the first stage, append the second."""
        return plan.tune(optimizer=dict(lr=self.lr, weight_decay=self.weight_decay)).retrain_head(
            dict(type='TrainedHead'),
            epochs=self.epochs,
            constraint=dict(type='MaxNorm', share=self.share),
            class_weights=dict(type='EffectiveNumber', beta=self.beta),
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=self.head_decay),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(type='InstanceBalanced'),
            bn=self.bn,
        )

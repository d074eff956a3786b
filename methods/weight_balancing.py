"""Weight balancing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.heads import linear_weight
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


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


@MODELS.register_module()
class SoftmaxBinaryLoss(Loss):
    """Mean over classes of the binary cross-entropy of softmax probabilities, each logarithm at least -100."""

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        target = functional.one_hot(labels, logits.shape[1]).to(logits)
        return functional.binary_cross_entropy(logits.softmax(dim=1), target, reduction='none').mean(dim=1)


@METHODS.register_module(name='weight_balancing')
class WeightBalancing(Method):
    """Strong weight decay first; then only the classifier, with a maximal norm, weight decay and class weights.

    Alshammari et al., "Long-tailed recognition via weight balancing", CVPR 2022, https://arxiv.org/abs/2203.14197;
    official code ShadeAlsha/LTR-weight-balancing@e89f292.
    Differs: the benchmark's own network (published CIFAR rows: a torchvision ResNet-34, flips at test time) and its
    batch size and epochs (the code's 64 and 320). The defaults: class weights on softmax cross-entropy, projection
    before the second stage and after each of its steps, the benchmark's schedule in the first stage. The code's own
    choices, which change accuracy: ``loss='bce'`` (a gradient 80 to 780 times smaller at 100 classes),
    ``project='epoch'``, and ``schedule='code'``: cosines in both stages, one epoch ahead.
    """

    title = 'Weight balancing'
    family = 'two-stage'
    weight_decay = Option(5e-3, between=(0, 1), help='of the first stage')
    lr = Option(0.01, between=(0, 100), help='of both stages')
    share = Option(0.1, between=(0, 1), help='of the range of norms that is kept')
    head_decay = Option(0.1, between=(0, 1), help='weight decay of the second stage')
    beta = Option(0.9999, between=(0, 0.9999999), help='of the effective number')
    epochs = Option(10, between=(1, 1000), help='of the second stage')
    bn = Option('train', choices=('eval', 'train'), help='BN mode of the frozen backbone')
    loss = Option('softmax', choices=('softmax', 'bce'), help="of the second stage; bce: the code's mean over B x C")
    project = Option('step', choices=('step', 'epoch'), help='after each; epoch as in the code')
    schedule = Option('benchmark', choices=('benchmark', 'code'), help='of the first stage; code: of both')

    def apply(self, plan: Plan) -> Plan:
        """Tune the first stage, append the second."""
        first: dict[str, Any] = dict(optimizer=dict(lr=self.lr, weight_decay=self.weight_decay))
        second: dict[str, Any] = dict(type='cosine', warmup_epochs=0)
        if self.schedule == 'code':
            second['one_ahead'] = True
            first['schedule'] = second
        bce = self.loss == 'bce'
        every = {'every': 'epoch'} if self.project == 'epoch' else {}
        return plan.tune(**first).retrain_head(
            dict(type='TrainedHead'),
            epochs=self.epochs,
            loss=dict(type='SoftmaxBinaryLoss') if bce else None,
            constraint=dict(type='MaxNorm', share=self.share, **every),
            class_weights=dict(type='EffectiveNumber', beta=self.beta, **({'divide_by': 'batch'} if bce else {})),
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=self.head_decay),
            schedule=second,
            sampler=dict(type='InstanceBalanced'),
            bn=self.bn,
        )

"""MiSLAS."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class LabelAwareSmoothingLoss(Loss):
    """``(1 - e_y) * NLL + e_y * mean_c(-log p_c)``, smoothing the labels of large classes more.

    ``e_y = tail + (head - tail) * sin(pi / 2 * (n_y - n_min) / (n_max - n_min))``

    Args:
        class_counts: Training images per class, all larger than 0.
        head, tail: Smoothing of the largest and of the smallest class.
    """

    smoothing: Tensor

    def __init__(self, class_counts: Sequence[int], head: float = 0.4, tail: float = 0.1) -> None:
        super().__init__(class_counts)
        low, high = self.class_counts.min(), self.class_counts.max()
        rank = (self.class_counts - low) / (high - low).clamp(min=1)
        self.register_buffer('smoothing', tail + (head - tail) * torch.sin(math.pi / 2 * rank), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        log_probability = functional.log_softmax(logits, dim=1)
        nll = -log_probability.gather(1, labels[:, None])[:, 0]
        share = self.smoothing[labels]
        return (1 - share) * nll - share * log_probability.mean(dim=1)


def per_factor(name: str, *values: tuple[int, object]) -> dict[str, object]:
    """Defaults of one benchmark by imbalance factor."""
    return {f'{name}(imbalance_factor={factor})': value for factor, value in values}


LARGE = ('imagenet_lt', 'inat2018', 'places_lt')


@METHODS.register_module(name='mislas')
class MiSLAS(Method):
    """mixup first; then scale and classifier are trained with label-aware smoothing and shifted BN statistics.

    Zhong et al., "Improving calibration for long-tailed recognition", CVPR 2021, https://arxiv.org/abs/2104.00466;
    official code dvlab-research/MiSLAS@0fc381e.
    Differs: smoothed mass is spread over all classes, as in the code (paper: over the others). The benchmark's recipe
    trains the first stage (published: 180 epochs on ImageNet-LT, 200 on iNaturalist, batch 256; on CIFAR drops to a
    tenth, ``-o schedule.gamma=0.1``). Shifted BN is ``bn='train'``; values on other sets are ours. Weight decay on
    CIFAR is that of the code's files, 2e-4; its README reports 5e-4 as better. Its sampler continues across epochs, one
    step longer; ours restarts.
    """

    title = 'MiSLAS'
    family = 'two-stage'
    alpha = Option(1.0, between=(1e-3, 100), on=dict.fromkeys(LARGE, 0.2), help='of mixup')
    head = Option(0.4, between=(0, 1), on={
        **per_factor('cifar10_lt', (100, 0.3), (50, 0.2), (10, 0.1)), 'digits_lt': 0.3, 'fashion_mnist_lt': 0.3,
        **per_factor('cifar100_lt', (100, 0.4), (50, 0.3), (10, 0.2)), 'imagenet_lt': 0.3, 'inat2018': 0.3,
    }, help='smoothing of the largest class')  # fmt: skip
    tail = Option(0.0, between=(0, 1), on={
        **per_factor('cifar100_lt', (100, 0.1)), 'places_lt': 0.1,
    }, help='of the smallest class')  # fmt: skip
    classifier_lr = Option(0.2, between=(0, 1), on={
        **per_factor('cifar10_lt', (100, 0.5)), **per_factor('cifar100_lt', (50, 0.1), (10, 0.1)),
        **dict.fromkeys(LARGE, 0.05),
    }, help='learning rate of the classifier, as a share of that of the scale')  # fmt: skip
    bn = Option(
        'train', choices=('eval', 'train'), on={'cifar10_lt': 'eval', 'digits_lt': 'eval'}, help='shifted or not'
    )
    epochs = Option(10, between=(1, 1000), help='of the second stage')
    lr = Option(0.1, between=(0, 100), help='of the second stage')
    weight_decay = Option(5e-4, between=(0, 1), on={'cifar10_lt': 2e-4, 'cifar100_lt': 2e-4, 'inat2018': 1e-4})
    batch_size = Option(0, between=(0, 1_000_000), on=dict.fromkeys(LARGE, 256), help="0: the benchmark's")

    def apply(self, plan: Plan) -> Plan:
        """mixup, then the second stage."""
        rules = {'base': dict(lr_mult=self.classifier_lr)}
        return plan.replace(mixing=dict(type='Mixup', alpha=self.alpha)).retrain_head(
            dict(type='ScaledHead', train_base=True),
            epochs=self.epochs,
            loss=dict(type='LabelAwareSmoothingLoss', head=self.head, tail=self.tail),
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=self.weight_decay, paramwise=rules),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(type='ClassAware', images_per_turn=4),
            bn=self.bn,
            batch_size=self.batch_size or None,
        )

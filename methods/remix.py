"""Remix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ltbench.method import Method, Option, Plan
from ltbench.models.mixing import BatchMixing
from ltbench.registry import METHODS, MODELS


@MODELS.register_module(name='Remix')
class RemixMixing(BatchMixing):
    """mixup of the images; the rarer class gets the label if the class sizes differ enough.

    Args:
        class_counts: Training images per class.
        seed: The run seed.
        alpha: Parameter of the Beta distribution.
        kappa: How many times larger the other class must be.
        tau: The larger class loses its label if its share of the pixels is below this.
    """

    def __init__(
        self, class_counts: Sequence[int], seed: int, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5
    ) -> None:
        super().__init__(class_counts, seed, alpha)
        self.kappa, self.tau = kappa, tau

    def label_share(self, labels: Tensor, others: Tensor, share: float) -> Tensor:
        """0 if ``n_i / n_j >= kappa`` and ``share < tau``; 1 if ``n_i / n_j <= 1 / kappa`` and ``1 - share < tau``."""
        counts = self.class_counts.to(labels.device)
        ratio = counts[labels] / counts[others]
        result = super().label_share(labels, others, share)
        result = torch.where((ratio >= self.kappa) & (share < self.tau), 0.0, result)
        return torch.where((ratio <= 1 / self.kappa) & (1 - share < self.tau), 1.0, result)


@METHODS.register_module(name='remix')
class Remix(Method):
    """mixup in which the rarer class takes the whole label.

    Chou et al., "Remix: rebalanced mixup", ECCV 2020 workshops (equations 4 to 6), https://arxiv.org/abs/2007.03943;
    code zhangyongshun/BagofTricks-LT@ce7859a.
    Differs: shares act on the loss of each image, as in ntucllab/imbalanced-DL@caa43d9; that code multiplies them with
    batch means, which cancels them. imbalanced-DL's Remix-DRW is ``remix+drw(divide_by=batch)``, apart from the clean
    images that it also passes through the network, see ``mixup_drw``.
    """

    title = 'Remix'
    family = 'mixing'
    alpha = Option(1.0, between=(1e-3, 100), help='of the Beta distribution')
    kappa = Option(3.0, between=(1, 1e6), help='how many times larger the other class must be')
    tau = Option(0.5, between=(0, 1), help='bound on the share of the image that loses its label')

    def apply(self, plan: Plan) -> Plan:
        """Mix the batches."""
        return plan.replace(mixing=dict(type='Remix', alpha=self.alpha, kappa=self.kappa, tau=self.tau))

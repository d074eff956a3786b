"""Hard category mining (HCM)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class HardCategoryLoss(Loss):
    """Balanced softmax over all classes plus balanced softmax over the hardest ones.

    Args:
        class_counts: Training images per class, ``[C]``.
        share: Share of the classes that the second term keeps: those with the largest logits, including the label's; it
            sets the adjusted logits of the others to 0, as in the official code (not to minus infinity).
    """

    corrects_prior = True

    def __init__(self, class_counts: Sequence[int], share: float = 0.3) -> None:
        super().__init__(class_counts)
        self.kept = max(round(share * len(class_counts)), 1)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        adjusted = logits + self.class_counts.log()
        with_label = logits.detach().scatter(1, labels[:, None], torch.inf)
        mask = torch.zeros_like(logits).scatter(1, with_label.topk(self.kept, dim=1).indices, 1.0)
        whole = functional.cross_entropy(adjusted, labels, reduction='none')
        return whole + functional.cross_entropy(adjusted * mask, labels, reduction='none')


@METHODS.register_module(name='hcm')
class HardCategoryMining(Method):
    """Balanced softmax over all classes, plus balanced softmax over the classes most easily confused with an image.

    A loss of the code of Bao et al., "Normalizing batch normalization for long-tailed recognition", IEEE TIP
    2024, https://arxiv.org/abs/2501.03122, after Li et al., "Nested collaborative learning", CVPR 2022; official code
    yuxiangbao/NBN@7365e21, ``loss/HCMLoss.py`` (300 of ImageNet-LT's 1000 classes).
    Differs: nothing. It is not known which published rows use it, if any.
    """

    title = 'HCM'
    family = 'logit adjustment'
    share = Option(0.3, between=(0, 1), help='of the classes that the second term keeps')

    def apply(self, plan: Plan) -> Plan:
        """Replace the loss."""
        return plan.replace(loss=dict(type='HardCategoryLoss', share=self.share))

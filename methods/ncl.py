"""Nested collaborative learning (NCL)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class NestedCollaborativeLoss(Loss):
    """For each expert balanced softmax over all classes and over the hardest; divergences between experts on both.

    Args:
        class_counts: Training images per class, ``[C]``.
        share: Share of the classes that the nested terms keep: those with the largest logits of the first expert,
            including the label's; they set the adjusted logits of the others to 0, as in the official code.
        mutual: Factor of the divergences: the sum over pairs of experts of ``KL(other || one)``, divided by K - 1.
    """

    corrects_prior = True

    def __init__(self, class_counts: Sequence[int], share: float = 0.3, mutual: float = 0.6) -> None:
        super().__init__(class_counts)
        self.kept, self.mutual = max(round(share * len(class_counts)), 1), mutual

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]`` of the experts' logits ``[B, K, C]``."""
        with_label = logits[:, 0].detach().scatter(1, labels[:, None], torch.inf)
        mask = torch.zeros_like(with_label).scatter(1, with_label.topk(self.kept, dim=1).indices, 1.0)
        whole = logits + self.class_counts.log()
        return self._of(whole, labels) + self._of(whole * mask[:, None], labels)

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p, experts = functional.log_softmax(logits, dim=2), logits.shape[1]
        own = -log_p.gather(2, labels[:, None, None].expand(-1, experts, 1)).sum(dim=(1, 2))
        p = log_p.exp()
        # over all pairs i, j: sum_c p_j (log p_j - log p_i); a pair of one expert adds nothing
        divergence = experts * (p * log_p).sum(dim=(1, 2)) - (p.sum(dim=1) * log_p.sum(dim=1)).sum(dim=1)
        return own + self.mutual / (experts - 1) * divergence


@METHODS.register_module(name='ncl')
class NestedCollaborativeLearning(Method):
    """K whole networks that learn from each other, over all classes and over the hardest; their mean logits classify.

    Li et al., "Nested collaborative learning for long-tailed visual recognition", CVPR 2022,
    https://arxiv.org/abs/2203.15359; official code Bazinga699/NCL@f64fddb.
    Differs: without the self-supervised term, as in the code's CIFAR and ImageNet-LT settings; no 1e-9 inside the
    logarithm; cosine heads without a bias; linear ones start as in LDAM, not by PyTorch's default; the benchmark's
    recipe (published: CIFAR 400 epochs, batch 64, AutoAugment and Cutout). It has K times the parameters and FLOPs of
    the other methods; ``wide(width=1.73)`` has as many FLOPs on CIFAR.
    """

    title = 'NCL'
    family = 'experts'
    experts = Option(3, between=(2, 16), help='K')
    share = Option(0.3, between=(0, 1), help='of the classes that the nested terms keep')
    mutual = Option(0.6, between=(0, 100), help='factor of the divergences between networks')
    scale = Option(
        0.0,
        between=(0, 1000),
        on={'imagenet_lt': 16.0, 'inat2018': 32.0, 'places_lt': 16.0},
        help='of the cosines that classify; 0: linear heads',
    )

    def apply(self, plan: Plan) -> Plan:
        """Networks, their heads and loss."""
        head = dict(type='CosineHead', scale=self.scale) if self.scale else dict(type='LinearHead')
        return plan.reshape(experts=self.experts, experts_from=0).replace(
            head=dict(type='HeadOfEach', experts=self.experts, head=head),
            loss=dict(type='NestedCollaborativeLoss', share=self.share, mutual=self.mutual),
        )

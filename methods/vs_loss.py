"""Vector-scaling loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class VSLoss(Loss):
    """Cross-entropy on ``logits * (n_c / n_max) ** gamma + tau * log(prior)``.

    Args:
        class_counts: Training images per class, all larger than 0.
        gamma: Exponent of the factor; at 0 only logit adjustment remains.
        tau: Strength of the addend; at 0 only CDT remains.
    """

    corrects_prior = True
    factor: Tensor
    addend: Tensor

    def __init__(self, class_counts: Sequence[int], gamma: float = 0.3, tau: float = 1.0) -> None:
        super().__init__(class_counts)
        self.register_buffer('factor', (self.class_counts / self.class_counts.max()) ** gamma, persistent=False)
        self.register_buffer('addend', tau * (self.class_counts / self.class_counts.sum()).log(), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        return functional.cross_entropy(logits * self.factor + self.addend, labels, reduction='none')


@METHODS.register_module(name='vs_loss')
class VectorScaling(Method):
    """Scale and shift the logits of each class by functions of its training images while training.

    Kini et al., "Label-imbalanced and group-sensitive classification under overparameterization", NeurIPS 2021
    (equation 3), https://arxiv.org/abs/2103.01550; official code orparask/VS-Loss@7ade9c9 (no licence: written from the
    formula). At gamma 0 it is ``la_loss``, at tau 0 class-dependent temperatures (CDT).
    Differs: the values are those of the repository's defaults and of its CIFAR-10 example; the paper tuned its own for
    each benchmark.
    """

    title = 'VS loss'
    family = 'logit adjustment'
    gamma = Option(0.3, between=(0, 10), on={'cifar10_lt': 0.2}, help='exponent of the factor')
    tau = Option(1.0, between=(0, 10), on={'cifar10_lt': 1.2}, help='strength of the addend')

    def apply(self, plan: Plan) -> Plan:
        """Replace the loss."""
        return plan.replace(loss=dict(type='VSLoss', gamma=self.gamma, tau=self.tau))

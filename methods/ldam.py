"""Label-distribution-aware margins."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class LDAMLoss(Loss):
    """Cross-entropy on ``scale * (cosine - margin_y)``: rarer classes must be separated by wider margins.

    ``margin_c = max_margin * (n_c / n_min) ** (-1/4)``, so the rarest class has exactly ``max_margin``.

    Args:
        class_counts: Training images per class, all larger than 0.
        max_margin: Margin of the rarest class, in units of the cosine.
        scale: The scale that the cosine head has multiplied its logits by.
    """

    margins: Tensor

    def __init__(self, class_counts: Sequence[int], max_margin: float = 0.5, scale: float = 30.0) -> None:
        super().__init__(class_counts)
        margins = max_margin * (self.class_counts / self.class_counts.min()) ** -0.25
        self.register_buffer('margins', margins, persistent=False)
        self.scale = scale

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]`` from the head's scaled logits ``[B, C]``."""
        margin = functional.one_hot(labels, logits.shape[1]) * self.margins
        return functional.cross_entropy(logits - self.scale * margin, labels, reduction='none')


@METHODS.register_module(name='ldam')
class LDAM(Method):
    """Cosine head and a margin for each class that grows as the class gets rarer.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019 (equations 12
    and 13), https://arxiv.org/abs/1906.07413; official code kaidic/LDAM-DRW@2536330.
    Differs: nothing. Logits include the scale, which the loss takes into account.
    """

    title = 'LDAM'
    family = 're-weighting'
    max_margin = Option(0.5, between=(0, 2), on={'inat2018': 0.3}, help='margin of the rarest class')
    scale = Option(30.0, between=(0.1, 1000), help='scale of the cosine logits')

    def apply(self, plan: Plan) -> Plan:
        """Replace head and loss."""
        return plan.replace(
            head=dict(type='CosineHead', scale=self.scale),
            loss=dict(type='LDAMLoss', max_margin=self.max_margin, scale=self.scale),
        )

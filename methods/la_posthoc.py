"""Logit adjustment after training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import positive_counts
from ltbench.models.posthoc import Outputs, PostHoc
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class PostHocLogitAdjustment(PostHoc):
    """``logits - tau * log(prior)``.

    Args:
        class_counts: Training images per class, all larger than 0.
        tau: Strength; 0 does not change the logits.
    """

    def __init__(self, class_counts: Sequence[int], tau: float = 1.0) -> None:
        counts = positive_counts(class_counts)
        self.adjustment = (tau * torch.log(counts / counts.sum())).float()

    def logits(self, outputs: Outputs) -> Tensor:
        """Adjusted logits ``[N, C]``."""
        return outputs.logits - self.adjustment


@METHODS.register_module(name='la_posthoc')
class PostHocLogitAdjustmentMethod(Method):
    """Subtract the log prior from the logits of a trained model.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021 (equation 9), https://arxiv.org/abs/2007.07314;
    official code google-research/google-research, folder logit_adjustment.
    Differs: the paper's log(prior), where the code has log(prior ** tau + 1e-12), which differs at tau 3 on
    ImageNet-LT. The prior is that of the training images, never of the test set.
    """

    title = 'Post-hoc LA'
    family = 'logit adjustment'
    tau = Option(
        1.0, between=(0, 10), words=('validation',), help='strength; or chosen from 0 to 3 on validation images'
    )

    def apply(self, plan: Plan) -> Plan:
        """Append the post-hoc step."""
        if self.tau == 'validation':
            return plan.posthoc(type='PostHocLogitAdjustment', choose={'tau': [step / 10 for step in range(31)]})
        return plan.posthoc(type='PostHocLogitAdjustment', tau=self.tau)

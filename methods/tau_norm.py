"""tau-normalisation of the classifier."""

from __future__ import annotations

from torch import Tensor

from ltbench.method import Method, Option, Plan
from ltbench.models.heads import linear_weight
from ltbench.models.posthoc import Outputs, PostHoc, features_of
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class TauNormalization(PostHoc):
    """``f . w_c / |w_c| ** tau``, without bias.

    Args:
        tau: 0 keeps the weights, 1 makes them unit vectors.
    """

    def __init__(self, tau: float = 1.0) -> None:
        self.tau = tau

    def logits(self, outputs: Outputs) -> Tensor:
        """Logits ``[N, C]`` of the normalised classifier."""
        assert outputs.head is not None  # noqa: S101 - narrows the type
        weight = linear_weight(outputs.head).detach()
        return features_of(outputs) @ (weight / weight.norm(dim=1, keepdim=True) ** self.tau).T


@METHODS.register_module(name='tau_norm')
class TauNorm(Method):
    """Divide each class's classifier weight by a power of its norm, chosen on validation images.

    Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020 (section 4.1),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    Differs: tau is chosen by mean class accuracy among 0, 0.1, ..., 2 on the benchmark's validation set; if it has
    none, on a fifth of the training images, with a second model that is trained without them (the official code tunes
    on iNaturalist's test images). A number given for ``tau`` is used as it is.
    For a cosine or rectified head only the weight is used: no scale, no normalised features, no rectification.
    """

    title = 'τ-norm'
    family = 'two-stage'
    tau = Option('validation', between=(0, 10), words=('validation',), help='chosen on validation images, or given')

    def apply(self, plan: Plan) -> Plan:
        """Append the post-hoc step."""
        if self.tau == 'validation':
            grid = {'tau': [step / 10 for step in range(21)]}
            return plan.posthoc(on='features', type='TauNormalization', choose=grid)
        return plan.posthoc(on='features', type='TauNormalization', tau=self.tau)

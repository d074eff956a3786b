"""A cosine classifier."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='cosine_head')
class CosineClassifier(Method):
    """Logits are scaled cosines between features and class weights, without bias.

    The head alone raises cross-entropy a lot on ImageNet-LT (Zhang et al., "Distribution alignment", CVPR 2021, table
    10, https://arxiv.org/abs/2103.16370), so it is a separate option and never a hidden part of another method.
    """

    title = 'Cosine head'
    family = 'baseline'
    scale = Option(30.0, between=(0.1, 1000), help='scale of the cosines')

    def apply(self, plan: Plan) -> Plan:
        """Replace the head."""
        return plan.replace(head=dict(type='CosineHead', scale=self.scale))

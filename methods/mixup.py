"""mixup."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='mixup')
class Mixup(Method):
    """Train on convex combinations of two images and their labels.

    Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018, https://arxiv.org/abs/1710.09412; for long
    tails zhangyongshun/BagofTricks-LT@ce7859a (alpha 1 on CIFAR) and dvlab-research/MiSLAS@0fc381e (0.2 on large sets).
    Differs: nothing; the prior or margin of a combined loss is applied inside both of its terms.
    """

    title = 'mixup'
    family = 'mixing'
    alpha = Option(1.0, between=(1e-3, 100), on={'imagenet_lt': 0.2, 'inat2018': 0.2, 'places_lt': 0.2})

    def apply(self, plan: Plan) -> Plan:
        """Mix the batches."""
        return plan.replace(mixing=dict(type='Mixup', alpha=self.alpha))

"""Square-root re-sampling."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='resample_sqrt')
class SquareRootResampling(Method):
    """Draw a class with probability proportional to the square root of its number of images.

    Mahajan et al., ECCV 2018, https://arxiv.org/abs/1805.00932, as in Kang et al., ICLR 2020 (section 3),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    Differs: nothing; independent draws with replacement, per epoch as many as there are training images.
    """

    title = 'Square-root sampling'
    family = 're-sampling'
    power = Option(0.5, between=(0, 1), help='1 is instance-balanced, 0 class-balanced')

    def apply(self, plan: Plan) -> Plan:
        """Replace the sampler."""
        return plan.replace(sampler=dict(type='PowerBalanced', power=self.power))

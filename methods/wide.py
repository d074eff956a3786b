"""A wider network, for a fair comparison with ensembles."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='wide')
class Wide(Method):
    """Plain training of a wider network: ERM at the cost of a method that has more parameters.

    Control for ``ride`` and similar methods: the gain that more parameters alone would give (question raised in
    frank-xwang/RIDE-LongTailRecognition, issue 18). At the default a CIFAR ResNet has about the FLOPs of ``ride``, and
    so does a ResNet-50 (5.87 against 5.77 GMACs). ResNeXt takes multiples of 0.25 (1.25: 6.57 against 6.05).
    """

    title = 'Wide network'
    family = 'baseline'
    width = Option(1.2, between=(0.25, 8), help='multiplies all channels')

    def apply(self, plan: Plan) -> Plan:
        """Reshape the backbone."""
        return plan.reshape(width=self.width)

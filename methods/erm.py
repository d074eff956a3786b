"""Empirical risk minimisation: the baseline."""

from __future__ import annotations

from ltbench.method import Method, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='erm')
class ERM(Method):
    """Plain cross-entropy with instance-balanced sampling and a linear head.

    The benchmark's own recipe, unchanged; what every other method is compared with.
    """

    title = 'ERM'
    family = 'baseline'

    def apply(self, plan: Plan) -> Plan:
        """Leave the plan as it is."""
        return plan

"""Control experiment for NBN: weight decay in place of normalisation."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='bn_decay')
class BatchNormDecay(Method):
    """Control for NBN: strong weight decay on the affine parameters of all BN layers, and on nothing else.

    If NBN gains no more than this, its gain comes from a smaller norm, not from the normalisation.
    Compared with Bao et al., IEEE TIP 2024, https://arxiv.org/abs/2501.03122; the control is ours.
    """

    title = 'BN decay'
    family = 'BN'
    probes = ('bn_vectors', 'channel_strength')
    weight_decay = Option(5e-3, between=(0, 1), help='on weight and bias of BN layers')

    def apply(self, plan: Plan) -> Plan:
        """Tune the optimizer."""
        return plan.tune(optimizer=dict(paramwise={'norm': dict(weight_decay=self.weight_decay)}))

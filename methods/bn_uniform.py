"""Control experiment for NBN: no direction at all."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='bn_uniform')
class UniformBatchNorm(Method):
    """Control for NBN: the same weight in every channel, one learned scalar for all layers, no bias.

    If NBN gains no more than this, its gain comes from the shared scale, not from the normalised direction.
    Compared with Bao et al., IEEE TIP 2024, https://arxiv.org/abs/2501.03122; the control is ours.
    """

    title = 'Uniform BN'
    family = 'BN'
    probes = ('bn_vectors', 'channel_strength')
    scope = Option('last_stage', choices=('last_stage', 'all'), help='which BN layers')

    def apply(self, plan: Plan) -> Plan:
        """Replace the normalisation."""
        return plan.replace(normalization=dict(type='UniformBN', scope=self.scope))

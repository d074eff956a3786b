"""Control experiment for NBN: no affine parameters."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='bn_no_affine')
class NoAffineBatchNorm(Method):
    """Control for NBN: BN layers without weight and bias.

    If NBN gains no more than this, its gain comes from the missing freedom of the affine parameters.
    Compared with Bao et al., IEEE TIP 2024, https://arxiv.org/abs/2501.03122; the control is ours.
    """

    title = 'BN without affine'
    family = 'BN'
    probes = ('bn_vectors', 'channel_strength')
    scope = Option('last_stage', choices=('last_stage', 'all'), help='which BN layers')

    def apply(self, plan: Plan) -> Plan:
        """Replace the normalisation."""
        return plan.replace(normalization=dict(type='NoAffineBN', scope=self.scope))

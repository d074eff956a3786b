"""Normalised batch normalisation."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='nbn')
class NBN(Method):
    """Weight and bias vectors of BN layers as unit vectors times a learnable scalar, to even out feature strength.

    Bao et al., "Normalizing Batch Normalization for Long-Tailed Recognition", IEEE TIP 2024,
    https://arxiv.org/abs/2501.03122; official code yuxiangbao/NBN@7365e21 (no licence: written from the formulas).
    Differs: the official code has no CIFAR network; there the last stage is ``layer3`` and each block's last BN is
    ``bn2``. The defaults are those of the code: last stage, one scalar for the network, bias from zeros, weight decay
    on everything.
    """

    normalize = Option('both', choices=('weight', 'bias', 'both'), help='which vectors')
    scope = Option('last_stage', choices=('last_stage', 'all'), help='which BN layers')
    scalar = Option('network', choices=('network', 'layer', 'each'), help='how far a scalar is shared')
    bias_init = Option('zeros', choices=('zeros', 'ones', 'normal'), help='where the bias vectors start')

    def apply(self, plan: Plan) -> Plan:
        """Re-parametrise the normalisation."""
        return plan.replace(
            normalization=dict(
                type='NormalizedBN',
                normalize=self.normalize,
                scope=self.scope,
                scalar=self.scalar,
                bias_init=self.bias_init,
            )
        )

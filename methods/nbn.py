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
    on everything, no rectification of the logits. From zeros the first step throws the bias vector so far that its
    direction never changes again (the gradient of ``b / (|b| + 1e-6)`` is a million times too large there); other
    values of ``bias_init`` let it learn. A head retrained afterwards (``nbn+crt``) replaces a rectified one whole.
    """

    probes = ('bn_vectors', 'channel_strength')
    normalize = Option('both', choices=('weight', 'bias', 'both'), help='which vectors')
    scope = Option('last_stage', choices=('last_stage', 'all'), help='which BN layers')
    scalar = Option('network', choices=('network', 'layer', 'each'), help='how far a scalar is shared')
    bias_init = Option('zeros', choices=('zeros', 'ones', 'normal'), help='where the bias vectors start')
    scalar_decay = Option(True, help='weight decay on the scalars')
    rectify_logits = Option(False, help='BatchNorm without weight and bias over the logits')

    def apply(self, plan: Plan) -> Plan:
        """Re-parametrise the normalisation."""
        plan = plan.replace(
            normalization=dict(
                type='NormalizedBN',
                normalize=self.normalize,
                scope=self.scope,
                scalar=self.scalar,
                bias_init=self.bias_init,
            )
        )
        if not self.scalar_decay:
            plan = plan.tune(optimizer=dict(paramwise={'_scalar': dict(weight_decay=0.0)}))
        if self.rectify_logits:
            plan = plan.replace(rectification=dict(type='LogitBatchNorm'))
        return plan

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
    ``bn2``. The defaults are those of the code's ResNet-50 and ResNeXt-50: last stage, one scalar for the network, bias
    from zeros, weight decay on everything, no rectification of the logits. Its network with three experts is
    ``nbn(scope=whole_last_stage, scalar=expert, rectify_logits=True)+ride(expert_width=1.0, heads=linear, loss=free)``.
    The code's vector of scalars has one for each BN layer, of which only the first (in each expert) is used. Its
    ResNeXt-50 starts with PyTorch's own convolutions (``conv_init='default'`` of the backbone); its CIFAR schedule is
    ``dict(type='step', warmup_epochs=5, warmup_from_zero=True, at=[0.805, 0.905], gamma=[0.01, 0.1])``.
    From zeros the first step moves the bias vector so far that its direction never changes again (the gradient of
    ``b / (|b| + 1e-6)`` is a million times too large there). With other values of ``bias_init`` it can learn:
    ``normal`` starts at length 1, so that the direction first turns C times as fast as from ``ones``, of length
    sqrt(C). A head retrained afterwards (``nbn+crt``) replaces a rectified head completely.
    """

    title = 'NBN'
    family = 'BN'
    probes = ('bn_vectors', 'channel_strength')
    normalize = Option('both', choices=('weight', 'bias', 'both'), help='which vectors')
    scope = Option(
        'last_stage',
        choices=('last_stage', 'whole_last_stage', 'all'),
        help="which BN layers: the last of each block of the last stage and its shortcut's, all of that stage, or all",
    )
    scalar = Option('network', choices=('network', 'layer', 'each', 'expert'), help='what a scalar is shared by')
    bias_init = Option('zeros', choices=('zeros', 'ones', 'normal'), help='where the bias vectors start')
    scalar_decay = Option(True, help='weight decay on the scalars')
    rectify_logits = Option(
        False, choices=(False, True, 'affine'), help="BatchNorm over each class's logits; affine: with weight and bias"
    )

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
            plan = plan.replace(rectification=dict(type='LogitBatchNorm', affine=self.rectify_logits == 'affine'))
        return plan

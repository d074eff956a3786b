"""Deferred re-weighting."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import DIVIDE_BY
from ltbench.registry import METHODS


@METHODS.register_module(name='drw')
class DeferredReweighting(Method):
    """Class weights by effective number, switched on late in training.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019 (section 3.3),
    https://arxiv.org/abs/1906.07413; official code kaidic/LDAM-DRW@2536330.
    Differs: the start is a share of the epochs (0.8 is epoch 160 of 200, 0-based), so that short presets keep it. As
    in that code, every loss is a weighted mean; ``divide_by='batch'`` divides by the batch size instead, as its
    ``FocalLoss`` (``focal+drw``) and the mixup and Remix of ntucllab/imbalanced-DL do.
    """

    title = 'DRW'
    family = 're-weighting'
    start = Option(
        0.8, between=(0, 1), on={'inat2018': 2 / 3}, help='share of the epochs trained before the weights turn on'
    )
    beta = Option(0.9999, between=(0, 0.9999999), help='of the effective number (1 - beta^n) / (1 - beta)')
    divide_by = Option('weights', choices=DIVIDE_BY, help='what the weighted sum over a batch is divided by')

    def apply(self, plan: Plan) -> Plan:
        """Turn the weights on after the cut."""
        other = {'divide_by': self.divide_by} if self.divide_by != 'weights' else {}
        return plan.cut(at=self.start).after(class_weights=dict(type='EffectiveNumber', beta=self.beta, **other))

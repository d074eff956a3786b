"""mixup with deferred re-weighting, under its published name."""

from __future__ import annotations

from ltbench.method import Plan
from ltbench.registry import METHODS
from methods.drw import DeferredReweighting
from methods.mixup import Mixup


@METHODS.register_module(name='mixup_drw')
class MixupDRW(Mixup, DeferredReweighting):
    """``mixup+drw``: mixed images throughout, class weights late in training.

    Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412, and Cao et al., NeurIPS 2019,
    https://arxiv.org/abs/1906.07413; combined in ntucllab/imbalanced-DL@caa43d9.
    Differs: as ``mixup`` and ``drw``. That code divides weighted losses by the batch size
    (``divide_by='batch'``; a weighted mean is 5.9 times as large on CIFAR-10-LT 100 late in training), and also passes
    clean images through the network in training mode, for the accuracy it prints, which moves BN statistics; its
    classifier has no bias.
    """

    title = 'mixup-DRW'
    family = 'mixing'

    def apply(self, plan: Plan) -> Plan:
        """Apply mixup, then the weights."""
        return DeferredReweighting.apply(self, Mixup.apply(self, plan))

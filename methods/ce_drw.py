"""Cross-entropy with deferred re-weighting, under its published name."""

from __future__ import annotations

from ltbench.registry import METHODS
from methods.drw import DeferredReweighting


@METHODS.register_module(name='ce_drw')
class CEDRW(DeferredReweighting):
    """``erm+drw``: cross-entropy, with class weights late in training.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019 (table 5),
    https://arxiv.org/abs/1906.07413; official code kaidic/LDAM-DRW@2536330. Differs: as ``drw``.
    """

    title = 'CE-DRW'
    family = 're-weighting'

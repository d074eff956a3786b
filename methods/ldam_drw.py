"""LDAM with deferred re-weighting, under its published name."""

from __future__ import annotations

from ltbench.method import Plan
from ltbench.registry import METHODS
from methods.drw import DeferredReweighting
from methods.ldam import LDAM


@METHODS.register_module(name='ldam_drw')
class LDAMDRW(LDAM, DeferredReweighting):
    """``ldam+drw`` with the paper's values.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019 (algorithm 1),
    https://arxiv.org/abs/1906.07413; official code kaidic/LDAM-DRW@2536330. Differs: the start, as in ``drw``.
    """

    title = 'LDAM-DRW'
    family = 're-weighting'

    def apply(self, plan: Plan) -> Plan:
        """Apply LDAM, then the weights."""
        return DeferredReweighting.apply(self, LDAM.apply(self, plan))

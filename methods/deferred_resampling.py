"""Deferred re-sampling."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='deferred_resampling')
class DeferredResampling(Method):
    """Plain sampling first, class-balanced sampling late in training.

    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019 (section 3.3),
    https://arxiv.org/abs/1906.07413; official code kaidic/LDAM-DRW@2536330 (its ``Resample`` rule never runs).
    Differs: the exactly balanced, class-aware sampler of Kang et al. (ICLR 2020), and a start that is a share of the
    epochs, see ``drw``; each epoch is sampled separately, see ``resample_class_balanced``.
    """

    title = 'Deferred resampling'
    family = 're-sampling'
    start = Option(0.8, between=(0, 1), on={'inat2018': 2 / 3}, help='share of the epochs trained plainly')

    def apply(self, plan: Plan) -> Plan:
        """Change the sampler after the cut."""
        return plan.cut(at=self.start).after(sampler=dict(type='ClassAware', images_per_turn=4))

"""Class-balanced re-sampling."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='resample_class_balanced')
class ClassBalancedResampling(Method):
    """Draw every class equally often, from the first epoch on.

    Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020 (section 3),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    The exactly balanced, class-aware form: classes take turns in shuffled order, images of a class without replacement.
    An epoch keeps the length of the training set, as in the official code.
    Differs: each epoch restarts; with ``across_epochs=True`` it continues where the one before it ended, as in that
    code, so that all images of large classes are used.
    """

    title = 'Class-balanced sampling'
    family = 're-sampling'
    images_per_turn = Option(4, between=(1, 1024), help='consecutive images of a class each time its turn comes')

    across_epochs = Option(False, help='each epoch goes on with the images that the one before it left')

    def apply(self, plan: Plan) -> Plan:
        """Replace the sampler."""
        across = {'across_epochs': True} if self.across_epochs else {}
        return plan.replace(sampler=dict(type='ClassAware', images_per_turn=self.images_per_turn, **across))

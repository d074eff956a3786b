"""Class weights by effective number."""

from __future__ import annotations

from collections.abc import Sequence

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import DIVIDE_BY, CrossEntropyLoss, effective_number_weights
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class ClassBalancedLoss(CrossEntropyLoss):
    """Cross-entropy as a mean weighted by effective number; the same as ``class_balanced`` on plain cross-entropy.

    Args:
        class_counts: Training images per class, all larger than 0.
        beta: 0 is cross-entropy, towards 1 the weights are proportional to ``1 / n_c``.
    """

    def __init__(self, class_counts: Sequence[int], beta: float = 0.9999) -> None:
        super().__init__(class_counts)
        self.reweight(effective_number_weights(class_counts, beta))


@METHODS.register_module(name='class_balanced')
class ClassBalanced(Method):
    """Weight every class by the inverse of its effective number of images, from the first epoch on.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019 (equation 12, softmax form),
    https://arxiv.org/abs/1901.05555; official code richardaecn/class-balanced-loss@1d78572.
    Differs: a weighted mean (divided by the batch's weights) as in LDAM's code; the original divides by the batch size
    (``divide_by='batch'``). It weights any loss: ``focal+class_balanced`` is the paper's CB-focal (softmax form), for
    which LDAM's code also divides by the batch size.
    """

    title = 'Class-balanced loss'
    family = 're-weighting'
    beta = Option(0.9999, between=(0, 0.9999999), on={'cifar100_lt': 0.9}, help='of (1 - beta^n) / (1 - beta)')

    divide_by = Option('weights', choices=DIVIDE_BY, help='what the weighted sum over a batch is divided by')

    def apply(self, plan: Plan) -> Plan:
        """Set the class weights."""
        other = {'divide_by': self.divide_by} if self.divide_by != 'weights' else {}
        return plan.replace(class_weights=dict(type='EffectiveNumber', beta=self.beta, **other))

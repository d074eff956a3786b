"""Classifier re-training."""

from __future__ import annotations

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS


@METHODS.register_module(name='crt')
class ClassifierRetraining(Method):
    """Train plainly, then freeze the backbone and train a fresh linear head with class-balanced sampling.

    Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020 (section 4.1),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    Differs: ``bn='eval'`` is the default here. The official code leaves the frozen backbone in training mode, so that
    its BN statistics move towards the balanced sampling; ``bn='train'`` does as it does.
    """

    epochs = Option(
        30,
        between=(1, 1000),
        on={'imagenet_lt': 10, 'places_lt': 10, 'fashion_mnist_lt': 10, 'plankton_lt': 10},
        help='epochs of the new head',
    )
    lr = Option(0.1, between=(0, 100), on={'imagenet_lt': 0.2, 'inat2018': 0.2, 'places_lt': 0.2})
    weight_decay = Option(5e-4, between=(0, 1), on={'inat2018': 1e-4})
    bn = Option('eval', choices=('eval', 'train'), help='BN mode of the frozen backbone')

    def apply(self, plan: Plan) -> Plan:
        """Append the head stage."""
        return plan.retrain_head(
            dict(type='LinearHead'),
            epochs=self.epochs,
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=self.weight_decay),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(type='ClassAware', images_per_turn=4),
            bn=self.bn,
        )

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
    its BN statistics move towards the balanced sampling; ``bn='train'`` does the same. Its sampler continues across
    epochs (``across_epochs=True``; after 4 epochs 1 % of the head's images are unseen, else 32 %). Under torch 1.1 and
    later the cosines of both its stages are one epoch ahead, so that the last epoch has rate 0 (for the first stage:
    ``-o "schedule={'type': 'cosine', 'one_ahead': True}"``), and it drops the last, shorter batch of an epoch.
    Its head starts from torch's default values, ours like the first head (on CIFAR 2.4 times as wide a distribution).
    Kang et al. have no CIFAR: epochs, rate and weight decay there are those of zhangyongshun/BagofTricks-LT@ce7859a,
    which drops the rate twice, with Nesterov momentum. ``places_lt`` with ``pretrained`` needs ``lr=0.1``.
    """

    title = 'cRT'
    family = 'two-stage'
    epochs = Option(
        30,
        between=(1, 1000),
        on={'imagenet_lt': 10, 'places_lt': 10, 'fashion_mnist_lt': 10, 'plankton_lt': 10},
        help='epochs of the new head',
    )
    lr = Option(0.1, between=(0, 100), on={'imagenet_lt': 0.2, 'inat2018': 0.2, 'places_lt': 0.2})
    weight_decay = Option(5e-4, between=(0, 1), on={'inat2018': 1e-4})
    bn = Option('eval', choices=('eval', 'train'), help='BN mode of the frozen backbone')
    across_epochs = Option(False, help='each epoch goes on with the images that the one before it left')

    def apply(self, plan: Plan) -> Plan:
        """Append the head stage."""
        return plan.retrain_head(
            dict(type='LinearHead'),
            epochs=self.epochs,
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=self.weight_decay),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(
                type='ClassAware', images_per_turn=4, **({'across_epochs': True} if self.across_epochs else {})
            ),
            bn=self.bn,
        )

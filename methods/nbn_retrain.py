"""NBN whose classifier and scalars are trained a second time."""

from __future__ import annotations

from typing import Any

from ltbench.method import Option, Plan
from ltbench.registry import METHODS
from methods.nbn import NBN


@METHODS.register_module(name='nbn_retrain')
class NBNRetrained(NBN):
    """Train with NBN, then freeze all but the classifier and the scalars of its layers, and train these.

    Bao et al., "Normalizing Batch Normalization for Long-Tailed Recognition", IEEE TIP 2024,
    https://arxiv.org/abs/2501.03122; official code yuxiangbao/NBN@7365e21, ``train_all: False`` in ``main.py`` (no
    licence: written from its behaviour).
    Differs: no configuration of the official code uses this, so epochs, learning rate and sampling are those of
    ``crt``. ``bn='train'`` does as that code: frozen layers still follow the batch statistics.
    """

    title = 'NBN (retrained)'
    family = 'BN'
    classifier = Option('trained', choices=('trained', 'fresh'), help='what the second stage begins with')
    sampling = Option('class_balanced', choices=('class_balanced', 'instance_balanced'), help='of the second stage')
    epochs = Option(30, between=(1, 1000), on={'imagenet_lt': 10, 'places_lt': 10}, help='of the second stage')
    lr = Option(0.1, between=(0, 100), on={'imagenet_lt': 0.2, 'inat2018': 0.2, 'places_lt': 0.2})
    weight_decay = Option(5e-4, between=(0, 1), on={'inat2018': 1e-4}, help='of the second stage')
    bn = Option('eval', choices=('eval', 'train'), help='BN mode of the backbone')

    def apply(self, plan: Plan) -> Plan:
        """NBN, then the second stage."""
        sampler: dict[str, Any] = dict(type='InstanceBalanced')
        if self.sampling == 'class_balanced':
            sampler = dict(type='ClassAware', images_per_turn=4)
        optimizer: dict[str, Any] = dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=self.weight_decay)
        if not self.scalar_decay:
            optimizer['paramwise'] = {'_scalar': dict(weight_decay=0.0)}
        return (
            super()
            .apply(plan)
            .retrain_head(
                dict(type='TrainedHead' if self.classifier == 'trained' else 'LinearHead'),
                along=['_scalar'],
                epochs=self.epochs,
                optimizer=optimizer,
                schedule=dict(type='cosine', warmup_epochs=0),
                sampler=sampler,
                bn=self.bn,
            )
        )

"""Label over-smoothing (LOS)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class SmoothedCrossEntropyLoss(Loss):
    """Softmax cross-entropy to ``(1 - smoothing) * one-hot + smoothing / C``.

    Args:
        class_counts: Training images per class.
        smoothing: 0 is cross-entropy; at 1 labels have no effect.
    """

    def __init__(self, class_counts: Sequence[int], smoothing: float = 0.98) -> None:
        super().__init__(class_counts)
        self.smoothing = smoothing

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        return functional.cross_entropy(logits, labels, reduction='none', label_smoothing=self.smoothing)


@METHODS.register_module(name='los')
class LabelOverSmoothing(Method):
    """Train plainly, then train the classifier alone with labels that are almost uniform.

    Sun et al., "Rethinking classifier re-training in long-tailed recognition: label over-smooth can balance", ICLR
    2025, https://openreview.net/forum?id=OeKp3AdiVO; official code bilibili/LOS@50652c0 (CIFAR-100-LT).
    Differs: the benchmark's recipe trains the first stage (published: a ResNet-34, lr 0.01, batch 64, weight decay
    5e-3, cosine, whose features alone gain much) and sets the batch size of the second. ``bn='eval'`` is the default
    here, see ``crt``; the code leaves the frozen backbone in training mode and keeps the best epoch on the test set.
    """

    title = 'LOS'
    family = 'two-stage'
    smoothing = Option(0.98, between=(0, 1), help='share of the label that is spread over all classes')
    epochs = Option(20, between=(1, 1000), help='of the second stage')
    lr = Option(5e-4, between=(0, 100), help='of the second stage')
    bn = Option('eval', choices=('eval', 'train'), help='BN mode of the frozen backbone')

    def apply(self, plan: Plan) -> Plan:
        """Append the head stage."""
        return plan.retrain_head(
            dict(type='TrainedHead'),
            epochs=self.epochs,
            loss=dict(type='SmoothedCrossEntropyLoss', smoothing=self.smoothing),
            optimizer=dict(type='SGD', lr=self.lr, momentum=0.9, weight_decay=0.0),
            schedule=dict(type='cosine', warmup_epochs=0),
            sampler=dict(type='InstanceBalanced'),
            bn=self.bn,
        )

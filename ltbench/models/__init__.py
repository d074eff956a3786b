"""Networks and losses: backbones, heads, normalisation, losses, post-hoc steps, and the classifier that joins them."""

from ltbench.models import heads, losses, normalization, posthoc, resnet_cifar, resnet_torchvision
from ltbench.models.classifier import LongTailClassifier

__all__ = ['LongTailClassifier', 'heads', 'losses', 'normalization', 'posthoc', 'resnet_cifar', 'resnet_torchvision']

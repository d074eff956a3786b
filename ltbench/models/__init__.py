"""Networks and losses: backbones, heads, normalisation, losses, post-hoc steps; the classifier that joins them.

The classifier is not imported here: methods need the parts alone, and it brings mmengine's models along, half a second.
"""

from ltbench.models import heads, losses, normalization, posthoc, resnet_cifar, resnet_torchvision

__all__ = ['heads', 'losses', 'normalization', 'posthoc', 'resnet_cifar', 'resnet_torchvision']

"""Heads: features to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import UsageError
from ltbench.registry import MODELS


@MODELS.register_module()
class LinearHead(nn.Linear):
    """``W f + b``.

    Args:
        in_features: F.
        num_classes: C.
        head_init: ``'kaiming'`` (Kaiming-normal weights, as in the CIFAR references) or ``'default'`` (PyTorch's).
    """

    def __init__(self, in_features: int, num_classes: int, head_init: str = 'default') -> None:
        super().__init__(in_features, num_classes)
        if head_init == 'kaiming':
            nn.init.kaiming_normal_(self.weight)


@MODELS.register_module()
class CosineHead(nn.Module):
    """``scale * cos(w_c, f)``, without bias; the logits include the scale. Computed in float32.

    Args:
        in_features: F.
        num_classes: C.
        scale: Factor on the cosines.
    """

    def __init__(self, in_features: int, num_classes: int, scale: float = 30.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(functional.normalize(torch.empty(num_classes, in_features).uniform_(-1, 1)))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, F]`` -> logits ``[B, C]``."""
        with torch.autocast(features.device.type, enabled=False):
            cosine = functional.linear(functional.normalize(features.float()), functional.normalize(self.weight))
            return self.scale * cosine


def linear_weight(head: nn.Module) -> Tensor:
    """The weight ``[C, F]`` of a linear or cosine head.

    Raises:
        UsageError: If the head has none.
    """
    weight = getattr(head, 'weight', None)
    if not isinstance(weight, Tensor):
        raise UsageError(f'{type(head).__name__} has no linear classifier whose weight could be used')
    return weight


def joint(logits: Tensor) -> Tensor:
    """``[B, C]`` as it is; the mean over experts of ``[B, K, C]``."""
    return logits.mean(dim=1) if logits.dim() == 3 else logits

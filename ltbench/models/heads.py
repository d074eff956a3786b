"""Heads: features to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import UsageError
from ltbench.registry import MODELS, build


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


@MODELS.register_module()
class HeadOfEach(nn.Module):
    """A head for each expert: features ``[B, K, F]`` -> logits ``[B, K, C]``.

    Args:
        in_features: F.
        num_classes: C.
        experts: K.
        head: Config of one head.
        head_init: As for :class:`LinearHead`.
    """

    def __init__(
        self, in_features: int, num_classes: int, experts: int, head: Mapping[str, Any], head_init: str = 'default'
    ) -> None:
        super().__init__()
        shape = dict(in_features=in_features, num_classes=num_classes, head_init=head_init)
        self.heads = nn.ModuleList(build(MODELS, head, **shape) for _ in range(experts))

    def forward(self, features: Tensor) -> Tensor:
        """Each expert's features through its own head."""
        return torch.stack([head(features[:, k]) for k, head in enumerate(self.heads)], dim=1)


@MODELS.register_module(name='TrainedHead')
def trained_head(base: nn.Module) -> nn.Module:
    """The head that a network was trained with, for further training."""
    return base


def linear_weight(head: nn.Module) -> Tensor:
    """The weight ``[C, F]`` of a linear or cosine head.

    Raises:
        UsageError: If the head has none.
    """
    weight = getattr(head, 'weight', None)
    if not isinstance(weight, Tensor):
        raise UsageError(f'{type(head).__name__} has no linear classifier with a weight to use')
    return weight


def joint(logits: Tensor) -> Tensor:
    """``[B, C]`` unchanged; for ``[B, K, C]`` the mean over experts."""
    return logits.mean(dim=1) if logits.dim() == 3 else logits

"""Batch normalisation whose weight and bias are unit vectors times learnable scalars (NBN)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.registry import MODELS

EPSILON = 1e-6  # added to the norm, as in the official code


class NormalizedBatchNorm2d(nn.BatchNorm2d):
    """``gamma = s_w * w / (|w| + 1e-6)`` and/or ``beta = s_b * b / (|b| + 1e-6)`` in place of ``w`` and ``b``.

    Args:
        bn: The layer it takes the place of.
        weight_scalar: ``s_w``, possibly shared; None leaves the weight as it is.
        bias_scalar: ``s_b``, possibly shared; None leaves the bias as it is.
    """

    def __init__(
        self, bn: nn.BatchNorm2d, weight_scalar: nn.Parameter | None, bias_scalar: nn.Parameter | None
    ) -> None:
        super().__init__(bn.num_features, bn.eps, bn.momentum)
        self.weight_scalar = weight_scalar
        self.bias_scalar = bias_scalar

    @property
    def gamma(self) -> Tensor:
        """The effective weight ``[C]``."""
        return _normalized(self.weight, self.weight_scalar)

    @property
    def beta(self) -> Tensor:
        """The effective bias ``[C]``."""
        return _normalized(self.bias, self.bias_scalar)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> the same shape."""
        if self.training:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.gamma, self.beta, self.training, self.momentum or 0.0, self.eps
        )


def _normalized(vector: Tensor, scalar: Tensor | None) -> Tensor:
    return vector if scalar is None else scalar * vector / (vector.norm() + EPSILON)


@MODELS.register_module()
class NormalizedBN:
    """Re-parametrise a backbone's BN layers.

    Args:
        normalize: ``'weight'``, ``'bias'`` or ``'both'``.
        scope: ``'last_stage'``: the BN that ends each residual branch of the last stage, and the one on its projection
            shortcut; ``'all'``: every BN of the backbone.
        scalar: ``'network'``: one learnable scalar for all; ``'layer'``: one a layer, shared by weight and bias;
            ``'each'``: one for each vector.
        bias_init: ``'zeros'`` as published. At zero the gradient of the normalised bias is a million times too large
            (1 / 1e-6): the first step throws the vector far away and its direction is frozen from then on. ``'ones'``
            and ``'normal'`` (standard deviation ``1 / sqrt(C)``) start on a direction that can learn.
    """

    def __init__(
        self,
        normalize: str = 'both',
        scope: str = 'last_stage',
        scalar: str = 'network',
        bias_init: str = 'zeros',
    ) -> None:
        self.normalize, self.scope, self.scalar, self.bias_init = normalize, scope, scalar, bias_init

    def __call__(self, backbone: nn.Module) -> None:
        """Replace the layers in place."""
        shared = _new_scalar() if self.scalar == 'network' else None
        for parent, name, bn in list(batch_norms(backbone, self.scope)):
            of_layer = shared if self.scalar == 'network' else _new_scalar()
            of_bias = _new_scalar() if self.scalar == 'each' else of_layer
            layer = NormalizedBatchNorm2d(
                bn,
                of_layer if self.normalize in ('weight', 'both') else None,
                of_bias if self.normalize in ('bias', 'both') else None,
            )
            if layer.bias_scalar is not None:
                _init_bias(layer.bias, self.bias_init)
            setattr(parent, name, layer)


def batch_norms(backbone: nn.Module, scope: str) -> Iterator[tuple[nn.Module, str, nn.BatchNorm2d]]:
    """BN layers of a scope as (parent, attribute name, layer); scopes as in :class:`NormalizedBN`."""
    if scope == 'all':
        for parent in backbone.modules():
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    yield parent, name, child
        return
    for block in backbone.last_stage.children():  # type: ignore[union-attr]
        closing = 'bn3' if hasattr(block, 'bn3') else 'bn2'
        yield block, closing, getattr(block, closing)
        shortcut = getattr(block, 'downsample', None)
        if isinstance(shortcut, nn.Module):
            for name, child in shortcut.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    yield shortcut, name, child


def _new_scalar() -> nn.Parameter:
    return nn.Parameter(torch.ones(()))


def _init_bias(bias: Tensor, how: str) -> None:
    with torch.no_grad():
        if how == 'ones':
            bias.fill_(1.0)
        elif how == 'normal':
            bias.normal_(0.0, 1 / math.sqrt(bias.numel()))

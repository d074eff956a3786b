"""Batch normalisation whose weight and bias are unit vectors times learnable scalars (NBN)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import UsageError, given, unknown
from ltbench.registry import MODELS
from ltbench.seeding import derive_seed

EPSILON = 1e-6  # added to the norm, as in the official code


class NormalizedBatchNorm2d(nn.BatchNorm2d):
    """``gamma = s_w * w / (|w| + 1e-6)`` and/or ``beta = s_b * b / (|b| + 1e-6)`` instead of ``w`` and ``b``.

    Args:
        bn: The layer that it replaces.
        weight_scalar: ``s_w``, possibly shared; None leaves the weight as it is.
        bias_scalar: ``s_b``, possibly shared; None leaves the bias as it is.
    """

    def __init__(
        self, bn: nn.BatchNorm2d, weight_scalar: nn.Parameter | None, bias_scalar: nn.Parameter | None
    ) -> None:
        super().__init__(bn.num_features, bn.eps, bn.momentum)
        self.load_state_dict(bn.state_dict(), strict=False)
        self.weight_scalar = weight_scalar
        self.bias_scalar = bias_scalar

    @property
    def scalars(self) -> list[nn.Parameter]:
        """The learned scalars."""
        return [scalar for scalar in (self.weight_scalar, self.bias_scalar) if scalar is not None]

    def followed(self) -> dict[str, list[nn.Parameter]]:
        """Report the scalars: their mean has a curve."""
        return {'bn_scale': self.scalars}

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
        momentum = self.momentum
        if self.training:
            batches = given(self.num_batches_tracked).add_(1)
            momentum = 1 / int(batches) if momentum is None else momentum  # the plain mean over batches, as in torch
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.gamma, self.beta, self.training, momentum or 0.0, self.eps
        )


def _normalized(vector: Tensor, scalar: Tensor | None) -> Tensor:
    return vector if scalar is None else scalar * vector / (vector.norm() + EPSILON)


@MODELS.register_module()
class NormalizedBN:
    """Re-parametrise a backbone's BN layers.

    Args:
        normalize: ``'weight'``, ``'bias'`` or ``'both'``.
        scope: ``'last_stage'``: the BN that ends each residual branch of the last stage, and the one on its projection
            shortcut; ``'whole_last_stage'``: every BN of the last stage; ``'all'``: every BN of the backbone.
        scalar: ``'network'``: one learnable scalar for all; ``'expert'``: one for the last stage of each expert;
            ``'layer'``: one per layer, shared by weight and bias; ``'each'``: one for each vector.
        bias_init: ``'zeros'`` as published. At zero the gradient of the normalised bias is a million times too large
            (1 / 1e-6): the first step moves the vector so far that its direction is frozen from then on. ``'ones'``
            and ``'normal'`` (standard deviation ``1 / sqrt(C)``) start with a direction that can be learned.
        seed: The run seed.

    Raises:
        UsageError: For another choice, or a scalar for each expert where there is one or in layers that experts share.
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        'normalize': ('weight', 'bias', 'both'),
        'scope': ('last_stage', 'whole_last_stage', 'all'),
        'scalar': ('network', 'layer', 'each', 'expert'),
        'bias_init': ('zeros', 'ones', 'normal'),
    }

    def __init__(
        self,
        normalize: str = 'both',
        scope: str = 'last_stage',
        scalar: str = 'network',
        bias_init: str = 'zeros',
        seed: int = 0,
    ) -> None:
        for name, value in {'normalize': normalize, 'scope': scope, 'scalar': scalar, 'bias_init': bias_init}.items():
            if value not in self.CHOICES[name]:
                raise unknown(f'{name} of NormalizedBN', value, self.CHOICES[name])
        if scalar == 'expert' and scope == 'all':
            raise UsageError(
                "scalar='expert' of NBN needs layers that only one expert has: the scope is 'last_stage' or "
                "'whole_last_stage', not 'all'"
            )
        self.normalize, self.scope, self.scalar, self.bias_init = normalize, scope, scalar, bias_init
        self.random = torch.Generator().manual_seed(derive_seed(seed, 0, 'normalization'))

    def __call__(self, backbone: nn.Module) -> None:
        """Replace the layers in place."""
        scalars: defaultdict[Any, nn.Parameter] = defaultdict(_new_scalar)
        stages: Any = backbone.last_stages if self.scalar == 'expert' else []
        if len(stages) == 1:
            raise UsageError("scalar='expert' needs several experts, and this network has one: use scalar='network'")
        if stages and getattr(backbone, 'branches', None) is not None:
            raise UsageError(
                "scalar='expert' needs experts with separate last stages, and these share all but the last block: "
                "use scalar='network'"
            )
        expert_of = {part: expert for expert, stage in enumerate(stages) for part in stage.modules()}
        for number, (parent, name, bn) in enumerate(list(batch_norms(backbone, self.scope))):
            of_layer = scalars[{'network': 0, 'expert': expert_of.get(bn)}.get(self.scalar, number)]
            of_bias = _new_scalar() if self.scalar == 'each' else of_layer
            layer = NormalizedBatchNorm2d(
                bn,
                of_layer if self.normalize in ('weight', 'both') else None,
                of_bias if self.normalize in ('bias', 'both') else None,
            )
            if layer.bias_scalar is not None:
                self._init_bias(layer.bias)
            setattr(parent, name, layer)

    def _init_bias(self, bias: Tensor) -> None:
        """Uses a separate generator, so that the choice changes no other initial weight."""
        with torch.no_grad():
            if self.bias_init == 'ones':
                bias.fill_(1.0)
            elif self.bias_init == 'normal' and bias.device.type != 'meta':
                bias.normal_(0.0, 1 / math.sqrt(bias.numel()), generator=self.random)


def batch_norms(backbone: nn.Module, scope: str) -> Iterator[tuple[nn.Module, str, nn.BatchNorm2d]]:
    """BN layers of a scope as (parent, attribute name, layer); scopes as in :class:`NormalizedBN`."""
    stages = [backbone] if scope == 'all' else backbone.last_stages
    if scope != 'last_stage':
        for parent in (part for stage in stages for part in stage.modules()):  # type: ignore[union-attr]
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    yield parent, name, child
        return
    for stage in stages:  # type: ignore[union-attr]
        for block in stage.children():
            closing = 'bn3' if hasattr(block, 'bn3') else 'bn2'
            yield block, closing, getattr(block, closing)
            shortcut = getattr(block, 'downsample', None)
            if isinstance(shortcut, nn.Module):
                for name, child in shortcut.named_children():
                    if isinstance(child, nn.BatchNorm2d):
                        yield shortcut, name, child


def _new_scalar() -> nn.Parameter:
    return nn.Parameter(torch.ones(()))


@MODELS.register_module()
class UniformBN:
    """Give BN layers the weight ``s / sqrt(C)`` in every channel, with one learned ``s`` for all, and no bias.

    What remains of NBN if its vectors cannot learn a direction.

    Args:
        scope: As for :class:`NormalizedBN`.
    """

    def __init__(self, scope: str = 'last_stage') -> None:
        self.scope = scope

    def __call__(self, backbone: nn.Module) -> None:
        """Replace the layers in place."""
        scalar = _new_scalar()
        for parent, name, bn in list(batch_norms(backbone, self.scope)):
            layer = NormalizedBatchNorm2d(bn, scalar, None)
            layer.weight.requires_grad_(False)
            layer.bias.requires_grad_(False)
            setattr(parent, name, layer)


@MODELS.register_module()
class NoAffineBN:
    """Remove weight and bias from BN layers: they only standardise.

    Args:
        scope: As for :class:`NormalizedBN`.
    """

    def __init__(self, scope: str = 'last_stage') -> None:
        self.scope = scope

    def __call__(self, backbone: nn.Module) -> None:
        """Replace the layers in place."""
        for parent, name, bn in list(batch_norms(backbone, self.scope)):
            setattr(parent, name, nn.BatchNorm2d(bn.num_features, bn.eps, bn.momentum, affine=False))


@MODELS.register_module()
class LogitBatchNorm(nn.BatchNorm1d):
    """Zero mean and unit variance for the logits of each class over a batch; separately for each expert.

    Bao et al., IEEE TIP 2024; yuxiangbao/NBN@7365e21, ``models/LRClassifier.py``, with and without ``notaffine``.

    Args:
        num_classes: C.
        experts: K.
        affine: Whether each class has a learned weight and bias.
    """

    def __init__(self, num_classes: int, experts: int = 1, affine: bool = False) -> None:
        super().__init__(experts * num_classes, affine=affine)

    def forward(self, logits: Tensor) -> Tensor:
        """Logits ``[B, C]`` (or ``[B, K, C]`` of K experts) -> the same shape."""
        return super().forward(logits.flatten(1)).view_as(logits)

"""Are the weights and biases of BN layers even? A question of "Normalizing Batch Normalization for Long-Tailed
Recognition" (Bao et al., IEEE TIP 2024).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from ltbench.probes.base import Probe, Seen, rounded, short
from ltbench.registry import PROBES


@PROBES.register_module(name='bn_vectors')
class BNVectors(Probe):
    """Effective weight and bias of BN layers: mean and deviation over the channels of each, all values of the last."""

    entry = 'bn'

    def measure(self, seen: Seen) -> dict[str, Any]:
        """See :func:`describe_bn`."""
        return describe_bn(seen.network.backbone)


def describe_bn(backbone: nn.Module) -> dict[str, Any]:
    """Effective weight and bias of BN layers.

    Returns:
        ``layers``: name, ``weight_mean``, ``weight_std``, ``bias_mean``, ``bias_std`` of each layer that has them;
        ``last``: ``name``, ``weight`` and ``bias`` of the last one. Empty if no layer has any.
    """
    layers, last = [], {}
    for name, module in backbone.named_modules():
        if not isinstance(module, nn.BatchNorm2d) or module.weight is None:
            continue
        weight, bias = (_numbers(vector) for vector in effective(module))
        layers.append({'name': name, **_moments('weight', weight), **_moments('bias', bias)})
        last = {'name': name, 'weight': rounded(weight), 'bias': rounded(bias)}
    return {'layers': layers, 'last': last} if layers else {}


def effective(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The weight and bias ``[C]`` that a layer multiplies and adds, whatever their parametrisation."""
    return getattr(bn, 'gamma', bn.weight), getattr(bn, 'beta', bn.bias)


def _numbers(vector: Tensor) -> np.ndarray:
    return vector.detach().double().cpu().numpy()


def _moments(name: str, values: np.ndarray) -> dict[str, float]:
    return {f'{name}_mean': short(values.mean()), f'{name}_std': short(values.std())}

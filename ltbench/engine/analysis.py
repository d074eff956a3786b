"""What a trained network looks like inside: its BN vectors, and how strong its channels are for rare classes.

The questions of "Normalizing Batch Normalization for Long-Tailed Recognition" (Bao et al., IEEE TIP 2024): are the
weights and biases of BN even, and are channels that serve rare classes as strong as those that serve frequent ones? The
paper does not say how it assigns channels, so the definition here is our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltbench.errors import UsageError
from ltbench.evaluation.metrics import group_members
from ltbench.models.classifier import LongTailClassifier
from ltbench.models.heads import linear_weight

DIGITS = 5  # significant ones that are kept


def describe_bn(backbone: nn.Module) -> dict[str, Any]:
    """Effective weight and bias of BN layers: mean and deviation over the channels of each, all values of the last.

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
        last = {'name': name, 'weight': _rounded(weight), 'bias': _rounded(bias)}
    return {'layers': layers, 'last': last} if layers else {}


def effective(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The weight and bias ``[C]`` that a layer multiplies and adds, however they are parametrised."""
    return getattr(bn, 'gamma', bn.weight), getattr(bn, 'beta', bn.bias)


class FeatureSums:
    """Sums over the test images of the features that the head sees, by class; filled while logits are computed.

    Args:
        labels: Of the images in the order in which they come, ``[N]``.
        num_classes: C.
    """

    def __init__(self, labels: np.ndarray, num_classes: int) -> None:
        self.labels, self.num_classes, self.seen = torch.from_numpy(labels), num_classes, 0
        self.sums: Tensor | None = None

    @contextmanager
    def watching(self, model: LongTailClassifier) -> Iterator[None]:
        """Add up what goes into the head meanwhile."""
        hook = model.head.register_forward_pre_hook(lambda _, inputs: self._add(inputs[0]))
        try:
            yield
        finally:
            hook.remove()

    def _add(self, features: Tensor) -> None:
        features = features.detach().double().cpu().flatten(1)
        if self.sums is None:
            self.sums = torch.zeros(3, self.num_classes, features.shape[1], dtype=torch.float64)
        labels = self.labels[self.seen : self.seen + len(features)]
        self.seen += len(features)
        for power in range(3):
            self.sums[power].index_add_(0, labels, features**power)


def channel_strength(sums: Tensor, weight: Tensor, class_counts: Sequence[int]) -> dict[str, Any]:
    """How strong the channels of frequent and of rare classes are on images of rare classes.

    A channel belongs to the group whose classes it speaks for more: the larger mean, over the classes of the group, of
    ``(m_ck - mean_c m_ck) * W_ck``, with ``m_ck`` the mean of channel k over the test images of class c. Frequent are
    the many-shot classes, rare the few-shot ones, or the medium ones where there are no others.

    Args:
        sums: Sums over test images by class of ``x ** 0``, ``x`` and ``x ** 2``, ``[3, C, F]``.
        weight: The classifier's, ``[C, F]``.
        class_counts: Training images a class.

    Returns:
        For ``frequent`` and ``rare`` the number of ``channels`` and ``mean`` and ``std`` of their activations on images
        of rare classes; ``rare_group``. Empty where two groups with test images do not exist.
    """
    images, first, second = (part.numpy() for part in sums)
    members = group_members(class_counts)
    rare_group = 'few' if len(members['few']) else 'medium'
    frequent, rare = ([c for c in members[group] if images[c, 0]] for group in ('many', rare_group))
    if not frequent or not rare:
        return {}
    seen = images[:, 0] > 0
    mean = first / np.maximum(images, 1)
    evidence = (mean - mean[seen].mean(axis=0)) * weight.detach().double().cpu().numpy()
    is_rare = evidence[rare].mean(axis=0) > evidence[frequent].mean(axis=0)
    result: dict[str, Any] = {'rare_group': rare_group}
    for name, channels in (('frequent', ~is_rare), ('rare', is_rare)):
        n = images[rare][:, channels].sum()
        average = first[rare][:, channels].sum() / n if n else 0.0
        variance = second[rare][:, channels].sum() / n - average**2 if n else 0.0
        spread = float(np.sqrt(max(variance, 0.0)))
        result[name] = {'channels': int(channels.sum()), 'mean': _short(average), 'std': _short(spread)}
    return result


def describe(model: LongTailClassifier, sums: FeatureSums, class_counts: Sequence[int]) -> dict[str, Any]:
    """All of it, as far as the network has it: ``bn`` and ``strength``."""
    analysis = {'bn': describe_bn(model.backbone)}
    try:
        weight = linear_weight(model.head)
    except UsageError:  # several experts
        return analysis
    if sums.sums is None or weight.shape != sums.sums.shape[1:]:
        return analysis
    return {**analysis, 'strength': channel_strength(sums.sums, weight, class_counts)}


def bn_scale(model: nn.Module) -> float | None:
    """Mean of the learned scalars that BN vectors are multiplied by; None where there are none."""
    modules = (module for name, module in model.named_modules() if not name.startswith('objective.'))  # no copies there
    scalars = {id(scalar): scalar for module in modules for scalar in getattr(module, 'scalars', ())}
    return float(torch.stack([scalar.detach() for scalar in scalars.values()]).mean()) if scalars else None


def _numbers(vector: Tensor) -> np.ndarray:
    return vector.detach().double().cpu().numpy()


def _moments(name: str, values: np.ndarray) -> dict[str, float]:
    return {f'{name}_mean': _short(values.mean()), f'{name}_std': _short(values.std())}


def _rounded(values: np.ndarray) -> list[float]:
    return [_short(value) for value in values]


def _short(value: float) -> float:
    return float(f'{value:.{DIGITS}g}')

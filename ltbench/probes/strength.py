"""Are channels that serve rare classes as strong as those that serve frequent ones?

A question of "Normalizing Batch Normalization for Long-Tailed Recognition" (Bao et al., IEEE TIP 2024). The paper does
not say how it assigns channels to classes, so the definition here is our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltbench.errors import UsageError
from ltbench.evaluation.metrics import group_members
from ltbench.models.heads import linear_weight
from ltbench.probes.base import Probe, Seen, short
from ltbench.registry import PROBES


@PROBES.register_module(name='channel_strength')
class ChannelStrength(Probe):
    """How strong the channels of frequent and of rare classes are on images of rare classes."""

    entry = 'strength'

    def measure(self, seen: Seen) -> dict[str, Any] | None:
        """See :func:`channel_strength`; None for a head without a weight of one number for each class and feature."""
        try:
            weight = linear_weight(seen.network.head)
        except UsageError:  # several experts
            return None
        if not seen.batches or weight.shape != (len(seen.class_counts), seen.batches[0].shape[1]):
            return None
        return channel_strength(class_sums(seen), weight, seen.class_counts)


def class_sums(seen: Seen) -> Tensor:
    """Sums over the test images, by class, of ``x ** 0``, ``x`` and ``x ** 2`` of the features, ``[3, C, F]``."""
    sums = torch.zeros(3, len(seen.class_counts), seen.batches[0].shape[1], dtype=torch.float64)
    for features, labels in zip(seen.batches, seen.labels.split([len(b) for b in seen.batches]), strict=True):
        for power in range(3):
            sums[power].index_add_(0, labels, features.double() ** power)
    return sums


def channel_strength(sums: Tensor, weight: Tensor, class_counts: Sequence[int]) -> dict[str, Any]:
    """How strong the channels of frequent and of rare classes are on images of rare classes.

    A channel belongs to the group whose classes it supports more, by the larger mean, over the classes of the group, of
    ``(m_ck - mean_c m_ck) * W_ck``, with ``m_ck`` the mean of channel k over the test images of class c. Frequent are
    the many-shot classes, rare the few-shot ones, or the medium ones if there are none.

    Args:
        sums: From :func:`class_sums`.
        weight: The classifier's weight, ``[C, F]``.
        class_counts: Training images per class.

    Returns:
        For ``frequent`` and ``rare`` the number of ``channels`` and ``mean`` and ``std`` of their activations on images
        of rare classes; ``rare_group``. Empty if there are no two groups with test images.
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
        result[name] = {'channels': int(channels.sum()), 'mean': short(average), 'std': short(spread)}
    return result

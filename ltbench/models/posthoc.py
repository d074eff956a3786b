"""Post-hoc steps: new logits from the outputs of a trained model, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ltbench.errors import UsageError


@dataclass(frozen=True)
class Outputs:
    """The outputs of a trained model on one split.

    Attributes:
        logits: ``[N, C]``, as its softmax sees them.
        labels: ``[N]``; None for images that results are reported on: no step may see their labels.
        features: Pooled features ``[N, F]``, for a step declared ``on='features'``.
        head: The trained head, likewise.
        train: Outputs on the training images, not augmented, likewise (without features or head of its own).
        experts: Logits of each expert ``[N, K, C]``, for a step declared with ``views``.
        views: Epoch -> batches ``[V, B, K, C]`` of the experts' logits on V augmented views of the same images, in
            another order each epoch, likewise.
    """

    logits: Tensor
    labels: Tensor | None
    features: Tensor | None = None
    head: nn.Module | None = None
    train: Outputs | None = None
    experts: Tensor | None = None
    views: Callable[[int], Iterable[Tensor]] | None = None


class PostHoc:
    """Base of all post-hoc steps.

    Attributes:
        measured: Values found by :meth:`logits`, for the ``analysis`` of the record; plain data.
    """

    measured: Mapping[str, Any] = {}

    def logits(self, outputs: Outputs) -> Tensor:
        """New logits ``[N, C]`` of one split."""
        raise NotImplementedError


def views_of(outputs: Outputs) -> tuple[Tensor, Callable[[int], Iterable[Tensor]]]:
    """The experts' logits ``[N, K, C]`` on the images, and on views of them.

    Raises:
        UsageError: If there are none, or the logits are of one network.
    """
    if outputs.experts is None or outputs.views is None:
        raise UsageError('this step needs views: declare it with plan.posthoc(views=[...], ...), and without choose')
    if outputs.experts.dim() != 3:
        raise UsageError('this step works on the logits of several experts, not on those of one network')
    return outputs.experts, outputs.views


def features_of(outputs: Outputs) -> Tensor:
    """The features ``[N, F]``.

    Raises:
        UsageError: If there are none, or they are of several experts.
    """
    if outputs.features is None:
        raise UsageError("this step needs features: declare it with plan.posthoc(on='features', ...)")
    if outputs.features.dim() != 2:
        raise UsageError('this step works on the features of one network, not on those of several experts')
    return outputs.features

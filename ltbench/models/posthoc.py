"""Post-hoc steps: from what a trained model puts out to other logits, without training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ltbench.errors import UsageError


@dataclass(frozen=True)
class Outputs:
    """What a trained model puts out on one split.

    Attributes:
        logits: ``[N, C]``, as its softmax sees them.
        labels: ``[N]``; None for images that are reported on, whose labels no step may see.
        features: Pooled features ``[N, F]``, for a step declared ``on='features'``.
        head: The trained head, likewise.
        train: Outputs on the training images, not augmented, likewise (without features or head of its own).
    """

    logits: Tensor
    labels: Tensor | None
    features: Tensor | None = None
    head: nn.Module | None = None
    train: Outputs | None = None


class PostHoc:
    """Base of all post-hoc steps."""

    def logits(self, outputs: Outputs) -> Tensor:
        """New logits ``[N, C]`` of one split."""
        raise NotImplementedError


def features_of(outputs: Outputs) -> Tensor:
    """The features ``[N, F]``.

    Raises:
        UsageError: If there are none, or those of several experts.
    """
    if outputs.features is None:
        raise UsageError("this step needs features: declare it with plan.posthoc(on='features', ...)")
    if outputs.features.dim() != 2:
        raise UsageError('this step works on the features of one network, not on those of several experts')
    return outputs.features

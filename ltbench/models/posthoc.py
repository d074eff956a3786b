"""Post-hoc steps: from what a trained model puts out to other logits, without training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """What a trained model puts out on one split.

    Attributes:
        logits: ``[N, C]``, as its softmax sees them.
        labels: ``[N]``.
    """

    logits: Tensor
    labels: Tensor


class PostHoc:
    """Base of all post-hoc steps."""

    def logits(self, outputs: Outputs) -> Tensor:
        """New logits ``[N, C]`` of one split."""
        raise NotImplementedError

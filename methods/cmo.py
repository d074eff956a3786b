"""Context-rich minority over-sampling (CMO)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ltbench.method import Method, Option, Plan
from ltbench.models.mixing import BatchMixing
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class PastePartners(BatchMixing):
    """CutMix with the images of a second stream: one box per batch is cut out of the partners and pasted.

    Args:
        class_counts: Training images per class.
        seed: The run seed; draws derive from (seed, epoch).
        epochs: Number of epochs of the whole training.
        alpha: Parameter of the Beta distribution of the share that is kept.
        probability: Share of batches that are mixed.
        first: Share of the epochs at the beginning without mixing.
        last: Share of the epochs at the end without mixing.
    """

    def __init__(
        self,
        class_counts: Sequence[int],
        seed: int,
        epochs: int,
        alpha: float = 1.0,
        probability: float = 0.5,
        first: float = 0.02,
        last: float = 0.015,
    ) -> None:
        self.probability, self.active = probability, range(round(first * epochs), epochs - round(last * epochs))
        super().__init__(class_counts, seed, alpha)

    def set_epoch(self, epoch: int) -> None:
        """Start the draws of an epoch (0-based)."""
        super().set_epoch(epoch)
        self.is_active = epoch in self.active

    def __call__(  # type: ignore[override]
        self, images: Tensor, labels: Tensor, partners: Tensor, partner_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mixed images ``[B, ...]``, the partners' labels ``[B]`` and the exact share of pixels kept ``[B]``."""
        if not self.is_active or self.random.random() >= self.probability:
            return images, partner_labels, torch.ones(labels.shape, device=labels.device)
        height, width = images.shape[-2:]
        side = math.sqrt(1 - self.random.beta(self.alpha, self.alpha))
        spans = []
        for length in (height, width):
            half, centre = int(length * side) // 2, int(self.random.integers(length))
            spans.append(slice(max(centre - half, 0), min(centre + half, length)))
        rows, columns = spans
        mixed = images.clone()
        mixed[..., rows, columns] = partners[..., rows, columns]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        return mixed, partner_labels, torch.full(labels.shape, 1 - pasted, device=labels.device)


@METHODS.register_module(name='cmo')
class ContextRichOversampling(Method):
    """Paste a patch of a rare class's image, from a balanced stream, on the image of a frequent class as background.

    Park et al., "The majority can help the minority: context-rich minority over-sampling for long-tailed
    classification", CVPR 2022, https://arxiv.org/abs/2112.00412; official code naver-ai/cmo@10d2d09.
    Differs: off in the first 2 % and last 1.5 % of the epochs (4 and 3 of 200, as in the code), so that short presets
    keep it. The published rows combine it with other losses: ``cmo+balanced_softmax``, ``cmo+ldam_drw``.
    """

    title = 'CMO'
    family = 'mixing'
    probability = Option(0.5, between=(0, 1), help='share of batches that are mixed')
    alpha = Option(1.0, between=(1e-3, 100), help='of the Beta distribution of the share that is kept')
    power = Option(1.0, between=(0, 10), help='images of the second stream are drawn with weight 1 / n_c ** power')

    def apply(self, plan: Plan) -> Plan:
        """Add the stream and mix with it."""
        return plan.replace(
            partner_sampler=dict(type='PowerBalanced', power=1 - self.power),
            mixing=dict(type='PastePartners', alpha=self.alpha, probability=self.probability),
        )

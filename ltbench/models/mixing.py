"""Mixing the images of a batch (mixup and its relatives)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ltbench.registry import MODELS
from ltbench.seeding import generator


@MODELS.register_module(name='Mixup')
class BatchMixing:
    """``x = lambda x_i + (1 - lambda) x_j`` with one lambda ~ Beta(alpha, alpha) per batch; labels likewise.

    Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018, https://arxiv.org/abs/1710.09412.

    Args:
        class_counts: Training images per class.
        seed: The run seed; draws derive from (seed, epoch).
        alpha: Parameter of the Beta distribution.
    """

    def __init__(self, class_counts: Sequence[int], seed: int, alpha: float = 1.0) -> None:
        self.class_counts = torch.as_tensor(class_counts, dtype=torch.float32)
        self.seed, self.alpha = seed, alpha
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Start the draws of an epoch (0-based)."""
        self.random = generator(self.seed, epoch, 'mixing')

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mixed images ``[B, ...]``, second labels ``[B]`` and the share of the first labels ``[B]``."""
        share = float(self.random.beta(self.alpha, self.alpha))
        partners = torch.from_numpy(self.random.permutation(len(labels))).to(labels.device)
        mixed = share * images + (1 - share) * images[partners]
        return mixed, labels[partners], self.label_share(labels, labels[partners], share)

    def label_share(self, labels: Tensor, others: Tensor, share: float) -> Tensor:
        """Share of the first label in each mixed image, ``[B]``; here that of its pixels."""
        return torch.full(labels.shape, share, device=labels.device)

"""The loss contract, cross-entropy, and class weights. Losses of single methods live beside those methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import DataError, UsageError, unknown
from ltbench.registry import MODELS

DIVIDE_BY = ('weights', 'batch')


class Loss(nn.Module):
    """Base of all losses: ``loss(logits [B, C], labels [B]) -> scalar``.

    A subclass defines the loss of one image (:meth:`per_sample`). The mean over the batch, class weights and mixed
    labels are handled here, so every loss can be re-weighted and mixed. Everything is computed in float32.

    Args:
        class_counts: Training images per class, ``[C]``.

    Raises:
        DataError: If a class has no training image.
    """

    corrects_prior: ClassVar[bool] = False
    """Whether it trains logits that do not include the class frequencies of the training images."""

    class_counts: Tensor
    class_weights: Tensor | None

    def __init__(self, class_counts: Sequence[int]) -> None:
        super().__init__()
        counts = positive_counts(class_counts, type(self).__name__).float()
        self.register_buffer('class_counts', counts, persistent=False)
        self.register_buffer('class_weights', None, persistent=False)
        self.divide_by = 'weights'

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Unweighted losses ``[B]`` of float32 logits ``[B, C]`` and labels ``[B]``."""
        raise NotImplementedError

    def reweight(self, class_weights: Tensor, divide_by: str = 'weights') -> None:
        """Weight the loss of each image by its class.

        Args:
            class_weights: ``[C]``.
            divide_by: What the weighted sum over a batch is divided by: ``'weights'``, the sum of the images' weights
                (a weighted mean, as torch's cross-entropy takes it); ``'batch'``, the number of images, so that a batch
                of frequent classes counts less.

        Raises:
            UsageError: For another number of weights, or another ``divide_by``.
        """
        if divide_by not in DIVIDE_BY:
            raise unknown('divide_by of class weights', divide_by, DIVIDE_BY)
        if tuple(class_weights.shape) != tuple(self.class_counts.shape):
            raise UsageError(f'{len(class_weights)} class weights for {len(self.class_counts)} classes')
        self.class_weights, self.divide_by = class_weights.to(self.class_counts), divide_by

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch, weighted by class where weights are set."""
        return self.mean(self.per_sample(logits.float(), labels), labels)

    def mixed(self, logits: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> Tensor:
        """Mean loss of images that carry two labels.

        Args:
            logits: ``[B, C]``.
            labels: First labels ``[B]``.
            others: Second labels ``[B]``.
            share: Share of the first label in each image, ``[B]``.
        """
        first = self.mean(share * self.per_sample(logits.float(), labels), labels)
        return first + self.mean((1 - share) * self.per_sample(logits.float(), others), others)

    def weight(self, labels: Tensor) -> Tensor:
        """What the sum over a batch is divided by: the number of images, or the sum of their class weights."""
        if self.class_weights is None or self.divide_by == 'batch':
            return torch.tensor(float(len(labels)), device=labels.device)
        return self.class_weights[labels].sum()

    def mean(self, losses: Tensor, labels: Tensor) -> Tensor:
        """Mean of the losses ``[B]`` of images, weighted by class where weights are set."""
        if losses.shape != labels.shape:
            name, shape = type(self).__name__, tuple(losses.shape)
            raise UsageError(
                f'per_sample of {name} returns {shape} for {len(labels)} labels; it must return one loss per image'
            )
        if self.class_weights is None:
            return losses.mean()
        return (self.class_weights[labels] * losses).sum() / self.weight(labels)


@MODELS.register_module()
class CrossEntropyLoss(Loss):
    """Softmax cross-entropy."""

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]``."""
        return functional.cross_entropy(logits, labels, reduction='none')


class AdjustedExpertsLoss(Loss):
    """For each expert softmax cross-entropy on its logits plus its own adjustment; summed over experts.

    Args:
        class_counts: Training images per class, ``[C]``.
        adjustment: ``[K, C]``; the mean over experts corrects for the class frequencies.
    """

    corrects_prior = True
    adjustment: Tensor

    def __init__(self, class_counts: Sequence[int], adjustment: Tensor) -> None:
        super().__init__(class_counts)
        self.register_buffer('adjustment', adjustment.to(self.class_counts), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]`` of the experts' logits ``[B, K, C]``."""
        log_p = functional.log_softmax(logits + self.adjustment, dim=2)
        return -log_p[torch.arange(len(labels), device=labels.device), :, labels].sum(dim=1)


def positive_counts(class_counts: Sequence[int], who: str = 'class weights') -> Tensor:
    """Training images per class, float64 ``[C]``.

    Raises:
        DataError: If a class has none.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if (counts <= 0).any():
        empty = (counts <= 0).nonzero().flatten().tolist()
        raise DataError(f'{who}: no training image in class {", ".join(map(str, empty))}')
    return counts


@MODELS.register_module(name='EffectiveNumber')
def effective_number_weights(class_counts: Sequence[int], beta: float = 0.9999) -> Tensor:
    """Class weights ``[C]`` proportional to ``(1 - beta) / (1 - beta ** n_c)``, scaled to sum to C.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019, https://arxiv.org/abs/1901.05555.
    ``beta = 0`` gives ones; ``beta -> 1`` gives weights proportional to ``1 / n_c``.
    """
    counts = positive_counts(class_counts)
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * len(weights) / weights.sum()).float()

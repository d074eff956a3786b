"""Sharpness-aware minimisation (SAM)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ltbench.errors import UsageError, given
from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.models.objective import Batch, Update, still_statistics, way_back
from ltbench.registry import METHODS, MODELS

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper


@MODELS.register_module()
class SharpnessAware(Update):
    """Step by the gradient at the point, ``radius`` away, in the direction of the gradient of the loss.

    Args:
        class_counts: Training images per class, ``[C]``.
        radius: Radius of the ball that is searched, in the norm of all parameters together.
        eta: Only the losses of classes with fewer training images count there, with twice their weight in the batch
            mean; other classes use the gradient at the original point. None: all classes are treated alike.
    """

    def __init__(self, class_counts: Sequence[int], radius: float = 0.05, eta: float | None = None) -> None:
        self.radius = radius
        self.tail = None if eta is None else (torch.as_tensor(class_counts) < eta).float()

    def __call__(
        self, loss_of: Callable[[Batch], dict[str, Tensor]], batch: Batch, model: nn.Module, optimizer: OptimWrapper
    ) -> dict[str, Tensor]:
        """One step of two passes; statistics of BN move in the first."""
        back, plain = way_back(model), []
        here = loss_of(batch)
        if self.tail is not None:
            optimizer.backward(_of_classes(1 - self.tail, here, batch.labels, model), retain_graph=True)
            plain = [(part, part.grad) for part in model.parameters() if part.grad is not None]
            optimizer.zero_grad()
        optimizer.backward(self._sharp(here, batch.labels, model))
        moved = [(part, part.detach().clone(), part.grad) for part in model.parameters() if part.grad is not None]
        norm = torch.stack([gradient.norm() for _, _, gradient in moved]).norm() + 1e-12
        with torch.no_grad():
            for part, _, gradient in moved:
                part.add_(gradient * (self.radius / norm))
        optimizer.zero_grad()
        with still_statistics(model):
            back()
            optimizer.backward(self._sharp(loss_of(batch), batch.labels, model))
        with torch.no_grad():
            for part, was, _ in moved:
                part.copy_(was)
            for part, gradient in plain:
                given(part.grad).add_(gradient)
        optimizer.step()
        optimizer.zero_grad()
        return {name: here[name].detach() for name in ('loss', 'correct')}

    def _sharp(self, outputs: dict[str, Tensor], labels: Tensor, model: nn.Module) -> Tensor:
        return outputs['loss'] if self.tail is None else 2 * _of_classes(self.tail, outputs, labels, model)


def _of_classes(chosen: Tensor, outputs: dict[str, Tensor], labels: Tensor, model: nn.Module) -> Tensor:
    """The part of a batch's mean loss that belongs to the classes where ``chosen [C]`` is 1."""
    loss = model.loss
    if not isinstance(loss, Loss):
        raise UsageError(f'{type(loss).__name__} has no part of the tail; derive it from ltbench.models.losses.Loss')
    return loss.mean(chosen.to(labels.device)[labels] * loss.per_sample(outputs['logits'].float(), labels), labels)


@METHODS.register_module(name='sam')
class SharpnessAwareMinimisation(Method):
    """Look for flat minima: every step uses the gradient at the worst point nearby, at twice the cost.

    Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021,
    https://arxiv.org/abs/2010.01412; official code google-research/sam (JAX).
    With ``eta`` it is ImbSAM, only for the tail, whose losses count twice as in the code: Zhou et al., ICCV 2023,
    https://arxiv.org/abs/2308.07815; official code cool-xuan/Imbalanced_SAM@c65f41e (eta 20).
    Differs: the search excludes weight decay, as in ImbSAM's code (in the JAX code it is part of the loss); BN
    statistics change only in the first pass, as in the JAX code (in ImbSAM's in both). It combines with any method:
    ``sam+la_loss``; with ``eta``, only if the loss is of single images with one label.
    """

    title = 'SAM'
    family = 'optimisation'
    radius = Option(0.05, between=(0, 10), help='of the ball that is searched')
    eta = Option('all', between=(1, 1e6), words=('all',), help='only for classes with fewer training images (ImbSAM)')

    def apply(self, plan: Plan) -> Plan:
        """Set the update."""
        update = dict(type='SharpnessAware', radius=self.radius)
        if self.eta == 'all':
            return plan.replace(update=update)
        return plan.replace(update={**update, 'eta': self.eta}, objective=None, mixing=None)  # one loss an image

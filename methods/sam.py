"""Sharpness-aware minimisation (SAM)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ltbench.method import Method, Option, Plan
from ltbench.models.objective import Batch, Update, still_statistics
from ltbench.registry import METHODS, MODELS

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper


@MODELS.register_module()
class SharpnessAware(Update):
    """Step by the gradient at the place, ``radius`` away, to which the gradient of the loss points.

    Args:
        radius: Of the ball that is searched, in the norm of all parameters together.
    """

    def __init__(self, radius: float = 0.05) -> None:
        self.radius = radius

    def __call__(
        self, loss_of: Callable[[Batch], dict[str, Tensor]], batch: Batch, model: nn.Module, optimizer: OptimWrapper
    ) -> dict[str, Tensor]:
        """One step of two passes; statistics of BN move in the first."""
        here = loss_of(batch)
        optimizer.backward(here['loss'])
        moved = [(part, part.detach().clone(), part.grad) for part in model.parameters() if part.grad is not None]
        norm = torch.stack([gradient.norm() for _, _, gradient in moved]).norm() + 1e-12
        with torch.no_grad():
            for part, _, gradient in moved:
                part.add_(gradient * (self.radius / norm))
        optimizer.zero_grad()
        with still_statistics(model):
            optimizer.backward(loss_of(batch)['loss'])
        with torch.no_grad():
            for part, was, _ in moved:
                part.copy_(was)
        optimizer.step()
        optimizer.zero_grad()
        return {name: value.detach() for name, value in here.items()}


@METHODS.register_module(name='sam')
class SharpnessAwareMinimisation(Method):
    """Look for flat minima: every step uses the gradient of the worst place nearby, at twice the cost.

    Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021,
    https://arxiv.org/abs/2010.01412; official code google-research/sam (JAX).
    Differs: statistics of BN move once a step, in the first pass. It joins any method: ``sam+la_loss``.
    """

    radius = Option(0.05, between=(0, 10), help='of the ball that is searched')

    def apply(self, plan: Plan) -> Plan:
        """Take steps so."""
        return plan.replace(update=dict(type='SharpnessAware', radius=self.radius))

"""Parts of a training step: batches of views, objectives, steps of several passes, averages of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper


@dataclass(frozen=True)
class Batch:
    """The images of one training step.

    Attributes:
        views: Views of the images, each float ``[B, channels, H, W]``.
        labels: ``[B]``.
        partners: The same views of a second stream of images, one for each of the first; empty if there is none.
        partner_labels: Labels of these ``[B]``.
        second_labels: Where images are mixed, the labels of the second part ``[B]``.
        share: Share of the first label in each mixed image, ``[B]``.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    partners: tuple[Tensor, ...] = ()
    partner_labels: Tensor | None = None
    second_labels: Tensor | None = None
    share: Tensor | None = None

    @property
    def images(self) -> Tensor:
        """The first view."""
        return self.views[0]


class Objective(nn.Module):
    """Base of all objectives: from the network and a batch of views to a loss and the logits of the first view.

    It owns what training needs besides the network and the loss: projection heads, prototypes, queues, statistics of
    classes. The network's optimizer trains its parameters; its state is saved with that of training and dropped when
    training ends. Buffers must be written in place. The current loss is ``model.loss``.

    A constructor receives those arguments that it names of ``backbone``, ``in_features``, ``num_classes``,
    ``class_counts`` and ``epochs``.
    """

    views: ClassVar[int] = 1
    """Number of views of an image that it needs."""

    separable: ClassVar[bool] = False
    """Whether its loss is a mean over independent images, so that a batch can be divided among devices."""

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and logits ``[B, C]``, or ``[B, K, C]`` of K experts."""
        raise NotImplementedError

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Called when an epoch (0-based) of ``epochs`` begins."""


class Update:
    """Base of all training steps other than one forward and one backward pass.

    A constructor receives ``class_counts`` if it names it.
    """

    def __call__(
        self, loss_of: Callable[[Batch], dict[str, Tensor]], batch: Batch, model: nn.Module, optimizer: OptimWrapper
    ) -> dict[str, Tensor]:
        """Take one step.

        Args:
            loss_of: ``loss``, ``logits`` (both with their graph) and ``correct`` of a batch; may be called several
                times. Statistics of BN and of an objective should move only once per step: see
                :func:`still_statistics`; and all passes of a step should compute the same loss: see :func:`way_back`.
            batch: The images, after mixing if there is any.
            model: The network.
            optimizer: Over its parameters; ``backward``, ``step`` and ``zero_grad`` are called here.

        Returns:
            ``loss`` and ``correct``, detached.
        """
        raise NotImplementedError


def _state_of_objectives(model: nn.Module) -> list[Tensor]:
    """The state of objectives apart from trained parameters: statistics, queues, averages."""
    return [
        part
        for objective in model.modules()
        if isinstance(objective, Objective)
        for part in (*objective.buffers(), *(part for part in objective.parameters() if not part.requires_grad))
    ]


def way_back(model: nn.Module) -> Callable[[], None]:
    """A function that restores the start of a step: the present state of objectives, and of the random numbers."""
    state, random = _state_of_objectives(model), torch.get_rng_state()
    kept = [part.detach().clone() for part in state]

    def back() -> None:
        torch.set_rng_state(random)
        with torch.no_grad():
            for part, value in zip(state, kept, strict=True):
                part.copy_(value)

    return back


@contextmanager
def still_statistics(model: nn.Module) -> Iterator[None]:
    """While active, BN layers normalise by batch statistics and do not change their running ones; nor does an objective
    change its state apart from trained parameters (statistics, queues, averages)."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    moving = {id(buffer): buffer for layer in layers for buffer in layer.buffers(recurse=False)}
    moving |= {id(part): part for part in _state_of_objectives(model)}
    kept = [part.detach().clone() for part in moving.values()]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, value in zip(moving.values(), kept, strict=True):
                part.copy_(value)


class Teacher:
    """A trained network that only predicts; it is not part of the student's parameters or state.

    Args:
        network: Images -> logits.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits ``[B, C]`` of images as the student sees them."""
        return self.network(images)


class Average:
    """Base of running averages of a network's weights and statistics, used to predict instead of the last ones.

    The average does not change training, and is saved with its state.

    Args:
        epochs: Number of epochs of the whole training.
    """

    renews_statistics: ClassVar[bool] = False
    """Whether the BN statistics are recomputed, in a pass over the training images, before anything is scored;
    otherwise they are averaged like the weights."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.values: dict[str, Tensor] = {}
        self.count = 0

    def weight(self, count: int) -> float:
        """Share of the newest values in the average, after ``count`` earlier ones."""
        raise NotImplementedError

    def after_step(self, values: Sequence[tuple[str, Tensor]]) -> None:
        """Called after each step with the network's values."""

    def after_epoch(self, values: Sequence[tuple[str, Tensor]], epoch: int) -> None:
        """Called after each epoch (0-based) with the network's values."""

    @torch.no_grad()
    def add(self, values: Sequence[tuple[str, Tensor]]) -> None:
        """Add values to the average; integers are copied."""
        share = 1.0 if not self.count else self.weight(self.count)
        for name, value in values:
            if share == 1.0 or not value.is_floating_point():
                self.values[name] = value.detach().clone()
            else:
                self.values[name].lerp_(value.detach(), share)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """The state that :meth:`load_state_dict` continues from."""
        return {'values': self.values, 'count': self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of :meth:`state_dict`."""
        self.values, self.count = dict(state['values']), state['count']

"""What a training step is given and makes of it: batches of views, objectives, steps of several passes, averages."""

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
        views: Of each image, each float ``[B, channels, H, W]``.
        labels: ``[B]``.
        partners: The same views of a second stream of images, one for each of the first; empty if there is none.
        partner_labels: Labels of these ``[B]``.
        second_labels: Where images are mixed, the labels of their other parts ``[B]``.
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

    It owns what training needs beside the network and the loss: projection heads, prototypes, queues, statistics of
    classes. Its parameters are trained by the network's optimizer; its state is saved with that of training, and left
    behind when training ends. Buffers are written in place. The loss in force is ``model.loss``.

    A constructor receives what it names of ``backbone``, ``in_features``, ``num_classes``, ``class_counts`` and
    ``epochs``.
    """

    views: ClassVar[int] = 1
    """How many views of an image it needs."""

    separable: ClassVar[bool] = False
    """Whether its loss is a mean over images, each by itself, so that a batch can be divided among devices."""

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and logits ``[B, C]``, or ``[B, K, C]`` of K experts."""
        raise NotImplementedError

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """An epoch (0-based) of ``epochs`` begins."""


class Update:
    """Base of all ways to take a step other than one pass forward and back.

    A constructor receives ``class_counts`` if it names it.
    """

    def __call__(
        self, loss_of: Callable[[Batch], dict[str, Tensor]], batch: Batch, model: nn.Module, optimizer: OptimWrapper
    ) -> dict[str, Tensor]:
        """Take one step.

        Args:
            loss_of: ``loss``, ``logits`` (both with their graph) and ``correct`` of a batch; may be called several
                times. Statistics of BN and of an objective are to move once a step: see :func:`still_statistics`; and
                all passes of a step are to be of the same loss: see :func:`way_back`.
            batch: The images, mixed where they are.
            model: The network.
            optimizer: Over its parameters; ``backward``, ``step`` and ``zero_grad`` are called here.

        Returns:
            ``loss`` and ``correct``, detached.
        """
        raise NotImplementedError


def _state_of_objectives(model: nn.Module) -> list[Tensor]:
    """What objectives have beside trained parameters: statistics, queues, averages."""
    return [
        part
        for objective in model.modules()
        if isinstance(objective, Objective)
        for part in (*objective.buffers(), *(part for part in objective.parameters() if not part.requires_grad))
    ]


def way_back(model: nn.Module) -> Callable[[], None]:
    """A function that returns to where a step begins: to what objectives hold now, and to random numbers to come."""
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
    """While active, BN layers normalise by the statistics of the batch and do not move their running ones; nor does an
    objective move what it has beside trained parameters (statistics, queues, averages)."""
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
    """A trained network that only answers; it is no part of the student's parameters or state.

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
    """Base of running averages of a network's weights and statistics, which predict in the place of the last ones.

    The average is kept beside training, which it does not change, and saved with its state.

    Args:
        epochs: Of the whole training.
    """

    renews_statistics: ClassVar[bool] = False
    """Whether the statistics of BN are computed anew, in a pass over the training images, before anything is scored;
    else they are averaged like the weights."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.values: dict[str, Tensor] = {}
        self.count = 0

    def weight(self, count: int) -> float:
        """Share of the newest values in the average, once ``count`` have gone into it before."""
        raise NotImplementedError

    def after_step(self, values: Sequence[tuple[str, Tensor]]) -> None:
        """A step was taken; the network's values are these."""

    def after_epoch(self, values: Sequence[tuple[str, Tensor]], epoch: int) -> None:
        """An epoch (0-based) ended; the network's values are these."""

    @torch.no_grad()
    def add(self, values: Sequence[tuple[str, Tensor]]) -> None:
        """Take values into the average; integers are taken over."""
        share = 1.0 if not self.count else self.weight(self.count)
        for name, value in values:
            if share == 1.0 or not value.is_floating_point():
                self.values[name] = value.detach().clone()
            else:
                self.values[name].lerp_(value.detach(), share)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` goes on from."""
        return {'values': self.values, 'count': self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.values, self.count = dict(state['values']), state['count']

"""Experts: copies of the last stages of a backbone, from the stage at which they split; an objective for diversity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ltbench.errors import UsageError
from ltbench.models.objective import Batch, Objective
from ltbench.registry import MODELS

LAST_BLOCK = 'last_block'


def first_own_stage(
    name: str, experts: int, experts_from: int | str, expert_width: float, blocks: Sequence[int]
) -> int:
    """The first stage that each expert has for itself; one more than the last stage if that is only its last block.

    Args:
        name: Name of the backbone.
        experts: K.
        experts_from: A stage, where 0 is the stem; or ``'last_block'`` of the last stage.
        expert_width: Multiplies the channels of the experts' stages.
        blocks: Number of blocks of each stage after the stem.

    Raises:
        UsageError: If there is no expert, the stage does not exist, or a last block alone should have another width.
    """
    last = len(blocks)
    if experts < 1:
        raise UsageError(f'experts of {name} is 1 or larger, got {experts}')
    if experts_from == LAST_BLOCK:
        if expert_width != 1:
            raise UsageError(f'expert_width of {name} is 1 with experts_from={LAST_BLOCK!r}, got {expert_width}')
        return last + (blocks[-1] > 1 and experts > 1)
    if isinstance(experts_from, str) or not 0 <= experts_from <= last:
        raise UsageError(
            f'experts_from of {name} is a stage between 0 (the stem) and {last}, or {LAST_BLOCK!r}, got {experts_from}'
        )
    return experts_from


def copies(experts: int, apart: bool, make: Callable[[], nn.Module]) -> nn.Module:
    """A part of a backbone: one for all experts, or a list of one for each where there are several and they are
    ``apart``."""
    return nn.ModuleList(make() for _ in range(experts)) if apart and experts > 1 else make()


def run_parts(
    parts: Sequence[nn.Module | Callable[[Tensor], Tensor]], images: Tensor, only: int | None = None
) -> list[Tensor]:
    """Pass images through the parts of a backbone, one after the other: one result for each expert.

    Args:
        parts: As from :func:`copies`; functions that apply to every expert may be in between.
        images: ``[B, channels, H, W]``.
        only: The only expert to run; None runs all.
    """
    shared = list(takewhile(lambda part: not isinstance(part, nn.ModuleList), parts))
    own, x = parts[len(shared) :], images
    for part in shared:
        x = part(x)
    count = max((len(part) for part in own if isinstance(part, nn.ModuleList)), default=1)
    results = []
    # one expert after the other, so that its feature maps are not kept for the next
    for expert in range(count) if only is None else (only,):
        maps = x
        for part in own:
            maps = part[expert](maps) if isinstance(part, nn.ModuleList) else part(maps)
        results.append(maps)
    return results


@MODELS.register_module()
class DiverseExperts(Objective):
    """The current loss of each expert, and ``diversity * KL(mean || expert)``; summed over experts.

    Wang et al., ICLR 2021, https://arxiv.org/abs/2010.01809, with other losses than theirs.

    Args:
        diversity: Negative drives the experts apart.
    """

    separable = True

    def __init__(self, diversity: float = -0.2) -> None:
        super().__init__()
        self.diversity = diversity

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum, and logits ``[B, K, C]``."""
        logits = model.logits(batch.images)
        mean = functional.softmax(logits.detach().mean(dim=1).float(), dim=1)
        total = logits.new_zeros(())
        for expert in logits.unbind(dim=1):
            if batch.share is None:
                total = total + model.loss(expert, batch.labels)
            else:
                total = total + model.loss.mixed(expert, batch.labels, batch.second_labels, batch.share)
            log_probability = functional.log_softmax(expert.float(), dim=1)
            total = total + self.diversity * functional.kl_div(log_probability, mean, reduction='batchmean')
        return total, logits

"""Experts: copies of the last stages of a backbone, from a stage on at which they part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from torch import Tensor, nn

from ltbench.errors import UsageError


def check_experts(name: str, experts: int, experts_from: int, last: int) -> None:
    """Refuse what no backbone can have.

    Args:
        name: Of the backbone.
        experts: K.
        experts_from: The first stage that each expert has for itself; 0 is the stem.
        last: Number of the last stage.

    Raises:
        UsageError: If there is no expert, or none of the stages is its own.
    """
    if experts < 1:
        raise UsageError(f'experts of {name} is 1 or larger, got {experts}')
    if not 0 <= experts_from <= last:
        raise UsageError(f'experts_from of {name} is a stage between 0 (the stem) and {last}, got {experts_from}')


def copies(experts: int, apart: bool, make: Callable[[], nn.Module]) -> nn.Module:
    """A part of a backbone: one for all experts, or a list of one for each where there are several and they are
    ``apart``."""
    return nn.ModuleList(make() for _ in range(experts)) if apart and experts > 1 else make()


def run_parts(parts: Sequence[nn.Module | Callable[[Tensor], Tensor]], images: Tensor) -> list[Tensor]:
    """What the parts of a backbone, one after the other, make of images: one result for each expert.

    Args:
        parts: As :func:`copies` gives them; what is applied to each expert alike may stand between.
        images: ``[B, channels, H, W]``.
    """
    shared = list(takewhile(lambda part: not isinstance(part, nn.ModuleList), parts))
    own, x = parts[len(shared) :], images
    for part in shared:
        x = part(x)
    count = max((len(part) for part in own if isinstance(part, nn.ModuleList)), default=1)
    results = []
    for expert in range(count):  # one expert after the other, as its maps need not be kept for the next
        mine = x
        for part in own:
            mine = part[expert](mine) if isinstance(part, nn.ModuleList) else part(mine)
        results.append(mine)
    return results

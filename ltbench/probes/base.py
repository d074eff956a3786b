"""What a probe is, and what it is given to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ltbench.registry import PROBES

if TYPE_CHECKING:  # it brings mmengine's models along, which a file of a method need not wait for
    from ltbench.models.classifier import LongTailClassifier

DIGITS = 5  # significant ones that are kept


@dataclass(frozen=True)
class Seen:
    """A trained network, and what its head was given for the test images.

    Attributes:
        network: In evaluation mode; a probe changes nothing in it.
        batches: Features of the test images in their order, float ``[B, F]`` each, on the CPU.
        labels: Of the test images, ``[N]``.
        class_counts: Training images of each of the C classes.
    """

    network: LongTailClassifier
    batches: Sequence[Tensor]
    labels: Tensor
    class_counts: Sequence[int]

    @cached_property
    def features(self) -> Tensor:
        """``[N, F]``."""
        return torch.cat(list(self.batches))


class Probe:
    """Measures something inside a trained network: in plain numbers, which the record then holds.

    Write a class with :meth:`measure` in the file of your method, or in a plug-in, and give it a name::

        @PROBES.register_module(name='feature_range')
        class FeatureRange(Probe):
            def measure(self, seen):
                return {'largest': float(seen.features.max())}

    Runs ask for it by that name: a method with ``probes = ('feature_range',)`` in its class, a suite with
    ``probes = ['feature_range']`` in its file. It is no part of what a network is trained by, so to ask for one more
    trains nothing again. The numbers are in the record under ``analysis.NAME``.

    Attributes:
        entry: Name of the entry in a record's ``analysis``; '' is the probe's own. For what records held before probes
            had names.
    """

    entry: ClassVar[str] = ''

    def measure(self, seen: Seen) -> Any:
        """Numbers, texts, lists and dicts of them; None where this network has nothing of the kind."""
        raise NotImplementedError


def entry_of(name: str) -> str:
    """Where in a record's ``analysis`` the numbers of a registered probe are."""
    return PROBES.get(name).entry or name


def short(value: float) -> float:
    """A number with :data:`DIGITS` digits."""
    return float(f'{value:.{DIGITS}g}')


def rounded(values: np.ndarray) -> list[float]:
    """A list of such numbers."""
    return [short(value) for value in values]

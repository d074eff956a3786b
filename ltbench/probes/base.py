"""The base class of probes, and what a probe gets to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ltbench.registry import PROBES

if TYPE_CHECKING:  # imports mmengine's models, which a method file need not wait for
    from ltbench.models.classifier import LongTailClassifier

DIGITS = 5  # significant digits that are stored


@dataclass(frozen=True)
class Seen:
    """A trained network, and the inputs of its head for the test images.

    Attributes:
        network: In evaluation mode; a probe must not change it.
        batches: Features of the test images in their order, float ``[B, F]`` each, on the CPU.
        labels: Labels of the test images, ``[N]``.
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
    """Measures something inside a trained network, as plain numbers for the record.

    Write a class with :meth:`measure` in the file of your method, or in a plug-in, and give it a name::

        @PROBES.register_module(name='feature_range')
        class FeatureRange(Probe):
            def measure(self, seen):
                return {'largest': float(seen.features.max())}

    Runs request it by that name: a method with ``probes = ('feature_range',)`` in its class, a suite with
    ``probes = ['feature_range']`` in its file. A probe is not part of the training, so requesting one
    more trains nothing again. The numbers are in the record under ``analysis.NAME``.

    Attributes:
        entry: Name of the entry in a record's ``analysis``; '' is the probe's name. Only for entries that are older
            than probes.
    """

    entry: ClassVar[str] = ''

    def measure(self, seen: Seen) -> Any:
        """Numbers, texts, lists and dicts of them; None if it does not apply to this network."""
        raise NotImplementedError


def entry_of(name: str) -> str:
    """Name of the entry in a record's ``analysis`` that holds the numbers of a registered probe."""
    return PROBES.get(name).entry or name


def short(value: float) -> float:
    """A number with :data:`DIGITS` digits."""
    return float(f'{value:.{DIGITS}g}')


def rounded(values: np.ndarray) -> list[float]:
    """A list of such numbers."""
    return [short(value) for value in values]

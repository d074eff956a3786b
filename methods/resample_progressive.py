"""Progressively balanced re-sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ltbench.data.samplers import ClassProbability
from ltbench.method import Method, Plan
from ltbench.registry import METHODS, SAMPLERS


@SAMPLERS.register_module()
class ProgressivelyBalanced(ClassProbability):
    """Class probability ``(1 - l) * n_c / N + l / C`` with ``l = e / (T - 1)`` in epoch e (0-based) of T.

    Args:
        labels: Class of each training image, ``[N]``.
        epochs: T.
        seed: The run seed.
        length: Indices an epoch; None is N.
    """

    def __init__(
        self, labels: Sequence[int] | np.ndarray, epochs: int, seed: int = 0, length: int | None = None
    ) -> None:
        super().__init__(labels, seed, length)
        self.epochs = epochs

    def class_probability(self, counts: np.ndarray) -> np.ndarray:
        """From the instance-balanced to the class-balanced distribution."""
        balance = min(self.epoch / max(self.epochs - 1, 1), 1.0)
        present = counts > 0
        return (1 - balance) * counts / counts.sum() + balance * present / present.sum()


@METHODS.register_module(name='resample_progressive')
class ProgressiveResampling(Method):
    """Go from instance-balanced sampling in the first epoch to class-balanced sampling in the last.

    Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020 (section 3),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    Differs: nothing from the code, which reaches both ends (``l = (e - 1) / (T - 1)``, e from 1); the paper has t / T.
    """

    def apply(self, plan: Plan) -> Plan:
        """Replace the sampler."""
        return plan.replace(sampler=dict(type='ProgressivelyBalanced'))

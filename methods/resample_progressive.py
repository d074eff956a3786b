"""Progressively balanced re-sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ltbench.data.samplers import ClassProbability, endless
from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS, SAMPLERS
from ltbench.seeding import derive_seed, generator


@SAMPLERS.register_module()
class ProgressivelyBalanced(ClassProbability):
    """Class probability ``(1 - l) * n_c / N + l / C`` with ``l = e / (T - 1)`` in epoch e (0-based) of T.

    Args:
        labels: Class of each training image, ``[N]``.
        epochs: T.
        seed: The run seed.
        length: Indices an epoch; None is N.
        across_epochs: Draw images of a class without replacement until all are used; each epoch continues where the one
            before it ended. Otherwise draw independently, with replacement.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        epochs: int,
        seed: int = 0,
        length: int | None = None,
        across_epochs: bool = False,
    ) -> None:
        super().__init__(labels, seed, length)
        self.epochs, self.across_epochs = epochs, across_epochs
        self.drawn: list[np.ndarray] = []  # images of each class before each epoch

    def class_probability(self, counts: np.ndarray) -> np.ndarray:
        """From the instance-balanced to the class-balanced distribution."""
        balance = min(self.epoch / max(self.epochs - 1, 1), 1.0)
        present = counts > 0
        return (1 - balance) * counts / counts.sum() + balance * present / present.sum()

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """``length`` draws: a class by its probability, then one of its images."""
        if not self.across_epochs:
            return super().draw(random)
        chosen, before = self._classes(random), self._before(self.epoch)
        indices = np.empty(self.length, dtype=np.int64)
        for label in np.unique(chosen):
            mine, members = np.flatnonzero(chosen == label), np.flatnonzero(self.labels == label)
            seed = derive_seed(self.seed, int(label), 'order')
            indices[mine] = endless(members, int(before[label]), len(mine), seed)
        return indices

    def _classes(self, random: np.random.Generator) -> np.ndarray:
        counts = np.bincount(self.labels)
        return random.choice(len(counts), self.length, p=self.class_probability(counts))

    def _before(self, epoch: int) -> np.ndarray:
        """Number of images of each class drawn in earlier epochs."""
        classes = self.labels.max() + 1
        self.drawn = self.drawn or [np.zeros(classes, dtype=np.int64)]
        for earlier in range(len(self.drawn) - 1, epoch):
            self.epoch = earlier  # the probabilities are those of an epoch
            chosen = self._classes(generator(self.seed, earlier, 'order'))
            self.drawn.append(self.drawn[-1] + np.bincount(chosen, minlength=classes))
        self.epoch = epoch
        return self.drawn[epoch]


@METHODS.register_module(name='resample_progressive')
class ProgressiveResampling(Method):
    """Go from instance-balanced sampling in the first epoch to class-balanced sampling in the last.

    Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020 (section 3),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    As in the code, both ends are reached (``l = (e - 1) / (T - 1)``, e from 1); the paper has t / T.
    Differs: images are drawn with replacement; with ``across_epochs=True`` without, and each epoch continues where the
    one before it ended, as in the code's ``feat_shift.yaml``.
    """

    title = 'Progressive sampling'
    family = 're-sampling'
    across_epochs = Option(False, help='no image of a class a second time before all had their turn, across epochs')

    def apply(self, plan: Plan) -> Plan:
        """Replace the sampler."""
        across = {'across_epochs': True} if self.across_epochs else {}
        return plan.replace(sampler=dict(type='ProgressivelyBalanced', **across))

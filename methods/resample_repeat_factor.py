"""Repeat-factor re-sampling."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ltbench.data.samplers import EpochSampler, cycle
from ltbench.errors import MethodWarning
from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS, SAMPLERS


@SAMPLERS.register_module()
class RepeatFactor(EpochSampler):
    """Image factor ``r = max(1, sqrt(t / f_c))``: ``floor(r)`` copies, and one more with probability ``r - floor(r)``.

    Args:
        labels: Class of each training image, ``[N]``.
        threshold: t; classes with a share ``f_c`` of the images below it are repeated.
        seed: The run seed.
        length: Indices an epoch; None is N.
    """

    def __init__(
        self, labels: Sequence[int] | np.ndarray, threshold: float, seed: int = 0, length: int | None = None
    ) -> None:
        super().__init__(labels, seed, length)
        counts = np.bincount(self.labels)
        share = counts / counts.sum()
        self.class_factor = np.maximum(1.0, np.sqrt(threshold / np.where(counts > 0, share, 1.0)))
        if (self.class_factor == 1).all():
            warnings.warn(
                f'repeat-factor sampling changes nothing: no class has less than {threshold:g} of the images '
                f'(the rarest has {share[counts > 0].min():.2g})',
                MethodWarning,
                stacklevel=2,
            )

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Shuffles of the repeated images, cut to length."""
        factor = self.class_factor[self.labels]
        copies = np.floor(factor).astype(int) + (random.random(len(factor)) < factor % 1)
        return cycle(np.repeat(np.arange(len(factor)), copies), self.length, random)


@METHODS.register_module(name='resample_repeat_factor')
class RepeatFactorResampling(Method):
    """Repeat the images of classes that are rarer than a threshold.

    Gupta et al., "LVIS", CVPR 2019 (appendix), https://arxiv.org/abs/1908.03195; code facebookresearch/detectron2.
    Differs: an epoch keeps the length of the training set, so that the schedule has the same steps as every other
    method; in detectron2 it grows. LVIS' threshold 1e-3 changes nothing on ten classes; the default there is 1 / C.
    """

    title = 'Repeat-factor sampling'
    family = 're-sampling'
    threshold = Option(
        1e-3,
        between=(0, 1),
        on={'digits_lt': 0.1, 'fashion_mnist_lt': 0.1, 'cifar10_lt': 0.1, 'cifar100_lt': 0.01},
        help='share of the images below which a class is repeated',
    )

    def apply(self, plan: Plan) -> Plan:
        """Replace the sampler."""
        return plan.replace(sampler=dict(type='RepeatFactor', threshold=self.threshold))

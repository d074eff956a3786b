"""Every random draw derives from (run seed, epoch, purpose), so an interrupted run equals an uninterrupted one."""

from __future__ import annotations

import numpy as np

_PURPOSES = {
    'init': 0, 'order': 1, 'augmentation': 2, 'mixing': 3, 'global': 4, 'head': 5, 'normalization': 6, 'objective': 7,
    'partners': 8,
}  # fmt: skip


def derive_seed(seed: int, epoch: int, purpose: str) -> int:
    """A 63-bit seed for one purpose in one epoch.

    Args:
        seed: The run seed, 0 or larger.
        epoch: 0-based.
        purpose: ``'init'``, ``'order'``, ``'augmentation'``, ``'mixing'``, ``'global'``, ``'head'``,
            ``'normalization'``, ``'objective'`` or ``'partners'``.
    """
    words = np.random.SeedSequence([seed, epoch, _PURPOSES[purpose]]).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def generator(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """A numpy generator for one purpose in one epoch."""
    return np.random.default_rng(derive_seed(seed, epoch, purpose))

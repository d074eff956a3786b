"""How many images each class keeps, and which."""

from __future__ import annotations

import numpy as np

from ltbench.errors import UsageError


def class_counts(profile: str, n_max: int, imbalance_factor: float, num_classes: int) -> list[int]:
    """Training images a class, head first.

    Args:
        profile: ``'exp'``: ``int(n_max * IF ** (-i / (C - 1)))``, truncated as in Cui et al. (2019) and Cao et al.
            (2019); ``'step'``: the first half of the classes keeps ``n_max``, the rest ``int(n_max / IF)``.
        n_max: Images of the largest class.
        imbalance_factor: Largest over smallest class before truncation; 1 is balanced.
        num_classes: C.

    Raises:
        UsageError: If a class would be left empty, or an argument is out of range.
    """
    if imbalance_factor < 1:
        raise UsageError(f'imbalance_factor is at least 1, got {imbalance_factor}')
    if profile == 'exp':
        # (1 / IF) ** x, not IF ** -x: the published counts come from this form, and truncation sees the last bit
        counts = [int(n_max * (1 / imbalance_factor) ** (i / max(num_classes - 1, 1))) for i in range(num_classes)]
    elif profile == 'step':
        half = num_classes // 2
        counts = [n_max] * half + [int(n_max / imbalance_factor)] * (num_classes - half)
    else:
        raise UsageError(f"profile is 'exp' or 'step', got {profile!r}")
    if min(counts) < 1:
        raise UsageError(
            f'imbalance_factor {imbalance_factor:g} leaves the rarest class without images (n_max {n_max})'
        )
    return counts


def select(labels: np.ndarray, counts: list[int], split_seed: int = 0, skip: int = 0) -> np.ndarray:
    """Positions of the images that make the long tail, class by class in ascending label.

    One legacy ``RandomState`` shuffles the positions of each class in turn and the first of each are kept, as in Cao
    et al. (kaidic/LDAM-DRW@2536330); so subsets of different imbalance nest.

    Args:
        labels: ``[N]``.
        counts: Images to keep of each class.
        split_seed: Chooses the images; apart from the run seed.
        skip: Shuffled images of each class to pass over first (they form a held-out part).

    Raises:
        UsageError: If a class has too few images.
    """
    random = np.random.RandomState(split_seed)
    chosen = []
    for label, count in enumerate(counts):
        positions = np.flatnonzero(labels == label)
        random.shuffle(positions)
        if skip + count > len(positions):
            raise UsageError(f'class {label} has {len(positions)} images, {skip + count} are asked for')
        chosen.append(positions[skip : skip + count])
    return np.concatenate(chosen)

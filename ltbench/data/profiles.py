"""How many images each class keeps, and which ones."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from ltbench.errors import UsageError, unknown

LARGEST_FACTOR = 1e9
LARGEST_SEED = 2**32 - 1

Factor = Annotated[float, Meta(ge=1, le=LARGEST_FACTOR)]
"""Images of the largest over the smallest class."""
Count = Annotated[int, Meta(ge=1, le=10**9)]
Seed = Annotated[int, Meta(ge=0, le=LARGEST_SEED)]


def class_counts(profile: str, n_max: int, imbalance_factor: float, num_classes: int) -> list[int]:
    """Training images per class, head first.

    Args:
        profile: ``'exp'``: ``int(n_max * IF ** (-i / (C - 1)))``, truncated as in Cui et al. (2019) and Cao et al.
            (2019); ``'step'``: the first half of the classes keeps ``n_max``, the rest ``int(n_max / IF)``.
        n_max: Images of the largest class.
        imbalance_factor: Largest over smallest class before truncation; 1 is balanced.
        num_classes: C.

    Raises:
        UsageError: If a class would be left empty, or an argument is out of range.
    """
    check_profile(imbalance_factor, n_max)
    counts = _counts(profile, n_max, imbalance_factor, num_classes)
    if min(counts) < 1:
        raise UsageError(
            f'imbalance_factor {imbalance_factor:g} leaves the rarest class without images (n_max {n_max})'
        )
    return counts


def largest_fit(profile: str, imbalance_factor: float, sizes: Sequence[int]) -> int:
    """The largest ``n_max`` for which classes of these sizes (head first) have enough images; at least 1."""

    def too_many(n_max: int) -> bool:
        counts = _counts(profile, n_max, imbalance_factor, len(sizes))
        return any(count > size for count, size in zip(counts, sizes, strict=True))

    return max(bisect_left(range(1, max(sizes) + 1), True, key=too_many), 1)


def check_profile(imbalance_factor: float, n_max: int | None = None) -> None:
    """Check an imbalance factor and a number of images.

    Raises:
        UsageError: If one is invalid; the message says what to write.
    """
    if isinstance(imbalance_factor, bool) or not isinstance(imbalance_factor, int | float):
        raise UsageError(f'imbalance_factor is a number, 1 or larger, got {imbalance_factor!r}')
    if 0 < imbalance_factor < 1:
        meant = f'{1 / imbalance_factor:.4g}'
        raise UsageError(
            f'imbalance_factor is largest over smallest class, at least 1, got {imbalance_factor:g}: write {meant}'
        )
    if not imbalance_factor >= 1 or imbalance_factor == math.inf:  # also NaN
        raise UsageError(f'imbalance_factor is at least 1, got {imbalance_factor}')
    if imbalance_factor > LARGEST_FACTOR:
        raise UsageError(f'imbalance_factor is at most {LARGEST_FACTOR:g}')
    if n_max is not None:
        check_whole('n_max', n_max, least=1)


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Check that a value is a whole number within a range.

    Raises:
        UsageError: If it is not; the message names the argument.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least and (most is None or value <= most):
        return
    raise UsageError(f'{name} is a whole number, {least} {f"to {most}" if most else "or larger"}, got {value!r}')


def _counts(profile: str, n_max: int, imbalance_factor: float, num_classes: int) -> list[int]:
    if profile == 'exp':
        # (1 / IF) ** x, not IF ** -x: the published counts use this form, and truncation depends on the last bit
        return [int(n_max * (1 / imbalance_factor) ** (i / max(num_classes - 1, 1))) for i in range(num_classes)]
    if profile == 'step':
        half = num_classes // 2
        return [n_max] * half + [int(n_max / imbalance_factor)] * (num_classes - half)
    raise unknown('profile', str(profile), ('exp', 'step'))


def select(labels: np.ndarray, counts: list[int], split_seed: int = 0, skip: int | Sequence[int] = 0) -> np.ndarray:
    """Positions of the images that form the long tail, class by class in ascending label.

    One legacy ``RandomState`` shuffles the positions of one class after the other, and the first of each are kept, as
    in Cao et al. (kaidic/LDAM-DRW@2536330); so subsets of different imbalance are nested.

    Args:
        labels: ``[N]``.
        counts: Images to keep of each class.
        split_seed: Chooses the images; independent of the run seed.
        skip: Shuffled images of each class to skip first (they form a held-out part); one number, or one per class.

    Raises:
        UsageError: If a class has too few images.
    """
    check_whole('split_seed', split_seed, least=0, most=LARGEST_SEED)
    random = np.random.RandomState(split_seed)
    chosen = []
    skipped = [skip] * len(counts) if isinstance(skip, int) else skip
    for label, (count, passed) in enumerate(zip(counts, skipped, strict=True)):
        positions = np.flatnonzero(labels == label)
        random.shuffle(positions)
        if passed + count > len(positions):
            raise UsageError(f'class {label} has {len(positions)} images, but {passed + count} are needed')
        chosen.append(positions[passed : passed + count])
    return np.concatenate(chosen)

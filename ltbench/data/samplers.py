"""Samplers: which training images an epoch sees, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from ltbench.registry import SAMPLERS
from ltbench.seeding import derive_seed, generator


class EpochSampler(Sampler[int]):
    """Base of all samplers: the indices of one epoch, from (labels, seed, epoch) alone.

    Args:
        labels: Class of each training image, ``[N]``.
        seed: The run seed.
        length: Indices per epoch; None is N, so that every sampler takes the same number of steps.
    """

    def __init__(self, labels: Sequence[int] | np.ndarray, seed: int = 0, length: int | None = None) -> None:
        self.labels = np.asarray(labels)
        self.seed = seed
        self.length = len(self.labels) if length is None else length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0-based) that the next iteration draws."""
        self.epoch = epoch

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """The ``length`` indices of one epoch."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw(generator(self.seed, self.epoch, 'order')).tolist())

    def __len__(self) -> int:
        return self.length


class Paired(Sampler[tuple[int, int]]):
    """Two samplers in parallel: each image with a partner.

    Args:
        main: Sampler of the images; decides the length of an epoch.
        partners: Sampler of their partners, of the same length.
    """

    def __init__(self, main: EpochSampler, partners: EpochSampler) -> None:
        self.main, self.partners, self.seed = main, partners, main.seed

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration draws."""
        return self.main.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0-based)."""
        self.main.set_epoch(epoch)
        self.partners.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.main, self.partners, strict=True)

    def __len__(self) -> int:
        return len(self.main)


@SAMPLERS.register_module()
class InstanceBalanced(EpochSampler):
    """Every image once, shuffled (repeated or cut where ``length`` is not N)."""

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Permutations of all images, joined and cut to length."""
        return cycle(np.arange(len(self.labels)), self.length, random)


@SAMPLERS.register_module()
class ClassAware(EpochSampler):
    """Exactly class-balanced: classes take turns in shuffled order; no image repeats before all of its class are used.

    Kang et al. (ICLR 2020), ``ClassAwareSampler`` of facebookresearch/classifier-balancing@f162ade.

    Args:
        labels: Class of each training image, ``[N]``.
        seed: The run seed.
        length: Indices per epoch; None is N.
        images_per_turn: Consecutive images of a class at each of its turns.
        across_epochs: Each epoch continues where the one before it ended, in the order of the classes and of the images
            of each class, as in the official code; otherwise each epoch starts with new shuffles.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        seed: int = 0,
        length: int | None = None,
        images_per_turn: int = 4,
        across_epochs: bool = False,
    ) -> None:
        super().__init__(labels, seed, length)
        self.images_per_turn, self.across_epochs = images_per_turn, across_epochs
        self.members = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Turns of ``images_per_turn`` images each, cut to length."""
        turns, classes = -(-self.length // self.images_per_turn), np.arange(len(self.members))
        before = np.zeros(len(classes), dtype=np.int64)  # turns of each class in earlier epochs
        if self.across_epochs:
            first, seed = self.epoch * turns, derive_seed(self.seed, len(classes), 'order')
            rounds, begun = divmod(first, len(classes))
            before = rounds + np.bincount(endless(classes, first - begun, begun, seed), minlength=len(classes))
            order = endless(classes, first, turns, seed)
        else:
            order = cycle(classes, turns, random)
        indices = np.empty((turns, self.images_per_turn), dtype=np.int64)
        for label, members in enumerate(self.members):
            turns_of_class = np.flatnonzero(order == label)
            count = len(turns_of_class) * self.images_per_turn
            if self.across_epochs:
                start, seed = before[label] * self.images_per_turn, derive_seed(self.seed, label, 'order')
                images = endless(members, int(start), count, seed)
            else:
                images = cycle(members, count, random)
            indices[turns_of_class] = images.reshape(len(turns_of_class), self.images_per_turn)
        return indices.reshape(-1)[: self.length]


class ClassProbability(EpochSampler):
    """Base of samplers that draw independently: a class with a given probability, an image uniformly within it."""

    def class_probability(self, counts: np.ndarray) -> np.ndarray:
        """Probability of each class ``[C]`` from its number of images."""
        raise NotImplementedError

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """``length`` independent draws with replacement."""
        counts = np.bincount(self.labels)
        share = np.divide(self.class_probability(counts), counts, where=counts > 0, out=np.zeros(len(counts)))
        weights = share[self.labels]
        return random.choice(len(self.labels), self.length, p=weights / weights.sum())


@SAMPLERS.register_module()
class PowerBalanced(ClassProbability):
    """Class probability proportional to ``n_c ** power``: 1 is instance-balanced, 0 class-balanced, 1/2 square root.

    Args:
        labels: Class of each training image, ``[N]``.
        seed: The run seed.
        length: Indices per epoch; None is N.
        power: The exponent q.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        seed: int = 0,
        length: int | None = None,
        power: float = 0.5,
    ) -> None:
        super().__init__(labels, seed, length)
        self.power = power

    def class_probability(self, counts: np.ndarray) -> np.ndarray:
        """``n ** power / sum``, 0 for a class without images."""
        powers = np.power(counts, self.power, where=counts > 0, out=np.zeros(len(counts)))
        return powers / powers.sum()


def cycle(items: np.ndarray, length: int, random: np.random.Generator) -> np.ndarray:
    """Shuffles of ``items``, one after the other, cut to ``length``."""
    rounds = -(-length // len(items)) if length else 0
    return np.concatenate([random.permutation(items) for _ in range(rounds)] or [items[:0]])[:length]


def endless(items: np.ndarray, start: int, count: int, seed: int) -> np.ndarray:
    """``count`` items, starting at place ``start``, of an endless sequence of shuffles of ``items``.

    Each shuffle derives from (seed, its number), so that any part can be drawn without drawing those before it.
    """
    size = len(items)
    rounds = range(start // size, -(-(start + count) // size)) if count else range(0)
    drawn = np.concatenate([generator(seed, number, 'order').permutation(items) for number in rounds] or [items[:0]])
    return drawn[start % size :][:count]

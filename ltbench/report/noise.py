"""Which differences between methods are noise: a linear model of method and seed, and the tests that are based on it.

Pairs of runs say little: with three seeds a paired t-test has two degrees of freedom. Methods of a table vary similarly
between seeds, so all its runs together estimate this variation: ``score = method + seed + noise``. Runs of one network
share most of their noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.sparse.csgraph import connected_components
from scipy.special import digamma, gammaincinv, ndtr, polygamma
from scipy.stats import chi2, norm, t

ALPHA = 0.05
UNEQUAL = 0.1
"""Below this p of Bartlett's test, methods have separate variances: a lenient test, which finds more that are
unequal (Bancroft, Biometrics 1964), but not so lenient that tables of equal ones err more often than 1 in 20."""
ENOUGH = 8
"""Degrees of freedom with which methods that share networks are compared by these alone: their critical values are then
within 1.4 times those of many."""
TINY = 1e-9
MANY = 1e6  # degrees of freedom that are as good as infinitely many
EXACT = 10
"""Decimals of means and tails that are the same on every processor."""


@dataclass(frozen=True)
class Differences:
    """All methods of a table against one of them; of the reference itself the difference is 0.

    Attributes:
        points: Score minus the reference's, corrected for seeds that only one of them has: ``[methods]``.
        errors: Standard errors, points.
        freedom: Degrees of freedom; infinite where they come from test images.
        shared: The reference's part of each variance, 0 to 1; where methods vary differently, their mean.
    """

    points: np.ndarray
    errors: np.ndarray
    freedom: np.ndarray
    shared: np.ndarray


@dataclass(frozen=True)
class Noise:
    """The linear model of one score of a table's methods.

    Attributes:
        means: Scores of methods, adjusted for the seeds that they have: ``[methods]``.
        runs: Runs of each method.
        freedom: Degrees of freedom of ``variance``; 0 where no method has two networks.
        variance: Of a run, points squared, pooled over all methods; NaN without degrees of freedom.
        p_equal: p of Bartlett's test of equal variances; NaN where there are no two variances.
        variances: Of a run of each method: the pooled one, or a separate one where methods vary differently.
        freedoms: Degrees of freedom of these.
        influence: Of runs on ``means``: ``[methods, runs]``.
        network: Of each run, by number: ``[runs]``.
        families: For methods that share networks: their places and a model of them alone, with networks as seeds.
    """

    means: np.ndarray
    runs: np.ndarray
    freedom: float
    variance: float
    p_equal: float
    variances: np.ndarray
    freedoms: np.ndarray
    influence: np.ndarray
    network: np.ndarray
    families: tuple[tuple[np.ndarray, Noise], ...] = ()

    @property
    def pooled(self) -> bool:
        """Whether all methods have one variance."""
        return not self.p_equal < UNEQUAL

    def against(self, reference: int, of_images: np.ndarray | float = 0.0) -> Differences:
        """Differences to one method.

        Args:
            reference: Its place.
            of_images: Variance over test images of each difference, points squared, to be added; ``[methods]``.
        """
        points = self.means - self.means[reference]
        images = of_images + np.zeros_like(points)
        if not self.freedom:
            whole = np.full(len(points), np.inf)
            return Differences(points, np.sqrt(images), whole, np.full(len(points), 0.5))
        of_methods = self.variances / self.runs
        of_reference = of_methods[reference]
        seeds = of_methods + of_reference + self.variance * self._beside(reference)
        freedom = np.full(len(points), self.freedom)
        if not self.pooled:  # Welch
            welch = (of_methods + of_reference) ** 2 / (
                of_methods**2 / self.freedoms + of_reference**2 / self.freedoms[reference]
            )
            freedom = np.minimum(welch, self.freedom)
        both, shared = seeds + images, of_reference / (of_methods + of_reference)
        shared = shared if self.pooled else np.full(len(points), np.delete(shared, reference).mean().round(2))
        found = Differences(points, np.sqrt(both), _with_images(freedom, images / seeds), shared)
        for places, model in self.families:
            if reference in places and model.freedom >= min(ENOUGH, self.freedom):
                alone = model.against(int(np.flatnonzero(places == reference)[0]), images[places])
                for name, values in vars(alone).items():
                    getattr(found, name)[places] = values
        return found

    def _beside(self, reference: int) -> np.ndarray:
        """The part of the variance of differences, in runs, that comes from missing seeds."""
        weights = self.influence - self.influence[reference]
        of_networks = (weights @ one_hot(self.network)) ** 2
        whole = np.maximum((weights**2).sum(axis=1), of_networks.sum(axis=1))
        return np.maximum(whole - 1 / self.runs - 1 / self.runs[reference], 0.0)


def fit(scores: np.ndarray, networks: np.ndarray | None = None, step: float = 0.0, blocks: bool = True) -> Noise:
    """Fit ``score = method + seed + noise`` by least squares.

    Runs of one network, such as second stages on that of ``erm``, vary together. So they count as one run with their
    mean variance wherever methods of different networks are compared. Methods of the same networks are compared by a
    model of these methods alone, whose blocks are the networks, if it has enough degrees of freedom.

    Seeds are no blocks where they do not connect all methods, or leave less than one degree of freedom.

    Where Bartlett's test finds variances unequal, each method has its own, shrunk towards the common one as far as they
    are alike (Smyth, SAGMB 2004: an inverse gamma prior by moments of log variances), but never below its own estimate.

    Args:
        scores: ``[methods, seeds]``, NaN where there is no run; each method has one at least.
        networks: What identifies the network of each run: ``[methods, seeds]``; None where each has its own.
        blocks: Whether seeds have effects; if not, their variation is noise, too.
        step: The smallest change of a score, that of one test image: no variance is below that of such rounding.
    """
    there = ~np.isnan(scores)
    method, seed = np.nonzero(there)
    labels = np.arange(len(method)) if networks is None else networks[there]
    network = np.unique(labels, return_inverse=True)[1]
    linked = one_hot(method).T @ one_hot(network)
    number, family = connected_components(linked @ linked.T, directed=False)
    families = []
    for places in (np.flatnonzero(family == one) for one in range(number)):
        of_family = np.isin(method, places)
        if len(places) > 1:
            blocked = np.searchsorted(places, method[of_family]), network[of_family]
            alone = _model(scores[there][of_family], *blocked, np.arange(of_family.sum()), step)
            families += [(places, alone)] if alone.freedom else []
    model = _model(scores[there], method, seed if blocks else np.zeros_like(seed), network, step)
    if blocks and model.freedom < 1:
        model = _model(scores[there], method, np.zeros_like(seed), network, step)
    return replace(model, families=tuple(families))


def _model(scores: np.ndarray, method: np.ndarray, seed: np.ndarray, network: np.ndarray, step: float) -> Noise:
    """One linear model; without freedom where seeds do not connect methods.

    Args:
        scores: ``[runs]``, as their ``method``, ``seed`` and ``network``, all by number from 0.
        step: As in :func:`fit`.
    """
    runs = np.bincount(method)
    of_network = one_hot(network)
    weights = (np.bincount(method, 1 / np.bincount(network)[network]) / runs)[method]
    seeds = one_hot(np.unique(seed, return_inverse=True)[1])
    design = np.hstack([one_hot(method), seeds])
    normal = design.T * weights @ design
    solved = np.linalg.pinv(normal, rcond=TINY, hermitian=True) @ (design.T * weights)
    influence = solved[: len(runs)] + solved[len(runs) :].mean(axis=0)
    average = np.bincount(method, scores) / runs
    left = scores - average[method]
    means = (average + influence @ left).round(EXACT)
    rest = (left - design @ (solved @ left)) ** 2
    expected = ((of_network - design @ (solved @ of_network)) ** 2).sum(axis=1)  # if runs of a network are one
    freedom = float((weights @ expected).round(EXACT))
    if not freedom or np.linalg.matrix_rank(normal, TINY, hermitian=True) < len(runs) + seeds.shape[1] - 1:
        nothing = np.full(len(runs), np.nan)
        return Noise(means, runs, 0.0, np.nan, np.nan, nothing, nothing, influence, network)
    least = step**2 / 12
    pooled = max(weights @ rest / freedom, least, TINY**2)
    squares, freedoms = np.bincount(method, rest), np.bincount(method, expected).round(EXACT)
    known = freedoms > 0
    own = np.maximum(squares[known] / freedoms[known], max(least, TINY * pooled))
    p_equal = _bartlett(own, freedoms[known])
    variances, known_by = np.full(len(squares), pooled), np.full(len(squares), freedom)
    if p_equal < UNEQUAL:
        prior, trust = _prior(own, freedoms[known])
        variances[:], known_by[:] = prior, min(trust, freedom)
        shrunk = own + (prior - own) / (1 + freedoms[known] / trust)
        variances[known] = np.maximum(own, shrunk)
        known_by[known] = np.minimum(trust + freedoms[known], freedom)
    return Noise(means, runs, freedom, float(pooled), p_equal, variances, known_by, influence, network)


def _with_images(freedom: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Degrees of freedom of a variance of seeds to which one of test images, ``ratio`` times as large, is added.

    The variance of images is known well, that of few seeds is not: each counts with its own quantile of t, so that an
    interval never gets narrower because images are added. By Satterthwaite's formula, which takes the ratio for known,
    it can.
    """
    squares = (t.ppf(1 - ALPHA / 2, freedom) ** 2 + norm.ppf(1 - ALPHA / 2) ** 2 * ratio) / (1 + ratio)
    return np.array([_freedom_of(*pair) for pair in zip(np.sqrt(squares).round(EXACT), freedom, strict=True)])


@lru_cache(maxsize=4096)
def _freedom_of(quantile: float, least: float) -> float:
    """Degrees of freedom of which the two-sided 5 % quantile of t is this one, ``least`` or more."""

    def excess(freedom: float) -> float:
        return t.ppf(1 - ALPHA / 2, freedom) - quantile

    if excess(least) <= 0:
        return least
    return brentq(excess, least, MANY) if excess(MANY) < 0 else np.inf


def one_hot(numbers: np.ndarray) -> np.ndarray:
    """``[numbers, highest + 1]``."""
    return np.eye(numbers.max() + 1)[numbers]


def _bartlett(variances: np.ndarray, freedoms: np.ndarray) -> float:
    """p of Bartlett's test, as scipy.stats.bartlett, of variances with any degrees of freedom."""
    if len(variances) < 2:
        return np.nan
    total = freedoms.sum()
    spread = total * np.log(freedoms @ variances / total) - freedoms @ np.log(variances)
    correction = 1 + ((1 / freedoms).sum() - 1 / total) / (3 * (len(variances) - 1))
    return float(chi2.sf(spread / correction, len(variances) - 1))


def _prior(variances: np.ndarray, freedoms: np.ndarray) -> tuple[float, float]:
    """What variances have in common, and the degrees of freedom that this is worth: Smyth (2004), equations 6 to 8."""
    logs = np.log(variances) - digamma(freedoms / 2) + np.log(freedoms / 2)
    excess = logs.var(ddof=1) - polygamma(1, freedoms / 2).mean()
    if excess <= polygamma(1, 5e5):
        return float(freedoms @ variances / freedoms.sum()), np.inf
    worth = 2 * brentq(lambda half: polygamma(1, half) - excess, 1e-6, 1e6)
    return float(np.exp(logs.mean() + digamma(worth / 2) - np.log(worth / 2))), worth


def dunnett(found: Differences, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """Simultaneous two-sided tests of all methods against one that was chosen beforehand (Dunnett, JASA 1955).

    Returns:
        p of each method, and the half width of its 95 % interval in points; NaN for the reference.
    """
    shared = np.delete(found.shared, reference).round(3).clip(0, 0.999)
    return _adjusted(found, reference, tuple(zip(*np.unique(shared, return_counts=True), strict=True)))


def tukey(found: Differences, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """The same against a method that was chosen by its score, as the best: among all pairs (Tukey, Kramer).

    The best of many equal methods is best by luck: of 32, Dunnett's test would call its lead significant in 36 of 100
    tables, this one in 5.
    """
    return _adjusted(found, reference, len(found.points))


Family = int | tuple[tuple[float, int], ...]
"""What is tested together: all pairs of so many methods, or differences to one method, by their shared variance."""


def _adjusted(found: Differences, reference: int, family: Family) -> tuple[np.ndarray, np.ndarray]:
    p, half = np.full(len(found.points), np.nan), np.full(len(found.points), np.nan)
    several = len(np.unique(np.delete(found.freedom, reference))) > 1
    for place in np.delete(np.arange(len(p)), reference):
        freedom, error = float(found.freedom[place]), found.errors[place]
        freedom = float(f'{freedom:.2g}') if several else freedom  # few distinct values are fast
        points = abs(found.points[place])
        # without any variation, such as images that are all right or all wrong, methods are equal or they are not
        p[place] = _tail(points / error, family, freedom) if error else float(points == 0)
        half[place] = _critical(family, freedom) * error
    return p, half


@lru_cache(maxsize=4096)
def _critical(family: Family, freedom: float) -> float:
    """What differences exceed, in standard errors, with probability 0.05."""
    high = 4.0
    while _tail(high, family, freedom) > ALPHA:
        high *= 4
    return brentq(lambda t: _tail(t, family, freedom) - ALPHA, high / 8, high, xtol=1e-4)


def _tail(t: float, family: Family, freedom: float) -> float:
    """Probability that the largest difference of a family of equal methods exceeds ``t`` standard errors.

    By Gauss-Legendre: over the estimated standard deviation, and over the reference's or the largest normal deviate. Of
    all pairs it is scipy.stats.studentized_range.sf(sqrt(2) * t, methods, freedom), which takes 40 times as long; of
    differences to one, scipy's way draws random numbers.
    """
    scale, weight = _scales(freedom)
    limit = t * scale[:, None]
    if isinstance(family, int):
        inside = family * (ndtr(NORMAL) - ndtr(NORMAL - np.sqrt(2) * limit)) ** (family - 1)
    else:
        inside = np.ones((len(scale), len(NORMAL)))
        for shared, number in family:
            own, shift = np.sqrt(1 - shared), np.sqrt(shared) * NORMAL
            inside *= (ndtr((limit + shift) / own) - ndtr((shift - limit) / own)) ** number
    return float(np.clip(1 - weight @ inside @ DENSITY, 0, 1).round(EXACT))


@lru_cache(maxsize=1024)
def _scales(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the estimated over the true standard deviation."""
    if np.isinf(freedom):
        return np.ones(1), np.ones(1)
    nodes, weights = np.polynomial.legendre.leggauss(48)
    return np.sqrt(gammaincinv(freedom / 2, (nodes + 1) / 2) * 2 / freedom), weights / 2


NORMAL, _WEIGHTS = (8 * values for values in np.polynomial.legendre.leggauss(96))
DENSITY = _WEIGHTS * np.exp(-(NORMAL**2) / 2) / np.sqrt(2 * np.pi)
"""The normal density at nodes from -8 to 8, times their weights."""

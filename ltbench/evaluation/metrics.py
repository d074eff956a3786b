"""Overall, per-class, many/medium/few and calibration metrics of one set of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltbench.record_schema import group_of

GROUPS = ('many', 'medium', 'few')
ECE_BINS = 15
TOP = 5
SHIFTS = (50, 25, 10, 5, 2)
"""Largest over smallest class of the long-tailed test sets of :func:`shifted_accuracy`."""
ROWS_AT_ONCE = 4096
ORDER = (
    'top1', 'macro', 'geometric_mean', 'balanced_error', 'nll', 'ece', 'worst_class', 'harmonic_mean', 'top5', 'auroc',
    *(f'{kind}{name}' for name in GROUPS for kind in ('', 'ece_')),
    'per_class', 'test_images', 'predicted', 'reliability', 'confusion', 'shifted',
)  # fmt: skip
"""Order of the metrics in a record."""


def group_members(class_counts: Sequence[int]) -> dict[str, np.ndarray]:
    """Classes of each group, by their training images, see :func:`ltbench.record_schema.group_of`."""
    groups = np.array([group_of(count) for count in class_counts])
    return {name: np.flatnonzero(groups == name) for name in GROUPS}


def evaluate(logits: ArrayLike, labels: ArrayLike, class_counts: Sequence[int]) -> dict[str, Any]:
    """All metrics of one run.

    Args:
        logits: ``[N, C]``, as the softmax sees them.
        labels: ``[N]``.
        class_counts: Training images per class, ``[C]``; they decide the groups.

    Returns:
        Accuracies and errors in percent. ``top1`` is over images; ``macro`` the mean and ``geometric_mean`` the
        geometric mean of class accuracies; ``many``, ``medium``, ``few`` the mean of their classes' accuracies;
        ``balanced_error`` is ``100 - macro``; ``nll`` in nats; ``ece`` in percent with 15 equal bins, also for the
        images of each group (``ece_many``, ...). A group without classes, or a class without test images, is None.
        ``reliability`` holds, for all images and those of each group, the bins' ``images``, mean ``confidence`` and
        ``accuracy``; ``confusion`` the percentage of each group's images that are predicted as classes of each group,
        and ``correct``, those predicted correctly; ``predicted`` the number of images predicted as each class.
        ``worst_class`` is the smallest and ``harmonic_mean`` the harmonic mean of class accuracies; ``top5`` counts an
        image as correct if its class is among the five largest logits (None for fewer than six classes); ``auroc`` is
        the probability, in percent, that a correct prediction has a larger confidence than a wrong one (None if all are
        correct, or all wrong); ``shifted`` is the result of :func:`shifted_accuracy`.

    Raises:
        ValueError: If the arguments do not fit together, or a logit is NaN or infinite.
    """
    logits, labels = _checked(logits, labels, class_counts)
    predictions = logits.argmax(axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    confidence = np.exp(log_probabilities.max(axis=1))
    correct = predictions == labels
    metrics = _of_predictions(predictions, labels, class_counts)
    members_of = group_members(class_counts)
    inside = {name: np.isin(labels, members) for name, members in members_of.items()}
    of_probabilities = {
        'nll': -log_probabilities[np.arange(len(labels)), labels].mean(),
        'ece': expected_calibration_error(confidence, correct),
        'top5': _top(logits, labels) if len(class_counts) > TOP else None,
        'auroc': _auroc(confidence, correct),
        **{f'ece_{name}': expected_calibration_error(confidence[rows], correct[rows]) for name, rows in inside.items()},
    }
    reliability = {'all': reliability_bins(confidence, correct)}
    reliability |= {name: reliability_bins(confidence[rows], correct[rows]) for name, rows in inside.items()}
    values = {
        **metrics, **{key: _plain(value) for key, value in of_probabilities.items()}, 'reliability': reliability,
        'shifted': shifted_accuracy(logits, labels, class_counts),
    }  # fmt: skip
    return {key: values[key] for key in ORDER}


def evaluate_predictions(predictions: ArrayLike, labels: ArrayLike, class_counts: Sequence[int]) -> dict[str, Any]:
    """Like :func:`evaluate`, from predicted classes alone: None for metrics that need probabilities.

    Args:
        predictions: ``[N]`` classes.
        labels: ``[N]``.
        class_counts: Training images per class, ``[C]``.

    Raises:
        ValueError: If the arguments do not fit together.
    """
    chosen = np.asarray(predictions)
    if chosen.ndim != 1 or chosen.dtype.kind not in 'iu':
        raise ValueError(f'predictions are whole numbers [N], got {chosen.dtype} {list(chosen.shape)}')
    truth = _checked_labels(labels, len(chosen), len(class_counts))
    if chosen.min() < 0 or chosen.max() >= len(class_counts):
        raise ValueError(f'predictions are 0 to {len(class_counts) - 1}, got {chosen.min()} to {chosen.max()}')
    metrics = _of_predictions(chosen.astype(np.int64), truth, class_counts)
    unknown = {**dict.fromkeys(ORDER), 'reliability': dict.fromkeys(('all', *GROUPS))}
    return {key: metrics.get(key, unknown[key]) for key in ORDER if key != 'shifted'}


def _of_predictions(
    predictions: NDArray[np.int64], labels: NDArray[np.int64], class_counts: Sequence[int]
) -> dict[str, Any]:
    """Metrics that need no probabilities."""
    correct = predictions == labels
    images = np.bincount(labels, minlength=len(class_counts))
    hits = np.bincount(labels[correct], minlength=len(class_counts))
    with np.errstate(invalid='ignore'):
        per_class = 100 * hits / images  # NaN for a class without test images
    seen = per_class[images > 0]
    metrics: dict[str, Any] = {
        'top1': 100 * correct.mean(),
        'macro': seen.mean(),
        'geometric_mean': 0.0 if (seen == 0).any() else np.exp(np.log(seen).mean()),
        'balanced_error': 100 - seen.mean(),
        'worst_class': seen.min(),
        'harmonic_mean': 0.0 if (seen == 0).any() else 1 / (1 / seen).mean(),
    }
    members_of = group_members(class_counts)
    confusion: dict[str, dict[str, float] | None] = {}
    for name, members in members_of.items():
        inside = np.isin(labels, members)
        metrics[name] = np.nanmean(per_class[members]) if inside.any() else None
        confusion[name] = _confusion(predictions[inside], correct[inside], members_of)
    return {key: _plain(value) for key, value in metrics.items()} | {
        'per_class': [_plain(value) for value in per_class],
        'test_images': images.tolist(),
        'predicted': np.bincount(predictions, minlength=len(class_counts)).tolist(),
        'confusion': confusion,
    }


def shifted_accuracy(
    logits: NDArray[np.float64], labels: NDArray[np.int64], class_counts: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Accuracy on test sets whose classes are not equally frequent, and what is gained by knowing their frequencies.

    Test-agnostic recognition: Hong et al. (LADE), CVPR 2021, https://arxiv.org/abs/2012.00321; Zhang et al. (SADE),
    NeurIPS 2022, https://arxiv.org/abs/2107.09249. These papers leave out test images to make a class rarer; here
    each class is weighted by its share, which is the mean over such choices. ``forward50`` is long-tailed like the
    training images, the largest class 50 times the smallest; ``uniform`` has all classes alike; in ``backward50`` the
    class with the fewest training images is the largest.

    Args:
        logits: ``[N, C]``.
        labels: ``[N]``; classes without an image are not counted.
        class_counts: ``[C]``; the order of the classes.

    Returns:
        For each test prior p three accuracies in percent: ``plain``; ``from_uniform``, of the logits plus log p, which
        is correct for a network whose softmax assumes equally frequent classes (balanced softmax, logit adjustment,
        cRT); ``from_training``, of these minus the log of the training prior, correct for one whose softmax has the
        frequencies of the training images (ERM; LADE's post-compensation).
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    ordered = np.sort(-counts)  # classes of equal size share the mean of their places
    place = (np.searchsorted(ordered, -counts, 'left') + np.searchsorted(ordered, -counts, 'right') - 1) / 2
    tail = place / max(len(counts) - 1, 1)  # 0 of the class with most training images, 1 of that with fewest
    priors = {f'forward{ratio}': ratio**-tail for ratio in SHIFTS} | {'uniform': np.ones(len(counts))}
    priors |= {f'backward{ratio}': ratio ** (tail - 1) for ratio in reversed(SHIFTS)}
    images = np.bincount(labels, minlength=len(counts))
    of_training = np.log(np.maximum(counts, 1) / counts.sum()) if counts.sum() else np.zeros(len(counts))
    accuracy: dict[str, dict[str, float]] = {}
    plain = _class_hits(logits, labels, 0.0)
    for name, prior in priors.items():
        share = np.where(images > 0, prior, 0.0)
        weight = share / share.sum() / np.maximum(images, 1)
        hits = {
            'plain': plain,
            'from_uniform': _class_hits(logits, labels, np.log(prior)),
            'from_training': _class_hits(logits, labels, np.log(prior) - of_training),
        }
        accuracy[name] = {kind: 100 * float((weight * of_kind).sum()) for kind, of_kind in hits.items()}
    return accuracy


def _class_hits(logits: np.ndarray, labels: np.ndarray, added: np.ndarray | float) -> np.ndarray:
    """Correctly classified images of each class, with ``added`` added to each row of logits."""
    right = [
        (logits[first : first + ROWS_AT_ONCE] + added).argmax(axis=1) == labels[first : first + ROWS_AT_ONCE]
        for first in range(0, len(labels), ROWS_AT_ONCE)
    ]
    return np.bincount(labels[np.concatenate(right)], minlength=logits.shape[1])


def _top(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percent of images with fewer than five classes before their own; for equal logits the first class comes first."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    before = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return 100 * float((before < TOP).mean())


def _auroc(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    """Mann-Whitney's U over the number of pairs, ties counting half."""
    right, wrong = np.sort(confidence[correct]), np.sort(confidence[~correct])
    if not len(right) or not len(wrong):
        return None
    below = np.searchsorted(wrong, right, 'left').astype(float)
    not_above = np.searchsorted(wrong, right, 'right')
    return 100 * float((below + not_above).mean() / 2 / len(wrong))


def _checked(
    logits: ArrayLike, labels: ArrayLike, class_counts: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits and labels as arrays that fit together."""
    scores = np.asarray(logits)
    if scores.ndim != 2 or scores.dtype.kind not in 'fiu':
        raise ValueError(f'logits are real numbers [N, C], got {scores.dtype} {list(scores.shape)}')
    if scores.shape[1] != len(class_counts):
        raise ValueError(f'{scores.shape[1]} columns of logits for {len(class_counts)} class counts')
    truth = _checked_labels(labels, len(scores), len(class_counts))
    if not np.isfinite(scores).all():
        raise ValueError('the logits are not all finite')
    return scores.astype(np.float64), truth


def _checked_labels(labels: ArrayLike, rows: int, classes: int) -> NDArray[np.int64]:
    truth = np.asarray(labels)
    if truth.ndim != 1:
        raise ValueError(f'labels are [N], got {list(truth.shape)}')
    if len(truth) != rows or rows == 0:
        raise ValueError(f'{rows} rows of logits for {len(truth)} labels')
    if truth.dtype.kind not in 'iu':
        raise ValueError(f'labels are whole numbers, got {truth.dtype}')
    if truth.min() < 0 or truth.max() >= classes:
        raise ValueError(f'labels are 0 to {classes - 1}, got {truth.min()} to {truth.max()}')
    return truth.astype(np.int64)


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> dict[str, list[Any]] | None:
    """Images, mean confidence and accuracy (in percent) of 15 equal-width bins of confidence; None without images."""
    if len(confidence) == 0:
        return None
    bins = _bins(confidence)
    images = np.bincount(bins, minlength=ECE_BINS)
    with np.errstate(invalid='ignore'):
        means = [
            100 * np.bincount(bins, weights=values, minlength=ECE_BINS) / images
            for values in (confidence, correct.astype(np.float64))
        ]
    rounded = [[None if np.isnan(value) else round(float(value), 4) for value in values] for values in means]
    return {'images': images.tolist(), 'confidence': rounded[0], 'accuracy': rounded[1]}


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)


def _confusion(
    predictions: np.ndarray, correct: np.ndarray, members_of: Mapping[str, np.ndarray]
) -> dict[str, float] | None:
    if len(predictions) == 0:
        return None
    shares = {name: 100 * float(np.isin(predictions, members).mean()) for name, members in members_of.items()}
    return {**shares, 'correct': 100 * float(correct.mean())}


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float | None:
    """Mean gap between confidence and accuracy over 15 equal-width bins, weighted by images, in percent.

    Guo et al., "On calibration of modern neural networks", ICML 2017. None without images.
    """
    if len(confidence) == 0:
        return None
    gaps = np.bincount(_bins(confidence), weights=confidence - correct, minlength=ECE_BINS)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def _plain(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def in_words(metrics: Mapping[str, Any], decimals: int = 1) -> str:
    """Top-1 and the accuracies of groups with classes: ``top-1 70.2 many 77.5 medium 40.9``."""
    shown = {'top-1': metrics['top1']} | {name: metrics[name] for name in GROUPS}
    # a half is rounded as in tables, where 40.849999999999994, the mean of 33.3 and 48.4, is 40.85
    return ' '.join(f'{name} {round(value, 9):.{decimals}f}' for name, value in shown.items() if value is not None)


def describe_groups(class_counts: Sequence[int]) -> Mapping[str, int]:
    """Number of classes in each group."""
    return {name: len(members) for name, members in group_members(class_counts).items()}

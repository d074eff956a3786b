"""The predicted class of each test image, stored beside the record: to pair runs and see mistakes without a store."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltbench.console import printable
from ltbench.errors import StoreError
from ltbench.record import predictions_path, read_record, write_record
from ltbench.sealed import contents_of, explained, write_atomically


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for all test images, in their order.

    Attributes:
        labels: int64 ``[N]``, the right classes.
        predicted: int64 ``[N]``, the predicted classes.
        p_right: float32 ``[N]``, probability of the right class, to the three digits of float16; None if only classes
            are known.
        p_predicted: Probability of the predicted class, likewise.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    p_right: NDArray[np.float32] | None = None
    p_predicted: NDArray[np.float32] | None = None

    @classmethod
    def of_logits(cls, logits: ArrayLike, labels: ArrayLike) -> Predictions:
        """From logits ``[N, C]``, as the softmax sees them, and labels ``[N]``."""
        scores, truth = np.asarray(logits), np.asarray(labels).astype(np.int64)
        rows, predicted = np.arange(len(truth)), scores.argmax(axis=1)
        shifted = scores.astype(np.promote_types(scores.dtype, np.float32)) - scores.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1)
        p_right, p_predicted = np.exp(shifted[rows, truth]) / total, 1 / total
        return cls(truth, predicted.astype(np.int64), _rounded(p_right), _rounded(p_predicted))

    @classmethod
    def of_classes(cls, predicted: ArrayLike, labels: ArrayLike) -> Predictions:
        """From predicted classes ``[N]`` alone."""
        return cls(np.asarray(labels).astype(np.int64), np.asarray(predicted).astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly, ``[N]``."""
        return self.predicted == self.labels


def write_with_predictions(path: Path, record: Mapping[str, Any], predictions: Predictions) -> None:
    """Write a record, see :func:`~ltbench.record.write_record`, with its predictions beside it.

    The record holds the sha256 of that file, and is sealed with it.
    """
    packed, target = _packed(predictions), predictions_path(path)
    with explained(f'predictions {target.name}', path.parent, 'LTBENCH_RESULTS'):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, packed)
    write_record(path, {**record, 'predictions': hashlib.sha256(packed).hexdigest()})


def predictions_of(path: Path, record: Mapping[str, Any] | None = None) -> Predictions | None:
    """The predictions stored with a record; None if there are none, as for older records.

    Args:
        path: The record's file.
        record: Its contents, if they were read already.

    Raises:
        StoreError: If the record is not valid, or its predictions are missing, truncated, changed or from another
            record; the message names the file.
    """
    record = read_record(path) if record is None else record
    if 'predictions' not in record:
        return None
    file = predictions_path(path)
    mend = '`ltbench eval --all` rebuilds it if the logits are stored'
    try:
        packed = contents_of(file)
    except FileNotFoundError as error:
        raise StoreError(f'{printable(file)} of {path.name} is missing; {mend}') from error
    except (OSError, ValueError) as error:
        raise StoreError(f'{printable(file)} cannot be read: {printable(str(error))}') from error
    if hashlib.sha256(packed).hexdigest() != record['predictions']:
        raise StoreError(
            f'{printable(file)} does not match {path.name}: it was truncated or changed, or belongs to another '
            f'record; {mend}'
        )
    try:
        found = _unpacked(packed)
        counts = [
            np.bincount(classes, minlength=len(record['class_counts'])) for classes in (found.labels, found.predicted)
        ]
        fits = [of.tolist() for of in counts] == [record['metrics'][name] for name in ('test_images', 'predicted')]
    except (BadZipFile, KeyError, ValueError, IndexError, OSError) as error:  # sealed, but written by other code
        raise StoreError(f'{printable(file)} holds no predictions: {printable(str(error))}') from error
    if not fits:
        raise StoreError(f'{printable(file)} does not have the images that {path.name} counts')
    return found


def _packed(predictions: Predictions) -> bytes:
    """A compressed npz. Label and probability of the right class are stored for mistakes only."""
    wrong = ~predictions.right
    classes = np.min_scalar_type(int(max(predictions.labels.max(), predictions.predicted.max())))
    arrays: dict[str, Any] = {
        'predicted': predictions.predicted.astype(classes),
        'wrong': np.packbits(wrong),
        'labels_of_wrong': predictions.labels[wrong].astype(classes),
    }
    if predictions.p_right is not None and predictions.p_predicted is not None:
        arrays['p_predicted'] = predictions.p_predicted.astype(np.float16)
        arrays['p_right_of_wrong'] = predictions.p_right[wrong].astype(np.float16)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _unpacked(packed: bytes) -> Predictions:
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    predicted = arrays['predicted'].astype(np.int64)
    wrong = np.unpackbits(arrays['wrong'], count=len(predicted)).astype(bool)
    labels = predicted.copy()
    labels[wrong] = arrays['labels_of_wrong']
    if 'p_predicted' not in arrays:
        return Predictions(labels, predicted)
    p_predicted = arrays['p_predicted'].astype(np.float32)
    p_right = p_predicted.copy()
    p_right[wrong] = arrays['p_right_of_wrong']
    return Predictions(labels, predicted, p_right, p_predicted)


def _rounded(values: np.ndarray) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)

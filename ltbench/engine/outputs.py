"""The outputs of a trained model on a split: computed in large batches, stored as logits and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltbench.data.base import FileSplit, LongTailData, Split
from ltbench.data.batches import BatchPreprocessor, sequential_batches
from ltbench.errors import UsageError
from ltbench.models.posthoc import Outputs

BATCH_SIZE = 500
LARGE_BATCH_SIZE = 64


def evaluated_splits(data: LongTailData) -> dict[str, Split | FileSplit]:
    """The test part and, where there is one, the validation part, by the names of their files."""
    return {'test': data.test} | ({'validation': data.validation} if data.validation is not None else {})


@torch.inference_mode()
def predict(
    model: nn.Module,
    preprocess: BatchPreprocessor,
    split: Split | FileSplit,
    augmentation: Mapping[str, Any],
    workers: int = 0,
) -> Tensor:
    """``model(images)`` in evaluation mode over a whole split, float32 on the CPU, in the split's order."""
    model.eval()
    batch_size = BATCH_SIZE if isinstance(split, Split) else LARGE_BATCH_SIZE
    batches = sequential_batches(split, batch_size, augmentation, workers)
    return torch.cat([model(preprocess(batch, training=False)['images']).float().cpu() for batch in batches])


def save_outputs(path: Path, logits: Tensor, split: Split | FileSplit, num_classes: int) -> None:
    """Write logits and labels of a split to an ``.npz`` file that numpy alone can read.

    Args:
        path: The file.
        logits: ``[N, C]``, of the images in the split's order.
        split: Has the labels, which no method can change.
        num_classes: C.

    Raises:
        UsageError: If the logits are not real numbers of that shape.
        NonFiniteError: If one is NaN or infinite.
    """
    check_logits(logits, len(split), num_classes)
    np.savez(path, logits=logits.detach().cpu().numpy(), labels=split.labels)


def check_logits(logits: Any, images: int, num_classes: int) -> None:
    """Check that a network or step returned one finite number for each image and class.

    Raises:
        UsageError: If the logits are not real numbers of that shape.
        NonFiniteError: If one is NaN or infinite.
    """
    if not isinstance(logits, Tensor):
        raise UsageError(f'the logits are a {type(logits).__name__}; expected a tensor [{images}, {num_classes}]')
    shape = list(logits.shape)
    if shape != [images, num_classes]:
        raise UsageError(f'the logits have the shape {shape}, for {images} images and {num_classes} classes')
    if not logits.is_floating_point():
        raise UsageError(f'the logits are {str(logits.dtype).removeprefix("torch.")}; real numbers are needed')
    if not torch.isfinite(logits).all():
        raise NonFiniteError('the logits are not all finite')


def save_tensors(path: Path, contents: Any) -> None:
    """``torch.save`` that raises the operating system's error; torch alone would report file positions instead."""
    try:
        with path.open('wb') as file:
            torch.save(contents, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_outputs(path: Path) -> Outputs:
    """Read what :func:`save_outputs` wrote."""
    with np.load(path) as file:
        return Outputs(torch.from_numpy(file['logits']), torch.from_numpy(file['labels']))


class NonFiniteError(ArithmeticError):
    """A loss or logit became NaN or infinite."""

"""What a trained model puts out on a split: computed in large batches, stored as logits and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ltbench.data.base import LongTailData, Split
from ltbench.data.batches import BatchPreprocessor, sequential_batches
from ltbench.models.posthoc import Outputs

BATCH_SIZE = 500


def evaluated_splits(data: LongTailData) -> dict[str, Split]:
    """The test part and, where there is one, the validation part, by the names of their files."""
    return {'test': data.test} | ({'validation': data.validation} if data.validation is not None else {})


@torch.inference_mode()
def predict(model: nn.Module, preprocess: BatchPreprocessor, split: Split) -> Tensor:
    """``model(images)`` in evaluation mode over a whole split, float32 on the CPU, in the split's order."""
    model.eval()
    rows = [model(preprocess(batch, training=False)['images']) for batch in sequential_batches(split, BATCH_SIZE)]
    return torch.cat(rows).float().cpu()


def save_outputs(path: Path, logits: Tensor, labels: Tensor | np.ndarray) -> None:
    """Write logits and labels of a split to an ``.npz`` file that numpy alone can read.

    Raises:
        NonFiniteError: If a logit is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise NonFiniteError('the logits are not all finite')
    np.savez(path, logits=logits.numpy(), labels=np.asarray(labels))


def load_outputs(path: Path) -> Outputs:
    """Read what :func:`save_outputs` wrote."""
    with np.load(path) as file:
        return Outputs(torch.from_numpy(file['logits']), torch.from_numpy(file['labels']))


class NonFiniteError(ArithmeticError):
    """A loss or logit became NaN or infinite."""

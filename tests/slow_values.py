"""What slow computations of formulas share: drawn values, softmax, and how ours are compared with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ltbench.models.losses import Loss
from ltbench.registry import MODELS, build

COUNTS = {3: [20, 6, 1], 4: [50, 12, 4, 3], 6: [90, 40, 20, 9, 4, 2]}
"""Classes -> training images of each."""


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def must_agree(ours: Callable[[Tensor], Tensor], slow: Callable[[np.ndarray], float], at: np.ndarray) -> None:
    """Value, and gradient by central differences of the slow function."""
    place = torch.tensor(at, requires_grad=True)
    value = ours(place)
    assert value.item() == pytest.approx(slow(at), rel=1e-9)
    (gradient,) = torch.autograd.grad(value, place)
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-5
        change = (slow(at + step) - slow(at - step)) / 2e-5
        assert gradient[index].item() == pytest.approx(change, rel=1e-4, abs=1e-7), index


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def loss_of(name: str, counts: list[int], **arguments: Any) -> Loss:
    return build(MODELS, dict(type=name, **arguments), class_counts=counts).double()

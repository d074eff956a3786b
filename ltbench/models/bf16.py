"""A backbone that computes in bfloat16, on any processor at a fair speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def has_bf16(device_type: str) -> bool:
    """Whether products of bfloat16 numbers are not emulated: instructions of the CPU; any GPU counts as having them."""
    return device_type != 'cpu' or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def compute_in_bf16(backbone: nn.Module) -> None:
    """Let a backbone compute under autocast to bfloat16, and give its features in float32.

    A CPU without bfloat16 instructions computes convolutions as :class:`RoundedConvolutions` does, to the same
    precision: torch's own emulation takes twelve times as long.
    """

    def forward(itself: nn.Module, images: Tensor) -> Tensor:
        device_type = images.device.type
        convolutions = nullcontext() if has_bf16(device_type) else RoundedConvolutions()
        with torch.autocast(device_type, torch.bfloat16), convolutions:
            features = type(itself).forward(itself, images)
        return features.float()

    backbone.forward = MethodType(forward, backbone)  # of a method, a copy of the backbone gets its own


class RoundedConvolutions(TorchFunctionMode):
    """While active, 2d convolutions round to bfloat16 what they read and what they give, and compute in float32.

    That is what bfloat16 instructions do: products of rounded numbers, summed in float32. Gradients are rounded
    likewise, as each conversion rounds on its way back. Only the order of the sums differs, as between any two CPUs.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch with each of its functions."""
        kwargs = kwargs or {}
        if function is not torch.conv2d:
            return function(*args, **kwargs)
        args = [_rounded(value) for value in args]
        kwargs = {name: _rounded(value) for name, value in kwargs.items()}
        with torch.autocast('cpu', enabled=False):
            return function(*args, **kwargs).bfloat16()


def _rounded(value: Any) -> Any:
    return value.bfloat16().float() if isinstance(value, Tensor) else value

"""What a recipe's ``precision`` means: which parts of a network compute in 16 bits, with fair speed on any processor.

==========  ==========================  ==========================
precision   backbone                    heads
==========  ==========================  ==========================
fp32        float32                     float32
bf16        autocast to bfloat16        float32
amp_bf16    autocast to bfloat16        autocast to bfloat16
amp_fp16    autocast to float16         autocast to float16
==========  ==========================  ==========================

The same for training, feature extraction, second stages and scoring. A part that computes under autocast takes and
returns float32. Always float32, whatever the precision: weights, the statistics of BN, features between backbone and
head, logits, loss, the parts of an objective (projections, prototypes), gradients of weights and the optimizer. With
amp_fp16 the loss is scaled, because float16 cannot represent small gradients
(:class:`ltbench.engine.optim.ScaledSteps`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

OF_BACKBONE = {'bf16': torch.bfloat16, 'amp_bf16': torch.bfloat16, 'amp_fp16': torch.float16}
OF_HEAD = {'amp_bf16': torch.bfloat16, 'amp_fp16': torch.float16}
SCALED = 'amp_fp16'


def has_instructions(device_type: str, dtype: torch.dtype) -> bool:
    """Whether products of this type are computed without emulation: CPUs with bfloat16 instructions, and any GPU."""
    if device_type != 'cpu':
        return True
    return dtype == torch.bfloat16 and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def compute_under_autocast(part: nn.Module, dtype: torch.dtype) -> None:
    """Let a backbone or head compute under autocast to ``dtype``, and return float32.

    A CPU without instructions for it uses :class:`RoundedConvolutions`, which have the same precision:
    torch's own emulation takes twelve times as long.
    """

    def forward(itself: nn.Module, inputs: Tensor, *arguments: Any, **options: Any) -> Tensor:
        device_type = inputs.device.type
        convolutions = nullcontext() if has_instructions(device_type, dtype) else RoundedConvolutions(dtype)
        with torch.autocast(device_type, dtype), convolutions:
            outputs = type(itself).forward(itself, inputs, *arguments, **options)
        return outputs.float()

    part.forward = MethodType(forward, part)  # as a bound method, so that a copy of the part gets its own


class RoundedConvolutions(TorchFunctionMode):
    """While active, 2d convolutions round their inputs and outputs to 16 bits, and compute in float32.

    That is what 16-bit instructions do: products of rounded numbers, summed in float32. Gradients are rounded likewise,
    as each conversion rounds on its way back. Only the order of the sums differs, as between any two CPUs.

    Args:
        dtype: Type to round to.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

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
        args = [self._rounded(value) for value in args]
        kwargs = {name: self._rounded(value) for name, value in kwargs.items()}
        with torch.autocast('cpu', enabled=False):
            return function(*args, **kwargs).to(self.dtype)

    def _rounded(self, value: Any) -> Any:
        return value.to(self.dtype).float() if isinstance(value, Tensor) else value

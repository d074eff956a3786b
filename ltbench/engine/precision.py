"""Which precision trains faster here: fp32, or bfloat16 where the processor has it."""

from __future__ import annotations

import time
from functools import cache
from statistics import median

import torch
from torch.nn import functional

from ltbench.models.bf16 import has_bf16

GAIN = 1.1  # what bf16 must bring to be chosen
ROUNDS = 5


@cache
def faster_precision(device_type: str, threads: int) -> tuple[str, float]:
    """``'bf16'`` or ``'fp32'``, and how many times as fast as fp32 bf16 is, by a self-test of about 50 ms.

    Forward and backward pass of a 3x3 convolution as in the middle of a small ResNet. A processor without bf16
    instructions computes in float32 and rounds (:mod:`ltbench.models.bf16`), so it is not asked.
    """
    if not has_bf16(device_type):
        return 'fp32', 0.0
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        gain = median(_seconds(device_type, False) / _seconds(device_type, True) for _ in range(ROUNDS))
    finally:
        torch.set_num_threads(before)
    return ('bf16' if gain >= GAIN else 'fp32'), gain


def _seconds(device_type: str, bf16: bool) -> float:
    """Of two passes, after one to warm up."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(32, 32, 16, 16, generator=random).to(device_type, memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3, generator=random).to(device_type, memory_format=torch.channels_last)
    images.requires_grad_()
    weight.requires_grad_()
    for number in range(3):
        if number == 1:
            _wait(device_type)
            start = time.perf_counter()
        with torch.autocast(device_type, torch.bfloat16, enabled=bf16):
            output = functional.conv2d(images, weight, padding=1)
        output.float().sum().backward()
    _wait(device_type)
    return time.perf_counter() - start


def _wait(device_type: str) -> None:
    if device_type == 'cuda':
        torch.cuda.synchronize()

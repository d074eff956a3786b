"""What a stage costs and where it ran."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import ltbench
from ltbench import plugins
from ltbench.source import engine_code

# of mallopt: M_MMAP_MAX (no block is mapped alone), M_TRIM_THRESHOLD (nothing is given back), M_TOP_PAD
MALLOC = {-4: 0, -1: 2**31 - 1, -2: 64 << 20}


class Meter:
    """Wall and CPU seconds since it was made, on top of those spent before an interruption."""

    def __init__(self, spent: dict[str, float] | None = None) -> None:
        self._before = spent or {'wall_seconds': 0.0, 'cpu_seconds': 0.0}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile does not count."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._wall += time.perf_counter() - wall
        self._cpu += time.process_time() - cpu

    def read(self) -> dict[str, float]:
        """Seconds so far."""
        return {
            'wall_seconds': round(self._before['wall_seconds'] + time.perf_counter() - self._wall, 3),
            'cpu_seconds': round(self._before['cpu_seconds'] + time.process_time() - self._cpu, 3),
        }


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step: giving it back and taking it again costs 2 to 8 % of training.

    The same bits. ``LTBENCH_MALLOC=default`` leaves the allocator as it is; other C libraries are left alone.
    """
    if os.environ.get('LTBENCH_MALLOC') == 'default' or platform.libc_ver()[0] != 'glibc':
        return
    mallopt = ctypes.CDLL('libc.so.6').mallopt
    for parameter, value in MALLOC.items():
        mallopt(parameter, value)


def compute_exactly() -> None:
    """Let a GPU compute float32 as float32, and the same bits every time: no TF32, no algorithm chosen by timing.

    To be called before anything is computed on a GPU. What has no exact variant warns in the log.
    """
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS is else free to choose, see its manual
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # to debug; costs time


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process in MB: of the GPU where there is one, else resident."""
    if device.type == 'cuda':
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    return round(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == 'Darwin' else 1024) / 1e6, 1
    )


def size_of(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Parameters, and floating-point operations of one forward pass of one example (a multiply-add counts as two)."""
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    return {
        'parameters': sum(parameter.numel() for parameter in model.parameters()),
        'flops': counter.get_total_flops(),
    }


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """Software and hardware of this process."""
    return {
        'ltbench': ltbench.__version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torchvision': version('torchvision'),
        'mmengine': mmengine.__version__,
        'numpy': np.__version__,
        'pillow': version('pillow'),  # decides the last bit of decoded and resized images
        'platform': platform.platform(),
        'processor': _processor(),
        'instructions': instructions(),
        'host': socket.gethostname(),
        'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu',
        'threads': threads,
        'git_commit': _git_commit(),
        'code': engine_code(),
        'plugins': plugins.origins(),
    }


def instructions() -> str:
    """Vector instructions that torch uses on this CPU, as ``'AVX512, AVX512_BF16, AMX'``: they decide the last bits."""
    found = [torch.backends.cpu.get_cpu_capability()]
    found += ['AVX512_BF16'] if torch.cpu._is_avx512_bf16_supported() else []
    found += ['AMX'] if torch.cpu._is_amx_tile_supported() else []
    return ', '.join(found)


@cache
def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), platform.machine())


@cache
def _git_commit() -> str | None:
    """Commit of the checkout this code runs from, with ``+`` if it was changed; None outside of one."""
    home = Path(__file__).resolve().parents[2]
    if not (home / '.git').exists():
        return None
    try:
        commit = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=home, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ['git', 'status', '--porcelain', '-uno', '--', 'ltbench', 'methods', 'configs'],
            cwd=home, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ('+' if changed.stdout.strip() else '')

"""The cost of a stage, and the machine and software it ran on."""

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

# of mallopt: M_MMAP_MAX (no block is mapped separately), M_TRIM_THRESHOLD (no memory is returned), M_TOP_PAD
MALLOC = {-4: 0, -1: 2**31 - 1, -2: 64 << 20}


class Meter:
    """Wall and CPU seconds since its creation, plus those spent before an interruption."""

    def __init__(self, spent: dict[str, float] | None = None) -> None:
        self._before = spent or {'wall_seconds': 0.0, 'cpu_seconds': 0.0}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within this context does not count."""
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
    """Let glibc keep freed memory for the next step: returning and requesting it again costs 2 to 8 % of training.

    Results stay the same bit for bit. ``LTBENCH_MALLOC=default`` keeps the allocator as it is. Other C libraries are
    not changed.
    """
    if os.environ.get('LTBENCH_MALLOC') == 'default' or platform.libc_ver()[0] != 'glibc':
        return
    mallopt = ctypes.CDLL('libc.so.6').mallopt
    for parameter, value in MALLOC.items():
        mallopt(parameter, value)


def compute_exactly() -> None:
    """Let a GPU compute float32 as float32, and the same bits every time: no TF32, no algorithm chosen by timing.

    Call it before anything is computed on a GPU. Operations without a deterministic variant warn in the log.
    """
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # otherwise cuBLAS may choose, see its manual
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # only for debugging; costs time


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process in MB: of the GPU if there is one, otherwise resident memory."""
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


def note_code() -> None:
    """Take down what code this process has imported, which :func:`describe` names, before anybody edits its files."""
    engine_code()
    _git_commit()


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

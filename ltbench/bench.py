"""Speed of our paths against references, measured in one run, alternating; `ltbench bench PART`."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from ltbench.data.base import LongTailData, Split
from ltbench.data.batches import BatchPreprocessor, train_loader
from ltbench.data.samplers import InstanceBalanced
from ltbench.engine.environment import describe
from ltbench.errors import unknown
from ltbench.store import write_atomically

ROUNDS = 7
IMAGES, BATCH_SIZE = 4096, 128


def bench_data() -> tuple[str, list[Callable[[], float]]]:
    """Images/s of batched crop, flip and normalise, and of torchvision's transforms on one PIL image after another.

    Both read the same 32x32 images from memory in the same order and end with normalised float batches of 128.
    """
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    data = LongTailData()
    data.train = Split(images, np.zeros(IMAGES, dtype=np.int64))
    data.mean, data.std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    preprocess = BatchPreprocessor(data, {'crop_padding': 4, 'flip': True}, seed=0)
    sampler = InstanceBalanced(data.train.labels)
    loader = train_loader(data.train, sampler, BATCH_SIZE, {})
    one_by_one = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )

    def ours() -> float:
        start = time.perf_counter()
        preprocess.set_epoch(0)
        for batch in loader:
            preprocess(batch, training=True)
        return IMAGES / (time.perf_counter() - start)

    def theirs() -> float:
        start = time.perf_counter()
        order = list(sampler)
        for first in range(0, IMAGES, BATCH_SIZE):
            torch.stack([one_by_one(Image.fromarray(images[index])) for index in order[first : first + BATCH_SIZE]])
        return IMAGES / (time.perf_counter() - start)

    return 'images/s, one core: batched augmentation against torchvision on single PIL images', [ours, theirs]


PARTS: dict[str, Callable[[], tuple[str, list[Callable[[], float]]]]] = {'data': bench_data}


def bench(part: str, out: Path | None = None) -> dict[str, Any]:
    """Measure one part; return, and write as JSON if asked, both rates, their ratio and its spread.

    Raises:
        UsageError: If there is no such part.
    """
    if part not in PARTS:
        raise unknown('part to measure', part, PARTS)
    torch.set_num_threads(1)
    title, (ours, theirs) = PARTS[part]()
    ours(), theirs()  # warm up
    rates = [(ours(), theirs()) for _ in range(ROUNDS)]
    ratios = sorted(mine / reference for mine, reference in rates)
    result = {
        'part': part,
        'what': title,
        'ours': round(statistics.median(mine for mine, _ in rates), 1),
        'reference': round(statistics.median(reference for _, reference in rates), 1),
        'ratio': round(statistics.median(ratios), 2),
        'ratio_min': round(ratios[0], 2),
        'ratio_max': round(ratios[-1], 2),
        'rounds': ROUNDS,
        'environment': describe(torch.device('cpu'), 1) | {'machine': platform.machine()},
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, json.dumps(result, indent=1, sort_keys=True) + '\n')
    return result

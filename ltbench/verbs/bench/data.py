"""Augmentation of whole batches against torchvision's, one image after another."""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from PIL import Image
from torchvision import transforms

from ltbench.data.base import Split
from ltbench.data.batches import BatchPreprocessor, ResidentLoader
from ltbench.data.noise import NoiseLT
from ltbench.data.samplers import InstanceBalanced
from ltbench.verbs.bench.measure import Case, measure_alternating

BATCH_SIZE = 128
EPOCHS = 4  # of our side, so that both sides take long enough to be timed


def measure(rounds: int) -> list[dict[str, Any]]:
    """Images/s of one core that end as normalised, cropped and flipped float batches.

    Both read the same 32x32 images from memory in the same order.
    """
    torch.manual_seed(0)
    data = NoiseLT(n_max=1650, num_classes=10)
    split = cast(Split, data.train)
    images = split.images
    preprocess = BatchPreprocessor(data, {'crop_padding': 4, 'flip': True}, seed=0)
    sampler = InstanceBalanced(split.labels)
    loader = ResidentLoader(split, sampler, BATCH_SIZE, preprocess)
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
        for epoch in range(EPOCHS):
            preprocess.set_epoch(epoch)
            for _ in loader:
                pass
        return EPOCHS * len(images) / (time.perf_counter() - start)

    def theirs() -> float:
        start = time.perf_counter()
        order = list(sampler)
        for first in range(0, len(images), BATCH_SIZE):
            torch.stack([one_by_one(Image.fromarray(images[index])) for index in order[first : first + BATCH_SIZE]])
        return len(images) / (time.perf_counter() - start)

    case = Case('data: whole batches against torchvision on one PIL image after another, one core', 'images/s', goal=15)
    return [case.result(measure_alternating(rounds, [ours, theirs]))]

"""What a user would run instead: a bare PyTorch loop, and a script like the official ones.

Both train the same network as our path, with the same optimizer, batch size and number of threads.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ltbench.benchmark import Benchmark
from ltbench.data.base import LongTailData, Split
from ltbench.models.classifier import build_head
from ltbench.registry import MODELS, build


def bare_loop(benchmark: Benchmark, data: LongTailData, epochs: int = 1) -> Callable[[], float]:
    """Seconds of ``epochs`` epochs of a bare loop: the upper bound of speed for this network, dtype and machine.

    The images are normalised floats in memory, channels last; there is no augmentation, log, check or checkpoint.
    """
    recipe = benchmark.recipe
    network = _network(benchmark, data).to(memory_format=torch.channels_last)
    optimizer = _optimizer(network, recipe, fused=True)
    split = cast(Split, data.train)
    pixels = torch.from_numpy(split.images).float().div_(255)
    images = ((pixels - torch.tensor(data.mean)) / torch.tensor(data.std)).permute(0, 3, 1, 2)
    labels = torch.from_numpy(split.labels)

    def train() -> float:
        network.train()
        start = time.perf_counter()
        for _ in range(epochs):
            for chosen in torch.randperm(len(labels)).split(recipe['batch_size']):
                with torch.autocast('cpu', torch.bfloat16, enabled=recipe['precision'] == 'bf16'):
                    features = network[0](images[chosen])
                loss = functional.cross_entropy(network[1](features.float()), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return time.perf_counter() - start

    return train


def conventional_script(
    benchmark: Benchmark, data: LongTailData, folder: Path, workers: int = 4
) -> Callable[[], float]:
    """Seconds of one epoch as the long-tail scripts of the literature are written.

    PIL transforms in worker processes that are restarted each epoch; float32 in PyTorch's own memory order; the loss
    and the accuracy read at every step; the whole test set and a checkpoint after every epoch.

    Args:
        benchmark: Network and recipe; its precision is ignored.
        data: Training and test images.
        folder: For the checkpoints.
        workers: Processes of the data loader; 4 is those scripts' default.
    """
    recipe = benchmark.recipe
    network = _network(benchmark, data)
    optimizer = _optimizer(network, recipe)
    plain = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    augmented = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *plain]
    train_part, test_part = _PILImages(data.train, augmented), _PILImages(data.test, plain)

    # explicit, because mmengine's Runner sets a slower start method for the whole process
    loading: dict[str, Any] = {'num_workers': workers, 'multiprocessing_context': 'fork'}

    def epoch() -> float:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                'ignore', 'This DataLoader will create'
            )  # more workers than cores, as in those scripts
            return train_and_evaluate()

    def train_and_evaluate() -> float:
        start = time.perf_counter()
        network.train()
        shown = []
        for images, labels in DataLoader(train_part, recipe['batch_size'], shuffle=True, **loading):
            logits = network(images)
            loss = functional.cross_entropy(logits, labels)
            shown.append((loss.item(), _top1(logits, labels)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for images, labels in DataLoader(test_part, 100, **loading):
                logits = network(images)
                shown.append((functional.cross_entropy(logits, labels).item(), _top1(logits, labels)))
        state = {'state_dict': network.state_dict(), 'optimizer': optimizer.state_dict(), 'shown': shown}
        torch.save(state, folder / 'checkpoint.pth')
        return time.perf_counter() - start

    return epoch


class _PILImages(Dataset[tuple[Tensor, int]]):
    """One image after another, as torchvision's CIFAR classes do."""

    def __init__(self, split: Any, steps: list[Any]) -> None:
        self.images, self.labels = np.asarray(split.images), split.labels.tolist()
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def _network(benchmark: Benchmark, data: LongTailData) -> nn.Sequential:
    torch.manual_seed(0)
    backbone = build(MODELS, benchmark.backbone, in_channels=data.channels)
    return nn.Sequential(backbone, build_head({'type': 'LinearHead'}, backbone, data.num_classes))


def _optimizer(network: nn.Module, recipe: Any, **more: Any) -> torch.optim.Optimizer:
    arguments = copy.copy(recipe['optimizer'])
    return getattr(torch.optim, arguments.pop('type'))(network.parameters(), **arguments, **more)


def _top1(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).float().mean().item()

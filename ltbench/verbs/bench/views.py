"""Strong augmentation and several views of whole batches, and a step of a contrastive method that takes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch.nn import functional
from torchvision import transforms

from ltbench.benchmark import Benchmark
from ltbench.data.base import LongTailData, Split, load_data
from ltbench.data.batches import BatchPreprocessor, ResidentLoader
from ltbench.data.noise import NoiseLT
from ltbench.data.samplers import InstanceBalanced
from ltbench.verbs.bench.measure import Case, measure_alternating
from ltbench.verbs.bench.references import bare_loop
from ltbench.verbs.bench.train import train_alternating
from ltbench.verbs.bench.workload import cifar_shaped
from methods.bcl import balanced_contrastive_loss

BATCH_SIZE = 128
PLAIN = {'crop_padding': 4, 'flip': True}
EPOCHS = 3  # of our side, so that both sides take long enough to be timed
BLURLESS: Mapping[str, Any] = {'name': 'contrastive', 'blurred': 0.0}
CONTRAST = ('bcl', ('plain', BLURLESS, BLURLESS), 128)
"""A method, its views, and the size of its projections."""


def measure(rounds: int) -> list[dict[str, Any]]:
    """Images/s as normalised float batches, and of a step of BCL; one thread.

    Augmentation is compared with one step of ResNet-32 in a bare loop.
    """
    torch.manual_seed(0)
    data = NoiseLT(n_max=1650, num_classes=10)
    step = _seconds_of_a_step()
    strong, pair = _Views(data, ['strong']), _Views(data, ['plain', 'contrastive'])
    cases = []
    for name, ours, theirs in (
        ('crop, flip, AutoAugment and Cutout', strong, [_strong_one_by_one(data)]),
        ('two views, a plain and a contrastive one', pair, [_plain_one_by_one(data), _contrastive_one_by_one(data)]),
    ):
        turns = measure_alternating(rounds, [ours.rate, _one_by_one(data, theirs), _Views(data, None).rate, step])
        case = Case(f'views: {name}, whole batches against torchvision on one PIL image after another', 'images/s', 5)
        cases.append(case.result((turn[0], turn[1]) for turn in turns))
        case = Case(f'views: {name}, against no augmentation', 'images/s', None)
        cases.append(case.result((turn[0], turn[2]) for turn in turns))
        case = Case(f'views: {name}, against a step of ResNet-32', 's', 0.35, less_is_better=True)
        cases.append(case.result((BATCH_SIZE / turn[0], turn[3]) for turn in turns))
    return [*cases, _contrastive_step(rounds)]


class _Views:
    """All images of some data, augmented, as a training takes them."""

    def __init__(self, data: LongTailData, views: Sequence[str | Mapping[str, Any]] | None) -> None:
        split = cast(Split, data.train)
        self.images = len(split)
        self.preprocess = BatchPreprocessor(data, PLAIN if views else {}, seed=0, views=views)
        self.loader = ResidentLoader(split, InstanceBalanced(split.labels), BATCH_SIZE, self.preprocess)

    def rate(self) -> float:
        """Images/s."""
        start = time.perf_counter()
        for epoch in range(EPOCHS):
            self.preprocess.set_epoch(epoch)
            for _ in self.loader:
                pass
        return EPOCHS * self.images / (time.perf_counter() - start)


def _one_by_one(data: LongTailData, views: Sequence[Callable[[Image.Image], Any]]) -> Callable[[], float]:
    """Images/s of transforms of PIL images, collated."""
    images = cast(Split, data.train).images

    def rate() -> float:
        start = time.perf_counter()
        for first in range(0, len(images), BATCH_SIZE):
            batch = [Image.fromarray(image) for image in images[first : first + BATCH_SIZE]]
            for view in views:
                torch.stack([view(image) for image in batch])
        return len(images) / (time.perf_counter() - start)

    return rate


def _plain_one_by_one(data: LongTailData, *between: Any) -> Callable[[Image.Image], Any]:
    crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    return transforms.Compose([*crop, *between, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])


def _strong_one_by_one(data: LongTailData) -> Callable[[Image.Image], Any]:
    """As the published codes: AutoAugment on the PIL image, a square cut out of its tensor."""
    before = _plain_one_by_one(data, transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10))
    black = -torch.tensor(data.mean).view(3, 1, 1) / torch.tensor(data.std).view(3, 1, 1)

    def strong(image: Image.Image) -> Any:
        changed = before(image)
        row, column = torch.randint(32, (2,)).tolist()
        changed[:, max(row - 8, 0) : row + 8, max(column - 8, 0) : column + 8] = black
        return changed

    return strong


def _contrastive_one_by_one(data: LongTailData) -> Callable[[Image.Image], Any]:
    steps = [
        transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.ToTensor(),
        transforms.Normalize(data.mean, data.std),
    ]
    return transforms.Compose(steps)


def _seconds_of_a_step() -> Callable[[], float]:
    benchmark = _small(BATCH_SIZE)
    data = load_data(benchmark.data)
    epoch = bare_loop(benchmark, data)
    return lambda: epoch() * BATCH_SIZE / len(data.train)


def _small(batch_size: int, epochs: int = 1) -> Benchmark:
    """On 384 images: three batches of the usual size, or one batch with three views of each image."""
    return cifar_shaped(epochs, batch_size=batch_size, n_max=95, imbalance_factor=10, num_classes=10, test_per_class=10)


def _contrastive_step(rounds: int) -> dict[str, Any]:
    """A stage of BCL, against its views, the network on all of them, and the contrast of their projections."""
    method, names, size = CONTRAST
    benchmark = _small(BATCH_SIZE, rounds + 1)
    data = load_data(benchmark.data)
    views = _Views(data, names)
    # as many images and steps as the views of an epoch, with their logits and loss
    network = bare_loop(_small(len(names) * BATCH_SIZE), data, epochs=len(names))
    labels, prototypes = torch.arange(BATCH_SIZE) % 10, functional.normalize(torch.randn(10, size))

    def parts() -> float:
        seconds = network() + len(data.train) / views.rate()
        start = time.perf_counter()
        for _ in range(0, len(data.train), BATCH_SIZE):
            vectors = torch.randn(2 * BATCH_SIZE, size, requires_grad=True)
            balanced_contrastive_loss(functional.normalize(vectors), labels, prototypes, 0.1).backward()
        return seconds + time.perf_counter() - start

    turns, _ = train_alternating(benchmark, [parts], threads=1, method=method)
    case = Case(
        f'views: a {method} stage, ResNet-32, batch {BATCH_SIZE}, {len(names)} views, against the sum of its parts',
        'images/s',
        0.9,
        note='The parts: making the views, a bare loop on as many images as views, and the contrastive loss.',
    )
    return case.result((len(data.train) / ours, len(data.train) / theirs) for ours, theirs in turns)

"""Crops of large images, prepared and decoded, against torchvision on one PIL image after another."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from ltbench.data.base import FileSplit
from ltbench.data.crops import large_dataset
from ltbench.data.images import suffixes
from ltbench.data.large import FileDataset
from ltbench.errors import UsageError
from ltbench.verbs.bench.measure import Case, measure_alternating

FOLDER = 'LTBENCH_BENCH_IMAGES'
IMAGES, BATCH_SIZE = 200, 50
AUGMENTATION = {'random_resized_crop': 224, 'resize': 256, 'center_crop': 224}
COLOURS = {'flip': True, 'color_jitter': [0.4, 0.4, 0.4, 0.0]}
RATES = {'prepared': 5000, 'decoded': 520}
"""Target images/s of a core on which the reference reaches :data:`REFERENCE_RATE`, on files of ImageNet."""
REFERENCE_RATE = 390
SIZE, QUALITY = (500, 375), 92  # of generated files: about 110 kB, as in ImageNet


def measure(rounds: int) -> list[dict[str, Any]]:
    """Images per second of processor time of one core, as uint8 batches of 224 x 224 pixels.

    The files are the first 200 images of the folder ``$LTBENCH_BENCH_IMAGES``, or generated; they are read from memory.

    Raises:
        UsageError: If that folder has no images.
    """
    with tempfile.TemporaryDirectory() as folder:
        files, note = _images(Path(folder))
        names = np.array([os.fsencode(path.name) for path in files])
        split = FileSplit(Path(folder), names, np.zeros(len(names), dtype=np.int64))
        crop = [v2.RandomResizedCrop(224)]
        colours = [v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)]
        cases = []
        for what, more, training, steps in (
            ('random resized crops', {}, True, crop),
            ('the same, flipped and with other colours', COLOURS, True, [*crop, *colours]),
            ('test images', {}, False, [v2.Resize(256), v2.CenterCrop(224)]),
        ):
            ways = {
                name: _rate_of(large_dataset(split, {**AUGMENTATION, **more, 'prepared': side}, training))
                for name, side in (('prepared', 256), ('decoded', None))
            }
            turns = measure_alternating(rounds, [*ways.values(), _one_by_one(files, steps)])
            for number, name in enumerate(ways):
                goal = round(RATES[name] / REFERENCE_RATE, 2) if steps is crop else None
                case = Case(f'large: {what}, {name}, against Pillow and torchvision', 'images/s', goal, note=note)
                cases.append(case.result((turn[number], turn[2]) for turn in turns))
    return cases


def _rate_of(dataset: FileDataset) -> Callable[[], float]:
    def rate() -> float:
        start = time.process_time()
        for first in range(0, len(dataset), BATCH_SIZE):
            dataset.__getitems__([(index, index) for index in range(first, min(first + BATCH_SIZE, len(dataset)))])
        return len(dataset) / (time.process_time() - start)

    return rate


def _one_by_one(files: Sequence[Path], steps: Sequence[Any]) -> Callable[[], float]:
    """As a data set of torchvision and its loader work."""
    transform = v2.Compose([*steps, v2.PILToTensor()])

    def load(path: Path) -> Any:
        with path.open('rb') as file:
            return transform(Image.open(file).convert('RGB'))

    def rate() -> float:
        start = time.process_time()
        for first in range(0, len(files), BATCH_SIZE):
            torch.stack([load(path) for path in files[first : first + BATCH_SIZE]])
        return len(files) / (time.process_time() - start)

    return rate


def _images(folder: Path) -> tuple[list[Path], str]:
    """Files in ``folder``, and a description of them."""
    files = []
    if source := os.environ.get(FOLDER):
        found = sorted(path for path in Path(source).rglob('*') if path.suffix.lower() in suffixes())[:IMAGES]
        if not found:
            raise UsageError(f'{source} has no images; set {FOLDER} to a folder with images, or unset it')
        files = [Path(shutil.copy(path, folder / f'{number}-{path.name}')) for number, path in enumerate(found)]
        what = f'files of {Path(source).name}'
    else:
        random = np.random.default_rng(0)
        for number in range(IMAGES):
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(SIZE)
            noisy = np.asarray(coarse) + random.integers(-12, 13, (*SIZE[::-1], 3))
            files.append(folder / f'{number}.jpg')
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(files[-1], quality=QUALITY)
        what = 'generated files'
    kilobytes = sum(path.stat().st_size for path in files) / len(files) / 1000
    return files, f'{len(files)} {what}, {kilobytes:.0f} kB on average.'

"""Whole-batch augmentation against torchvision's, image by image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as reference

from ltbench.data import batches as batches_module
from ltbench.data import load_data
from ltbench.data.base import Split
from ltbench.data.batches import BatchPreprocessor, ResidentLoader, sequential_batches, train_loader
from ltbench.data.samplers import ClassAware, InstanceBalanced, Paired
from ltbench.data.views import crop_and_flip
from ltbench.errors import UsageError

NOTHING = Split(np.empty((0, 1, 1, 1), np.uint8), np.empty(0, np.int64))
COLOUR = SimpleNamespace(train=NOTHING, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
GREY = SimpleNamespace(train=NOTHING, mean=(0.2190,), std=(0.3318,))


def random_images(batch: int, side: int, channels: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, side, side, channels), dtype=np.uint8))


def preprocessor(data: SimpleNamespace, seed: int = 0, **augmentation: object) -> BatchPreprocessor:
    return BatchPreprocessor(data, augmentation, seed)


def one_by_one(images: Tensor, data: SimpleNamespace, padding: int, draws: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and Normalize do for these draws."""
    rows = []
    for image, top, left, flip in zip(images, *draws, strict=True):
        pixels = Image.fromarray(image.squeeze(-1).numpy())
        height, width = image.shape[:2]
        pixels = reference.crop(reference.pad(pixels, [padding]), int(top), int(left), height, width)
        pixels = reference.hflip(pixels) if flip else pixels
        rows.append(reference.normalize(reference.to_tensor(pixels), data.mean, data.std))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ('data', 'side', 'padding', 'flip'),
    [(COLOUR, 32, 4, True), (COLOUR, 32, 0, True), (COLOUR, 9, 3, False), (GREY, 32, 2, True), (GREY, 8, 1, False)],
)
def test_batches_equal_torchvision_bit_for_bit(data: SimpleNamespace, side: int, padding: int, flip: bool) -> None:
    images = random_images(64, side, len(data.mean))
    ours, twin = (preprocessor(data, crop_padding=padding, flip=flip) for _ in range(2))
    ours.set_epoch(3)
    twin.set_epoch(3)
    batch = ours({'images': images, 'labels': torch.arange(64)}, training=True)
    expected = one_by_one(images, data, padding, twin.draw(64))
    assert batch['images'].shape == (64, len(data.mean), side, side)
    assert torch.equal(batch['images'], expected)
    assert torch.equal(batch['labels'], torch.arange(64))


def test_without_training_batches_are_only_normalised() -> None:
    images = random_images(5, 32, 3)
    batch = preprocessor(COLOUR, crop_padding=4, flip=True)({'images': images}, training=False)
    no_draws = (torch.zeros(5), torch.zeros(5), torch.zeros(5).bool())
    assert torch.equal(batch['images'], one_by_one(images, COLOUR, 0, no_draws))


def test_crop_by_hand() -> None:
    # 1 2      window at the top right corner of the padded 4x4:  0 0      mirrored:  0 0
    # 3 4                                                         2 0                 0 2
    images = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).reshape(1, 2, 2, 1).repeat(2, 1, 1, 1)
    cut = crop_and_flip(images, 1, torch.tensor([0, 0]), torch.tensor([2, 2]), torch.tensor([False, True]))
    assert cut[..., 0].tolist() == [[[0, 0], [2, 0]], [[0, 0], [0, 2]]]


def test_draws_cover_every_offset_and_half_the_flips() -> None:
    part = preprocessor(COLOUR, crop_padding=4, flip=True)
    part.set_epoch(0)
    rows, columns, flips = part.draw(4000)
    assert set(rows.tolist()) == set(columns.tolist()) == set(range(9))
    assert not torch.equal(rows, columns)
    assert 0.46 < flips.float().mean() < 0.54  # five standard deviations


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    def draws(part: BatchPreprocessor, number: int) -> list[int]:
        part.set_epoch(number)
        return torch.cat(part.draw(50)).tolist()

    used = preprocessor(COLOUR, seed=1, crop_padding=4, flip=True)
    by_epoch = [draws(used, number) for number in range(3)]
    torch.manual_seed(0)  # nothing global has a say
    fresh = preprocessor(COLOUR, seed=1, crop_padding=4, flip=True)
    assert draws(fresh, 2) == by_epoch[2]
    assert draws(used, 0) == by_epoch[0]
    assert by_epoch[0] != by_epoch[1] != by_epoch[2] != by_epoch[0]
    assert draws(preprocessor(COLOUR, seed=2, crop_padding=4, flip=True), 0) != by_epoch[0]
    assert torch.cat(fresh.draw(50)).tolist() != by_epoch[2]  # the next batch of the epoch draws anew


def test_unknown_augmentation_is_an_error() -> None:
    with pytest.raises(UsageError, match=r'crop_pading.*did you mean crop_padding'):
        preprocessor(COLOUR, crop_pading=4)


def test_loader_follows_the_sampler_and_keeps_the_last_images() -> None:
    split = Split(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10, 20))
    sampler = InstanceBalanced(split.labels, seed=4)
    sampler.set_epoch(6)
    batches = list(train_loader(split, sampler, batch_size=4, augmentation={}))
    assert [len(batch['labels']) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch['labels'] for batch in batches]).tolist() == [10 + index for index in sampler]
    assert torch.cat([batch['images'] for batch in batches]).flatten().tolist() == list(sampler)


@pytest.mark.parametrize('prepared', [1, 20_000, 1 << 20])  # bytes: one, two and all batches at a time
@pytest.mark.parametrize('augmentation', [{'crop_padding': 1, 'flip': True}, {'flip': True}, {}])
def test_batches_prepared_together_are_those_prepared_alone(
    monkeypatch: pytest.MonkeyPatch, prepared: int, augmentation: dict[str, object]
) -> None:
    monkeypatch.setattr(batches_module, 'PREPARED_BYTES', prepared)
    split = Split(random_images(150, 8, 3).numpy(), np.arange(150))
    sampler = InstanceBalanced(split.labels, seed=4)
    together, alone = (preprocessor(COLOUR, seed=2, **augmentation) for _ in range(2))
    loader = ResidentLoader(split, sampler, 13, together)
    assert loader.at_once == {1: 1, 20_000: 2, 1 << 20: 105}[prepared]
    for epoch in range(2):
        for part in (sampler, together, alone):
            part.set_epoch(epoch)
        torch.manual_seed(epoch)
        ours = [together(batch, training=True) for batch in loader]
        state = torch.get_rng_state()
        torch.manual_seed(epoch)
        theirs = [alone(batch, training=True) for batch in train_loader(split, sampler, 13, augmentation)]
        assert torch.equal(state, torch.get_rng_state())  # what others draw, a dropout say, goes on alike
        assert len(loader) == len(ours) == len(theirs) == 12
        for mine, expected in zip(ours, theirs, strict=True):
            assert torch.equal(mine['images'], expected['images'])
            assert mine['images'].stride() == expected['images'].stride()
            assert torch.equal(mine['labels'], expected['labels'])


def test_sequential_batches_keep_the_order_of_the_split() -> None:
    split = Split(np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1), np.arange(7))
    batches = list(sequential_batches(split, 3, {}))
    assert [batch['labels'].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches[1]['images'].flatten().tolist() == [3, 4, 5]


VIEWS = ['plain', 'contrastive', {'policies': [{'type': 'AutoAugment'}], 'flip': False}]


@pytest.mark.parametrize('paired', [False, True])
@pytest.mark.parametrize('batch_size', [7, 16])
def test_views_and_partners_are_the_same_whichever_way_they_are_prepared(paired, batch_size) -> None:
    data = load_data(dict(type='NoiseLT', n_max=30, imbalance_factor=5, num_classes=3, test_per_class=2))
    sampler: Any = InstanceBalanced(data.train.labels, seed=2)
    if paired:
        sampler = Paired(sampler, ClassAware(data.train.labels, seed=5))
    both = [BatchPreprocessor(data, {'crop_padding': 4, 'flip': True}, 0, views=VIEWS) for _ in range(2)]
    for part in (*both, sampler):
        part.set_epoch(1)
    fast = list(ResidentLoader(data.train, sampler, batch_size, both[0]))
    slow = [both[1](batch, training=True) for batch in train_loader(data.train, sampler, batch_size, {}, views=VIEWS)]
    for one, other in zip(fast, slow, strict=True):
        assert (
            one.keys()
            == other.keys()
            == {'images', 'labels', 'others'} | ({'partners', 'partner_labels'} if paired else set())
        )
        for name, value in one.items():
            for ours, theirs in zip(
                *(part if isinstance(part, list) else [part] for part in (value, other[name])), strict=True
            ):
                assert torch.equal(ours, theirs), name
    if paired:
        chosen = torch.tensor(list(sampler))
        assert (
            torch.cat([batch['partner_labels'] for batch in fast]).tolist() == data.train.labels[chosen[:, 1]].tolist()
        )

"""Strong augmentation: whole batches get what torchvision gives single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from ltbench.data.policies import OPERATIONS, SIGNED, operate_on_groups
from ltbench.data.views import View, resolve
from ltbench.errors import UsageError
from ltbench.registry import POLICIES, build

STEPS = [
    dict(type='AutoAugment', table='cifar10'),
    dict(type='AutoAugment', table='imagenet'),
    dict(type='RandAugment', operations=2, strength=10),
    dict(type='RandAugment', operations=2, strength=30, probability=0.5),
    dict(type='TrivialAugmentWide'),
]
ALL = [
    *STEPS,
    dict(type='SimAugment'),
    dict(type='SimAugment', blurred=0.5),
    dict(type='Cutout', side=8),
    dict(type='RandomResizedCrop'),
]

REFERENCE = v2.AutoAugment()


def pictures(count: int, side: int = 32, channels: int = 3) -> torch.Tensor:
    """Smooth colours with edges, so that every operation changes something."""
    random = torch.Generator().manual_seed(0)
    small = torch.rand(count, channels, 5, 5, generator=random) * 255
    smooth = torch.nn.functional.interpolate(small, size=(side, side), mode='bilinear')
    return (smooth + 30 * torch.rand(count, channels, side, side, generator=random)).clamp(0, 255).to(torch.uint8)


def drawn(policy, images: torch.Tensor, seed: int = 0):
    return policy.draw(len(images), tuple(images.shape[-2:]), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('config', STEPS, ids=lambda config: '-'.join(map(str, config.values())))
@pytest.mark.parametrize('channels', [1, 3])
def test_each_image_becomes_what_torchvision_makes_of_it(config, channels):
    images = pictures(300, channels=channels)
    policy = build(POLICIES, config)
    operations, strengths = drawn(policy, images)
    ours = policy.apply(images, operations, strengths)
    changed = 0
    for number, image in enumerate(images):
        theirs = image
        for operation, strength in zip(operations[number].tolist(), strengths[number].tolist(), strict=True):
            name = OPERATIONS[operation]
            theirs = REFERENCE._apply_image_or_video_transform(theirs, name, strength, InterpolationMode.NEAREST, {})
        assert torch.equal(ours[number], theirs), (number, [OPERATIONS[o] for o in operations[number]])
        changed += not torch.equal(theirs, image)
    assert changed > 150


def test_strengths_are_those_of_torchvision():
    theirs = {
        'AutoAugment': (v2.AutoAugment()._AUGMENTATION_SPACE, 10),
        'RandAugment': (v2.RandAugment()._AUGMENTATION_SPACE, 31),
        'TrivialAugmentWide': (v2.TrivialAugmentWide()._AUGMENTATION_SPACE, 31),
    }
    from ltbench.data.policies import _scale

    for policy, (space, bins) in theirs.items():
        assert space.keys() <= set(OPERATIONS), policy
        for name, (scale, signed) in space.items():
            expected = scale(bins, 32, 48)
            assert (name in SIGNED) == signed, name
            if expected is not None:
                ours = _scale(name, bins, (32, 48), wide=policy == 'TrivialAugmentWide')
                assert torch.equal(ours, torch.as_tensor(expected).float().expand(bins)), (policy, name)
    assert set(build(POLICIES, dict(type='RandAugment')).NAMES) == theirs['RandAugment'][0].keys()
    assert set(build(POLICIES, dict(type='RandAugment')).NAMES) == theirs['TrivialAugmentWide'][0].keys()


def test_pairs_are_drawn_as_often_as_the_table_says():
    policy = build(POLICIES, dict(type='AutoAugment', table='cifar10'))
    operations, strengths = policy.draw(100_000, (32, 32), torch.Generator().manual_seed(1))
    expected = np.zeros(len(OPERATIONS))
    for pair, probabilities in zip(policy.operations.tolist(), policy.probabilities.tolist(), strict=True):
        for operation, probability in zip(pair, probabilities, strict=True):
            expected[operation] += probability / 25
    found = np.bincount(operations.flatten(), minlength=len(OPERATIONS)) / 100_000
    moved = [number for number, name in enumerate(OPERATIONS) if name != 'Identity']
    assert found[moved] == pytest.approx(expected[moved], abs=0.006)
    rotations = strengths[operations == OPERATIONS.index('Rotate')]
    assert (rotations < 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (strengths[operations == OPERATIONS.index('Solarize')] >= 0).all()


def test_each_step_of_randaugment_happens_as_often_as_asked_for():
    policy = build(POLICIES, dict(type='RandAugment', operations=2, strength=30, probability=0.5))
    operations, strengths = policy.draw(50_000, (32, 32), torch.Generator().manual_seed(0))
    still = operations == OPERATIONS.index('Identity')
    share = 0.5 + 0.5 / 14  # also one of the operations
    assert still.float().mean().item() == pytest.approx(share, abs=0.005)
    assert still.all(dim=1).float().mean().item() == pytest.approx(share**2, abs=0.007)
    assert set(strengths[operations == OPERATIONS.index('Rotate')].tolist()) == {-30.0, 30.0}
    transform, kept = policy.on_single(), 0
    image = F.to_pil_image(pictures(1, side=16)[0])
    for seed in range(600):
        torch.manual_seed(seed)
        kept += transform(image).tobytes() == image.tobytes()
    assert kept / 600 == pytest.approx(share**2, abs=0.06)


@pytest.mark.parametrize('config', ALL, ids=lambda config: '-'.join(map(str, config.values())))
def test_draws_repeat_and_images_do_not_hang_on_each_other(config):
    images, policy = pictures(64), build(POLICIES, config)
    draws = drawn(policy, images)
    whole = policy.apply(images, *draws)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    assert torch.equal(whole, policy.apply(images, *drawn(policy, images)))
    assert not torch.equal(whole, policy.apply(images, *drawn(policy, images, seed=1)))
    parts = [policy.apply(images[rows], *(draw[rows] for draw in draws)) for rows in (slice(0, 5), slice(5, 64))]
    assert torch.equal(whole, torch.cat(parts))
    as_in_memory = images.contiguous(memory_format=torch.channels_last)  # how a view passes them on
    assert torch.equal(whole, policy.apply(as_in_memory, *draws))


def test_colours_are_those_of_torchvision():
    images = pictures(64)
    policy = build(POLICIES, dict(type='SimAugment', blurred=0.5))
    order, factors, grey, widths = drawn(policy, images)
    ours = policy.apply(images, order, factors, grey, widths)
    for number, image in enumerate(images):
        theirs = image
        for change in order[number].tolist():
            factor = float(factors[number, change])
            if change >= 0:
                name = ('brightness', 'contrast', 'saturation', 'hue')[change]
                theirs = getattr(F, f'adjust_{name}')(theirs, factor)
        if grey[number]:
            theirs = F.rgb_to_grayscale(theirs, num_output_channels=3)
        if widths[number] > 0:
            theirs = F.gaussian_blur(theirs, [23, 23], [float(widths[number])] * 2)
        apart = (ours[number].int() - theirs.int()).abs()
        assert apart.max() <= 3, number  # rounded down four times
        assert (apart > 1).float().mean() < 0.01, number
    assert grey.float().mean() == pytest.approx(0.2, abs=0.15)


def test_hue_is_that_of_torchvision_for_every_kind_of_colour():
    from ltbench.data.sim_augment import _turned

    values = torch.tensor([0, 1, 63, 128, 200, 254, 255], dtype=torch.uint8)
    colours = torch.cartesian_prod(values, values, values).T.reshape(1, 3, 7, 49)
    for turn in (-0.5, -0.1, 0.0, 0.05, 0.3, 0.5):
        theirs = F.adjust_hue(colours, turn)
        ours = _turned(colours, torch.full((1, 1, 1, 1), turn))
        assert (ours.int() - theirs.int()).abs().max() <= 1, turn


def test_random_resized_crops_are_those_of_torchvision():
    images, policy = pictures(40), build(POLICIES, dict(type='RandomResizedCrop', least=0.2))
    (boxes,) = drawn(policy, images)
    ours = policy.apply(images, boxes)
    for number, (top, left, height, width) in enumerate(boxes.tolist()):
        theirs = F.resized_crop(images[number], top, left, height, width, [32, 32], antialias=True)
        assert (ours[number].int() - theirs.int()).abs().max() <= 1, number


def test_random_resized_crops_are_drawn_as_torchvision_draws_them():
    (boxes,) = build(POLICIES, dict(type='RandomResizedCrop', least=0.2)).draw(
        20_000, (32, 32), torch.Generator().manual_seed(1)
    )
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 32).all()
    torch.manual_seed(0)
    blank = torch.zeros(3, 32, 32)
    params = [v2.RandomResizedCrop(32, scale=(0.2, 1.0)).make_params([blank]) for _ in range(5_000)]
    theirs = torch.tensor([[each[key] for key in ('top', 'left', 'height', 'width')] for each in params])
    assert boxes.float().mean(dim=0) == pytest.approx(theirs.float().mean(dim=0), abs=0.35)
    assert boxes.float().std(dim=0) == pytest.approx(theirs.float().std(dim=0), abs=0.35)
    areas = [(part[:, 2] * part[:, 3]).float().quantile(torch.tensor([0.1, 0.5, 0.9])) for part in (boxes, theirs)]
    assert areas[0] == pytest.approx(areas[1], abs=20)


@pytest.mark.parametrize('given', [dict(side=16), {}], ids=['16 pixels', 'half of the side'])
def test_cutout_is_a_square_that_the_border_cuts(given):
    policy, images = build(POLICIES, dict(type='Cutout', **given)), torch.full((3, 3, 32, 32), 9, dtype=torch.uint8)
    cut = policy.apply(images, torch.tensor([16, 0, 31]), torch.tensor([16, 0, 5]))
    assert (cut[0, :, 8:24, 8:24] == 0).all()
    assert [int((image[0] == 0).sum()) for image in cut] == [256, 64, (16 // 2 + 1) * 13]
    assert (cut[0].sum(), cut[1, 0, 8, 8]) == (9 * 3 * (1024 - 256), 9)


def test_the_strong_view_leaves_something_of_the_smallest_images():
    images, view = torch.full((64, 8, 8, 1), 200, dtype=torch.uint8), View(resolve('strong', {}), (8, 8))
    view.policies = view.policies[1:]  # without AutoAugment, which may darken
    cut = view.apply(images, view.draw(64, torch.Generator().manual_seed(0)))
    assert ((cut > 0).sum(dim=(1, 2, 3)) >= 64 - 16).all()


@pytest.mark.parametrize('large', [False, True])
def test_the_share_of_blurred_contrastive_views_is_as_said(large):
    augmentation = {'random_resized_crop': 224} if large else {'crop_padding': 4}
    shares = [
        resolve(view, augmentation)['policies'][-1]['blurred']
        for view in ('contrastive', {'name': 'contrastive', 'blurred': 0.2})
    ]
    assert shares == [0.5 if large else 0.0, 0.2]
    for other in ('contrastiv', 'strong'):  # whose share would change nothing
        with pytest.raises(UsageError, match='contrastive'):
            resolve({'name': other, 'blurred': 0.2}, augmentation)


@pytest.mark.parametrize('config', ALL, ids=lambda config: '-'.join(map(str, config.values())))
def test_single_images_go_through_the_same_policy(config):
    image = F.to_pil_image(pictures(1, side=64)[0])
    transform = build(POLICIES, config).on_single()
    results = set()
    for seed in range(12):
        torch.manual_seed(seed)
        result = transform(image)
        assert (result.size, result.mode) == ((64, 64), 'RGB')
        results.add(result.tobytes())
    assert len(results) > 3


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='AutoAugment', table='cifar'), 'did you mean cifar10'),
        (dict(type='RandAugment', strength=31), 'strength of RandAugment lies between 0 and 30, got 31'),
        (dict(type='RandAugment', operations=0), 'operations of RandAugment are 1 or more, got 0'),
        (dict(type='RandAugment', probability=0), 'probability of RandAugment lies above 0 and up to 1, got 0'),
        (dict(type='SimAugment', hue=0.6), 'hue of SimAugment lies between 0 and 0.5, got 0.6'),
        (dict(type='SimAugment', blurred=2), 'blurred of SimAugment lies between 0 and 1, got 2'),
        (dict(type='Cutout', side=0), 'side of Cutout is 1 or larger, got 0'),
        (dict(type='AutoAugmnet'), 'AutoAugment'),
    ],
)
def test_a_wrong_value_is_named(config, message):
    with pytest.raises(UsageError, match=message):
        build(POLICIES, config)


def test_operations_of_an_empty_group_change_nothing():
    images = pictures(4)
    same = operate_on_groups(images, torch.full((4,), OPERATIONS.index('Identity')), torch.zeros(4))
    assert torch.equal(same, images)

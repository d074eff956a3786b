"""The CIFAR ResNet's size by an independent formula, its shortcut by hand, its initial weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ltbench.engine.environment import size_of
from ltbench.errors import UsageError
from ltbench.models.classifier import build_head
from ltbench.models.resnet_cifar import BasicBlock, CIFARResNet

# (channels in, channels out, side of the output) of the first convolution of each stage at 32x32; all others of the
# stage keep the channels
STAGES = [(16, 16, 32), (16, 32, 16), (32, 64, 8)]


def parameters_by_formula(depth: int, in_channels: int) -> int:
    """3x3 convolutions without bias, each followed by a BN layer of two values a channel."""
    total = 9 * in_channels * 16 + 2 * 16
    for before, channels, _ in STAGES:
        others = 2 * (depth - 2) // 6 - 1
        total += 9 * before * channels + others * 9 * channels * channels + (others + 1) * 2 * channels
    return total


def multiply_adds_by_formula(depth: int, in_channels: int) -> int:
    """Multiply-adds of the convolutions on one 32x32 image."""
    total = 32 * 32 * 9 * in_channels * 16
    for before, channels, side in STAGES:
        total += side * side * 9 * channels * (before + (2 * (depth - 2) // 6 - 1) * channels)
    return total


@pytest.mark.parametrize(('depth', 'known'), [(8, 74_640), (20, 269_072), (32, 463_504), (56, 852_368)])
def test_parameters(depth: int, known: int) -> None:
    """With a head for 10 classes (650 more) the paper's table: 0.27 M, 0.46 M and 0.85 M for 20, 32 and 56."""
    count = sum(parameter.numel() for parameter in CIFARResNet(depth).parameters())
    assert count == parameters_by_formula(depth, 3) == known
    grey = sum(parameter.numel() for parameter in CIFARResNet(depth, in_channels=1).parameters())
    assert grey == parameters_by_formula(depth, 1) == known - 2 * 9 * 16


@pytest.mark.parametrize('depth', [8, 32])
def test_flops(depth: int) -> None:
    """68.9 million multiply-adds for ResNet-32, each counted as two operations."""
    net = CIFARResNet(depth)
    model = nn.Sequential(net, build_head({'type': 'LinearHead'}, net, 10))
    size = size_of(model, torch.zeros(1, 3, 32, 32))
    assert size['flops'] == 2 * (multiply_adds_by_formula(depth, 3) + 64 * 10)
    assert size['parameters'] == parameters_by_formula(depth, 3) + 650
    assert round(multiply_adds_by_formula(32, 3) / 1e6, 1) == 68.9


@pytest.mark.parametrize('side', [8, 32])
def test_features_are_the_mean_over_the_last_stage(side: int) -> None:
    net, seen = CIFARResNet(8, in_channels=1).eval(), []
    net.layer3.register_forward_hook(lambda module, inputs, output: seen.append(output))
    features = net(torch.rand(2, 1, side, side))
    assert features.shape == (2, net.out_features) == (2, 64)
    assert seen[0].shape == (2, 64, side // 4, side // 4)  # stride 2 twice
    assert torch.allclose(features, seen[0].sum(dim=(2, 3)) / (side // 4) ** 2)


def test_experts_share_the_first_stage_alone() -> None:
    """The counts of RIDE with narrower experts: 16 channels shared, then K copies of 24 and 48."""
    net = CIFARResNet(8, experts=3, expert_width=0.75).eval()
    assert (net.conv1.out_channels, net.layer2[0][0].conv1.out_channels, net.out_features) == (16, 24, 48)
    shared = 9 * 3 * 16 + 32 + 2 * 9 * 16 * 16 + 64
    copy = 9 * (16 * 24 + 24 * 24) + 96 + 9 * (24 * 48 + 48 * 48) + 192
    assert sum(parameter.numel() for parameter in net.parameters()) == shared + 3 * copy
    features = net(torch.rand(2, 3, 32, 32))
    assert features.shape == (2, 3, 48)
    assert not torch.allclose(features[:, 0], features[:, 1])  # each begins elsewhere


def digest(network: nn.Module) -> list[tuple[str, float]]:
    return [(name, value.double().sum().item()) for name, value in network.state_dict().items()]


@pytest.mark.parametrize('part', [0, 1, 2, 3])
def test_experts_share_what_comes_before_the_stage_at_which_they_part(part: int) -> None:
    """Each expert is a whole network made of what is shared and what is its own."""
    torch.manual_seed(0)
    net, images = CIFARResNet(8, in_channels=1, experts=3, experts_from=part).eval(), torch.rand(2, 1, 8, 8)
    features = net(images)
    stages = [('conv1', 'bn1'), ('layer1',), ('layer2',), ('layer3',)]
    own = {name for names in stages[part:] for name in names}
    for k in range(3):
        single = CIFARResNet(8, in_channels=1).eval()
        mine = {}
        for name in single.state_dict():
            first, _, rest = name.partition('.')
            mine[name] = net.state_dict()[f'{first}.{k}.{rest}' if first in own else name]
        single.load_state_dict(mine)
        assert torch.equal(features[:, k], single(images))
    assert not torch.allclose(features[:, 0], features[:, 1])
    whole = parameters_by_formula(8, 1)
    shared = [9 * 16 + 32, 2 * 9 * 16 * 16 + 64, 9 * (16 * 32 + 32 * 32) + 128]
    expected = sum(shared[:part]) + 3 * (whole - sum(shared[:part]))
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize('depth', [8, 20])
def test_the_last_block_alone_may_part(depth: int) -> None:
    """Of one block a stage that is the whole stage. A single expert gives what all give for it."""
    torch.manual_seed(0)
    net = CIFARResNet(depth, in_channels=1, experts=2, experts_from='last_block').eval()
    images = torch.rand(2, 1, 8, 8)
    features, state, blocks = net(images), net.state_dict(), (depth - 2) // 6
    for k in range(2):
        single, mine = CIFARResNet(depth, in_channels=1).eval(), {}
        for name in single.state_dict():
            _, own, rest = name.partition(f'layer3.{blocks - 1}.')
            there = f'layer3.{k}.0.{rest}' if blocks == 1 else f'branches.{k}.{rest}'
            mine[name] = state[there if own else name]
        single.load_state_dict(mine)
        assert torch.equal(features[:, k], single(images))
        assert torch.equal(features[:, k], net(images, expert=k))
    assert not torch.allclose(features[:, 0], features[:, 1])
    block = 9 * (64 + (64 if blocks > 1 else 32)) * 64 + 2 * 2 * 64
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters_by_formula(depth, 1) + block
    assert sum(len(list(stage.children())) for stage in net.last_stages) == blocks + 1


def test_another_width_of_a_last_block_and_an_unknown_word_are_refused() -> None:
    with pytest.raises(UsageError, match="expert_width of CIFARResNet is 1 with experts_from='last_block', got 2"):
        CIFARResNet(14, experts=2, experts_from='last_block', expert_width=2.0)
    with pytest.raises(UsageError, match="or 'last_block', got first_block"):
        CIFARResNet(14, experts=2, experts_from='first_block')


def test_experts_part_after_the_first_stage_by_default_and_one_never_parts() -> None:
    states = []
    for arguments in ({}, {'experts_from': 2}, {'experts': 3}, {'experts': 3, 'experts_from': 2}, {'experts_from': 0}):
        torch.manual_seed(1)
        states.append(digest(CIFARResNet(8, **arguments)))
    assert states[0] == states[1] == states[4]
    assert states[2] == states[3]


@pytest.mark.parametrize('part', [-1, 4])
def test_a_stage_that_is_not_there_is_refused(part: int) -> None:
    with pytest.raises(
        UsageError, match=rf'experts_from of CIFARResNet is a stage between 0 \(the stem\) and 3.*{part}'
    ):
        CIFARResNet(8, experts=2, experts_from=part)


def test_the_width_of_experts_is_that_of_all_their_stages() -> None:
    net = CIFARResNet(8, experts=2, expert_width=2.0, experts_from=1)
    assert (net.conv1.out_channels, net.layer1[0][0].conv1.out_channels, net.out_features) == (16, 32, 128)
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 2, 128)


def test_option_a_shortcut_by_hand() -> None:
    """Every second pixel, and half of the new channels on either side, all zero."""
    block = BasicBlock(2, 6, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)  # the residual branch is silent: what is left is the shortcut
    x = torch.arange(1.0, 33.0).reshape(1, 2, 4, 4)
    #  1  2  3  4     17 18 19 20
    #  5  6  7  8     21 22 23 24
    #  9 10 11 12     25 26 27 28
    # 13 14 15 16     29 30 31 32
    nothing = [[0.0, 0.0], [0.0, 0.0]]
    expected = [nothing, nothing, [[1.0, 3.0], [9.0, 11.0]], [[17.0, 19.0], [25.0, 27.0]], nothing, nothing]
    assert block(x)[0].tolist() == expected


def test_a_block_of_equal_size_adds_its_input_before_the_last_relu() -> None:
    block = BasicBlock(2, 2, stride=1).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(block(x), x.clamp(min=0))


def test_kaiming_initialisation() -> None:
    """Normal with variance 2 / fan_in, as in LDAM's code; by fan_out the first value would be a half."""
    torch.manual_seed(0)
    net = CIFARResNet(8)
    widening = net.layer3[0].conv1.weight
    assert widening.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)
    assert widening.abs().max() > 3 * (2 / (9 * 32)) ** 0.5  # not uniform
    head = build_head({'type': 'LinearHead'}, net, 100)
    assert head.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)


@pytest.mark.parametrize('depth', [2, 18, 34])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(UsageError, match=rf'6n \+ 2 .*got {depth}'):
        CIFARResNet(depth)

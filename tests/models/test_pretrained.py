"""Networks that begin with the weights of a file: the file is named by its sha256, wherever it lies."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.engine.job import Job, Runtime
from ltbench.engine.worker import carry_out
from ltbench.errors import DataError, UsageError
from ltbench.grid.graph import Graph, Run
from ltbench.grid.planning import check_parts
from ltbench.method import make_plan
from ltbench.models.classifier import LongTailClassifier
from ltbench.models.pretrained import check_there
from ltbench.models.resnet_torchvision import TorchvisionResNet
from ltbench.spec import parse_specs
from ltbench.store import Store
from ltbench.verbs.contract import SMALL


def saved(path: Path, state) -> dict[str, str]:
    """The declaration of a file with these weights."""
    torch.save(state, path)
    return {'sha256': hashlib.sha256(path.read_bytes()).hexdigest()[:8], 'file': str(path)}


def grey(seed: int = 0) -> dict[str, torch.Tensor]:
    """A ResNet-10 for grey images, with a classifier."""
    torch.manual_seed(seed)
    state = TorchvisionResNet('resnet10', in_channels=1).state_dict()
    return {**state, 'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)}


def test_features_are_those_of_torchvisions_network(tmp_path):
    theirs, images = resnet18(), torch.randn(2, 3, 40, 40)
    theirs.bn1.running_mean.fill_(0.3)
    ours = TorchvisionResNet('resnet18', weights=saved(tmp_path / 'x.pth', theirs.state_dict()))
    theirs.fc = torch.nn.Identity()
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize('experts_from', [0, 3, 'last_block'])
def test_every_expert_begins_with_them(tmp_path, experts_from):
    declared = saved(tmp_path / 'x.pth', resnet18().state_dict())
    one = TorchvisionResNet('resnet18', weights=declared).eval()
    three = TorchvisionResNet('resnet18', weights=declared, experts=3, experts_from=experts_from).eval()
    images = torch.randn(2, 3, 40, 40)
    assert torch.equal(three(images), one(images)[:, None].expand(-1, 3, -1))


def test_without_a_path_it_is_where_torchvision_puts_it(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    state = grey()
    declared = saved(tmp_path / 'x.pth', state)
    (tmp_path / 'x.pth').rename(folder / f'resnet10-{declared["sha256"]}.pth')
    network = TorchvisionResNet('resnet10', in_channels=1, weights={'sha256': declared['sha256'], 'file': ''})
    assert torch.equal(network.conv1.weight, state['conv1.weight'])


def test_a_user_who_is_not_there_is_named():
    weights = {'sha256': '394f9c45', 'file': '~nobodyx/x.pth'}
    with pytest.raises(DataError, match=r'~nobodyx/x.pth: there is no user nobodyx'):
        check_there({'name': 'resnet18', 'weights': weights})


def test_what_is_drawn_beside_them_is_what_was_drawn_without(tmp_path):
    declared = saved(tmp_path / 'x.pth', grey(seed=1))
    drawn = []
    for weights in (None, declared):
        torch.manual_seed(0)
        TorchvisionResNet('resnet10', in_channels=1, weights=weights)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def _without(key):
    state = grey()
    del state[key]
    return state


WRONG = {
    'lacking': (lambda: _without('layer1.0.bn1.bias'), 'does not fit resnet10: it lacks layer1.0.bn1.bias'),
    'too many': (lambda: {**grey(), 'extra': torch.zeros(1)}, 'does not fit resnet10: it has unexpected extra'),
    'shape': (
        lambda: {**grey(), 'conv1.weight': torch.zeros(64, 3, 7, 7)},
        'conv1.weight is [64, 3, 7, 7], here it is [64, 1, 7, 7]',
    ),
    'another network': (lambda: resnet18().state_dict(), 'it has unexpected layer1.1.conv1.weight and 47 more'),
    'no weights': (lambda: [1, 2], 'is not a file of weights: it holds more than named tensors'),
    'more than weights': (lambda: {'model': grey(), 'epoch': 3}, 'it holds more than named tensors'),
    'code': (lambda: {'x': Path('x')}, 'is not a file of weights: Weights only load failed'),
}


@pytest.mark.parametrize('wrong', WRONG)
def test_a_file_that_does_not_fit_is_one_line(tmp_path, wrong):
    make, said = WRONG[wrong]
    declared = saved(tmp_path / 'x.pth', make())
    with pytest.raises(DataError) as error:
        TorchvisionResNet('resnet10', in_channels=1, weights=declared)
    assert str(error.value).startswith(declared['file'])
    assert said in str(error.value)
    assert '\n' not in str(error.value)


def test_an_older_file_does_not_count_batches(tmp_path):
    older = {name: value for name, value in grey().items() if not name.endswith('num_batches_tracked')}
    TorchvisionResNet('resnet10', in_channels=1, weights=saved(tmp_path / 'x.pth', older))


@pytest.mark.parametrize('contents', ['cut', 'text', 'nothing'])
def test_a_damaged_file_of_that_checksum_is_one_line(tmp_path, contents):
    saved(tmp_path / 'x.pth', grey())
    whole = (tmp_path / 'x.pth').read_bytes()
    (tmp_path / 'x.pth').write_bytes({'cut': whole[: len(whole) // 2], 'text': b'<html>', 'nothing': b''}[contents])
    digest = hashlib.sha256((tmp_path / 'x.pth').read_bytes()).hexdigest()
    with pytest.raises(DataError, match='is not a file of weights: .*') as error:
        TorchvisionResNet('resnet10', in_channels=1, weights={'sha256': digest, 'file': str(tmp_path / 'x.pth')})
    assert '\n' not in str(error.value)


def test_another_file_and_none_are_one_line_each(tmp_path):
    declared = saved(tmp_path / 'x.pth', grey())
    with pytest.raises(
        DataError, match=r'x.pth is not the declared file of weights of resnet10: its sha256 is .*declared is 0{8}'
    ):
        TorchvisionResNet('resnet10', in_channels=1, weights={**declared, 'sha256': '0' * 8})
    with pytest.raises(
        DataError, match=r'weights of resnet10 are missing: .*no.pth; copy them there, or name a file: -o weights.file'
    ):
        TorchvisionResNet('resnet10', in_channels=1, weights={**declared, 'file': str(tmp_path / 'no.pth')})
    lacking = {'type': 'TorchvisionResNet', 'name': 'resnet152', 'weights': {'sha256': '394f9c45', 'file': ''}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(tmp_path))
        with pytest.raises(DataError) as error:
            check_there(lacking)
    assert f'{tmp_path}/hub/checkpoints/resnet152-394f9c45.pth' in str(error.value)
    assert 'copy them there from https://download.pytorch.org/models/resnet152-394f9c45.pth' in str(error.value)


@pytest.mark.parametrize(
    ('weights', 'said'),
    [
        ('imagenet', "weights of a backbone are dict\\(sha256='394f9c45'"),
        ({'file': 'x.pth'}, 'need sha256, the first 8 or more hexadecimal digits'),
        ({'sha256': '394F9C45'}, 'need sha256'),
        ({'sha256': '394f9c45', 'path': 'x'}, "unknown entry of the weights of a backbone 'path'"),
        ({'sha256': '394f9c45', 'file': 3}, 'file of the weights of a backbone is a path, got 3'),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_before_anything_is_read(weights, said):
    benchmark = load_benchmark('places_lt', 'pretrained')
    with pytest.raises(UsageError, match=said):
        check_parts(replace(benchmark, backbone={**benchmark.backbone, 'weights': weights}))


def test_the_preset_of_places_lt_builds_with_made_weights_of_its_shape(tmp_path):
    """Of one number each, so that the file is small."""
    with torch.device('meta'):
        shapes = TorchvisionResNet('resnet152').state_dict()
    made = {name: torch.tensor(number / 1e3).expand(shapes[name].shape) for number, name in enumerate(shapes)}
    made |= {'fc.weight': torch.zeros(1).expand(1000, 2048), 'fc.bias': torch.zeros(1).expand(1000)}
    declared = saved(tmp_path / 'resnet152.pth', made)
    options = {f'weights.{key}': value for key, value in declared.items()}
    benchmark = load_benchmark('places_lt', 'pretrained', options)
    plan = make_plan('nbn(scalar_decay=False)', benchmark, '', 0)
    network = LongTailClassifier(plan.settings, num_classes=365, in_channels=3)
    assert torch.equal(network.backbone.layer3[35].conv2.weight, made['layer3.35.conv2.weight'])
    assert network.head.weight.shape == (365, 2048)
    rules = plan.settings['recipe']['optimizer']['paramwise']
    assert rules == {'head': {'lr_mult': 10.0}, '_scalar': {'weight_decay': 0.0}}
    assert benchmark.recipe['epochs'] == 30


def test_a_computation_is_named_by_what_they_hold_and_not_by_where_they_lie():
    def named(**options):
        options = {f'weights.{key}': value for key, value in options.items()}
        benchmark = load_benchmark('places_lt', 'pretrained', options)
        return make_plan('erm', benchmark, '', 0).stages()[-1].fingerprint, benchmark.table(''), benchmark.setting

    assert named() == named(file='/elsewhere/x.pth')
    other = named(sha256='f82ba261')
    assert other[0] != named()[0]
    assert other[1] != named()[1]
    assert named()[2] == 'pretrained'


def test_training_begins_with_them_and_second_stages_need_them_no_more(tmp_path):
    state = grey(seed=3)
    declared, store = saved(tmp_path / 'x.pth', state), Store(tmp_path / 'store')
    benchmark = load_benchmark('digits_lt', overrides={**SMALL, 'epochs': 1, 'recipe.optimizer.lr': 0.0})
    backbone = {'type': 'TorchvisionResNet', 'name': 'resnet10', 'weights': declared}
    benchmark = replace(benchmark, backbone=backbone)
    method, data = parse_specs('crt(epochs=1)'), load_data(benchmark.data).fingerprint
    run = Run(benchmark, method, 0, make_plan(method, benchmark, data, 0))
    train, *others = Graph([run]).stages.values()
    file = Path(declared['file'])
    whole = file.read_bytes()
    file.write_bytes(whole + b' ')
    assert carry_out(Job(train, str(store.root), Runtime(device='cpu'))) == 1
    assert 'is not the declared file of weights of resnet10' in store.read(train.fingerprint, 'failure')['reason']
    file.write_bytes(whole)
    assert carry_out(Job(train, str(store.root), Runtime(device='cpu'))) == 0
    trained = torch.load(store.find(train.fingerprint).path('state.pt'), weights_only=True)['model']
    assert torch.equal(trained['backbone.layer2.0.conv1.weight'], state['layer2.0.conv1.weight'])
    file.unlink()
    for stage in others:
        assert carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) == 0

"""Published checkpoints: a file of each official form gives the logits of its formulas, every key is accounted for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision.models import resnet

from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.errors import DataError, UsageError
from ltbench.evaluation.predictions import predictions_of
from ltbench.models.resnet_cifar import CIFARResNet
from ltbench.record import read_records, record_path, write_record
from ltbench.spec import parse_specs
from ltbench.verbs.find import RecordedRun, how_to_make
from ltbench.verbs.imported import SOURCES, build_imported, read_checkpoint, score_checkpoint
from ltbench.verbs.imported.network import choose_backbone
from ltbench.verbs.imported.score import CIFAR_PIXELS, IMAGENET_PIXELS, with_pixels_of
from ltbench.verbs.report import report

CLASSES = 5
SMALL = {'type': 'TorchvisionResNet', 'name': 'resnet10'}
OF_RESNET50 = {'type': 'TorchvisionResNet', 'name': 'resnet50'}
CIFAR = {'type': 'CIFARResNet', 'depth': 20}
PREFIXES = pytest.mark.parametrize('prefix', ['', 'module.'], ids=['plain', 'module'])


def lively(network, seed=0):
    """Random running statistics, weights and biases in every BN, as after training."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def prefixed(state, prefix):
    return {prefix + key: value.clone() for key, value in state.items()}


def saved(tmp_path, content, name='model_best.pth.tar') -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def network_of_torchvision(name, classes=CLASSES):
    if name == 'resnet10':
        return lively(resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=classes))
    return lively(getattr(resnet, name)(num_classes=classes))


def features_of(network, images):
    """Pooled features of a torchvision network, by its own forward."""
    head, network.fc = network.fc, torch.nn.Identity()
    with torch.no_grad():
        features = network(images)
    network.fc = head
    return features


def images(side=64, number=3):
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(7))


def logits(path, source, backbone, side=64, classes=CLASSES):
    checkpoint = read_checkpoint(path, source)
    model = build_imported(checkpoint, checkpoint.backbone or backbone, classes, 3)
    with torch.no_grad():
        return checkpoint, model(images(side))


def all_accounted(checkpoint, state, where, prefix):
    """Every key of a state dict is either the origin of one of our weights or ignored for a reason."""
    ignored = {key.removeprefix(where).removeprefix(prefix) for key in checkpoint.ignored}
    used = {checkpoint.names[name] for name in checkpoint.weights}
    keys = {key.removeprefix(prefix) for key in state}
    assert keys <= used | ignored
    assert not keys & used & ignored
    assert all(checkpoint.ignored.values())


# ---------------------------------------------------------------------------------------------- the official forms


def nbn_content(network, arch, prefix, scale=None, rectified=False):
    state = prefixed(network.state_dict(), prefix)
    if scale is not None:
        state[f'{prefix}scale_factor'] = torch.tensor(scale)
    if rectified:
        state[f'{prefix}fc.bn.running_mean'] = torch.linspace(-1, 1, CLASSES)
        state[f'{prefix}fc.bn.running_var'] = torch.linspace(0.3, 3, CLASSES)
        state[f'{prefix}fc.bn.num_batches_tracked'] = torch.tensor(12)
    extra = {'epoch': 90, 'best_acc1': torch.tensor(41.0), 'optimizer': {'state': {}}, 'scheduler': {'T_max': 90}}
    return {'arch': arch, 'state_dict': state, **extra}


def apply_nbn_formula(network, scalar):
    """gamma = a w / (|w| + 1e-6) and beta = a b / (|b| + 1e-6) in the four layers of layer4, written out."""
    blocks = network.layer4
    layers = [blocks[0].bn3, blocks[0].downsample[1], blocks[1].bn3, blocks[2].bn3]
    with torch.no_grad():
        for bn in layers:
            for vector in (bn.weight, bn.bias):
                vector.copy_(scalar * vector / (vector.square().sum().sqrt() + 1e-6))


@PREFIXES
@pytest.mark.parametrize('rectified', [False, True], ids=['linear', 'rectified'])
def test_nbn_resnet50(tmp_path, prefix, rectified):
    network = network_of_torchvision('resnet50')
    content = nbn_content(network, 'resnet50_nbn', prefix, [3.7] + [9.0] * 19, rectified)
    # whatever the benchmark says, the file's network is taken
    checkpoint, ours = logits(saved(tmp_path, content), 'nbn', SMALL)
    assert checkpoint.backbone == OF_RESNET50
    all_accounted(checkpoint, content['state_dict'], 'state_dict.', prefix)
    assert 'uses only entry 0' in checkpoint.ignored['scale_factor[1:20]']
    assert checkpoint.ignored.keys() >= {'optimizer', 'scheduler', 'epoch', 'best_acc1'}
    apply_nbn_formula(network, 3.7)
    with torch.no_grad():
        expected = functional.linear(features_of(network, images()), network.fc.weight, network.fc.bias)
    if rectified:
        expected = (expected - torch.linspace(-1, 1, CLASSES)) / (torch.linspace(0.3, 3, CLASSES) + 1e-5).sqrt()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_the_scalar_acts_and_the_plain_network_has_none(tmp_path):
    network = network_of_torchvision('resnet50')
    plain = saved(tmp_path, nbn_content(network, 'resnet50', ''))
    checkpoint, ours = logits(plain, 'nbn', OF_RESNET50)
    assert checkpoint.normalization is None
    with torch.no_grad():
        torch.testing.assert_close(ours, network(images()), rtol=1e-5, atol=1e-5)
    with_scalar = saved(tmp_path, nbn_content(network, 'resnet50', '', [3.7]))
    with pytest.raises(DataError, match='weights that resnet50 .* does not have: scale_factor'):
        read_checkpoint(with_scalar, 'nbn')
    without_scalar = saved(tmp_path, nbn_content(network, 'resnet50_nbn', ''))
    with pytest.raises(DataError, match='missing scale_factor$'):
        logits(without_scalar, 'nbn', OF_RESNET50)


@PREFIXES
@pytest.mark.parametrize('scaled', [False, True], ids=['plain', 'lws'])
def test_classifier_balancing(tmp_path, prefix, scaled):
    network = network_of_torchvision('resnet10')
    features = {key: value for key, value in network.state_dict().items() if not key.startswith('fc.')}
    classifier = {'fc.weight': network.fc.weight.detach(), 'fc.bias': network.fc.bias.detach()}
    if scaled:
        classifier['scales'] = torch.linspace(0.5, 2, CLASSES)
    best = {'feat_model': prefixed(features, prefix), 'classifier': prefixed(classifier, prefix)}
    content = {'epoch': 90, 'best_epoch': 88, 'state_dict_best': best, 'best_acc': 0.4, 'centroids': None}
    checkpoint, ours = logits(saved(tmp_path, content), 'classifier-balancing', SMALL)
    all_accounted(checkpoint, features, 'state_dict_best.feat_model.', prefix)
    assert checkpoint.ignored.keys() >= {'epoch', 'best_epoch', 'best_acc', 'centroids'}
    expected = features_of(network, images()) @ network.fc.weight.T + network.fc.bias
    factor = torch.linspace(0.5, 2, CLASSES) if scaled else torch.ones(CLASSES)
    torch.testing.assert_close(ours, (factor * expected).detach(), rtol=1e-5, atol=1e-5)


def cifar_features(state, images, blocks=3):
    """Features of LDAM-DRW's ResNet, written out on its state dict."""

    def conv_bn(x, conv, bn, stride=1):
        x = functional.conv2d(x, state[f'{conv}.weight'], stride=stride, padding=1)
        return functional.batch_norm(
            x, *(state[f'{bn}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias'))
        )

    x = functional.relu(conv_bn(images, 'conv1', 'bn1'))
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f'layer{stage}.{block}', 2 if stage > 1 and block == 0 else 1
            out = functional.relu(conv_bn(x, f'{name}.conv1', f'{name}.bn1', stride))
            out = conv_bn(out, f'{name}.conv2', f'{name}.bn2')
            if stride == 2:
                quarter = out.shape[1] // 4
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            x = functional.relu(out + x)
    return functional.avg_pool2d(x, x.shape[3]).flatten(1)


def ldam_content(prefix='', cosine=True, classes=CLASSES, in_channels=3, arch='resnet20', depth=20):
    torch.manual_seed(1)
    state = lively(CIFARResNet(depth, in_channels)).state_dict()
    state['linear.weight'] = torch.rand(64, classes) * 2 - 1 if cosine else torch.randn(classes, 64)
    if not cosine:
        state['linear.bias'] = torch.randn(classes)
    content = {'epoch': 200, 'state_dict': prefixed(state, prefix), 'best_acc1': 77.0, 'optimizer': {'state': {}}}
    return (content | {'arch': arch} if arch else content), state


@PREFIXES
@pytest.mark.parametrize('cosine', [False, True], ids=['linear', 'cosine'])
def test_ldam_drw(tmp_path, prefix, cosine):
    content, state = ldam_content(prefix, cosine)
    checkpoint, ours = logits(saved(tmp_path, content), 'ldam-drw', {'type': 'CIFARResNet', 'depth': 32}, side=32)
    assert checkpoint.backbone == CIFAR
    all_accounted(checkpoint, content['state_dict'], 'state_dict.', prefix)
    features = cifar_features(state, images(32))
    if cosine:
        weight = state['linear.weight'] / state['linear.weight'].norm(dim=0)
        expected = 30 * (features / features.norm(dim=1, keepdim=True)) @ weight
    else:
        expected = features @ state['linear.weight'].T + state['linear.bias']
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@PREFIXES
def test_torchvision(tmp_path, prefix):
    network = network_of_torchvision('resnet10')
    path = saved(tmp_path, prefixed(network.state_dict(), prefix), 'resnet10-abc.pth')
    checkpoint, ours = logits(path, 'torchvision', SMALL)
    all_accounted(checkpoint, network.state_dict(), '', prefix)
    with torch.no_grad():
        torch.testing.assert_close(ours, network(images()), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------- what is refused


def test_missing_and_superfluous_keys_are_named(tmp_path):
    content, _ = ldam_content('module.')
    del content['state_dict']['module.layer2.0.bn1.running_var'], content['state_dict']['module.linear.weight']
    with pytest.raises(DataError, match=r'missing layer2\.0\.bn1\.running_var, linear\.weight$'):
        logits(saved(tmp_path, content), 'ldam-drw', CIFAR)
    content, _ = ldam_content()
    content['state_dict']['rotation.weight'] = torch.zeros(2)
    with pytest.raises(DataError, match=r'does not have: rotation\.weight$'):
        logits(saved(tmp_path, content), 'ldam-drw', CIFAR)
    content, _ = ldam_content()
    content['state_dict']['layer1.3.conv1.weight'] = torch.zeros(2)
    with pytest.raises(DataError, match=r'too many layer1\.3\.conv1\.weight$'):
        logits(saved(tmp_path, content), 'ldam-drw', CIFAR)
    content, _ = ldam_content()
    with pytest.raises(DataError, match="holds 'teacher', which the format of ldam-drw does not have"):
        read_checkpoint(saved(tmp_path, content | {'teacher': 1}), 'ldam-drw')
    content['state_dict']['module.conv1.weight'] = torch.zeros(1)
    with pytest.raises(DataError, match=r'state_dict\.conv1\.weight is there twice'):
        read_checkpoint(saved(tmp_path, content), 'ldam-drw')
    content, _ = ldam_content()
    content['state_dict']['bn1.bias'][3] = torch.nan
    with pytest.raises(DataError, match=r'state_dict\.bn1\.bias is not finite'):
        read_checkpoint(saved(tmp_path, content), 'ldam-drw')


def test_another_number_of_classes_is_refused(tmp_path):
    for cosine in (True, False):
        content, _ = ldam_content(cosine=cosine, classes=7)
        with pytest.raises(DataError, match=r'classifies 7 classes \(linear\.weight .*, the benchmark has 5'):
            logits(saved(tmp_path, content), 'ldam-drw', CIFAR)


def test_the_network_that_would_fit_is_named(tmp_path):
    path = saved(tmp_path, network_of_torchvision('resnet18').state_dict())
    with pytest.raises(DataError, match=r'too many layer1\.1.*It fits -o backbone\.name=resnet18'):
        logits(path, 'torchvision', SMALL)


def test_the_network_of_the_file_against_that_of_the_benchmark(tmp_path):
    content, _ = ldam_content(arch='resnet20')
    checkpoint = read_checkpoint(saved(tmp_path, content), 'ldam-drw')
    backbone, contradiction = choose_backbone(checkpoint, load_benchmark('cifar10_lt'))
    assert backbone == CIFAR
    assert contradiction == 'the file says resnet20, cifar10_lt says depth=32: the network of the file is used'
    assert choose_backbone(checkpoint, load_benchmark('cifar10_lt', 'quick')) == (CIFAR, None)
    with pytest.raises(UsageError, match=r'resnet20 \(CIFARResNet\), but imagenet_lt is for TorchvisionResNet'):
        choose_backbone(checkpoint, load_benchmark('imagenet_lt'))
    content['arch'] = 'resnet50_ride_NBN'
    with pytest.raises(UsageError, match='resnet50_ride_NBN, a network of several experts'):
        read_checkpoint(saved(tmp_path, content), 'nbn')
    with pytest.raises(UsageError, match="unknown network in .* 'resnet50_ride_NBN'"):
        read_checkpoint(saved(tmp_path, content), 'ldam-drw')


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_a_hostile_pickle_executes_nothing(tmp_path, source, legacy):
    target = tmp_path / 'created'
    content, _ = ldam_content()
    path = tmp_path / 'hostile.pth'
    torch.save(content | {'optimizer': Hostile(target)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match='is refused: .* could run code'):
        read_checkpoint(path, source)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the file is as hostile as it looks
    assert target.exists()


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
@pytest.mark.parametrize('kept', [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_says_so(tmp_path, legacy, kept):
    path = tmp_path / 'model.pth'
    torch.save(ldam_content()[0], path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match=r'model\.pth (cannot be read|is refused|is).* (truncated|damaged)'):
        read_checkpoint(path, 'ldam-drw')


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(UsageError, match="unknown source of checkpoints 'nbm': did you mean nbn"):
        read_checkpoint(tmp_path / 'absent', 'nbm')
    with pytest.raises(DataError, match='no such file'):
        read_checkpoint(tmp_path / 'absent', 'nbn')
    with pytest.raises(DataError, match='holds a list'):
        read_checkpoint(saved(tmp_path, [1]), 'nbn')
    content, _ = ldam_content()
    with pytest.raises(DataError, match='not in the format of classifier-balancing: no state_dict_best, but arch'):
        read_checkpoint(saved(tmp_path, content), 'classifier-balancing')
    with pytest.raises(UsageError, match="unknown network in .* 'resnet20'"):
        read_checkpoint(saved(tmp_path, content), 'torchvision')
    best = {'state_dict_best': {'feat_model': {}, 'classifier': {}}}
    with pytest.raises(DataError, match='no state_dict or model or .*, but state_dict_best; other sources: classifier'):
        read_checkpoint(saved(tmp_path, best), 'torchvision')
    with pytest.raises(DataError, match=r'state_dict\.conv1\.weight is a str, expected a tensor'):
        read_checkpoint(saved(tmp_path, {'state_dict': {'conv1.weight': 'x'}}), 'nbn')


# ---------------------------------------------------------------------------------------------- the row


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_RESULTS', str(tmp_path / 'results'))
    return tmp_path / 'results'


def digits_file(tmp_path, **options):
    content, state = ldam_content(classes=10, in_channels=1, arch=None, depth=8, **options)
    return saved(tmp_path, content, 'best.v2.pth.tar'), state


def test_the_row_is_marked_and_scored_on_the_test_part(tmp_path, results):
    path, state = digits_file(tmp_path)
    benchmark = load_benchmark('digits_lt')
    lines = list(score_checkpoint(path, 'ldam-drw', benchmark))
    (record,) = read_records('imported')[0].values()
    data = load_data(benchmark.data)
    pixels = (torch.from_numpy(data.test.images).float() / 255 - data.mean[0]) / data.std[0]
    weight = state['linear.weight'] / state['linear.weight'].norm(dim=0)
    predicted = (cifar_features(state, pixels.permute(0, 3, 1, 2), blocks=1) @ weight).argmax(dim=1).numpy()
    assert record['metrics']['top1'] == pytest.approx(100 * (predicted == data.test.labels).mean())
    assert record['method'].startswith('imported:ldam-drw(best, sha256=')
    with pytest.raises(UsageError):
        parse_specs(record['method'])  # no trained row can be called like it
    assert record['setting'] == 'imported, paper'
    assert (record['data'], record['table']) == (data.fingerprint, benchmark.table(data.fingerprint))
    assert record['code'] == record['environment']['code'] != ''
    imported = record['config']['imported']
    assert imported['source'] == 'ldam-drw'
    assert record['methods'][0]['options']['sha256'] == imported['sha256']
    assert (record['curve'], record['run_seed'], record['stages'][0]['epochs']) == ([], 0, 0)
    weights = [value for key, value in state.items() if 'running' not in key and 'num_batches' not in key]
    assert record['cost']['parameters'] == sum(value.numel() for value in weights)
    assert record['cost']['flops'] > 0
    assert record['cost']['wall_seconds'] == 0
    assert f'top-1 {record["metrics"]["top1"]:.2f} many' in lines[-2]
    assert any(line.startswith('ignored: optimizer (only for further training)') for line in lines)


def test_a_report_shows_it_beside_trained_rows(tmp_path, results):
    from made_records import make_record, write

    from ltbench.verbs.report import report

    list(score_checkpoint(digits_file(tmp_path)[0], 'ldam-drw', load_benchmark('digits_lt')))
    (record,) = read_records('imported')[0].values()
    classes = {'hits': [0] * 10, 'counts': record['class_counts']}
    same = {'setting': record['setting'], 'table': record['table']}
    write(make_record('nbn', 0, benchmark='digits_lt', factor=40, **same, **classes), 'imported')
    report('imported')
    text = (results / 'imported' / 'leaderboard.md').read_text()
    (row,) = (line for line in text.splitlines() if line.startswith('| 1 | imported:ldam-drw(best, sha256='))
    assert row.endswith('|  |  |')  # what its training took is not known
    assert 'which selects nothing; the epoch that the authors of an imported checkpoint chose' in text
    assert (results / 'imported' / 'figures' / 'groups-digits_lt-if40-imported__paper.png').is_file()
    assert 'Stages: 2' in (results / 'imported' / 'README.md').read_text()


def test_scoring_again_replaces_and_other_files_get_rows_of_their_own(tmp_path, results):
    benchmark = load_benchmark('digits_lt')
    for _ in range(2):
        list(score_checkpoint(digits_file(tmp_path)[0], 'ldam-drw', benchmark))
    (first,) = read_records('imported')[0].values()
    list(score_checkpoint(digits_file(tmp_path, cosine=False)[0], 'ldam-drw', benchmark))
    records = read_records('imported')[0].values()
    assert len(predictions_of(record_path('imported', first), first)) == sum(first['metrics']['test_images'])
    assert len({record['method'] for record in records}) == len({record['fingerprint'] for record in records}) == 2
    # a record of the same row by other code makes way
    path = next((results / 'imported' / 'records').glob(f'*{first["method"][-9:-1]}*.json'))
    path.unlink()
    old = path.with_name(path.name.replace(path.stem[-8:], '0' * 8))
    write_record(old, first | {'fingerprint': 'f' * 64, 'computation': 'f' * 64})
    list(score_checkpoint(digits_file(tmp_path)[0], 'ldam-drw', benchmark))
    assert not old.exists()
    assert (results / 'imported' / 'superseded' / old.name).is_file()


def test_pixels_are_normalised_as_the_source_does():
    benchmark = load_benchmark('digits_lt')
    digits = load_data(benchmark.data)
    assert with_pixels_of('ldam-drw', benchmark, digits).mean == digits.mean  # grey images keep their own

    class Colour:
        mean, std, channels = (0.5, 0.5, 0.5), (0.1, 0.1, 0.1), 3

    def pixels(source, name):
        changed = with_pixels_of(source, load_benchmark(name), Colour())
        return changed.mean, changed.std

    assert pixels('ldam-drw', 'folder_lt') == CIFAR_PIXELS
    assert pixels('torchvision', 'inat2018') == IMAGENET_PIXELS
    assert pixels('classifier-balancing', 'inat2018') == ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192))
    assert pixels('nbn', 'folder_lt') == (Colour.mean, Colour.std)


# ---------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def ltbench(tmp_path, results):
    def call(*arguments, code=0):
        result = subprocess.run(
            [sys.executable, '-m', 'ltbench.cli', *map(str, arguments)],
            cwd=tmp_path, env={**os.environ, 'LTBENCH_DATA': str(tmp_path / 'data')},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        printed = result.stdout + result.stderr
        assert result.returncode == code, printed
        assert 'Traceback' not in printed
        return printed

    return call


@pytest.fixture
def imagenet(tmp_path):
    """Three classes in the official layout, with list files of the official form."""
    root = tmp_path / 'data' / 'imagenet_lt'
    random = np.random.default_rng(0)
    for part, folder, counts in (
        ('train', 'train', (6, 3, 2)),
        ('val', 'train', (1, 1, 1)),
        ('test', 'val', (4, 4, 4)),
    ):
        names = [
            (f'{folder}/n0{label}/{part}{number}.JPEG', label) for label in range(3) for number in range(counts[label])
        ]
        for name, _ in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (44, 52, 3), dtype=np.uint8)).save(root / name)
        (root / f'ImageNet_LT_{part}.txt').write_text(''.join(f'{name} {label}\n' for name, label in names))
    return root


@pytest.mark.slow
def test_imagenet_lt_from_the_command_line(tmp_path, results, imagenet, ltbench):
    network = network_of_torchvision('resnet50', classes=3)
    path = saved(tmp_path, nbn_content(network, 'resnet50_nbn', 'module.', [2.0] + [1.0] * 19))
    small = ['-b', 'imagenet_lt', '-o', 'verify=False', '-o', 'resize=40', '-o', 'center_crop=32']
    printed = ltbench('eval', '--checkpoint', path, '--from', 'nbn', *small)
    assert 'ignored: scale_factor[1:20] (the official code uses only entry 0' in printed
    assert '/ imported:nbn(model_best, sha256=' in printed
    (record,) = read_records('imported')[0].values()
    assert record['setting'].startswith('imported, paper, ')
    assert record['config']['imported']['label_order'] == 'index of the sorted wnid'
    assert record['config']['imported']['mean'] == [0.485, 0.456, 0.406]
    assert record['class_counts'] == [6, 3, 2]
    assert record['metrics']['many'] is None
    # the score is that of the formulas on the same pixels, cut out by hand
    apply_nbn_formula(network, 2.0)
    mean, std = (np.array(value) for value in IMAGENET_PIXELS)
    correct = 0
    for line in (imagenet / 'ImageNet_LT_test.txt').read_text().splitlines():
        name, label = line.split(' ')
        pixels = np.asarray(Image.open(imagenet / name).resize((47, 40), Image.Resampling.BILINEAR))[4:36, 8:40]
        image = torch.from_numpy((pixels / 255 - mean) / std).float().permute(2, 0, 1)[None]
        with torch.no_grad():
            correct += int(network(image).argmax()) == int(label)
    assert record['metrics']['top1'] == pytest.approx(100 * correct / 12)
    assert results / 'imported' / 'leaderboard.csv' in report('imported')
    # what a user can mend is one line, also where a worker process met it
    (imagenet / 'val' / 'n01' / 'test2.JPEG').write_bytes(b'no image')
    printed = ltbench('eval', '--checkpoint', path, '--from', 'nbn', *small, code=3)
    assert 'test2.JPEG cannot be decoded' in printed


@pytest.mark.parametrize('container', ['state_dict', 'model', 'model_state_dict', None])
@pytest.mark.parametrize('prefix', ['module.', 'model.', '_orig_mod.', 'module.model.'])
def test_keys_of_other_trainers_give_the_same_network(tmp_path, container, prefix):
    content, state = ldam_content(prefix, cosine=False)
    weights = content['state_dict']
    others = {'best_prec1': 77.0, 'lr_scheduler': {}, 'global_step': 3, 'optimizer': {'state': {}}}
    checkpoint, ours = logits(
        saved(tmp_path, weights if container is None else {container: weights, **others}), 'ldam-drw', CIFAR, side=32
    )
    assert checkpoint.ignored.keys() >= (set() if container is None else {'best_prec1', 'lr_scheduler', 'global_step'})
    expected = cifar_features(state, images(32)) @ state['linear.weight'].T + state['linear.bias']
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_odd_names_are_shown_escaped_and_cut(tmp_path):
    for odd, shown in (('layer1.0.conv1.weig\x00t', r'layer1.0.conv1.weig\x00t'), ('layer1.x' * 99, 'layer1.x...')):
        content, _ = ldam_content()
        content['state_dict'][odd] = torch.zeros(1)
        with pytest.raises(DataError) as error:
            logits(saved(tmp_path, content), 'ldam-drw', CIFAR)
        assert str(error.value).isprintable()
        assert shown.replace('x...', '') in str(error.value)
        assert len(str(error.value)) < 600


def test_two_networks_in_a_file_are_not_chosen_between(tmp_path):
    content, _ = ldam_content()
    content['model'] = content['state_dict']
    with pytest.raises(DataError, match=r'holds several networks \(state_dict, model\); save only the one to score'):
        read_checkpoint(saved(tmp_path, content), 'ldam-drw')


def test_torchvision_under_the_arch_of_its_training_script(tmp_path):
    network = network_of_torchvision('resnet18')
    content = {'epoch': 1, 'arch': 'resnet18', 'state_dict': network.state_dict(), 'best_acc1': 70.0}
    checkpoint, ours = logits(saved(tmp_path, content), 'torchvision', SMALL)
    assert checkpoint.backbone == {'type': 'TorchvisionResNet', 'name': 'resnet18'}
    with torch.no_grad():
        torch.testing.assert_close(ours, network(images()), rtol=1e-5, atol=1e-5)


def test_a_flipped_bit_is_found_by_the_checksum_that_torch_leaves_out(tmp_path):
    path = saved(tmp_path, ldam_content()[0])
    whole = path.read_bytes()
    spot = whole.index(ldam_content()[1]['layer3.0.conv1.weight'].numpy().tobytes()) + 5001
    path.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :])
    torch.load(path, weights_only=True)  # torch takes it as it is
    with pytest.raises(DataError, match=r'truncated or damaged \(Bad CRC-32 for file .*get a complete copy'):
        read_checkpoint(path, 'ldam-drw')


@pytest.mark.parametrize('kind', ['pipe', 'device', 'folder', 'no permission'])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, kind):
    path = {'device': Path('/dev/zero')}.get(kind, tmp_path / 'model.pth')
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'no permission':
        path.touch(mode=0o000)
        if os.access(path, os.R_OK):
            pytest.skip('the superuser may read everything')
    with pytest.raises(DataError, match=f'{path} cannot be read: (it is a .*, no regular file|Permission denied)'):
        read_checkpoint(path, 'nbn')


@pytest.mark.parametrize(
    ('made', 'said'),
    [
        (lambda value: value.to_sparse(), 'is sparse_coo; save it dense'),
        (lambda value: value.to(torch.float8_e4m3fn), 'is float8_e4m3fn, expected real numbers'),
        (lambda value: value.long(), 'is int64, expected real numbers'),
        (lambda value: value.to('meta'), 'has no values, it was saved from the device meta'),
        (
            lambda value: torch.zeros(1).expand(10**7, 10**7),
            'declares 400,000,000,000,000 bytes, but the file has only 4 of',
        ),
        (lambda value: value.double() * 1e300, 'is not finite in float32'),
    ],
)
def test_tensors_that_are_no_weights_say_what_they_are(tmp_path, made, said):
    content, _ = ldam_content()
    content['state_dict']['bn1.bias'] = made(content['state_dict']['bn1.bias'])
    with pytest.raises(DataError, match=rf'state_dict\.bn1\.bias {said}'):
        read_checkpoint(saved(tmp_path, content), 'ldam-drw')


def test_an_attribute_saved_along_is_not_called(tmp_path):
    content, _ = ldam_content(cosine=False)
    weight = torch.nn.Parameter(content['state_dict']['linear.weight'])
    weight.dim = weight.numel = weight.detach = 'mine'  # kept by torch.save, set again by torch.load
    content['state_dict']['linear.weight'] = weight
    checkpoint, _ = logits(saved(tmp_path, content), 'ldam-drw', CIFAR, side=32)
    assert checkpoint.weights['head.weight'].dim() == 2


def test_pixels_given_by_hand(tmp_path, results):
    path, benchmark = digits_file(tmp_path, cosine=False)[0], load_benchmark('digits_lt')
    data = load_data(benchmark.data)

    def score(pixels):
        list(score_checkpoint(path, 'ldam-drw', benchmark, pixels=pixels))
        return {record['method'].partition(', mean=')[2]: record for record in read_records('imported')[0].values()}

    plain = score(None)['']
    assert 'pixels' not in plain['config']['imported']
    own = score((tuple(data.mean), tuple(data.std)))['0.2876, std=0.3536)']
    assert own['metrics'] == plain['metrics']
    other = score(((0.5,), (0.25,)))['0.5, std=0.25)']  # a row of its own, beside the two
    images_ = (torch.from_numpy(data.test.images).float() / 255 - 0.5) / 0.25
    state = torch.load(path, weights_only=True)['state_dict']
    scores = cifar_features(state, images_.permute(0, 3, 1, 2), blocks=1) @ state['linear.weight'].T
    predicted = (scores + state['linear.bias']).argmax(dim=1).numpy()
    assert other['metrics']['top1'] == pytest.approx(100 * (predicted == data.test.labels).mean())
    assert other['metrics'] != plain['metrics']
    assert other['methods'][0]['options']['std'] == [0.25]
    again = how_to_make(RecordedRun(path, other))
    assert '--mean 0.5 --std 0.25 --suite ' in again
    for wrong, said in (
        (((0.5, 0.5, 0.5), (0.2,)), 'the images have 1 channel, and the mean given is 0.5, 0.5, 0.5'),
        (((123.7,), (58.4,)), 'the mean given is 123.7: expected numbers between 0 and 1'),
        (((0.5,), (0.0,)), 'the standard deviation given is 0'),
        (((float('nan'),), (0.2,)), 'the mean given is nan'),
    ):
        with pytest.raises(UsageError, match=said):
            score(wrong)

"""What a second stage trains, and what it leaves alone, bit for bit: ERM and its follow-ups on a small digits_lt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltbench import plugins
from ltbench.benchmark import load_benchmark
from ltbench.data import load_data
from ltbench.data.batches import BatchPreprocessor
from ltbench.data.samplers import ClassAware
from ltbench.engine.job import Job, Runtime, StageContext
from ltbench.engine.networks import load_trained, network_of
from ltbench.engine.outputs import predict
from ltbench.engine.worker import carry_out
from ltbench.grid.graph import Graph, Run
from ltbench.method import build_method, make_plan
from ltbench.models.classifier import LongTailClassifier, build_head
from ltbench.models.heads import LinearHead
from ltbench.seeding import derive_seed
from ltbench.spec import parse_specs
from ltbench.stage import Stage
from ltbench.store import Store

plugins.load()
BENCHMARK = load_benchmark(
    'digits_lt', overrides={'n_max': 30, 'imbalance_factor': 10, 'test_per_class': 10, 'epochs': 2}
)
DATA = load_data(BENCHMARK.data)
METHODS = [
    'crt(epochs=2)', 'crt(epochs=2, bn=train)', 'lws(epochs=2)', 'lws(epochs=2, train_classifier=True)',
    'disalign(epochs=2)', 'weight_balancing(epochs=2, lr=0.1, head_decay=0.0, bn=eval)', 'mislas(epochs=2)',
    'weight_balancing(epochs=2, lr=0.1, head_decay=0.0, bn=eval, project=epoch)',
]  # fmt: skip


@dataclass
class Trained:
    """All methods' stages, carried out in one store."""

    store: Store
    runs: dict[str, Run]
    erm_files: dict[str, str]

    def stages(self, method: str) -> tuple[Stage, Stage, Stage]:
        train, features, head = self.runs[method].stages
        return train, features, head

    def model(self, method: str) -> LongTailClassifier:
        """The network as its ``train`` stage left it."""
        train = self.stages(method)[0]
        context = StageContext(train, self.store, Runtime(device='cpu'))
        return load_trained(context, self.store.find(train.fingerprint)).eval()

    def load(self, stage: Stage, name: str) -> dict[str, object]:
        return torch.load(self.store.find(stage.fingerprint).path(name), weights_only=True)

    def head(self, method: str) -> nn.Module:
        """A second stage's head, around the first stage's as it is before the second begins."""
        model, config = self.model(method), self.stages(method)[2].config['head']
        return build_head(config, model.backbone, 10, base=model.head)


def hashes(store: Store, stage: Stage) -> dict[str, str]:
    folder = store.folder(stage.fingerprint)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    store = Store(tmp_path_factory.mktemp('store'))
    runs = {
        method: Run(BENCHMARK, parse_specs(method), 0, make_plan(method, BENCHMARK, DATA.fingerprint, 0))
        for method in ['erm', *METHODS]
    }
    (erm,) = runs['erm'].stages
    assert carry_out(Job(erm, str(store.root), Runtime(device='cpu'))) == 0
    erm_files = hashes(store, erm)
    for stage in Graph(runs.values()).stages.values():
        assert carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) == 0, store.read(
            stage.fingerprint, 'failure'
        )
    return Trained(store, runs, erm_files)


def features_of_test_images(model: LongTailClassifier) -> Tensor:
    preprocess = BatchPreprocessor(DATA, BENCHMARK.recipe['augmentation'], 0)
    return predict(model.backbone, preprocess, DATA.test, {})


# ------------------------------------------------------------------------------------------------ the frozen backbone


@pytest.mark.parametrize('method', [method for method in METHODS if method[:3] in ('crt', 'lws', 'dis')])
def test_the_second_stage_rests_on_erm_itself(trained: Trained, method: str) -> None:
    assert trained.stages(method)[0].fingerprint == trained.runs['erm'].fingerprint


def test_no_second_stage_touches_the_trained_network(trained: Trained) -> None:
    erm = trained.runs['erm'].stages[0]
    assert 'state.pt' in trained.erm_files
    assert hashes(trained.store, erm) == trained.erm_files


@pytest.mark.parametrize('method', [method for method in METHODS if 'train' not in method and 'mislas' not in method])
def test_with_running_statistics_the_backbone_is_the_trained_one_bit_for_bit(trained: Trained, method: str) -> None:
    """Parameters and buffers alike: any change to either would show in the features of some test image."""
    features, labels = trained.load(trained.stages(method)[1], 'features.pt')['test']
    assert torch.equal(features, features_of_test_images(trained.model(method)))
    assert torch.equal(labels, torch.from_numpy(DATA.test.labels))


def test_with_batch_statistics_the_buffers_move_and_the_parameters_do_not(trained: Trained) -> None:
    """Replaying the drawn batches through the ERM network in training mode leaves exactly the stored features."""
    method = 'crt(epochs=2, bn=train)'
    stage = trained.stages(method)[1]
    stored = trained.load(stage, 'features.pt')
    model = trained.model(method)
    assert not torch.allclose(stored['test'][0], features_of_test_images(model), rtol=0.01)
    evaluated = trained.load(trained.stages('crt(epochs=2)')[1], 'features.pt')
    assert torch.equal(stored['labels'], evaluated['labels'])  # the same images in the same order
    assert not torch.allclose(stored['views'], evaluated['views'], rtol=0.01)

    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    replay(stage, model)
    assert torch.equal(stored['test'][0], features_of_test_images(model))
    parameters = dict(model.backbone.named_parameters())
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name in parameters), name


def replay(stage: Stage, model: LongTailClassifier) -> None:
    """What cRT's official code does to its frozen backbone, written out."""
    seed = derive_seed(0, 0, 'head')
    preprocess = BatchPreprocessor(DATA, BENCHMARK.recipe['augmentation'], seed)
    sampler = ClassAware(DATA.train.labels, seed=seed, images_per_turn=4)
    for epoch in range(stage.config['epochs']):
        sampler.set_epoch(epoch)
        preprocess.set_epoch(epoch)
        model.train()
        for indices in torch.tensor(list(sampler)).split(stage.config['batch_size']):
            batch = {'images': torch.from_numpy(DATA.train.images)[indices], 'labels': indices}
            with torch.no_grad():
                model.backbone(preprocess(batch, training=True)['images'])
    model.eval()


# ------------------------------------------------------------------------------------------------ the heads


def trainable(head: nn.Module) -> dict[str, int]:
    return {name: parameter.numel() for name, parameter in head.named_parameters() if parameter.requires_grad}


def changed(trained: Trained, method: str) -> set[str]:
    """Entries of the head that the second stage moved."""
    head = trained.head(method)
    after = trained.load(trained.stages(method)[2], 'head.pt')
    assert after.keys() == head.state_dict().keys()
    return {name for name, tensor in head.state_dict().items() if not torch.equal(tensor, after[name])}


def test_crt_trains_a_fresh_head(trained: Trained) -> None:
    method = 'crt(epochs=2)'
    erm, head = trained.model(method).head, trained.head(method)
    assert isinstance(head, LinearHead)
    assert head is not erm
    assert trainable(head) == {'weight': 640, 'bias': 10}
    after = trained.load(trained.stages(method)[2], 'head.pt')
    kept = torch.nn.functional.cosine_similarity(after['weight'], erm.weight.detach())
    assert after['weight'].shape == erm.weight.shape
    assert kept.abs().mean() < 0.8  # fine-tuned weights would still point where ERM's did
    with np.load(trained.store.find(trained.runs[method].fingerprint).path('test.npz')) as ours:
        features = trained.load(trained.stages(method)[1], 'features.pt')['test'][0]
        expected = torch.nn.functional.linear(features, after['weight'], after['bias'])
        assert torch.from_numpy(ours['logits']).allclose(expected, atol=1e-5)


def test_lws_trains_one_scalar_a_class(trained: Trained) -> None:
    assert trainable(trained.head('lws(epochs=2)')) == {'scale': 10}
    assert changed(trained, 'lws(epochs=2)') == {'scale'}


def test_lws_may_train_the_classifier_too(trained: Trained) -> None:
    method = 'lws(epochs=2, train_classifier=True)'
    assert trainable(trained.head(method)) == {'scale': 10, 'base.weight': 640, 'base.bias': 10}
    assert changed(trained, method) == {'scale', 'base.weight', 'base.bias'}


def test_mislas_trains_scale_and_classifier(trained: Trained) -> None:
    assert changed(trained, 'mislas(epochs=2)') == {'scale', 'base.weight', 'base.bias'}


def test_disalign_trains_its_calibration_alone(trained: Trained) -> None:
    expected = {'confidence.weight': 64, 'confidence.bias': 1, 'scale': 10, 'shift': 10}
    assert trainable(trained.head('disalign(epochs=2)')) == expected
    assert changed(trained, 'disalign(epochs=2)') == set(expected)


@pytest.mark.parametrize('method', [method for method in METHODS if 'weight_balancing' in method])
def test_weight_balancing_trains_the_classifier_it_found_within_its_norm(trained: Trained, method: str) -> None:
    """Without weight decay, at a large rate, so that the weights would grow past the limit if they could."""
    assert changed(trained, method) == {'weight', 'bias'}
    norms = trained.model(method).head.weight.detach().norm(dim=1)
    limit = norms.min() + 0.1 * (norms.max() - norms.min())
    after = trained.load(trained.stages(method)[2], 'head.pt')['weight'].norm(dim=1)
    assert (after <= limit * (1 + 1e-6)).all()


# ------------------------------------------------------------------------------------------------ along with the head

ALONG = ['nbn_retrain(epochs=2)', 'nbn_retrain(epochs=2, bn=train)', 'nbn_retrain(epochs=2, classifier=fresh)']


@pytest.fixture(scope='module')
def retrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[LongTailClassifier, LongTailClassifier]]:
    """The networks before and after the second stage."""
    store = Store(tmp_path_factory.mktemp('along'))
    runs = {
        text: Run(BENCHMARK, parse_specs(text), 0, make_plan(text, BENCHMARK, DATA.fingerprint, 0))
        for text in ['nbn', *ALONG]
    }
    for stage in Graph(runs.values()).stages.values():
        code = carry_out(Job(stage, str(store.root), Runtime(device='cpu')))
        assert code == 0, store.read(stage.fingerprint, 'failure')
    networks = {}
    for method in ALONG:
        first, second = runs[method].stages
        assert first.fingerprint == runs['nbn'].fingerprint
        context = StageContext(second, store, Runtime(device='cpu'))
        networks[method] = network_of(context, first).eval(), network_of(context, second).eval()
        preprocess = BatchPreprocessor(DATA, BENCHMARK.recipe['augmentation'], 0)
        logits = predict(networks[method][1], preprocess, DATA.test, {})
        with np.load(store.find(second.fingerprint).path('test.npz')) as stored:
            assert torch.equal(logits, torch.from_numpy(stored['logits']))
        model = store.find(second.fingerprint).meta['model']
        assert model['parameters'] == sum(p.numel() for p in networks[method][0].parameters())
    return networks


@pytest.mark.parametrize('method', ALONG)
def test_the_classifier_and_the_scalar_of_nbn_are_trained_and_nothing_else(retrained, method: str) -> None:
    before, after = (network.state_dict() for network in retrained[method])
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    statistics = {name for name, _ in retrained[method][0].named_buffers() if 'backbone' in name}
    trained = {'head.weight', 'head.bias', *(f'backbone.layer3.0.bn2.{kind}_scalar' for kind in ('weight', 'bias'))}
    assert moved == trained | (statistics if 'bn=train' in method else set())
    assert after['backbone.layer3.0.bn2.weight_scalar'] == after['backbone.layer3.0.bn2.bias_scalar']


def test_a_retrained_classifier_goes_on_from_the_first_one_or_begins_anew(retrained) -> None:
    def kept(method: str) -> float:
        before, after = (network.head.weight.detach() for network in retrained[method])
        return torch.nn.functional.cosine_similarity(before, after).abs().mean().item()

    assert kept(ALONG[0]) > 0.8 > kept(ALONG[2])


def test_a_second_stage_whose_scalars_have_no_decay() -> None:
    plan = make_plan('nbn_retrain(scalar_decay=False)', BENCHMARK, DATA.fingerprint, 0)
    assert plan.stages()[1].config['optimizer']['paramwise'] == {'_scalar': {'weight_decay': 0.0}}


def test_parts_that_are_not_there_cannot_be_trained_along(tmp_path) -> None:
    plan = make_plan('erm', BENCHMARK, DATA.fingerprint, 0)
    declared = make_plan('nbn_retrain', BENCHMARK, DATA.fingerprint, 0)
    run = Run(BENCHMARK, parse_specs('erm'), 0, replace(plan, follow_ups=declared.follow_ups))
    store = Store(tmp_path)
    codes = [carry_out(Job(stage, str(store.root), Runtime(device='cpu'))) for stage in run.stages]
    assert codes[0] == 0
    reason = store.read(run.fingerprint, 'failure')['reason']
    assert "no parameter of the backbone has '_scalar' in its name" in reason


# ------------------------------------------------------------------------------------------------ published values


@pytest.mark.parametrize(
    ('benchmark', 'method', 'expected'),
    [  # files of classifier-balancing@f162ade, MiSLAS@0fc381e and RIDE@ab8be5c
        ('imagenet_lt', 'lws', {'lr': 0.2, 'weight_decay': 5e-4, 'epochs': 5}),
        ('inat2018', 'lws', {'lr': 0.2, 'weight_decay': 1e-4, 'epochs': 5}),
        ('cifar10_lt', 'mislas', {'weight_decay': 2e-4, 'head': 0.3, 'tail': 0.0, 'bn': 'eval', 'batch_size': 0}),
        ('cifar100_lt', 'mislas', {'weight_decay': 2e-4, 'head': 0.4, 'tail': 0.1, 'bn': 'train', 'batch_size': 0}),
        ('imagenet_lt', 'mislas', {'weight_decay': 5e-4, 'head': 0.3, 'tail': 0.0, 'batch_size': 256}),
        ('inat2018', 'mislas', {'weight_decay': 1e-4, 'head': 0.3, 'tail': 0.0, 'batch_size': 256}),
        ('places_lt', 'mislas', {'weight_decay': 5e-4, 'head': 0.4, 'tail': 0.1, 'batch_size': 256}),
        ('cifar100_lt', 'ride', {'balance': 0.05}),
        ('imagenet_lt', 'ride', {'balance': 0.02}),
        ('inat2018', 'ride', {'balance': 0.015, 'max_margin': 0.5}),
    ],
)
def test_values_of_the_official_files(benchmark: str, method: str, expected: dict[str, object]) -> None:
    loaded = load_benchmark(benchmark)
    built = build_method(*parse_specs(method), loaded)
    assert {name: built.values[name] for name in expected} == expected
    if method == 'mislas':
        features, head = make_plan(method, loaded, DATA.fingerprint, 0).stages()[1:]
        assert features.config['batch_size'] == (expected['batch_size'] or loaded.recipe['batch_size'])
        assert head.config['optimizer']['weight_decay'] == expected['weight_decay']

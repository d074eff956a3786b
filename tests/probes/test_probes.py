"""What built-in probes say about the inside of a network, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ltbench.errors import UsageError
from ltbench.grid.graph import Run
from ltbench.grid.planning import expand
from ltbench.method import Method, make_plan, probes_of
from ltbench.probes import Seen
from ltbench.probes.bn import describe_bn
from ltbench.probes.norms import FeatureNorms
from ltbench.probes.strength import channel_strength
from ltbench.registry import METHODS, PROBES
from ltbench.source import foreign_code
from ltbench.spec import parse_specs
from ltbench.suite import load_suite

COUNTS = [200, 150, 10, 5]


def test_the_vectors_are_those_that_act(small_network):
    model = small_network({'type': 'NormalizedBN', 'scope': 'all', 'scalar': 'network', 'bias_init': 'ones'})
    last = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        last.weight.copy_(torch.arange(64.0))
        last.weight_scalar.fill_(3.0)
    told = describe_bn(model.backbone)
    expected = 3 * np.arange(64) / np.linalg.norm(np.arange(64))
    assert told['last']['weight'] == pytest.approx(expected, rel=1e-4)
    assert told['last']['bias'] == pytest.approx([3 / 8] * 64, rel=1e-4)
    assert told['layers'][-1]['weight_mean'] == pytest.approx(expected.mean(), rel=1e-4)
    assert told['layers'][-1]['weight_std'] == pytest.approx(expected.std(), rel=1e-4)
    assert len(told['layers']) == len(describe_bn(small_network().backbone)['layers']) == 7
    assert len(describe_bn(small_network({'type': 'NoAffineBN'}).backbone)['layers']) == 6


def test_the_strength_of_channels_by_hand():
    # one image of each class; channel 0 speaks for class 0, channel 1 for class 3, channel 2 for nobody in particular
    features = torch.tensor([[9.0, 0.0, 1.0], [8.0, 1.0, 1.0], [2.0, 3.0, 1.0], [1.0, 4.0, 1.0]])
    weight = torch.tensor([[1.0, -1.0, 0.1], [1.0, -1.0, 0.1], [-1.0, 1.0, 0.1], [-1.0, 1.0, 0.1]])
    sums = torch.stack([torch.ones(4, 3), features, features**2]).double()
    # centred by class means 5, 2, 1 and times the weight: channel 0 gives many (4 + 3) / 2 and few (3 + 4) / 2, a tie
    weight[0, 0] = 2.0
    told = channel_strength(sums, weight, COUNTS)
    assert told['rare_group'] == 'few'
    assert told['frequent'] == {'channels': 3, 'mean': 2.0, 'std': pytest.approx(np.std([2, 1, 3, 4, 1, 1]), rel=1e-4)}
    assert told['rare'] == {'channels': 0, 'mean': 0.0, 'std': 0.0}
    weight[3, 1] = 2.0
    told = channel_strength(sums, weight, COUNTS)
    assert told['frequent'] == {'channels': 2, 'mean': 1.25, 'std': pytest.approx(np.std([2, 1, 1, 1]), rel=1e-4)}
    assert told['rare'] == {'channels': 1, 'mean': 3.5, 'std': 0.5}
    assert channel_strength(sums, weight, [200, 150, 50, 30])['rare_group'] == 'medium'
    assert channel_strength(sums, weight, [200, 150, 150, 200]) == {}


def test_the_norms_of_features_are_means_of_lengths_by_class(small_network):
    features = torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])
    seen = Seen(small_network(), [features[:2], features[2:]], torch.tensor([0, 2, 0]), COUNTS)
    assert FeatureNorms().measure(seen) == {'mean': [7.5, None, 1.0, None]}


# ---------------------------------------------------------------------------------------------- who asks


@pytest.fixture
def declared(monkeypatch, benchmark):
    def declare(name, probes):
        """A method that asks for probes."""

        class Asking(Method):
            def apply(self, plan):
                return plan

        Asking.probes = probes
        monkeypatch.setitem(METHODS.module_dict, name, Asking)
        return name

    return declare


def test_a_combination_asks_for_what_each_of_its_parts_asks_for_once(declared):
    first, second = declared('first', ('feature_norms', 'bn_vectors')), declared('second', ['feature_norms', 'x'])
    assert probes_of(parse_specs(f'{first}+erm+{second}')) == ('feature_norms', 'bn_vectors', 'x')
    assert probes_of(parse_specs('nbn+crt')) == ('bn_vectors', 'channel_strength')
    assert probes_of(parse_specs('erm')) == ()
    with pytest.raises(UsageError, match="probes of method third is a list of names, got 'feature_norms'"):
        probes_of(parse_specs(declared('third', 'feature_norms')))


@pytest.mark.parametrize('asks', ['suite', 'method'])
def test_an_unknown_probe_is_refused_with_near_misses_before_any_data_are_read(tmp_path, monkeypatch, declared, asks):
    monkeypatch.setattr('ltbench.grid.planning.load_data', lambda config: pytest.fail('data were read'))
    monkeypatch.setattr('ltbench.grid.planning.load_benchmark', lambda *rest: pytest.fail('a benchmark was built'))
    path = tmp_path / 'mine.py'
    method = declared('asking', ('feature_norm',)) if asks == 'method' else 'erm'
    line = "probes = ['feature_norm']\n" if asks == 'suite' else ''
    path.write_text(f"benchmarks = ['digits_lt']\nmethods = ['{method}']\nseeds = [0]\n{line}")
    with pytest.raises(UsageError, match="unknown probe 'feature_norm'.*feature_norms"):
        expand(load_suite(str(path)))


def test_a_suite_lists_names_of_probes(tmp_path):
    path = tmp_path / 'mine.py'
    head = "benchmarks = ['digits_lt']\nmethods = ['erm']\nseeds = [0]\n"
    path.write_text(head + "probes = ['feature_norms', 'bn_vectors']\n")
    assert load_suite(str(path)).probes == ('feature_norms', 'bn_vectors')
    path.write_text(head + "probes = 'feature_norms'\n")
    with pytest.raises(UsageError, match="probes of suite mine is a list of names, got 'feature_norms'"):
        load_suite(str(path))


def test_a_probe_is_named_by_the_network_and_its_own_code_and_names_no_training(benchmark, monkeypatch):
    def run_of(method, *probes):
        return Run(benchmark, parse_specs(method), 0, make_plan(method, benchmark, 'data', 0), probes)

    plain, asking = run_of('erm'), run_of('erm', 'feature_norms')
    assert [stage.fingerprint for stage in plain.stages] == [stage.fingerprint for stage in asking.stages]
    [stage] = asking.probes
    assert stage.needs == asking.stages[-1] and stage.devices == 1
    # a step on its outputs has the same network; a head that is trained afterwards is another
    assert run_of('la_posthoc', 'feature_norms').ends[1:] == [stage.fingerprint]
    assert run_of('crt', 'feature_norms').probes[0].needs.kind == 'head'
    code = foreign_code(stage.config)
    monkeypatch.setattr('ltbench.source.code_of', lambda path: 'another')
    assert list(code) == ['feature_norms'] and foreign_code(stage.config) == {'feature_norms': 'another'}


def test_a_probe_beside_a_loss_is_no_part_of_the_loss(tmp_path, monkeypatch):
    import importlib.util
    import sys

    from ltbench import source
    from ltbench.registry import MODELS

    loss = """
import torch
from ltbench.models.losses import Loss
from ltbench.registry import MODELS

@MODELS.register_module()
class LossBesideProbe(Loss):
    def per_image(self, logits, labels):
        return logits[:, 0]
"""
    probe = """
from ltbench.registry import PROBES
from ltbench.probes import Probe

@PROBES.register_module(name='beside_loss')
class BesideLoss(Probe):
    def measure(self, seen):
        return 1.0
"""
    found = []
    for number, text in enumerate((loss, loss + probe, loss + probe.replace('1.0', '2.0'))):
        path = tmp_path / f'mine{number}.py'
        path.write_text(text)
        spec = importlib.util.spec_from_file_location('mine_with_probe', path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, 'mine_with_probe', module)
        for cached in (source._code_of_part, source._file_of):
            cached.cache_clear()
        spec.loader.exec_module(module)
        found.append((foreign_code({'type': 'LossBesideProbe'}), foreign_code({'probe': {'type': 'beside_loss'}})))
        MODELS.module_dict.pop('LossBesideProbe')
        PROBES.module_dict.pop('beside_loss', None)
    assert found[0][0] == found[1][0] == found[2][0] != {}
    assert found[0][1] == {} and found[1][1] != found[2][1]

"""What is looked at while test images pass through a network, and what modules want to be followed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ltbench.engine.hooks import Curve
from ltbench.engine.probing import followed, measured, watched
from ltbench.errors import MethodWarning, UsageError
from ltbench.models.normalization import NormalizedBN
from ltbench.probes import ALWAYS, Probe, Seen
from ltbench.probes.strength import class_sums
from ltbench.registry import PROBES

COUNTS = [200, 150, 10, 5]


def test_seen_is_what_the_head_is_given_and_only_while_it_is_watched(small_network):
    model = small_network().eval()
    images, labels = torch.randn(10, 1, 8, 8), torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 0, 0])
    with watched(model) as batches, torch.no_grad():
        for part in images.split(4):
            model(part)
    with torch.no_grad():
        model(images)  # no longer watched
        features = model.backbone(images)
    seen = Seen(model, batches, labels, COUNTS)
    assert torch.allclose(seen.features, features)
    sums = class_sums(seen)
    assert sums[0, :, 0].tolist() == [4, 2, 2, 2]
    assert torch.allclose(sums[1, 3], features[[3, 4]].double().sum(0))
    assert torch.allclose(sums[2, 3], features[[3, 4]].double().square().sum(0))
    assert set(measured(ALWAYS, seen)) == {'bn', 'strength'}  # as records have called them since before probes


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('raise', 'ZeroDivisionError: division by zero'),
        ({'far': float('nan')}, 'bad.far is nan, not a finite number'),
        ({'tensor': torch.ones(1)}, 'Tensor is not JSON serializable'),
    ],
)
def test_a_probe_that_fails_fails_alone_and_says_so(small_network, monkeypatch, given, said):
    class Bad(Probe):
        def measure(self, seen):
            return 1 / 0 if given == 'raise' else given

    class Good(Probe):
        def measure(self, seen):
            return {1: (2, 3.5)}

    class Absent(Probe):
        def measure(self, seen):
            return None

    for name, probe in (('bad', Bad), ('good', Good), ('absent', Absent)):
        monkeypatch.setitem(PROBES.module_dict, name, probe)
    with pytest.warns(MethodWarning, match='the probe bad measured nothing: .*' + said):
        found = measured(['bad', 'good', 'absent'], Seen(small_network(), [], torch.zeros(0), COUNTS))
    assert found == {'good': {'1': [2, 3.5]}}  # as it will be read from the record


def test_a_value_that_modules_share_counts_once(small_network):
    model = small_network()
    assert followed(model) == {}
    NormalizedBN(scope='all', scalar='layer')(model.backbone)
    scalars = {id(s): s for m in model.modules() for s in getattr(m, 'scalars', ())}
    with torch.no_grad():
        for value, scalar in enumerate(scalars.values()):
            scalar.fill_(value)
    assert followed(model) == {'bn_scale': np.mean(range(7))}


def test_any_module_may_be_followed_under_a_name_that_training_does_not_use():
    class Followed(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name, self.value = name, nn.Parameter(torch.tensor(2.5))

        def followed(self):
            return {self.name: [self.value, self.value, torch.tensor(0.5)], 'nothing': []}

    assert followed(nn.Sequential(Followed('temperature'))) == {'temperature': 1.5}
    assert _epoch_of(Followed('temperature'))['temperature'] == 1.5
    with pytest.raises(UsageError, match='uses the reserved name accuracy; rename that value'):
        _epoch_of(Followed('accuracy'))
    endless = Followed('temperature')
    with torch.no_grad():
        endless.value.fill_(float('inf'))
    assert 'temperature' not in _epoch_of(endless)


def _epoch_of(model):
    """What the curve holds of one epoch without a step of note."""

    class Context:
        device = torch.device('cpu')

        def progress(self, *done, **values):
            pass

    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    wrapper = SimpleNamespace(optimizer=optimizer)
    runner = SimpleNamespace(epoch=0, max_epochs=1, optim_wrapper=wrapper, model=model)
    curve = Curve(Context())
    curve.before_train_epoch(runner)
    curve.after_train_iter(runner, 0, {'labels': [0]}, {'loss': torch.tensor(1.0), 'correct': torch.tensor(1.0)})
    curve.after_train_epoch(runner)
    return curve.epochs[0]

"""What `ltbench ls` says of methods."""

from __future__ import annotations

import inspect

import pytest

from ltbench import plugins
from ltbench.grid.shares import stages_and_shares
from ltbench.registry import METHODS
from ltbench.verbs.ls import paper_of


@pytest.mark.parametrize(
    ('name', 'paper'),
    [
        ('drw', 'Cao et al., NeurIPS 2019'),
        ('nbn', 'Bao et al., IEEE TIP 2024'),
        ('tau_norm', 'Kang et al., ICLR 2020'),
        ('focal', 'Lin et al., ICCV 2017'),
        ('erm', ''),
    ],
)
def test_paper_and_year_come_from_the_docstring(name, paper):
    assert paper_of(inspect.getdoc(METHODS.get(name))) == paper


def test_every_method_but_the_plain_ones_names_a_paper_and_its_code():
    for name in set(plugins.method_names()) - {'erm', 'wide'}:
        doc = inspect.getdoc(METHODS.get(name))
        assert paper_of(doc)[-4:].isdigit(), name
        assert 'http' in doc, name


def test_stages_and_what_is_shared():
    described = stages_and_shares(plugins.method_names())
    assert described['balanced_softmax'] == ('train', 'everything with la_loss')
    assert described['crt'][0] == 'train > features > head'
    assert described['crt'][1].startswith('60 of 60 epochs with erm')
    assert described['ldam_drw'] == ('train x2', '48 of 60 epochs with ldam')
    assert described['tau_norm'][0] == 'train > features > posthoc > (train on less, to choose)'

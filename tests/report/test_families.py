"""Families of methods: each declares one, and colour is never what alone tells two apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ltbench import plugins
from ltbench.registry import METHODS
from ltbench.report import names
from ltbench.report.families import FAMILIES, NONE, family_of, look_of
from ltbench.report.figures.style import looks

PAPER, SCREEN = '#fdfcf9', '#15171a'


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    part = np.array(to_rgb(colour))
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_every_method_is_of_a_family_that_has_a_look():
    plugins.load()
    mine = {name for name, cls in METHODS.module_dict.items() if cls.__module__.startswith('methods.')}
    assert len(mine) > 40
    assert {name for name in mine if family_of(name) not in FAMILIES} == set()
    assert {name for name in mine if METHODS.get(name).family != family_of(name)} == set(), 'as read, so imported'


@pytest.mark.parametrize(
    ('method', 'family'),
    [
        ('erm', 'baseline'),
        ('erm+drw', 're-weighting'),
        ('nbn(scope=all)+balanced_softmax', 'BN'),
        ('cosine_head+balanced_softmax', 'logit adjustment'),
        ('my_method', ''),
        ('my_method+mixup', 'mixing'),
        ('erm+my_method', ''),
        ('no method (at all', ''),
    ],
)
def test_a_combination_is_of_the_family_of_its_first_part_that_is_no_baseline(method, family):
    assert family_of(method) == family
    assert look_of(method) == FAMILIES.get(family, NONE)


def test_a_plug_in_may_be_of_one_of_the_families(tmp_path, monkeypatch):
    path = tmp_path / 'mine.py'
    path.write_text(
        "@METHODS.register_module(name='mine')\nclass Mine(Method):\n    family = 'mixing'\n"
        "@METHODS.register_module(name='other')\nclass Other(Method):\n    family = 'of my own'\n"
    )
    monkeypatch.setenv('LTBENCH_PLUGINS', str(path))
    names._declarations.cache_clear()
    try:
        assert (family_of('mine'), family_of('other')) == ('mixing', '')
    finally:
        names._declarations.cache_clear()


def test_shapes_differ_and_colours_can_be_seen_on_paper_and_in_the_dark():
    every = [*FAMILIES.values(), NONE]
    for part in ('marker', 'outline', 'light', 'dark', 'title'):
        assert len({getattr(look, part) for look in every}) == len(every), part
    for look in every:
        assert min(contrast(look.light, PAPER), contrast(look.light, '#ffffff')) > 3, look.title
        assert contrast(look.dark, SCREEN) > 4.5, look.title


def test_lines_have_the_colour_of_their_family_and_are_told_apart_without_it():
    methods = ['erm', 'crt', 'lws', 'tau_norm', 'ncm', 'mislas', 'nbn', 'my_method']
    found = looks(methods)
    assert found['crt']['color'] == to_rgb(FAMILIES['two-stage'].light)
    assert found['my_method']['color'] == to_rgb(NONE.light)
    colours = [found[method]['color'] for method in ('crt', 'lws', 'tau_norm', 'ncm')]
    assert len(set(colours)) == 4, 'shades'
    for one, other in itertools.combinations(methods, 2):
        assert [found[one][part] for part in ('marker', 'linestyle')] != [
            found[other][part] for part in ('marker', 'linestyle')
        ]

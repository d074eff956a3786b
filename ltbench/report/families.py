"""Families of methods: a colour and a shape for each, the same in figures and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ltbench.errors import UsageError
from ltbench.report.names import declared
from ltbench.spec import parse_specs


class Family(NamedTuple):
    """How a family looks.

    Attributes:
        title: Its name for readers.
        light: Colour on white paper, also of figures.
        dark: Colour on a dark screen.
        marker: Shape, as matplotlib names it; no two families share one, so that colour is never needed.
        outline: The same shape on the page: an SVG path in a square of 10 x 10.
    """

    title: str
    light: str
    dark: str
    marker: str
    outline: str


FAMILIES: Mapping[str, Family] = {
    'baseline': Family('Baselines', '#3f3d39', '#d6d2c8', 'o', 'M5 1a4 4 0 1 0 .01 0z'),
    're-sampling': Family('Re-sampling', '#c2570c', '#f0a35e', 's', 'M1.5 1.5h7v7h-7z'),
    're-weighting': Family('Re-weighting and margins', '#8a6d00', '#e0c341', 'D', 'M5 .3 9.7 5 5 9.7.3 5z'),
    'two-stage': Family('Two-stage', '#22803a', '#6fcf7c', '^', 'M5 .8 9.6 9H.4z'),
    'logit adjustment': Family('Logit adjustment', '#0b6fb0', '#5eaee6', 'v', 'M5 9.2.4 1h9.2z'),
    'BN': Family('BN normalisation and controls', '#b3173a', '#ff7d92', 'p', 'M5 .5 9.6 3.9 7.9 9.3H2.1L.4 3.9z'),
    'mixing': Family(
        'Mixing of images', '#0d7d79', '#5fd0c9', 'P', 'M3.4.5h3.2v2.9h2.9v3.2H6.6v2.9H3.4V6.6H.5V3.4h2.9z'
    ),
    'experts': Family(
        'Experts and branches', '#7a3fb8', '#bd93f0', 'X', 'M2.8.6 5 2.8 7.2.6 9.4 2.8 7.2 5l2.2 2.2-2.2 2.2L5 7.2 '
        '2.8 9.4.6 7.2 2.8 5 .6 2.8z',
    ),
    'contrastive': Family(
        'Contrastive', '#c2388f', '#f59ad0', '*', 'M5 .2 6.2 3.6 9.8 3.7 6.9 5.9 8 9.4 5 7.3 2 9.4 3.1 5.9.2 3.7 '
        '3.8 3.6z',
    ),
    'optimisation': Family(
        'Steps, averages, teachers', '#7d4f2a', '#c9a07a', 'h', 'M5 .2 9.2 2.6v4.8L5 9.8.8 7.4V2.6z'
    ),
}  # fmt: skip
"""By the name that a method declares as its ``family``, in the order of legends."""

NONE = Family('Other', '#77736b', '#9a968d', '8', 'M3.2.7h3.6l2.5 2.5v3.6L6.8 9.3H3.2L.7 6.8V3.2z')
"""The look of a method that declares none of :data:`FAMILIES`, or that was not trained here."""


def family_of(method: str) -> str:
    """Name of the family of a method, as typed: for ``a+b`` that of the first part that is no baseline; '' if none."""
    try:
        parts = [part.name for part in parse_specs(method)]
    except UsageError:
        return ''
    known = [declared(name, 'family') for name in parts if declared(name, 'family') in FAMILIES]
    return next((family for family in known if family != 'baseline'), 'baseline' if len(known) == len(parts) else '')


def look_of(method: str) -> Family:
    """How the family of a method, as typed, looks."""
    return FAMILIES.get(family_of(method), NONE)

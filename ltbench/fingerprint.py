"""What names a computation: a sha256 over everything that can change its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PROTOCOL_VERSION = 2
"""Raised whenever ltbench's own code changes what a stage computes; old artifacts and records are then never reused.

Nobody needs to remember that: ``tests/lock.json`` ties the engine's code to golden results, and a test fails when they
move and this number does not.
"""


LOCATION_KEYS = ('root', 'file')
"""Keys that say where files are: in a ``data`` section, whose contents have their own fingerprint, and in a backbone's
weights, beside their sha256."""
WEIGHTS = 'weights'
"""Argument of a backbone: its initial weights, see :mod:`ltbench.models.pretrained`."""


def without_location(backbone: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a backbone without the location of the file with its initial weights."""
    if not isinstance(weights := backbone.get(WEIGHTS), Mapping):
        return backbone
    return {**backbone, WEIGHTS: {key: value for key, value in weights.items() if key not in LOCATION_KEYS}}


def fingerprint(value: Any) -> str:
    """Sha256 (64 hex digits) of plain data: dicts, lists, tuples, strings, numbers, booleans and None.

    Key order, tuple against list, and ``1`` against ``1.0`` make no difference.

    Raises:
        TypeError: If something else is inside; it could not be stored and rebuilt.
        ValueError: If a number is NaN or infinite.
    """
    return hashlib.sha256(_ENCODER.encode(canonical(value)).encode()).hexdigest()


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(',', ':'), allow_nan=False)
_AS_IT_IS = frozenset((str, int, bool, type(None)))
"""Types of values with one spelling. Most values of a config have one; checking the type saves a call."""
_SCALARS, _LISTS, _MAPPINGS = (str, int), (list, tuple), (dict, Mapping)  # ``dict | Mapping`` is rebuilt at each test


def canonical(value: Any) -> Any:
    """``value`` with one spelling for what means the same."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, _LISTS):
        return [item if type(item) in _AS_IT_IS else canonical(item) for item in value]
    if value is None or isinstance(value, _SCALARS):  # before mappings: testing for one takes ten times as long
        return value
    if isinstance(value, _MAPPINGS):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f'only string keys can be fingerprinted, got {list(value)}')
            plain[key] = item if type(item) in _AS_IT_IS else canonical(item)
        return plain
    raise TypeError(f'{value!r} ({type(value).__name__}) is not plain data and cannot be part of a config')

"""Options in records: their names, and how their values are written and ordered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ltbench.config import leaves
from ltbench.errors import unknown

SECTIONS = ('data', 'backbone', 'recipe')
"""Sections of a benchmark whose entries can be varied."""


def options_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Every option by which records can be compared, and its values in them, in order."""
    found: dict[str, dict[str, tuple[Any, ...]]] = {}
    for record in records:
        config = record['config']['benchmark']
        entries = list(leaves({section: config[section] for section in SECTIONS}))
        entries += [(f'{part["name"]}.{key}', v) for part in record['methods'] for key, v in part['options'].items()]
        for name, value in entries:
            found.setdefault(name, {})[as_text(value)] = place((), value)
    return {name: sorted(values, key=values.__getitem__) for name, values in sorted(found.items())}


def check_known(records: Sequence[Mapping[str, Any]], option: str) -> None:
    """Raise UsageError, with near misses, unless a record has the option."""
    known = options_of(records)
    if option in known:
        return
    owner = option.partition('.')[0]
    owners = {name.partition('.')[0] for name in known} | {p['name'] for r in records for p in r['methods']}
    if owner not in owners:
        raise unknown('method or section in these records', owner, owners)
    raise unknown(f'option of {owner} in these records', option, [k for k in known if k.partition('.')[0] == owner])


def place(order: Sequence[Any], value: Any) -> tuple[Any, ...]:
    """Sort key of a value: values of ``order`` come first, then numbers by size, then words."""
    if value in order:
        return (0, list(order).index(value), '')
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (1, value, '') if number else (2, 0, as_text(value))


def as_text(value: Any) -> str:
    """A value as it is shown."""
    return value if isinstance(value, str) else json.dumps(value)

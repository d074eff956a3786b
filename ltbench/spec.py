"""What a user types: names with options, joined by +, and assignments."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ltbench.errors import UsageError, unknown
from ltbench.recipe import shortened

MOST_SEEDS = 10_000  # in one range
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Spec:
    """A name with options, as typed: ``nbn(normalize=weight)``."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        inner = ', '.join(f'{key}={as_typed(value)}' for key, value in self.options.items())
        return f'{self.name}({inner})' if inner else self.name


class Specs(tuple[Spec, ...]):
    """The parts of a method, joined by +, in order; this form is passed from its suite to its record."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(spec.name for spec in self))

    def __str__(self) -> str:
        return '+'.join(map(str, self))


def parse_specs(text: str | Mapping[str, Any]) -> Specs:
    """Read ``a(x=1, y=two)+b`` into its parts, in order.

    A mapping ``dict(type='a+b', **{'a.x': 1})`` is accepted too; an option without a prefix belongs to the first part.
    """
    if isinstance(text, Mapping):
        if not all(isinstance(key, str) for key in text):
            raise UsageError(f'cannot read {shortened(text)}: options have names')
        options = dict(text)
        specs = list(parse_specs(options.pop('type', '')))
        for key, value in options.items():
            owner, _, option = key.rpartition('.')
            index = next((i for i, spec in enumerate(specs) if spec.name == owner), None) if owner else 0
            if index is None:
                raise unknown('part of ' + str(text['type']), owner, [spec.name for spec in specs])
            specs[index] = Spec(specs[index].name, {**specs[index].options, option: value})
        return Specs(specs)
    if not isinstance(text, str):
        raise UsageError(f'cannot read {shortened(text)}: expected a name, with options in brackets')
    specs = []
    for part in pieces(text, '+'):
        match = re.fullmatch(r'([\w./~-]+|[^()+]+\.py)\s*(?:\((.*)\))?', part.strip(), flags=re.DOTALL)
        if match is None:
            one_by_one = '; to give several, repeat the option' if len(pieces(text, ',')) > 1 else ''
            raise UsageError(
                f'cannot read {text!r}: expected NAME, NAME(option=value, ...), or parts joined by +{one_by_one}'
            )
        pairs = [parse_assignment(item) for item in pieces(match[2] or '', ',')]
        options = dict(pairs)
        if len(options) < len(pairs):
            raise UsageError(f'{text!r} sets an option twice')
        specs.append(Spec(match[1], options))
    if not specs or text.strip().startswith('+') or text.strip().endswith('+') or '++' in text:
        raise UsageError(f'cannot read {text!r}: a name is missing')
    return Specs(specs)


def parse_assignment(text: str) -> tuple[str, Any]:
    """``'recipe.epochs=5'`` -> ``('recipe.epochs', 5)``. A value that is no Python literal of plain finite data stays a
    string, which options for numbers refuse."""
    key, separator, value = text.partition('=')
    if not separator or not key.strip() or not value.strip():
        raise UsageError(f'cannot read {text!r}: expected key=value')
    words = {'true': True, 'false': False, 'none': None}
    as_text = words.get(value.strip().lower(), value.strip())
    try:
        read = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError):  # {[]: 1} is an expression, not a value
        return key.strip(), as_text
    return key.strip(), read if _is_plain(read) else as_text  # ... is a literal, as are {1, 2} and 1e999


def _is_plain(value: Any) -> bool:
    """Whether records can hold it."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))


def parse_assignments(items: Iterable[str]) -> dict[str, Any]:
    """Parse assignments; the last one for a key counts, see :func:`parse_assignment`."""
    return dict(map(parse_assignment, items))


def parse_seeds(typed: Iterable[str]) -> tuple[int, ...]:
    """``['0,1', '5-7']`` -> 0, 1, 5, 6, 7; empty if nothing was typed."""
    seeds: dict[int, None] = {}
    for item in (item for text in typed for item in text.split(',')):
        match = re.fullmatch(r'\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?', item, flags=re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < MOST_SEEDS or last > LARGEST_SEED:
            raise UsageError(
                f'cannot read seeds {shortened(item)}: expected whole numbers from 0 to 2^63 - 1, like 0,1,2 or 0-4'
            )
        seeds |= dict.fromkeys(range(first, last + 1))
    return tuple(seeds)


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """``'0.5,0.4'`` -> 0.5, 0.4."""
    try:
        return tuple(float(item) for item in text.split(','))
    except ValueError:
        raise UsageError(f'cannot read {option} {text!r}: expected numbers with commas, like 0.49,0.48,0.45') from None


def pieces(text: str, separator: str) -> list[str]:
    """Split at ``separator`` outside of brackets and quotes, dropping empty pieces."""
    found, depth, quote, before = [''], 0, '', ''
    for character in text:
        if quote:
            quote = '' if character == quote else quote
        elif character in '\'"' and before in '=([{,: ':  # where a value begins: a name may hold an apostrophe
            quote = character
        else:
            depth += (character in '([{') - (character in ')]}')
        before = character
        if character == separator and depth == 0 and not quote:
            found.append('')
        else:
            found[-1] += character
    return [piece.strip() for piece in found if piece.strip()]


def as_typed(value: Any) -> str:
    """Text that :func:`parse_assignment` reads back as ``value``."""
    if isinstance(value, str) and value.strip() and parse_assignment(f'key={value}')[1] == value:
        return value
    return repr(value)

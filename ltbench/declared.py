"""Parse plain data from files and check them; errors name the entry, its declared type and its value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UnsetType, ValidationError

SHOWN = 60  # characters of a value in a message


def parse(text: bytes) -> Any:
    """Parse JSON in which every number is finite and every text is valid Unicode.

    Raises:
        ValueError: If it is not; the message names the entry, or the place in the file.
        RecursionError: If it is nested too deeply for any reader.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        value = json.loads(text.decode())  # has a better message, or reads what we do not allow
        raise ValueError(next(_unwritable(value), str(error))) from error


def check(value: Any, kind: Any) -> None:
    """Raise ValueError, worded as the declaration, unless plain data fit a type of msgspec.

    Args:
        value: Plain data.
        kind: A Struct, or another type that is allowed in one; messages use the ``description`` of its ``Meta``.
    """
    try:
        msgspec.convert(value, kind)
    except ValidationError as error:
        raise ValueError(_explained(str(error), value, kind)) from error


def _explained(message: str, value: Any, kind: Any) -> str:
    """An error of msgspec in the words of the declaration: ``metrics.top1 is a number from 0 to 100, got null``."""
    problem, _, place = message.partition(' - at `$')
    path = ''
    for key, index in re.findall(r'\.(\w+)|\[(\d+|\.\.\.)\]', place):
        kind = _arm(kind, value)
        if key:
            kind, value, path = get_type_hints(kind, include_extras=True)[key], value[key], f'{path}.{key}'
        elif index != '...':
            kind, value, path = get_args(kind)[0], value[int(index)], f'{path}[{index}]'
        else:
            kind = get_args(kind)[1]
            key = next((name for name, inner in value.items() if not _fits(inner, kind)), '')
            value, path = value.get(key), f'{path}.{key}'
    path = path.lstrip('.')
    if named := re.fullmatch(r'Object (missing required|contains unknown) field `(.*)`', problem, re.DOTALL):
        what = 'is missing' if named[1] == 'missing required' else 'is not a known entry'
        return f'{path}.{named[2]} {what}'.lstrip('.')
    return f'{path} is {_words(kind)}, got {short(value)}'


def _arm(kind: Any, value: Any) -> Any:
    """The alternative of a union that the value is meant to be: an object or a list."""
    if get_origin(kind) is Annotated:
        return _arm(get_args(kind)[0], value)
    if isinstance(kind, type) or get_origin(kind) in (list, dict):
        return kind
    arms = [_arm(arm, value) for arm in get_args(kind) if arm not in (type(None), UnsetType)]
    return next(arm for arm in arms if (get_origin(arm) is list) == isinstance(value, list))


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except ValidationError:
        return False
    return True


def _words(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return get_args(kind)[1].description
    if get_origin(kind) is Literal:
        return ' or '.join(map(short, get_args(kind)))
    if get_origin(kind) in (list, dict):
        return 'a list' if get_origin(kind) is list else 'an object'
    if isinstance(kind, type):
        return {str: 'text', type(None): 'null'}.get(kind, 'an object')
    return ' or '.join(_words(arm) for arm in get_args(kind) if arm is not UnsetType)


def _unwritable(value: Any, path: str = '') -> Iterator[str]:
    """Errors for entries that our JSON never holds: numbers that are not finite, text with half of a surrogate pair."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        name = f'{path}[{key}]' if isinstance(key, int) else f'{path}.{_escaped(key)}'.lstrip('.')
        if isinstance(key, str) and _escaped(key) != key:
            yield f'{name} is a name with invalid Unicode'
        yield from _unwritable(inner, name)
    if isinstance(value, float) and not math.isfinite(value):
        yield f'{path} is {value}, not a finite number'
    if isinstance(value, str) and _escaped(value) != value:
        yield f'{path} is text with invalid Unicode, got {short(value)}'


def _escaped(text: str) -> str:
    return text.encode('utf-8', 'backslashreplace').decode()


def short(value: Any) -> str:
    """A value as JSON on one line, cut."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f'{text[: SHOWN - 1]}…'

"""The declared form of a benchmark: types and ranges of entries in its file and on the command line."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from ltbench.errors import UsageError, unknown

WORDS = {
    int: 'a whole number',
    float: 'a number',
    str: 'text',
    bool: 'True or False',
    type(None): 'None',
    list: 'a list',
    tuple: 'a list',
    dict: 'a dict',
}
PLAIN = frozenset((int, float, str, bool, type(None)))
FAR = 1000
"""Upper bounds from here on only catch typing errors; a message names them only if they are exceeded."""

Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, le=1e6)]
Pixels = Annotated[int, Meta(ge=1, le=4096)]


class Part(Struct):
    """A registered part; the rest are arguments of its constructor."""

    type: str


class Optimizer(Struct):
    """Arguments that optimizers share; the rest are arguments of the class of ``torch.optim``."""

    type: str
    lr: Rate
    weight_decay: Rate = 0.0
    momentum: Share = 0.0
    paramwise: dict[str, dict[str, Rate]] | None = None


class Schedule(Struct, forbid_unknown_fields=True):
    """How the learning rate changes, see :func:`ltbench.engine.optim.learning_rate`."""

    type: Literal['cosine', 'step', 'constant']
    warmup_epochs: Annotated[int, Meta(ge=0, le=100_000)] = 0
    warmup_from_zero: bool = False
    one_ahead: bool = False
    at: list[Share] | None = None
    gamma: Rate | list[Rate] | None = None


class SmallImages(Struct, forbid_unknown_fields=True):
    """Augmentation of images in memory, see :class:`ltbench.data.views.View`."""

    crop_padding: Annotated[int, Meta(ge=0, le=4096)] = 0
    flip: bool = False
    policies: list[Part] | None = None


class LargeImages(Struct, forbid_unknown_fields=True):
    """Augmentation of images in files, see :class:`ltbench.data.large.FileDataset`."""

    random_resized_crop: Pixels
    resize: Pixels
    center_crop: Pixels
    flip: bool = False
    color_jitter: Annotated[list[Annotated[float, Meta(ge=0, le=100)]], Meta(min_length=4, max_length=4)] | None = None
    policies: list[Part] | None = None
    prepared: Pixels | None = None
    pre_resize: Pixels | None = None  # always None; it is part of the fingerprints of all stages on large images


class Recipe(Struct, forbid_unknown_fields=True):
    """How a plain network is trained."""

    epochs: Annotated[int, Meta(ge=1, le=100_000)]
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000)]
    optimizer: Optimizer
    schedule: Schedule
    augmentation: SmallImages | LargeImages
    precision: Literal['fp32', 'bf16', 'amp_bf16', 'amp_fp16']
    devices: Annotated[int, Meta(ge=1, le=4096)]


class Contents(Struct, forbid_unknown_fields=True):
    """A benchmark's file."""

    data: Part
    backbone: Part
    recipe: Recipe
    presets: dict[str, dict[str, dict[str, Any]]] = {}
    has_validation: bool = False
    caveat: str = ''


def check_contents(contents: Mapping[str, Any], name: str) -> None:
    """Refuse a benchmark that cannot be carried out.

    Args:
        contents: Those of its file, or as changed by presets and options.
        name: Name of the benchmark.

    Raises:
        UsageError: One line with the entry, its allowed values and its value.
    """
    _check(contents, Contents, name, '')
    recipe = contents['recipe']
    if recipe['augmentation'].get('pre_resize') is not None:
        raise UsageError(f'{name}: pre_resize was removed; use prepared=256, which scales images once, not as JPEG')
    sides = [recipe['augmentation'].get(side, 0) for side in ('resize', 'center_crop')]
    if sides[0] < sides[1]:
        raise UsageError(
            f'{name}: test images with a shorter side of {sides[0]} (resize) are too small for '
            f'{sides[1]} x {sides[1]} (center_crop): they would get a black border'
        )
    if recipe['devices'] > recipe['batch_size']:
        raise UsageError(f'{name}: a batch of {recipe["batch_size"]} cannot be divided among more devices')


def check_schedule(schedule: Mapping[str, Any], name: str) -> None:
    """Refuse a step schedule without steps, as when only the type was changed, or with a wrong number of factors, and
    entries without effect.

    Raises:
        UsageError: With what to write.
    """
    if schedule['type'] == 'step' and (schedule.get('at') is None or schedule.get('gamma') is None):
        raise UsageError(
            f'a step schedule of {name} needs at (shares of the epochs) and gamma (a factor): '
            """-o "schedule={'type': 'step', 'at': [0.8, 0.9], 'gamma': 0.1}" """.strip()
        )
    gamma, at = schedule.get('gamma'), schedule.get('at') or ()
    if isinstance(gamma, list | tuple) and (len(gamma) != len(at) or list(at) != sorted(at)):
        raise UsageError(
            f'the step schedule of {name} has steps at {list(at)} and the factors {list(gamma)}: gamma is one '
            'number, or one for each step, with the steps in order'
        )
    if schedule.get('warmup_from_zero') and not schedule.get('warmup_epochs'):
        raise UsageError(f'warmup_from_zero of {name} changes nothing without warmup_epochs')
    if schedule.get('one_ahead') and schedule['type'] != 'cosine':
        raise UsageError(f'one_ahead of {name} is for a cosine schedule, not for {schedule["type"]}')


def check_augmentation(augmentation: Mapping[str, Any], is_in_files: bool, name: str) -> None:
    """Refuse the augmentation for images in memory if they stay in files, and the other way round.

    Raises:
        UsageError: With the allowed entries.
    """
    if is_in_files != ('center_crop' in augmentation):
        known = ', '.join((LargeImages if is_in_files else SmallImages).__struct_fields__)
        where = 'stay in files' if is_in_files else 'are held in memory'
        raise UsageError(f'the images of {name} {where}: recipe.augmentation is a dict of {known}')


def augmentation_of(value: Any) -> type[SmallImages | LargeImages]:
    """The declared form for a value of ``recipe.augmentation``."""
    is_large = isinstance(value, Mapping) and value.keys() & {'random_resized_crop', 'resize', 'center_crop'}
    return LargeImages if is_large else SmallImages


def check_arguments(part: Any, name: str, arguments: Mapping[str, Any]) -> None:
    """Compare arguments with the plain types that a part declares; the part itself checks ranges.

    Args:
        part: A class or function.
        name: Name of the part in messages.
        arguments: Name -> value.

    Raises:
        UsageError: With the argument, its allowed values and its value.
    """
    for key, (kind, hint, default) in _declared(part).items():
        if key in arguments and arguments[key] is not default and not _fits(arguments[key], kind):
            raise UsageError(f'{key} of {name} is {_words(hint, arguments[key])}, got {shortened(arguments[key])}')


@lru_cache(maxsize=1024)
def _declared(part: Any) -> dict[str, tuple[Any, Any, Any]]:
    """Plain type, type with its range, and default of each parameter that declares a plain type."""
    parameters = inspect.signature(part).parameters
    try:
        hints = get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    except (NameError, TypeError, AttributeError):  # foreign code may name types that exist for its type checker alone
        return {}
    kinds = {key: _without_range(hint) for key, hint in hints.items() if key in parameters}
    return {key: (kind, hints[key], parameters[key].default) for key, kind in kinds.items() if _is_plain(kind)}


def shortened(value: Any) -> str:
    """A value as text for one line of a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return 'a value too long to print'
    return text if len(text) <= 60 else f'{text[:57]}...'


def _check(value: Any, shape: type[Struct], name: str, path: str) -> None:
    """Compare a dict with its declared form, entry by entry, so that each error has its own message."""
    where = f'{path} of {name}' if path else f'benchmark {name}'
    if not isinstance(value, Mapping):
        raise UsageError(f'{where} is a dict, got {shortened(value)}')
    fields = {field.name: field for field in msgspec.structs.fields(shape)}
    if shape.__struct_config__.forbid_unknown_fields:
        for key in value:
            if key not in fields:
                raise unknown(f'entry of {where}', str(key), fields)
    if lacking := [key for key, field in fields.items() if field.required and key not in value]:
        raise UsageError(f'{where} does not define {", ".join(lacking)}')
    for key in fields.keys() & value.keys():
        _check_entry(value[key], fields[key].type, name, f'{path}.{key}'.lstrip('.'))


def _check_entry(value: Any, hint: Any, name: str, path: str) -> None:
    if hint == SmallImages | LargeImages:  # the one that is meant
        hint = augmentation_of(value)
    if isinstance(hint, type) and issubclass(hint, Struct):
        _check(value, hint, name, path)
    elif get_origin(hint) is Literal and isinstance(value, str):
        if value not in get_args(hint):
            raise unknown(f'{path.removeprefix("recipe.")} of {name}', value, get_args(hint))
    elif not _fits(value, hint):
        raise UsageError(f'{path} of {name} is {_words(hint, value)}, got {shortened(value)}')


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except (ValueError, RecursionError):
        return False
    return True


def _is_plain(hint: Any) -> bool:
    return all(map(_is_plain, get_args(hint))) if _is_union(hint) else hint in PLAIN


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (types.UnionType, Union)


def _without_range(hint: Any) -> Any:
    if _is_union(hint):
        return reduce(or_, map(_without_range, get_args(hint)))
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _words(hint: Any, value: Any) -> str:
    """Allowed values of an entry, as text; ``value`` is its wrong value."""
    origin, inner = get_origin(hint), get_args(hint)
    if _is_union(hint):
        return ' or '.join(sorted((_words(kind, value) for kind in inner), key='None'.__ne__))
    if origin is Literal:
        return ' or '.join(map(repr, inner))
    if origin is Annotated:
        return _words(inner[0], value) + _range(inner[1], value)
    if origin is list:
        is_parts = inner[0] is Part
        return 'a list of dicts with a type' if is_parts else f'a list of numbers{_range(get_args(inner[0])[1], None)}'
    if origin is dict and inner[1] is not Any:
        return f'a dict, each entry {_words(inner[1], None)}'
    return WORDS[origin or hint]


def _range(meta: Meta, value: Any) -> str:
    if meta.max_length is not None:
        return f' ({meta.max_length} of them)'
    low, high = int(meta.ge or 0), int(meta.le or 0)
    if isinstance(value, int | float) and value > high >= FAR:
        return f', at most {high}'
    return f', {low} or larger' if high >= FAR else f', {low} to {high}'

"""The declared shape of a benchmark: types and ranges of what its file, and a person on the command line, may say."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from ltbench.errors import UsageError

MOST_EPOCHS = 100_000

Rate = Annotated[float, Meta(ge=0, le=1e6)]


class Schedule(Struct, forbid_unknown_fields=True):
    """How the learning rate changes, see :func:`ltbench.engine.optim.learning_rate`."""

    type: Literal['cosine', 'step', 'constant']  # of ltbench.engine.optim
    warmup_epochs: Annotated[int, Meta(ge=0, le=MOST_EPOCHS)] = 0
    at: list[Annotated[float, Meta(ge=0, le=1)]] | None = None
    gamma: Rate | None = None


class Recipe(Struct, forbid_unknown_fields=True):
    """How a plain network is trained."""

    epochs: Annotated[int, Meta(ge=1, le=MOST_EPOCHS)]
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000)]
    optimizer: dict[str, Any]
    schedule: Schedule
    augmentation: dict[str, Any]
    precision: Literal['fp32', 'bf16']
    devices: Annotated[int, Meta(ge=1, le=4096)]


class OptimizerStart(Struct):
    """What every optimizer needs; the rest are arguments of the class of ``torch.optim``."""

    type: str
    lr: Rate


class Contents(Struct, forbid_unknown_fields=True):
    """A benchmark's file; the recipe is looked at once presets and options are applied."""

    data: dict[str, Any]
    backbone: dict[str, Any]
    recipe: dict[str, Any]
    presets: dict[str, dict[str, dict[str, Any]]] = {}
    has_validation: bool = False
    caveat: str = ''
    stands_beside: str | None = None


def check_contents(contents: Mapping[str, Any], name: str) -> None:
    """Refuse a benchmark's file whose entries are not what they are to be.

    Raises:
        UsageError: Naming the entry.
    """
    _check(contents, Contents, f'benchmark {name}', '')
    for section in ('data', 'backbone'):
        if not isinstance(contents[section].get('type'), str):
            raise UsageError(f'benchmark {name}: {section} needs a type, the name of a registered part')


def check_recipe(recipe: Mapping[str, Any], name: str) -> None:
    """Refuse a resolved recipe that no training can follow.

    Raises:
        UsageError: Naming the entry, what is expected and what is there.
    """
    where = f'benchmark {name}'
    _check(recipe, Recipe, where, 'recipe')
    _check(recipe['optimizer'], OptimizerStart, where, 'recipe.optimizer')
    if recipe['schedule']['type'] == 'step' and not recipe['schedule'].keys() >= {'at', 'gamma'}:
        raise UsageError(f'{where}: recipe.schedule of type step needs at and gamma')
    if recipe['devices'] > recipe['batch_size']:
        raise UsageError(f'{where}: a batch of {recipe["batch_size"]} cannot be divided among more devices')


def _check(value: Mapping[str, Any], shape: Any, where: str, path: str) -> None:
    try:
        msgspec.convert(value, shape)
    except (ValueError, RecursionError) as error:  # of msgspec; of text that no file can hold
        said, _, place = str(error).partition(' - at `$')
        place = path + place.rstrip('`')
        said = said[:1].lower() + said[1:].replace('`', '').replace('null', 'None').replace('object', 'dict')
        raise UsageError(f'{where}: {place.lstrip(".") or "it"}: {said}') from error


def check_arguments(owner: str, hints: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Compare arguments with the types that a constructor declares.

    Args:
        owner: What they are arguments of, for people.
        hints: Name -> type, of ``typing.get_type_hints``.
        arguments: Name -> value.

    Raises:
        UsageError: Naming the argument.
    """
    for name, value in arguments.items():
        if name in hints:
            try:
                msgspec.convert(value, hints[name])
            except (ValueError, RecursionError) as error:
                raise UsageError(f'{name} of {owner} is {_words(hints[name])}, got {_short(value)}') from error


WORDS = {int: 'a whole number', float: 'a number', str: 'text', bool: 'True or False', NoneType: 'None', list: 'a list'}


def _words(hint: Any) -> str:
    kinds = get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is not None else (hint,)
    return ' or '.join(WORDS.get(kind, getattr(kind, '__name__', str(kind))) for kind in kinds)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'

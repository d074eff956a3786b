"""Methods as papers write them: ``LDAM-DRW``, where one types ``ldam_drw``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ltbench.console import printable
from ltbench.errors import UsageError
from ltbench.method_files import Constants, built_in_methods, methods_in
from ltbench.record import origin_of
from ltbench.spec import Spec, parse_specs


def display_names(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The name to show of each method, by the one that is recorded.

    Parts are joined by `` + ``, options are in brackets. What was not trained here keeps its name.
    """
    return {
        record['method']: title_of(record['method']) if origin_of(record) == 'trained' else printable(record['method'])
        for record in records
    }


def title_of(method: str) -> str:
    """The name to show of a method, as typed; text that is no method stays as it is."""
    try:
        return ' + '.join(map(_of_part, parse_specs(method)))
    except UsageError:
        return printable(method)


def _of_part(part: Spec) -> str:
    options = str(part).removeprefix(part.name)
    return printable((declared(part.name, 'title') or spelled_out(part.name)) + (f' {options}' if options else ''))


def in_titles(text: str) -> str:
    """A text in which each word that is a method with a declared title is replaced by that title."""
    return re.sub(r'\w+', lambda word: declared(word[0], 'title') or word[0], text)


def spelled_out(name: str) -> str:
    """The title of a method that declares none: ``my_method`` is My method."""
    return f'{name[:1].upper()}{name[1:]}'.replace('_', ' ')


def declared(name: str, what: str) -> str:
    """The ``title`` or ``family`` that a method of this name declares; '' if none."""
    return _declarations().get(name, {}).get(what, '')


@cache
def _declarations() -> dict[str, Constants]:
    """The declarations of each method, by its name, in our files and those that ``$LTBENCH_PLUGINS`` names."""
    found = {**built_in_methods()}
    for path in filter(None, os.environ.get('LTBENCH_PLUGINS', '').split(os.pathsep)):
        with suppress(OSError, SyntaxError, ValueError):
            found |= methods_in(Path(path))
    return found

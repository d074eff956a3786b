"""What method files declare. They are read, not imported, since methods import torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

Constants = dict[str, str]
"""The attributes of a method's class that are plain values, as ``title`` and ``family``."""


def methods_in(path: Path) -> dict[str, Constants]:
    """The methods that a file registers, by name.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not Python; in most cases a SyntaxError instead.
    """
    found: dict[str, Constants] = {}
    classes = [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.ClassDef)]
    for node in classes:
        constants = {
            ast.unparse(line.targets[0]): str(line.value.value)
            for line in node.body
            if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
        }
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith('METHODS.register_module'):
                given = {word.arg: word.value for word in call.keywords}
                if isinstance(name := given.get('name'), ast.Constant):
                    found[str(name.value)] = constants
    return found


@cache
def built_in_methods() -> Mapping[str, Constants]:
    """The methods of the package ``methods``, by name; empty if it is not found or a file cannot be read: importing it
    reports the problem later."""
    package = find_spec('methods')
    found: dict[str, Constants] = {}
    for folder in (package and package.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob('*.py')):
            try:
                found |= methods_in(path)
            except (OSError, SyntaxError, ValueError):
                return {}
    return found

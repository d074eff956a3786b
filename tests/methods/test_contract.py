"""Every registered method keeps the contract; methods are found by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltbench import plugins
from ltbench.verbs.contract import CHECKS

plugins.load()


@pytest.mark.parametrize('check', CHECKS)
@pytest.mark.parametrize('name', plugins.method_names())
def test_contract(name, check):
    CHECKS[check](name)


def test_every_file_is_short_and_holds_a_method_of_its_name():
    for path in Path(__file__).parents[2].glob('methods/*.py'):
        if path.stem != '__init__':
            assert len(path.read_text().splitlines()) <= 100, path
            assert path.stem in plugins.method_names()

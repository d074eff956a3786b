"""The time that a report of many records takes, so that 10,000 stay within a minute on two cores."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from made_records import make_record, write

FACTORS = (10, 50, 100, 200, 500)
METHODS = 40
SEEDS = 10
NBN = {'normalize': 'both', 'scope': 'last_stage'}
TABLES, FIGURES = 14.0, 60.0
"""CPU seconds for 10,000 records: within 20 s of wall clock without figures, and 60 s with them on two cores."""
START = 8.0
"""CPU seconds, at most, that importing takes in the three processes."""
LOADED = 3.0
"""How many times as much the same work may take on a slower CPU, and where others use the machine."""


@pytest.mark.slow
def test_a_report_takes_its_share_of_the_time_that_10000_records_may_take():
    for factor in FACTORS:
        for method in ('erm', 'nbn', *(f'method_{n}' for n in range(METHODS - 2))):
            for seed in range(SEEDS):
                options = NBN if method == 'nbn' else None
                write(make_record(method, seed, factor=factor, options=options, epochs=60))
    share = len(FACTORS) * METHODS * SEEDS / 10_000
    assert _report('--no-figures') < START + LOADED * share * TABLES
    assert _report() < START + LOADED * share * (TABLES + FIGURES)


def _report(*options: str) -> float:
    """CPU seconds of a report in a process of its own, with those that it starts."""
    before = _seconds()
    command = [sys.executable, '-c', 'from ltbench.cli import main; main()', 'report', 'made', *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return _seconds() - before


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

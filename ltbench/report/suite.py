"""The tables of a suite, each computed once."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import pandas as pd

from ltbench.config import config_names
from ltbench.report import statistics, tables
from ltbench.report.coverage import coverage
from ltbench.report.frame import distinguish, runs_frame
from ltbench.report.reading import SuiteResults
from ltbench.suite import load_suite


class Report:
    """The tables of a suite, each computed once, when it is asked for.

    Args:
        results: What the tables are made from.

    Raises:
        UsageError: If the suite's file does not load.

    Attributes:
        as_recorded: The records as they were read.
        suite: What its file asks for; None where there is none.
        coverage: How much of that is recorded.
        results: With the settings of :func:`ltbench.report.frame.distinguish`, which distinguish the tables.
    """

    def __init__(self, results: SuiteResults) -> None:
        records, count = distinguish([*results.records, *results.failures]), len(results.records)
        self.as_recorded = results.records
        named = results.source or results.suite
        self.suite = load_suite(named) if results.source or named in config_names('suites') else None
        self.coverage = coverage(self.suite, results) if self.suite is not None else []
        self.results = replace(results, records=records[:count], failures=records[count:])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a run, see :func:`ltbench.report.frame.runs_frame`."""
        kept = enumerate(self.results.predictions)
        return runs_frame(self.results.records, {place: found.right for place, found in kept if found})

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Of :func:`ltbench.report.statistics.against`."""
        return statistics.against(self.frame)

    @cached_property
    def board(self) -> pd.DataFrame:
        """One row a table and method, see :func:`ltbench.report.tables.leaderboard`."""
        return tables.leaderboard(self.frame, self.results.failures, self.tests)

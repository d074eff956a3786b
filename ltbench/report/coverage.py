"""What a suite asks for, and how much of it is recorded: what was not run is told, never passed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ltbench.benchmark import load_benchmark
from ltbench.errors import UsageError
from ltbench.report.escaping import in_markdown
from ltbench.report.frame import TableKey
from ltbench.report.reading import SuiteResults
from ltbench.suite import Suite


class Covered(NamedTuple):
    """Of one benchmark of a suite.

    Attributes:
        title: Benchmark, imbalance factor and setting.
        asked: Runs that the suite asks for.
        recorded: Those of them that have a record, whatever data, recipe or code it is of.
        failed: Those that failed and have none.
    """

    title: str
    asked: int
    recorded: int
    failed: int

    @property
    def said(self) -> str:
        """How much of it there is, in words."""
        failed = f', {self.failed} failed' if self.failed else ''
        if not self.recorded:
            return f'not run{failed}'
        return f'{self.recorded} of {self.asked} runs{failed}'


def coverage(suite: Suite, results: SuiteResults) -> list[Covered]:
    """Each benchmark of a suite in its order, but those that are not known here.

    Args:
        suite: What is asked for.
        results: As read, with the settings that the records hold.
    """
    recorded, failed = _runs(results.records), _runs(results.failures)
    covered = []
    for text in suite.benchmarks:
        try:
            benchmark = load_benchmark(text, suite.preset)
        except UsageError:  # what is recorded of it is reported all the same
            continue
        factor = benchmark.data.get('imbalance_factor')
        key = TableKey(benchmark.name, None if factor is None else float(factor), benchmark.setting, '')
        asked = {(key, str(method), seed) for method in suite.methods_on(text) for seed in suite.seeds_on(text)}
        lacking = asked - recorded
        covered.append(Covered(key.title, len(asked), len(asked & recorded), len(lacking & failed)))
    return covered


def markdown(covered: Iterable[Covered]) -> list[str]:
    """A line for each benchmark."""
    return [f'- {in_markdown(each.title)}: {each.said}.' for each in covered]


def _runs(told: Iterable[Mapping[str, Any]]) -> set[tuple[TableKey, str, int]]:
    return {(TableKey.of(one)._replace(table=''), one['method'], one['run_seed']) for one in told}

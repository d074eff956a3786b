"""What a suite asks for, and how much of it is recorded: what was not run is listed, too."""

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
    """How much of one benchmark of a suite is recorded.

    Attributes:
        title: Benchmark, imbalance factor and setting.
        asked: Runs that the suite asks for.
        recorded: Those of them that have a record, of any data, recipe or code.
        failed: Those of them that failed and have no record.
    """

    title: str
    asked: int
    recorded: int
    failed: int

    @property
    def text(self) -> str:
        """How much is recorded, in words."""
        failed = f', {self.failed} failed' if self.failed else ''
        if not self.recorded:
            return f'not run{failed}'
        return f'{self.recorded} of {self.asked} runs{failed}'


def coverage(suite: Suite, results: SuiteResults) -> list[Covered]:
    """The coverage of each benchmark of a suite, in its order; without those that are not known here.

    Args:
        suite: What is asked for.
        results: As read, with the settings that the records hold.
    """
    recorded, failed = _runs(results.records), _runs(results.failures)
    covered = []
    for text in suite.benchmarks:
        try:
            benchmark = load_benchmark(text, suite.preset)
        except UsageError:  # its records are reported all the same
            continue
        factor = benchmark.data.get('imbalance_factor')
        key = TableKey(benchmark.name, None if factor is None else float(factor), benchmark.setting, '')
        asked = {(key, str(method), seed) for method in suite.methods_on(text) for seed in suite.seeds_on(text)}
        missing = asked - recorded
        covered.append(Covered(key.title, len(asked), len(asked & recorded), len(missing & failed)))
    return covered


def markdown(covered: Iterable[Covered]) -> list[str]:
    """A line for each benchmark."""
    return [f'- {in_markdown(each.title)}: {each.text}.' for each in covered]


def _runs(records: Iterable[Mapping[str, Any]]) -> set[tuple[TableKey, str, int]]:
    return {(TableKey.of(one)._replace(table=''), one['method'], one['run_seed']) for one in records}

"""Our path and its reference, alternating in one run, so that other load on the machine affects both."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """Two ways to the same result, and the target for their ratio.

    Attributes:
        what: Title, for people.
        unit: Unit of both figures.
        goal: Target for the ratio of ours to the reference: at least, or at most if less is better; None: no target.
        less_is_better: Whether the figures are costs.
        note: Remark on how it was measured.
    """

    what: str
    unit: str
    goal: float | None
    less_is_better: bool = False
    note: str = ''

    def result(self, figures: Iterable[tuple[float, ...]]) -> dict[str, Any]:
        """Medians of both, and median and spread of their ratio in each round.

        Args:
            figures: Our figure and the reference's, of each round.
        """
        pairs = list(figures)
        ratios = sorted(ours / reference for ours, reference in pairs)
        ratio = statistics.median(ratios)
        return {
            'what': self.what,
            'unit': self.unit,
            'ours': _short(statistics.median(ours for ours, _ in pairs)),
            'reference': _short(statistics.median(reference for _, reference in pairs)),
            'ratio': _short(ratio),
            'ratio_min': _short(ratios[0]),
            'ratio_max': _short(ratios[-1]),
            'rounds': len(pairs),
            'goal': self.goal,
            'less_is_better': self.less_is_better,
            'holds': self._holds(ratio),
            'note': self.note,
        }

    def _holds(self, ratio: float) -> bool | None:
        if self.goal is None:
            return None
        return ratio <= self.goal if self.less_is_better else ratio >= self.goal


def measure_alternating(rounds: int, ways: Sequence[Callable[[], float]]) -> list[tuple[float, ...]]:
    """The figure of each way in each round, after one round to warm up.

    The order is reversed in every second round, so that none always comes after another.
    """
    measured = []
    for number in range(rounds + 1):
        order = list(enumerate(ways))[:: 1 if number % 2 else -1]
        figures = {index: way() for index, way in order}
        measured.append(tuple(figures[index] for index in range(len(ways))))
    return measured[1:]


def _short(value: float) -> float:
    return float(f'{value:.4g}')

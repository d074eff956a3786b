"""Our path and its reference, alternating in one run: what the machine does meanwhile hits both."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """Two ways to the same end, and what is asked of their ratio.

    Attributes:
        what: For people.
        unit: Of both figures.
        goal: The ratio of ours to the reference: at least so large, or at most where less is better; None: no bound.
        less_is_better: Whether the figures are costs.
        note: What to know about how it was measured.
    """

    what: str
    unit: str
    goal: float | None
    less_is_better: bool = False
    note: str = ''

    def result(self, figures: Iterable[tuple[float, ...]]) -> dict[str, Any]:
        """Medians of both, and median and spread of their ratio, turn by turn.

        Args:
            figures: Ours and the reference's of each turn.
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


def by_turns(rounds: int, ways: Sequence[Callable[[], float]]) -> list[tuple[float, ...]]:
    """What each way says in each round, after one round to warm up.

    Every second round goes backwards, so that none is always the one after the other.
    """
    measured = []
    for number in range(rounds + 1):
        order = list(enumerate(ways))[:: 1 if number % 2 else -1]
        said = {index: way() for index, way in order}
        measured.append(tuple(said[index] for index in range(len(ways))))
    return measured[1:]


def _short(value: float) -> float:
    return float(f'{value:.4g}')

"""What a stage will take, judged by earlier ones like it."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from ltbench.errors import StoreError
from ltbench.grid.graph import Graph
from ltbench.record import read_record, reference_root, results_root


class Costs:
    """Wall seconds of earlier stages: of an epoch for ``train`` stages, of the whole for others.

    From all records of this user, and in a checkout from those that came with it.

    A stage is judged by stages of the same kind on the same benchmark, backbone and batch size; one that nothing is
    known of has no estimate.
    """

    def __init__(self) -> None:
        self.seconds: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        self.records = 0
        seen: set[str] = set()
        roots = (root for root in (results_root(), reference_root()) if root is not None)
        for path in (path for root in roots for path in root.glob('*/records/*.json')):
            try:
                record = read_record(path)
            except StoreError:
                continue  # the report names it
            self.records += 1
            for stage in record['stages']:
                if stage['fingerprint'] not in seen and (stage['kind'] != 'train' or stage['epochs']):
                    seen.add(stage['fingerprint'])
                    wall = stage['cost'].get('wall_seconds', 0.0) + stage['cost'].get('evaluation_seconds', 0.0)
                    epochs = stage['epochs'] if stage['kind'] == 'train' else 1
                    self.seconds[(stage['kind'], *_like(record['config']['benchmark']))].append(wall / epochs)

    def of(self, graph: Graph, key: str) -> float | None:
        """Seconds that the stage ``key`` will take; None if there is nothing to judge by."""
        stage = graph.stages[key]
        known = self.seconds.get((stage.kind, *_like(graph.runs_of(key)[0].benchmark.resolved)))
        if not known:
            return None
        return median(known) * (stage.end - stage.begin if stage.kind == 'train' else 1)


def _like(benchmark: dict[str, Any]) -> tuple[Any, ...]:
    size = benchmark['data'].get('imbalance_factor')
    return benchmark['name'], size, str(sorted(benchmark['backbone'].items())), benchmark['recipe']['batch_size']

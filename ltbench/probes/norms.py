"""How long are the features of each class? With a long tail those of rare classes tend to be shorter."""

from __future__ import annotations

from ltbench.probes.base import Probe, Seen, short
from ltbench.registry import PROBES


@PROBES.register_module(name='feature_norms')
class FeatureNorms(Probe):
    """Mean Euclidean length of the input features of the head, by class."""

    def measure(self, seen: Seen) -> dict[str, list[float | None]]:
        """``mean``: one number for each class, None for a class without test images."""
        length = seen.features.double().norm(dim=1)
        of_class = [length[seen.labels == c] for c in range(len(seen.class_counts))]
        return {'mean': [short(float(one.mean())) if len(one) else None for one in of_class]}

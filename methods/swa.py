"""Stochastic weight averaging (SWA)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ltbench.method import Method, Option, Plan
from ltbench.models.objective import Average
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class PlainAverage(Average):
    """The plain mean of the weights after each of the last epochs; BN statistics are recomputed for it.

    Args:
        epochs: Number of epochs of the whole training.
        start: Share of the epochs after which averaging starts.
    """

    renews_statistics = True

    def __init__(self, epochs: int, start: float = 0.75) -> None:
        super().__init__(epochs)
        self.first = min(round(start * epochs), epochs - 1)

    def weight(self, count: int) -> float:
        """Share of the newest weights."""
        return 1 / (count + 1)

    def after_epoch(self, values: Sequence[tuple[str, Tensor]], epoch: int) -> None:
        """Add the weights."""
        if epoch >= self.first:
            self.add(values)


@METHODS.register_module(name='swa')
class StochasticWeightAveraging(Method):
    """Predict with the mean of the weights after each of the last epochs.

    Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018,
    https://arxiv.org/abs/1803.05407; official code timgaripov/swa.
    Differs: the benchmark's schedule is kept (there the learning rate stays high while weights are averaged).
    """

    title = 'SWA'
    family = 'optimisation'
    start = Option(0.75, between=(0, 1), help='share of the epochs from which on weights are averaged')

    def apply(self, plan: Plan) -> Plan:
        """Average over the last epochs."""
        return plan.replace(average=dict(type='PlainAverage', start=self.start))

"""Exponential moving average of the weights (EMA)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ltbench.method import Method, Option, Plan
from ltbench.models.objective import Average
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class ExponentialAverage(Average):
    """``a <- decay * a + (1 - decay) * w`` after every step; statistics of BN are averaged alike.

    Args:
        epochs: Number of epochs of the whole training.
        decay: Share of the average that is kept; less in the first steps, ``(1 + step) / (10 + step)``.
    """

    def __init__(self, epochs: int, decay: float = 0.999) -> None:
        super().__init__(epochs)
        self.decay = decay

    def weight(self, count: int) -> float:
        """Share of the newest weights."""
        return 1 - min(self.decay, (1 + count) / (10 + count))

    def after_step(self, values: Sequence[tuple[str, Tensor]]) -> None:
        """Add the weights."""
        self.add(values)


@METHODS.register_module(name='ema')
class ExponentialMovingAverage(Method):
    """Predict with an exponential moving average of the weights, which does not change training.

    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780
    (only the average); the warm-up of the decay is TensorFlow's.
    """

    title = 'EMA'
    family = 'optimisation'
    decay = Option(0.999, between=(0, 0.999999), help='share of the average that a step keeps')

    def apply(self, plan: Plan) -> Plan:
        """Average over steps."""
        return plan.replace(average=dict(type='ExponentialAverage', decay=self.decay))

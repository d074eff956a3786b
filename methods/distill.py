"""Knowledge distillation from another method's network."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan, make_plan
from ltbench.models.heads import joint
from ltbench.models.objective import Batch, Objective
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class Distillation(Objective):
    """``(1 - weight) * loss + weight * T^2 * KL(teacher || student)``, both softmaxes at temperature T.

    Args:
        weight: Weight of the teacher's predictions.
        temperature: The temperature T.
    """

    separable = True

    def __init__(self, weight: float, temperature: float) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature

    def forward(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both losses, and the logits."""
        logits = model.logits(batch.images)
        theirs = functional.log_softmax(model.teacher(batch.images).float() / self.temperature, dim=1)
        ours = functional.log_softmax(joint(logits).float() / self.temperature, dim=1)
        kept = functional.kl_div(ours, theirs, reduction='batchmean', log_target=True) * self.temperature**2
        loss: Tensor = (1 - self.weight) * model.loss(logits, batch.labels) + self.weight * kept
        return loss, logits


@METHODS.register_module(name='distill')
class Distill(Method):
    """Train a network on labels and on the predictions of a trained network for the same images.

    Hinton et al., "Distilling the knowledge in a neural network", NeurIPS 2015 (workshop),
    https://arxiv.org/abs/1503.02531 (with both hard and soft labels).
    The teacher is any method that ends with a network, on the same benchmark and seed: ``distill(teacher=crt)``; the
    same method gives born-again networks. The teacher is trained once and shared.
    """

    title = 'Distillation'
    family = 'optimisation'
    teacher = Option('erm', help='the method of the teacher, as on the command line')
    weight = Option(0.5, between=(0, 1), help='of what the teacher says')
    temperature = Option(2.0, between=(1e-3, 100))

    def apply(self, plan: Plan) -> Plan:
        """Train the teacher, then the student."""
        data = plan.settings['data']['fingerprint']
        taught = plan.teach(make_plan(self.teacher, plan.benchmark, data, plan.seed))
        learnt = dict(type='Distillation', weight=self.weight, temperature=self.temperature)
        return taught.replace(objective=learnt, mixing=None)  # an image has one label here

"""Self-supervised aggregation of diverse experts (SADE)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import AdjustedExpertsLoss, positive_counts
from ltbench.models.posthoc import Outputs, PostHoc, views_of
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class DiverseExpertsLoss(AdjustedExpertsLoss):
    """Expert 1: plain; 2: ``+ log(prior)``; 3: ``+ log(prior) - tau * log(inverse prior)``.

    The inverse prior gives the most frequent class the share of the rarest one, and so on.

    Args:
        class_counts: Training images per class, ``[C]``.
        tau: How strongly the third expert prefers rare classes.
    """

    def __init__(self, class_counts: Sequence[int], tau: float = 2.0) -> None:
        prior = positive_counts(class_counts).log().log_softmax(dim=0)
        order = prior.argsort(stable=True)
        inverse = torch.empty_like(prior).scatter(0, order, prior[order.flip(0)])
        super().__init__(class_counts, torch.stack([0 * prior, prior, prior - tau * inverse]))


@MODELS.register_module()
class StableAggregation(PostHoc):
    """Weights of experts for which the predictions for two views of an image are most similar (by cosine).

    Found by SGD on the weights' logits, as in the official code, with the batch size of the recipe.

    Args:
        epochs: Passes over the images; stops if a weight falls below 0.045 (the official code rounds it, to 0.05).
        lr: Learning rate.
    """

    def __init__(self, epochs: int = 5, lr: float = 0.1) -> None:
        self.epochs, self.lr = epochs, lr

    def logits(self, outputs: Outputs) -> Tensor:
        """Weighted mean logits ``[N, C]``."""
        experts, views = views_of(outputs)
        free = nn.Parameter(torch.full(experts.shape[1:2], 1 / experts.shape[1], dtype=experts.dtype))
        optimizer = torch.optim.SGD([free], lr=self.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
        for epoch in range(self.epochs):
            for pair in views(epoch):
                one, other = (pair * free.softmax(0)[:, None]).sum(dim=2).softmax(dim=2)
                optimizer.zero_grad()
                (-functional.cosine_similarity(one, other, dim=1, eps=1e-6).mean()).backward()
                optimizer.step()
            if free.softmax(0).min() < 0.045:
                break
        weights = free.detach().softmax(0)
        self.measured = {'expert_weights': [round(weight, 4) for weight in weights.tolist()]}
        return (experts * weights[:, None]).sum(dim=1)


@METHODS.register_module(name='sade')
class SelfSupervisedAggregation(Method):
    """Three experts, for frequent, all and rare classes, on shared early stages; their mean logits classify.

    Zhang et al., "Self-supervised aggregation of diverse experts for test-agnostic long-tailed recognition", NeurIPS
    2022, https://arxiv.org/abs/2107.09249; official code Vanint/SADE-AgnosticLT@cba11b8.
    Its test-time aggregation, ``aggregate=test_images``, is transductive: the experts' weights are learned from the
    test *images*, without labels, which no other method uses. Records state this and hold the weights
    (``expert_weights``).
    Differs: the benchmark's recipe (published: CIFAR drops to a tenth, weight decay 5e-4, Nesterov momentum, rotations
    of up to 15 degrees, and lr 0.05 on CIFAR-10, by the author in issue 11; ImageNet-LT 180 epochs); no 1e-9 in
    logarithms.
    """

    title = 'SADE'
    family = 'experts'
    tau = Option(2.0, between=(0, 10), on={'inat2018': 1.0, 'places_lt': 1.0}, help='how far expert 3 is drawn')
    expert_width = Option(
        0.75,
        between=(0.5, 4),
        on=dict.fromkeys(('places_lt', 'cifar10_lt'), 1.0),
        help="channels of the experts' stages",
    )
    aggregate = Option('mean', choices=('mean', 'test_images'), help='test_images: transductive weights of experts')

    def apply(self, plan: Plan) -> Plan:
        """Experts, their heads and loss; then the aggregation."""
        plan = plan.reshape(experts=3, expert_width=self.expert_width).replace(
            head=dict(type='HeadOfEach', experts=3, head=dict(type='CosineHead', scale=30.0)),
            loss=dict(type='DiverseExpertsLoss', tau=self.tau),
        )
        view = 'contrastive' if plan.large_images else dict(policies=[dict(type='SimAugment', blurred=0.2)])
        rate = {'imagenet_lt': 0.025, 'inat2018': 0.2, 'places_lt': 0.01}.get(plan.benchmark.name, 0.1)
        return plan if self.aggregate == 'mean' else plan.posthoc(views=[view] * 2, type='StableAggregation', lr=rate)

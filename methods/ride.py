"""RIDE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.registry import METHODS, MODELS
from methods.ldam import LDAMLoss


@MODELS.register_module()
class RIDELoss(LDAMLoss):
    """Each expert's LDAM loss, and ``diversity * T^2 * KL(mean || expert)``; summed over experts.

    Args:
        class_counts: Training images per class, all larger than 0.
        max_margin: As in LDAM.
        scale: As in LDAM.
        diversity: Factor of the divergence; a negative one makes the experts differ.
        balance: The temperature of class c is proportional to ``C * prior_c * balance + 1 - balance``, at most 1.
    """

    temperature: Tensor

    def __init__(
        self,
        class_counts: Sequence[int],
        max_margin: float = 0.5,
        scale: float = 30.0,
        diversity: float = -0.2,
        balance: float = 0.0,
    ) -> None:
        super().__init__(class_counts, max_margin, scale)
        temperature = self.class_counts / self.class_counts.mean() * balance + 1 - balance
        self.register_buffer('temperature', temperature / temperature.max(), persistent=False)
        self.diversity = diversity

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]`` of the experts' logits ``[B, K, C]``."""
        mean = functional.softmax(logits.detach().mean(dim=1) / self.temperature, dim=1)
        factor = self.diversity * self.temperature.mean() ** 2
        total = torch.zeros(len(labels), device=logits.device)
        for expert in logits.unbind(dim=1):
            log_probability = functional.log_softmax(expert / self.temperature, dim=1)
            divergence = functional.kl_div(log_probability, mean, reduction='none').sum(dim=1)
            total = total + super().per_sample(expert, labels) + factor * divergence
        return total


@METHODS.register_module(name='ride')
class RIDE(Method):
    """K diverse experts on shared early stages; their mean logits classify. Re-weighting late in training.

    Wang et al., "Long-tailed recognition by routing diverse distribution-aware experts", ICLR 2021,
    https://arxiv.org/abs/2010.01809; official code frank-xwang/RIDE-LongTailRecognition@ab8be5c.
    Differs: no router and no distillation; deferred class weights act on the divergence too; the benchmark's recipe
    (published: CIFAR weight decay 5e-4, Nesterov momentum, rotations of up to 15 degrees); narrower experts everywhere.
    Experts are the last two stages, as in the code's small and large networks.
    The record holds parameters and FLOPs; ``wide`` is an ERM of about the same FLOPs.
    With ``loss='free'`` each expert has the loss of the method combined with it (cross-entropy if none), nothing is
    re-weighted, and the temperature is 1: ``ride(heads=linear, loss=free)+balanced_softmax`` is
    ``RIDE_BalancedSoftmaxLoss`` of yuxiangbao/NBN@7365e21, whose experts are as wide as the network
    (``expert_width=1.0``).
    """

    title = 'RIDE'
    family = 'experts'
    experts = Option(3, between=(2, 16), help='K')
    expert_width = Option(0.75, between=(0.5, 4), help="channels of the experts' stages")
    heads = Option('cosine', choices=('cosine', 'linear'), help='of each expert')
    loss = Option('ldam', choices=('ldam', 'free'), help='of each expert; free: that of the method beside it')
    diversity = Option(-0.2, between=(-10, 10), on={'cifar10_lt': -0.45, 'cifar100_lt': -0.45}, help='negative: apart')
    max_margin = Option(0.5, between=(0, 2), help='of loss=ldam')
    start = Option(0.8, between=(0, 1), help='of loss=ldam: share of the epochs before weights and temperatures')
    balance = Option(
        0.05, between=(0, 1), on={'imagenet_lt': 0.02, 'inat2018': 0.015}, help='of loss=ldam: spread of temperatures'
    )

    def apply(self, plan: Plan) -> Plan:
        """Experts and their heads; their loss, and class weights after the cut, or the divergence alone."""
        head = dict(type='CosineHead', scale=30.0) if self.heads == 'cosine' else dict(type='LinearHead')
        plan = plan.reshape(experts=self.experts, expert_width=self.expert_width)
        plan = plan.replace(head=dict(type='HeadOfEach', experts=self.experts, head=head))
        if self.loss == 'free':
            return plan.replace(objective=dict(type='DiverseExperts', diversity=self.diversity))
        loss = dict(type='RIDELoss', max_margin=self.max_margin, diversity=self.diversity)
        weights = dict(type='EffectiveNumber', beta=0.9999)
        late = dict(loss=dict(**loss, balance=self.balance), class_weights=weights)
        return plan.replace(loss=dict(**loss, balance=0.0)).cut(at=self.start).after(**late)

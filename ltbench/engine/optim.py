"""Optimizers and learning-rate schedules from a recipe."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm

from ltbench.errors import UsageError, unknown
from ltbench.models.precision import SCALED

SCHEDULES = ('cosine', 'step', 'constant')


def build_optimizer(model: nn.Module, config: Mapping[str, Any], fused: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters of ``model``.

    Args:
        model: The module to train.
        config: ``type`` (a class of ``torch.optim``), its arguments, and optionally ``paramwise``: rules like
            ``{'norm': {'weight_decay': 5e-3}, 'scalar': {'weight_decay': 0.0, 'lr_mult': 0.1}}``. ``'norm'`` means the
            affine parameters of all BN layers; any other key is a part of parameter names, those of the loss beginning
            with ``loss.``. The last matching rule wins. Parameters with equal settings share one group, so the fused
            update stays fast; those of the loss have their own, because a loss may begin later than the network, and
            the fused update of a group takes the first step of all its parameters or of none.
        fused: Update all parameters in one go, where the optimizer can; the same bits, but not for the meta device.

    Raises:
        UsageError: If the type is unknown or a rule fits no parameter. One for ``loss.`` need not: the rules are the
            same for all of training, and a loss with parameters may be in force in a part of it.
    """
    arguments = dict(config)
    rules = arguments.pop('paramwise', None) or {}
    kind = getattr(torch.optim, arguments.pop('type'), None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise unknown('optimizer', config['type'], [n for n in dir(torch.optim) if n[0].isupper()])
    if fused and 'fused' in inspect.signature(kind).parameters:
        arguments.setdefault('fused', True)
    in_norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        for parameter in (module.weight, module.bias)
        if parameter is not None
    }
    for rule in rules.values():
        for entry in rule:
            if entry not in ('weight_decay', 'lr_mult'):
                raise unknown('entry of an optimizer rule', entry, ('weight_decay', 'lr_mult'))
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    unused = {rule for rule in rules if not rule.startswith('loss.')}
    default_decay = arguments.get('weight_decay', inspect.signature(kind).parameters['weight_decay'].default)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        weight_decay, lr_mult = default_decay, 1.0
        for key, rule in rules.items():
            if id(parameter) in in_norms if key == 'norm' else key in name:
                weight_decay = rule.get('weight_decay', weight_decay)
                lr_mult = rule.get('lr_mult', lr_mult)
                unused.discard(key)
        groups.setdefault((weight_decay, lr_mult, name.startswith('loss.')), []).append(parameter)
    if unused:
        raise UsageError(f'optimizer rule fits no parameter: {", ".join(sorted(unused))}')
    return kind(
        [
            {'params': parameters, 'weight_decay': weight_decay, 'lr': arguments['lr'] * lr_mult, 'lr_mult': lr_mult}
            for (weight_decay, lr_mult, _), parameters in groups.items()
        ],
        **arguments,
    )


def can_fuse(precision: str) -> bool:
    """Whether the fused update may be used. Not where steps can be skipped: if the first step is skipped, the fused SGD
    of torch 2.14 starts with uninitialised memory as its momentum."""
    return precision != SCALED


class ScaledSteps(OptimWrapper):
    """Steps by the gradients of a scaled loss, so that float16 can represent small ones.

    Like mmengine's AmpOptimWrapper, but on any device. A step whose gradients are not all finite is skipped and the
    scale halved; after 2,000 steps without a skip it is doubled. The scale is saved with the optimizer.

    Args:
        optimizer: Not fused, see :func:`can_fuse`.
        device_type: Of the device that it computes on.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device_type: str) -> None:
        super().__init__(optimizer)
        self.scaler = GradScaler(device_type)

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Gradients of the scaled loss."""
        super().backward(self.scaler.scale(loss), **options)

    def step(self, **options: Any) -> None:
        """Scale the gradients back, then take the step or skip it."""
        self.scaler.step(self.optimizer, **options)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's, with the state of the scale."""
        return {**super().state_dict(), 'scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the result of :meth:`state_dict`."""
        self.load_scaler(state_dict)
        super().load_state_dict({name: value for name, value in state_dict.items() if name != 'scaler'})

    def load_scaler(self, state_dict: Mapping[str, Any]) -> None:
        """Load only the state of the scale."""
        self.scaler.load_state_dict(state_dict['scaler'])


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group ``lr`` times its own multiplier."""
    for group in optimizer.param_groups:
        group['lr'] = lr * group['lr_mult']


def learning_rate(schedule: Mapping[str, Any], lr: float, epoch: int, epochs: int) -> float:
    """Learning rate of one epoch: a pure function, so there is no state to resume.

    Args:
        schedule: ``type``: ``'cosine'`` (to 0 at the end; with ``one_ahead`` each epoch has the rate of the next one,
            and the last has 0, as code that steps its scheduler before each epoch does), ``'step'`` (times ``gamma`` at
            each share of the epochs in ``at``; 0.8 of 200 is epoch 160, 0-based; a list has a factor for each) or
            ``'constant'``;
            ``warmup_epochs`` w: epoch e < w has ``lr * (e + 1) / w``, or ``lr * e / w`` with ``warmup_from_zero``.
        lr: The base rate.
        epoch: 0-based.
        epochs: All epochs.

    Raises:
        UsageError: If the type is unknown.
    """
    warmup = schedule.get('warmup_epochs', 0)
    if epoch < warmup:
        if schedule.get('warmup_from_zero'):
            return lr * epoch / warmup
        return lr * (epoch + 1) / warmup
    kind = schedule['type']
    if kind == 'cosine':
        ahead = 1 if schedule.get('one_ahead') else 0
        return lr * 0.5 * (1 + math.cos(math.pi * (epoch + ahead - warmup) / (epochs - warmup)))
    if kind == 'step':
        passed, gamma = sum(epoch >= round(share * epochs) for share in schedule['at']), schedule['gamma']
        return lr * (math.prod(gamma[:passed]) if isinstance(gamma, list | tuple) else gamma**passed)
    if kind == 'constant':
        return lr
    raise unknown('schedule', kind, SCHEDULES)

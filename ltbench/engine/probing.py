"""Probes at work: the test images pass through a trained network, and what is seen inside is measured."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ltbench.declared import check, parse
from ltbench.engine.environment import Meter
from ltbench.engine.job import StageContext
from ltbench.engine.networks import network_of
from ltbench.engine.outputs import predict
from ltbench.errors import MethodWarning, given
from ltbench.models.classifier import LongTailClassifier
from ltbench.probes import Seen, entry_of
from ltbench.record_schema import Analysis
from ltbench.registry import PROBES, lookup
from ltbench.store import Artifact

MAY_PASS = (torch.OutOfMemoryError, MemoryError, ConnectionError, TimeoutError)
"""Errors that say nothing about the code that raised them: it is tried again."""


@contextmanager
def watched(model: LongTailClassifier) -> Iterator[list[Tensor]]:
    """A list that fills with what goes into the head meanwhile, ``[B, F]`` a batch."""
    batches: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, given: batches.append(given[0].detach().cpu().flatten(1)))
    try:
        yield batches
    finally:
        hook.remove()


def measured(names: Iterable[str], seen: Seen, raised: tuple[type[Exception], ...] = ()) -> dict[str, Any]:
    """What probes measure, as a record's ``analysis`` holds it. One that raises is left out, with a warning.

    Args:
        names: Of registered probes.
        seen: What they look at.
        raised: Errors that are not caught.
    """
    found: dict[str, Any] = {}
    for name in names:
        try:
            value = lookup(PROBES, name)().measure(seen)
            if value is not None:
                entry = parse(json.dumps({entry_of(name): value}).encode())  # as it will be read
                check(entry, Analysis)
                found |= entry
        except raised:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a probe is foreign code: it fails alone
            said = f'the probe {name} measured nothing: {type(error).__name__}: {error}'
            warnings.warn(said, MethodWarning, stacklevel=2)
    return found


def probe(context: StageContext) -> Artifact:
    """The ``probe`` stage: measure a network that was trained before; what the probe does, no other stage sees."""
    meter, data = Meter(), context.data
    model = network_of(context, given(context.stage.needs))
    with watched(model) as batches:
        augmentation = context.train_config['recipe']['augmentation']
        predict(model, model.data_preprocessor, data.test, augmentation, context.loader_workers)
    seen = Seen(model, batches, torch.from_numpy(data.test.labels), data.class_counts)
    analysis = measured([context.config['probe']['type']], seen, MAY_PASS)
    # no second of training
    cost = {'wall_seconds': 0.0, 'cpu_seconds': 0.0, 'evaluation_seconds': meter.read()['wall_seconds']}
    return context.publish(cost, lambda folder: None, measured=analysis)


COPIES = 'objective.'
"""Where modules lie that an objective keeps of the network, as a momentum encoder does."""


def followed(model: nn.Module) -> dict[str, float]:
    """Mean of every value that modules want to be followed over training, by its name.

    A module says which with ``followed() -> dict[str, list[Tensor]]``: scalars of its own, or ones that it shares with
    other modules, which then count once.
    """
    found: dict[str, dict[int, Tensor]] = {}
    modules: list[tuple[str, Any]] = list(model.named_modules())
    for module in (module for name, module in modules if hasattr(module, 'followed') and not name.startswith(COPIES)):
        for name, scalars in module.followed().items():
            found.setdefault(name, {}).update({id(scalar): scalar.detach() for scalar in scalars})
    return {name: float(torch.stack(list(of.values())).mean()) for name, of in found.items() if of}

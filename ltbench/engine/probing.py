"""Runs probes: the test images pass through a trained network, and probes measure what happens inside."""

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
"""Errors that are not caused by the code that raised them: it is tried again."""


@contextmanager
def watched(model: LongTailClassifier) -> Iterator[list[Tensor]]:
    """A list that collects the inputs of the head within this context, ``[B, F]`` per batch."""
    batches: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, given: batches.append(given[0].detach().cpu().flatten(1)))
    try:
        yield batches
    finally:
        hook.remove()


def measured(names: Iterable[str], seen: Seen, raised: tuple[type[Exception], ...] = ()) -> dict[str, Any]:
    """The results of probes, as in a record's ``analysis``. A probe that raises is left out, with a warning.

    Args:
        names: Of registered probes.
        seen: What they measure.
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
            message = f'the probe {name} measured nothing: {type(error).__name__}: {error}'
            warnings.warn(message, MethodWarning, stacklevel=2)
    return found


def probe(context: StageContext) -> Artifact:
    """The ``probe`` stage: measure a network that was trained before. The probe cannot affect any other stage."""
    meter, data = Meter(), context.data
    model = network_of(context, given(context.stage.needs))
    with watched(model) as batches:
        augmentation = context.train_config['recipe']['augmentation']
        predict(model, model.data_preprocessor, data.test, augmentation, context.loader_workers)
    seen = Seen(model, batches, torch.from_numpy(data.test.labels), data.class_counts)
    analysis = measured([context.config['probe']['type']], seen, MAY_PASS)
    # it adds no training time
    cost = {'wall_seconds': 0.0, 'cpu_seconds': 0.0, 'evaluation_seconds': meter.read()['wall_seconds']}
    return context.publish(cost, lambda folder: None, measured=analysis)


COPIES = 'objective.'
"""Name prefix of an objective's copies of network modules, such as a momentum encoder."""


def followed(model: nn.Module) -> dict[str, float]:
    """Mean of every value that modules report for the training curves, by its name.

    A module declares them with ``followed() -> dict[str, list[Tensor]]``: scalars of its own, or scalars that it shares
    with other modules, which count once.
    """
    found: dict[str, dict[int, Tensor]] = {}
    modules: list[tuple[str, Any]] = list(model.named_modules())
    for module in (module for name, module in modules if hasattr(module, 'followed') and not name.startswith(COPIES)):
        for name, scalars in module.followed().items():
            found.setdefault(name, {}).update({id(scalar): scalar.detach() for scalar in scalars})
    return {name: float(torch.stack(list(of.values())).mean()) for name, of in found.items() if of}

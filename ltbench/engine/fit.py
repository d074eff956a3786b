"""mmengine's Runner for everything that is trained, networks and heads alike.

Used unchanged: the Runner, its order of events and priorities of hooks, the loop over epochs and batches,
``train_step`` of its BaseModel and the OptimWrapper that steps. Replaced, with the reason:

- ``register_default_hooks``: our hooks (:mod:`ltbench.engine.hooks`) replace all six. mmengine's read every loss from
  the device at every step, write checkpoints that a crash can truncate, and keep state of schedules where ours is a
  pure function of the epoch.
- :class:`StageLoop`: starts after any epoch, as recorded in a state that our hook saved.
- ``wrap_model``: with several devices the gradient is that of the whole batch, whatever the sizes of its parts.
- ``build_visualizer``, ``build_logger``, ``dump_config``, ``_log_env``: nothing is drawn or written except the artifact
  and the stage's log; mmengine's own import matplotlib and look for compilers, seconds at every start.

mmengine's AmpOptimWrapper needs a GPU. Here the network's parts decide what is computed in 16 bits
(:mod:`ltbench.models.precision`), the same on every device, and our own OptimWrapper scales the loss.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ltbench.engine.distributed import DataParallel
from ltbench.engine.job import StageContext
from ltbench.engine.optim import ScaledSteps
from ltbench.models.classifier import LongTailClassifier
from ltbench.models.precision import SCALED
from ltbench.seeding import derive_seed


class StageLoop(EpochBasedTrainLoop):
    """Epochs of a stage; :meth:`resume_from` starts after any of them."""

    def resume_from(self, epoch: int, iteration: int) -> None:
        """Continue as if this many epochs and iterations were done."""
        self._epoch, self._iter = epoch, iteration


class NoVisualizer:
    """The part of a visualizer that mmengine's Runner needs; draws nothing."""

    dataset_meta: Any = None

    def add_config(self, config: Any) -> None:
        """The stage's config is in its artifact."""


class StageRunner(Runner):
    """mmengine's Runner with the parts replaced that the module's docstring names."""

    train_loop: StageLoop

    def register_default_hooks(self, hooks: Any = None) -> None:
        """Registers none: all hooks are passed explicitly."""

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Each of several processes computes its part; a single one needs no wrapper."""
        return DataParallel(cast(LongTailClassifier, model)) if self.distributed else model

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Nothing is drawn while training."""
        return NoVisualizer()

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **_: Any) -> MMLogger:
        """A logger without a file, which nobody would close: its messages go to the stage's log."""
        return MMLogger.get_instance(self._experiment_name, log_level=log_level)

    def dump_config(self) -> None:
        """Nothing to write."""

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Nothing to log: records have it."""


def fit(
    context: StageContext,
    model: BaseModel,
    loader: Any,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    hooks: Sequence[Hook],
) -> StageRunner:
    """Train to the last epoch of a stage.

    Args:
        context: The stage.
        model: What is trained; its ``train_step`` gives the loss of a batch and the number of ``correct`` predictions.
        loader: Batches of an epoch; has ``sampler`` and ``dataset``.
        optimizer: Over the parameters of ``model``.
        epochs: The last one (exclusive).
        hooks: In order of priority.

    Returns:
        The runner, which holds the number of iterations done.
    """
    scaled = context.precision == SCALED
    runner = StageRunner(
        model=model,
        work_dir=str(context.folder / 'mmengine'),
        train_dataloader=loader,
        train_cfg={'type': StageLoop, 'max_epochs': epochs},
        optim_wrapper=ScaledSteps(optimizer, context.device.type) if scaled else OptimWrapper(optimizer),
        custom_hooks=list(hooks),
        env_cfg={'mp_cfg': {'mp_start_method': 'forkserver'}, 'dist_cfg': {'backend': 'nccl'}},
        randomness={'seed': derive_seed(context.config['seed'], 0, 'global') % 2**32},
        experiment_name=context.stage.fingerprint[:16],
        log_level=logging.WARNING,
        launcher='pytorch' if context.share.size > 1 else 'none',
    )
    runner.train()
    return runner

"""The ``train`` stage: an mmengine Runner on resident data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ltbench.data.base import Split
from ltbench.data.batches import BatchPreprocessor, ResidentLoader, example_of, train_loader
from ltbench.data.samplers import EpochSampler
from ltbench.engine.analysis import FeatureSums, describe
from ltbench.engine.distributed import DataParallel
from ltbench.engine.environment import Meter, size_of
from ltbench.engine.hooks import Checkpoints, Curve, EpochStart, Scores
from ltbench.engine.job import Workbench
from ltbench.engine.optim import build_optimizer
from ltbench.engine.outputs import evaluated_splits, predict, save_outputs, save_tensors
from ltbench.errors import UsageError
from ltbench.models.classifier import LongTailClassifier, build_loss
from ltbench.models.losses import Loss
from ltbench.registry import MODELS, SAMPLERS, build
from ltbench.seeding import derive_seed
from ltbench.store import Artifact

STATE = 'state.pt'
UNUSED_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
"""mmengine's default hooks that ours replace: they read every loss from the device at every step, or write unsafely."""


class NothingDrawn:
    """What mmengine's Runner asks of a visualizer."""

    dataset_meta: Any = None

    def add_config(self, config: Any) -> None:
        """The stage's config is in its artifact."""


class StageRunner(Runner):
    """mmengine's Runner without its report on the environment, which takes seconds and which records hold already."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        pass

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """One of several processes computes its part; one alone needs no wrapper."""
        return DataParallel(cast(LongTailClassifier, model)) if self.distributed else model

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Nothing is drawn while training; mmengine's own would import matplotlib, a second at every start."""
        return NothingDrawn()

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **_: Any) -> MMLogger:
        """One without a file of its own, which nobody would close: what it says goes to the stage's log."""
        return MMLogger.get_instance(self._experiment_name, log_level=log_level)

    def dump_config(self) -> None:
        """Nothing to write: the stage's config is in its artifact."""


def train(bench: Workbench, hooks: Sequence[Hook] = ()) -> Artifact | None:
    """Train from the parent's state (or from scratch) to the stage's last epoch, evaluate if that is the recipe's.

    Args:
        bench: The stage.
        hooks: Further ones, to look on.

    Returns:
        The artifact; None in all but the first of several processes, which have done their part when training ends.
    """
    stage, config, data = bench.stage, bench.config, bench.data
    recipe, in_force = config['recipe'], config['history'][-1]
    model = build_model(bench).to(bench.device, memory_format=torch.channels_last)
    equip(model, bench)
    sampler = build(
        SAMPLERS, in_force['sampler'], labels=data.train.labels, seed=config['seed'], epochs=recipe['epochs']
    )
    curve = Curve(bench)
    start = bench.parent.path(STATE) if stage.starts_from else None
    checkpoints = Checkpoints(bench, curve, start)
    scores = [Scores(bench, curve, checkpoints)] if bench.runtime.eval_every else []
    runner = StageRunner(
        model=model,
        work_dir=str(bench.folder / 'mmengine'),
        train_dataloader=_loader(bench, sampler, model),
        train_cfg={'by_epoch': True, 'max_epochs': stage.end},
        optim_wrapper=OptimWrapper(build_optimizer(model, recipe['optimizer'], fused=True)),
        default_hooks=dict.fromkeys(UNUSED_HOOKS),
        custom_hooks=[EpochStart(config['seed'], recipe), curve, *scores, checkpoints, *hooks],
        env_cfg={'mp_cfg': {'mp_start_method': 'forkserver'}, 'dist_cfg': {'backend': 'nccl'}},
        randomness={'seed': derive_seed(config['seed'], 0, 'global') % 2**32},
        experiment_name=stage.fingerprint[:16],
        log_level=logging.WARNING,
        launcher='pytorch' if bench.share.size > 1 else 'none',
    )
    runner.train()
    if bench.share.rank > 0:
        return None

    cost: dict[str, Any] = checkpoints.meter.read()
    rate = len(sampler) * (stage.end - stage.begin) / max(cost['wall_seconds'], 1e-9)
    size: dict[str, int] = {}
    analysis: dict[str, Any] = {}
    outputs: dict[str, torch.Tensor] = {}
    splits = evaluated_splits(data)
    if stage.is_complete:
        evaluation = Meter()
        preprocess = model.data_preprocessor
        sums = FeatureSums(data.test.labels, data.num_classes)
        for name, split in splits.items():
            with sums.watching(model) if name == 'test' else nullcontext():
                logits = predict(model, preprocess, split, recipe['augmentation'], bench.loader_workers)
            outputs[name] = logits
        analysis = describe(model, sums, data.class_counts)
        cost['evaluation_seconds'] = evaluation.read()['wall_seconds']
        example = preprocess.normalize(example_of(data, recipe['augmentation']).to(bench.device))
        size = size_of(model, example)
        size['parameters'] -= sum(
            parameter.numel() for parameter in cast(nn.Module, model.loss).parameters()
        )  # it is left behind

    def write(folder: Path) -> None:
        state = checkpoints.state(runner, stage.end, runner.iter)
        if stage.is_complete:
            del state['optimizer']  # nothing is trained on from here
        for name, logits in outputs.items():
            save_outputs(folder / f'{name}.npz', logits, splits[name], data.num_classes)
        save_tensors(folder / STATE, state)

    described = {'curve': curve.epochs, 'images_per_second': round(rate, 1), 'analysis': analysis, **size}
    return bench.publish(cost, write, model=described, epochs=stage.end - stage.begin)


def _loader(bench: Workbench, sampler: EpochSampler, model: LongTailClassifier) -> DataLoader[dict[str, Any]]:
    recipe, split = bench.config['recipe'], bench.data.train
    if isinstance(split, Split) and bench.share.size == 1:
        return ResidentLoader(split, sampler, recipe['batch_size'], model.data_preprocessor)
    augmentation, workers = recipe['augmentation'], bench.loader_workers
    return train_loader(split, sampler, recipe['batch_size'], augmentation, workers, bench.share)


def equip(model: LongTailClassifier, bench: Workbench) -> None:
    """Give the network what is in force in this stage: its loss, class weights and mixing.

    Raises:
        UsageError: If the loss cannot do what is asked of it.
    """
    in_force, counts = bench.config['history'][-1], bench.data.class_counts
    model.loss = build_loss(in_force['loss'], in_force['class_weights'], counts).to(bench.device)
    if in_force['mixing']:
        if not isinstance(model.loss, Loss):
            raise UsageError(f'{in_force["loss"]["type"]} cannot take mixed labels: it does not derive from Loss')
        model.mixing = build(MODELS, in_force['mixing'], class_counts=counts, seed=bench.config['seed'])


def build_model(bench: Workbench) -> LongTailClassifier:
    """The network of a plan with its initial weights, which depend on the run seed alone."""
    config, data = bench.train_config, bench.data
    torch.manual_seed(derive_seed(config['seed'], 0, 'init'))
    preprocess = BatchPreprocessor(data, config['recipe']['augmentation'], config['seed'], bench.share)
    return LongTailClassifier(config, data.num_classes, data.channels, preprocess)


def load_trained(bench: Workbench, artifact: Artifact) -> LongTailClassifier:
    """The network with the weights that a ``train`` stage left."""
    model = build_model(bench)
    state = torch.load(artifact.path(STATE), map_location='cpu', weights_only=True)
    model.load_network(state['model'])
    return model.to(bench.device, memory_format=torch.channels_last)

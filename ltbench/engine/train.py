"""The ``train`` stage: an mmengine Runner on resident data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from ltbench.data.base import Split
from ltbench.data.batches import ResidentLoader, example_of, train_loader
from ltbench.data.crops import prepare_all
from ltbench.data.samplers import EpochSampler, Paired
from ltbench.engine.environment import Meter, size_of
from ltbench.engine.fit import fit
from ltbench.engine.hooks import Averaged, Checkpoints, Curve, EpochStart, Scores
from ltbench.engine.job import StageContext
from ltbench.engine.networks import STATE, build_model, network_of
from ltbench.engine.optim import build_optimizer, can_fuse
from ltbench.engine.outputs import evaluated_splits, predict, save_outputs, save_tensors
from ltbench.engine.probing import measured, watched
from ltbench.errors import UsageError
from ltbench.models.classifier import LongTailClassifier, build_loss
from ltbench.models.losses import Loss
from ltbench.models.objective import Teacher
from ltbench.probes import ALWAYS, Seen
from ltbench.registry import MODELS, SAMPLERS, build
from ltbench.seeding import derive_seed
from ltbench.store import Artifact


def train(context: StageContext, hooks: Sequence[Hook] = ()) -> Artifact | None:
    """Train from the parent's state (or from scratch) to the stage's last epoch; evaluate if it is the recipe's last.

    Args:
        context: The stage.
        hooks: Further hooks, which only observe.

    Returns:
        The artifact; None in all but the first of several processes: the others only train.
    """
    stage, config, data = context.stage, context.config, context.data
    recipe = config['recipe']
    prepare_all(data, recipe['augmentation'])
    model = build_model(context, begins=stage.starts_from is None).to(context.device, memory_format=torch.channels_last)
    equip(model, context)
    average = build(MODELS, config['average'], epochs=recipe['epochs']) if config['average'] else None
    sampler = _sampler(context)
    curve = Curve(context)
    start = context.parent.path(STATE) if stage.starts_from else None
    checkpoints = Checkpoints(context, curve, start, average)
    extra: list[Hook] = [Averaged(average)] if average else []
    if context.runtime.eval_every:
        extra.append(Scores(context, curve, checkpoints))
    optimizer = build_optimizer(model, recipe['optimizer'], fused=can_fuse(context.precision))
    start_epoch = EpochStart(config['seed'], recipe['schedule'], recipe['optimizer']['lr'], recipe['epochs'])
    loader = _loader(context, sampler, model)
    runner = fit(context, model, loader, optimizer, stage.end, [start_epoch, curve, *extra, checkpoints, *hooks])
    if context.share.rank > 0:
        return None

    cost: dict[str, Any] = checkpoints.meter.read()
    rate = len(sampler) * (stage.end - stage.begin) / max(cost['wall_seconds'], 1e-9)
    size: dict[str, int] = {}
    analysis: dict[str, Any] = {}
    outputs: dict[str, torch.Tensor] = {}
    splits = evaluated_splits(data)
    state = checkpoints.state(runner, stage.end, runner.iter)
    if stage.is_complete:
        for name in ('optimizer', 'objective', 'average'):  # training does not continue from here
            state.pop(name, None)
        if average is not None:
            model.load_network(average.values)
            if average.renews_statistics:
                _renew_statistics(model, loader, stage.end)
            state['model'] = model.network_state()
        evaluation = Meter()
        preprocess = model.data_preprocessor
        for name, split in splits.items():
            with watched(model) as features:
                logits = predict(model, preprocess, split, recipe['augmentation'], context.loader_workers)
            outputs[name] = logits
            if name == 'test':
                seen = Seen(model, features, torch.from_numpy(split.labels), data.class_counts)
                analysis = measured(ALWAYS, seen)
        cost['evaluation_seconds'] = evaluation.read()['wall_seconds']
        example = preprocess.normalize(example_of(data, recipe['augmentation']).to(context.device))
        size = size_of(model, example)
        for part in (model.loss, model.objective):  # not part of the network
            size['parameters'] -= sum(parameter.numel() for parameter in part.parameters()) if part else 0

    def write(folder: Path) -> None:
        for name, logits in outputs.items():
            save_outputs(folder / f'{name}.npz', logits, splits[name], data.num_classes)
        save_tensors(folder / STATE, state)

    described = {'curve': curve.epochs, 'images_per_second': round(rate, 1), 'analysis': analysis, **size}
    return context.publish(cost, write, model=described, epochs=stage.end - stage.begin)


def _sampler(context: StageContext) -> EpochSampler | Paired:
    config, labels, epochs = context.config, context.data.train.labels, context.config['recipe']['epochs']
    main = build(SAMPLERS, config['history'][-1]['sampler'], labels=labels, seed=config['seed'], epochs=epochs)
    if not config['partner_sampler']:
        return main
    seed = derive_seed(config['seed'], 0, 'partners')
    return Paired(
        main, build(SAMPLERS, config['partner_sampler'], labels=labels, seed=seed, epochs=epochs, length=len(main))
    )


def _loader(
    context: StageContext, sampler: EpochSampler | Paired, model: LongTailClassifier
) -> DataLoader[dict[str, Any]]:
    config, split = context.config, context.data.train
    batch_size, augmentation = config['recipe']['batch_size'], config['recipe']['augmentation']
    if isinstance(split, Split) and context.share.size == 1:
        return ResidentLoader(split, sampler, batch_size, model.data_preprocessor)
    return train_loader(
        split, sampler, batch_size, augmentation, context.loader_workers, context.share, config['views']
    )


def equip(model: LongTailClassifier, context: StageContext) -> None:
    """Set what the network trains with in this stage: loss, class weights and mixing, objective and teacher.

    Raises:
        UsageError: If the loss cannot take weights or mixed labels, or the objective needs more views than the plan
            has.
    """
    config, counts = context.config, context.data.class_counts
    in_force, seed, epochs = config['history'][-1], config['seed'], config['recipe']['epochs']
    model.loss = build_loss(in_force['loss'], in_force['class_weights'], counts).to(context.device)
    if in_force['mixing']:
        if not isinstance(model.loss, Loss):
            raise UsageError(f'{in_force["loss"]["type"]} cannot take mixed labels: it does not derive from Loss')
        model.mixing = build(MODELS, in_force['mixing'], class_counts=counts, seed=seed, epochs=epochs)
    if config['update']:
        model.update = build(MODELS, config['update'], class_counts=counts)
    if config['objective']:
        torch.manual_seed(derive_seed(seed, 0, 'objective'))
        model.objective = build(
            MODELS, config['objective'], backbone=model.backbone, in_features=model.backbone.out_features,
            num_classes=len(counts), class_counts=counts, epochs=epochs,
        ).to(context.device)  # fmt: skip
        if model.objective.views > len(config['views'] or 'x'):
            name = config['objective']['type']
            raise UsageError(f'{name} needs {model.objective.views} views of an image; the plan has one')
    if context.stage.teacher is not None:
        model.teacher = Teacher(network_of(context, context.stage.teacher))


@torch.no_grad()
def _renew_statistics(model: LongTailClassifier, loader: DataLoader[dict[str, Any]], epoch: int) -> None:
    """Recompute the BN statistics: the plain mean over the batches of one epoch of training images."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # in torch this means a plain mean
    model.train()
    cast(EpochSampler, loader.sampler).set_epoch(epoch)
    model.data_preprocessor.set_epoch(epoch)
    for batch in loader:
        inputs = model.data_preprocessor(batch, training=True)
        if 'partners' in inputs:  # a second stream of images, which has a separate branch in some networks
            model.forward(**inputs, mode='loss')
        else:
            model(inputs['images'])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum

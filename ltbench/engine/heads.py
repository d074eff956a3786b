"""The ``features`` and ``head`` stages: extract features of all views once, then train heads on them in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from ltbench.data.base import Split
from ltbench.data.batches import BatchPreprocessor, ResidentDataset, ResidentLoader, example_of, train_loader
from ltbench.data.samplers import EpochSampler
from ltbench.engine.environment import Meter, size_of
from ltbench.engine.fit import fit
from ltbench.engine.hooks import Checkpoints, Constrained, Curve, EpochStart, FrozenBackboneStatistics
from ltbench.engine.job import StageContext
from ltbench.engine.networks import (
    FEATURES,
    HEAD,
    STATE,
    STATISTICS,
    build_model,
    load_trained,
    seen_by_head,
    trained_head,
)
from ltbench.engine.optim import build_optimizer, can_fuse
from ltbench.engine.outputs import evaluated_splits, predict, save_outputs, save_tensors
from ltbench.engine.probing import measured, watched
from ltbench.errors import UsageError, given
from ltbench.models.classifier import Classifier, HeadOnFeatures, LongTailClassifier, build_head, build_loss
from ltbench.models.heads import joint
from ltbench.probes import ALWAYS, Seen
from ltbench.registry import MODELS, SAMPLERS, build
from ltbench.seeding import derive_seed
from ltbench.store import Artifact

PROGRESS_BATCHES = 50


def extract_features(context: StageContext) -> Artifact:
    """Pass the views that the head's sampler and augmentation draw through the frozen backbone.

    With ``bn='train'`` each batch is normalised by its own statistics and the running ones keep moving, exactly as if
    the backbone ran together with the head: its features depend only on the batches, never on the head.
    """
    config, data, meter = context.config, context.data, Meter()
    model = load_trained(context, context.parent)
    seed = derive_seed(config['seed'], 0, 'head')  # other views than in the first epochs of the first stage
    preprocess = BatchPreprocessor(data, config['augmentation'], seed).to(context.device)
    views, labels = _views(context, model, preprocess, seed) if config['epochs'] else (None, None)
    splits, test_augmentation = evaluated_splits(data), context.train_config['recipe']['augmentation']
    if not config['epochs']:
        splits['train'] = data.train  # for steps that fit something to unaugmented training images
    contents: dict[str, Any] = {'head': model.head.state_dict(), 'views': views, 'labels': labels}
    for name, split in splits.items():
        features = predict(model.backbone, preprocess, split, test_augmentation, context.loader_workers)
        contents[name] = features, torch.from_numpy(split.labels)
    example = preprocess.normalize(example_of(data, test_augmentation).to(context.device))

    def write(folder: Path) -> None:
        save_tensors(folder / FEATURES, contents)
        if config['bn'] == 'train':
            save_tensors(folder / STATISTICS, dict(model.backbone.named_buffers()))

    return context.publish(
        meter.read(),
        write,
        epochs=config['epochs'],
        backbone=size_of(model.backbone, example),
    )


def _views(
    context: StageContext, model: LongTailClassifier, preprocess: BatchPreprocessor, seed: int
) -> tuple[Tensor, Tensor]:
    """Features ``[epochs * N, F]`` of all views, in the order in which they are drawn, and their labels."""
    config, data = context.config, context.data
    sampler = build(SAMPLERS, config['sampler'], labels=data.train.labels, seed=seed, epochs=config['epochs'])
    if isinstance(data.train, Split) and config['bn'] == 'eval' and not preprocess.has_policies:
        return _views_once(context, model, preprocess, sampler, data.train)
    loader = train_loader(data.train, sampler, config['batch_size'], config['augmentation'], context.loader_workers)
    views: list[Tensor] = []
    labels: list[Tensor] = []
    for epoch in range(config['epochs']):
        sampler.set_epoch(epoch)
        preprocess.set_epoch(epoch)
        model.train(config['bn'] == 'train')
        with torch.inference_mode():
            for batch in loader:
                views.append(model.backbone(preprocess(batch, training=True)['images']).float().cpu())
                labels.append(batch['labels'])
        context.progress(epoch + 1, config['epochs'])
    return torch.cat(views), torch.cat(labels)


def _views_once(
    context: StageContext, model: LongTailClassifier, preprocess: BatchPreprocessor, sampler: EpochSampler, split: Split
) -> tuple[Tensor, Tensor]:
    """The same, but each distinct view passes through the backbone only once.

    With BN in evaluation mode an image's features do not depend on the batch it is in. A balanced sampler shows an
    image of a rare class hundreds of times, and it has 162 views at most: about 3 of 10 passes are saved on CIFAR.
    """
    epochs, batch_size = context.config['epochs'], context.config['batch_size']
    order, draws = [], []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        preprocess.set_epoch(epoch)
        indices = torch.tensor(list(sampler))
        order.append(indices)
        draws += [
            torch.stack([part.long() for part in preprocess.draw(len(batch))]) for batch in indices.split(batch_size)
        ]
    drawn = torch.cat([torch.cat(order)[None], torch.cat(draws, dim=1)])
    distinct, places = torch.unique(drawn, dim=1, return_inverse=True)
    dataset, parts = ResidentDataset(split), distinct.split(batch_size, dim=1)
    if len(parts) > 1:  # for a small batch other kernels are used, with other last bits
        parts = (*parts[:-1], distinct[:, -batch_size:])
    views: list[Tensor] = []
    model.eval()
    with torch.inference_mode():
        for number, (indices, *augmentation) in enumerate(parts):
            images = dataset.__getitems__(indices)['images'].to(context.device)
            views.append(model.backbone(preprocess.augment(images, augmentation)[0]).float().cpu())
            if number % PROGRESS_BATCHES == 0:
                context.progress(epochs * number // len(parts), epochs)
    context.progress(epochs, epochs)
    if len(parts) > 1:
        views[-1] = views[-1][-(distinct.shape[1] - batch_size * (len(parts) - 1)) :]
    return torch.cat(views)[places], dataset.labels[drawn[0]]


def train_head(context: StageContext) -> Artifact:
    """Train a head on extracted features, batch by batch, in the order in which they were drawn."""
    if 'along' in context.config:
        return _train_with_backbone(context)
    config, data = context.config, context.data
    views_config, artifact = given(context.stage.needs).config, context.parent
    features = torch.load(artifact.path(FEATURES), map_location=context.device, weights_only=True)
    base, backbone_shape = trained_head(context, features['head']), build_model(context).backbone
    torch.manual_seed(derive_seed(config['seed'], 0, 'head'))
    head = build_head(config['head'], backbone_shape, data.num_classes, context.precision, base=base).to(context.device)
    model = HeadOnFeatures(head)
    model.loss = build_loss(config['loss'], config['class_weights'], data.class_counts)
    model.to(context.device)  # including the preprocessor, which moves batches to the device
    epochs, batch_size = views_config['epochs'], views_config['batch_size']
    views = features['views'].view(epochs, -1, *features['views'].shape[1:])
    loader = ViewLoader(views, features['labels'].view(epochs, -1), batch_size)
    optimizer = build_optimizer(model, config['optimizer'], fused=can_fuse(context.precision))
    curve, checkpoints = _fit_head(context, model, loader, optimizer, epochs)
    head.eval()
    outputs = {}
    with torch.inference_mode():
        for name in evaluated_splits(data):
            outputs[name] = joint(head(features[name][0])).float().cpu()
        size = size_of(head, features['test'][0][:1])
        cost = checkpoints.meter.read()  # of the head; the measurements below do not count
        network = seen_by_head(context, context.stage).eval()
        network.head = head
        seen = Seen(network, [features['test'][0].cpu()], torch.from_numpy(data.test.labels), data.class_counts)
        analysis = measured(ALWAYS, seen)
    backbone = artifact.meta['backbone']
    whole = {name: backbone[name] + size[name] for name in ('parameters', 'flops')} | {'analysis': analysis}

    def write(folder: Path) -> None:
        save_tensors(folder / HEAD, head.state_dict())
        for name, split in evaluated_splits(data).items():
            save_outputs(folder / f'{name}.npz', outputs[name], split, data.num_classes)

    return context.publish(cost, write, model=whole, epochs=epochs, head_curve=curve.epochs)


def _train_with_backbone(context: StageContext) -> Artifact:
    """Train a head and parts of the backbone, the rest frozen: images pass through the network at every step."""
    config, data = context.config, context.data
    model = load_trained(context, context.parent)
    seed = derive_seed(config['seed'], 0, 'head')
    preprocess = BatchPreprocessor(data, config['augmentation'], seed).to(context.device)
    model.data_preprocessor = preprocess
    torch.manual_seed(seed)
    model.requires_grad_(False)
    base = model.head.requires_grad_(True)
    model.head = build_head(config['head'], model.backbone, data.num_classes, context.precision, base=base).to(
        context.device
    )
    model.loss = build_loss(config['loss'], config['class_weights'], data.class_counts).to(context.device)
    for part in config['along']:
        chosen = [parameter for name, parameter in model.backbone.named_parameters() if part in name]
        if not chosen:
            raise UsageError(f'no parameter of the backbone has {part!r} in its name, so along={part!r} trains nothing')
        for parameter in chosen:
            parameter.requires_grad_(True)
    sampler = build(SAMPLERS, config['sampler'], labels=data.train.labels, seed=seed, epochs=config['epochs'])
    loader: Any
    if isinstance(data.train, Split):
        loader = ResidentLoader(data.train, sampler, config['batch_size'], preprocess)
    else:
        loader = train_loader(data.train, sampler, config['batch_size'], config['augmentation'], context.loader_workers)
    optimizer = build_optimizer(model, config['optimizer'], fused=can_fuse(context.precision))
    frozen: list[Hook] = [FrozenBackboneStatistics()] if config['bn'] == 'eval' else []
    curve, checkpoints = _fit_head(context, model, loader, optimizer, config['epochs'], frozen)
    test_augmentation, splits = context.train_config['recipe']['augmentation'], evaluated_splits(data)
    outputs, analysis = {}, {}
    for name, split in splits.items():
        with watched(model) as features:
            outputs[name] = predict(model, preprocess, split, test_augmentation, context.loader_workers)
        if name == 'test':
            seen = Seen(model, features, torch.from_numpy(split.labels), data.class_counts)
            analysis = measured(ALWAYS, seen)
    size = size_of(model, preprocess.normalize(example_of(data, test_augmentation).to(context.device)))

    def write(folder: Path) -> None:
        save_tensors(folder / STATE, {'model': model.network_state()})
        for name, split in splits.items():
            save_outputs(folder / f'{name}.npz', outputs[name], split, data.num_classes)

    return context.publish(
        checkpoints.meter.read(),
        write,
        model={**size, 'analysis': analysis},
        epochs=config['epochs'],
        head_curve=curve.epochs,
    )


def _fit_head(
    context: StageContext,
    model: Classifier,
    loader: Any,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    more: Sequence[Hook] = (),
) -> tuple[Curve, Checkpoints]:
    """Train as the head stage declares; ``more`` hooks come last."""
    config, curve = context.config, Curve(context)
    checkpoints = Checkpoints(context, curve)
    seed = derive_seed(config['seed'], 0, 'head')
    hooks: list[Hook] = [EpochStart(seed, config['schedule'], config['optimizer']['lr'], epochs), curve, checkpoints]
    if config['constraint']:
        declared = dict(config['constraint'])
        every = declared.pop('every', 'step')
        hooks.append(Constrained(build(MODELS, declared, head=model.head), every))
    fit(context, model, loader, optimizer, epochs, [*hooks, *more])
    return curve, checkpoints


class ViewLoader:
    """Batches of views in the order in which they were drawn, epoch after epoch.

    Args:
        views: Features ``[E, N, F]`` of E epochs.
        labels: ``[E, N]``.
        batch_size: Views per batch; the last one is shorter.
    """

    metainfo: Mapping[str, Any] = {}

    def __init__(self, views: Tensor, labels: Tensor, batch_size: int) -> None:
        self.views, self.labels, self.batch_size = views, labels, batch_size
        self.dataset = self.sampler = self  # attributes that mmengine and the hooks need
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the views of an epoch (0-based)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.labels.shape[1] / self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        views, labels = self.views[self.epoch], self.labels[self.epoch]
        for images, part in zip(views.split(self.batch_size), labels.split(self.batch_size), strict=True):
            yield {'images': images, 'labels': part}

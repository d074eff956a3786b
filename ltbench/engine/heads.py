"""The ``features`` and ``head`` stages: extract the views a head will see once, then train heads on them in seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ltbench.data.batches import BatchPreprocessor, train_loader
from ltbench.engine.environment import Meter, size_of
from ltbench.engine.job import Workbench
from ltbench.engine.optim import build_optimizer, learning_rate, set_learning_rate
from ltbench.engine.outputs import NonFiniteError, predict, save_outputs
from ltbench.engine.train import build_model, load_trained
from ltbench.models.classifier import build_head, build_loss
from ltbench.registry import SAMPLERS, build
from ltbench.seeding import derive_seed
from ltbench.store import Artifact

FEATURES = 'features.pt'
HEAD = 'head.pt'


def extract_features(bench: Workbench) -> Artifact:
    """Pass the views that the head's sampler and augmentation draw through the frozen backbone.

    With ``bn='train'`` each batch is normalised by its own statistics and the running ones keep moving, exactly as if
    the backbone ran beside the head: its features depend on the batches alone, never on the head.
    """
    config, data, meter = bench.config, bench.data, Meter()
    model = load_trained(bench, bench.parent)
    sampler = build(SAMPLERS, config['sampler'], labels=data.train.labels, seed=config['seed'], epochs=config['epochs'])
    preprocess = BatchPreprocessor(data, config['augmentation'], config['seed']).to(bench.device)
    loader = train_loader(data.train, sampler, config['batch_size'])
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
        bench.progress(epoch + 1, config['epochs'])
    contents = {
        'views': torch.cat(views),
        'labels': torch.cat(labels),
        'test': predict(model.backbone, preprocess, data.test),
        'test_labels': torch.from_numpy(data.test.labels),
        'head': model.head.state_dict(),
    }
    example = preprocess.normalize(torch.from_numpy(data.test.images[:1]).to(bench.device))
    return bench.publish(
        meter.read(),
        lambda folder: torch.save(contents, folder / FEATURES),
        epochs=config['epochs'],
        backbone=size_of(model.backbone, example),
    )


def train_head(bench: Workbench) -> Artifact:
    """Train a head on extracted features, batch by batch in the order in which they were drawn."""
    config, data, meter = bench.config, bench.data, Meter()
    assert bench.stage.needs is not None
    views_config, artifact = bench.stage.needs.config, bench.parent
    features = torch.load(artifact.path(FEATURES), map_location=bench.device, weights_only=True)
    head = _build_head(bench, config['head'], features['head']).to(bench.device)
    loss = build_loss(config['loss'], config.get('class_weights'), data.class_counts).to(bench.device)
    optimizer = build_optimizer(head, config['optimizer'])
    epochs, batch_size = views_config['epochs'], views_config['batch_size']
    views = features['views'].view(epochs, -1, features['views'].shape[1])
    labels = features['labels'].view(epochs, -1)
    curve = []
    head.train()
    for epoch in range(epochs):
        set_learning_rate(optimizer, learning_rate(config['schedule'], config['optimizer']['lr'], epoch, epochs))
        total = torch.zeros((), device=bench.device)
        for x, y in zip(views[epoch].split(batch_size), labels[epoch].split(batch_size), strict=True):
            value = loss(head(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.detach() * len(y)
        mean = total.item() / labels.shape[1]
        if not math.isfinite(mean):
            raise NonFiniteError(f'the loss became {mean} in epoch {epoch} of the head')
        curve.append({'epoch': epoch, 'loss': float(f'{mean:.6g}')})
        bench.progress(epoch + 1, epochs, loss=mean)
    head.eval()
    with torch.inference_mode():
        logits = head(features['test']).float().cpu()
        size = size_of(head, features['test'][:1])
    backbone = artifact.meta['backbone']
    cost = {
        **meter.read(),
        'parameters': backbone['parameters'] + size['parameters'],
        'flops': backbone['flops'] + size['flops'],
    }

    def write(folder: Path) -> None:
        torch.save(head.state_dict(), folder / HEAD)
        save_outputs(folder / 'test.npz', logits, features['test_labels'].cpu())

    return bench.publish(cost, write, epochs=epochs, head_curve=curve)


def _build_head(bench: Workbench, config: Any, trained_state: dict[str, Tensor]) -> nn.Module:
    """A head on top of the backbone; one that takes ``base`` gets the trained head."""
    model = build_model(bench)
    model.head.load_state_dict(trained_state)
    torch.manual_seed(derive_seed(bench.config['seed'], 0, 'head'))
    return build_head(config, model.backbone, bench.data.num_classes, base=model.head)

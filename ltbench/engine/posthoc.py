"""The ``posthoc`` stage: new logits from a trained model's outputs, with values chosen on validation images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltbench.data import load_data
from ltbench.data.base import FileSplit, Split
from ltbench.data.batches import BatchPreprocessor, train_loader
from ltbench.data.samplers import InstanceBalanced
from ltbench.engine.environment import Meter
from ltbench.engine.job import StageContext
from ltbench.engine.networks import FEATURES, network_of, trained_head
from ltbench.engine.outputs import check_logits, evaluated_splits, load_outputs, predict, save_outputs
from ltbench.errors import given
from ltbench.evaluation import evaluate
from ltbench.models.heads import joint
from ltbench.models.posthoc import Outputs, PostHoc
from ltbench.registry import MODELS, build
from ltbench.stage import Stage, train_stage_of
from ltbench.store import Artifact


def apply_posthoc(context: StageContext) -> Artifact:
    """Choose the step's values if it needs that, then apply it to the test images."""
    meter, stage = Meter(), context.stage
    needs = given(stage.needs)
    chosen, tried = _choose(context) if stage.tuned_on is not None else ({}, [])
    step = _build_step(context, {**context.config['step'], **chosen}, context.data.class_counts)
    splits = evaluated_splits(context.data)
    logits, described = {}, {}
    for name, split in splits.items():
        outputs = replace(outputs_of(context, needs, name), labels=None)
        if context.config.get('views'):
            outputs = replace(outputs, **_outputs_on_views(context, needs, split))
        logits[name] = step.logits(outputs)
        if name == 'test' and step.measured:
            analysis = context.artifact_of(needs).meta['model'].get('analysis', {})
            described = {'analysis': {**analysis, **step.measured}}

    def write(folder: Path) -> None:
        for name, split in splits.items():
            save_outputs(folder / f'{name}.npz', logits[name], split, context.data.num_classes)

    return context.publish(meter.read(), write, model=described, chosen=chosen, tried=tried)


def _choose(context: StageContext) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The values with the best mean class accuracy on validation images (the first of equals), and all tried."""
    tuned_on = given(context.stage.tuned_on)
    data = load_data(train_stage_of(tuned_on).config['data'])
    outputs = outputs_of(context, tuned_on, 'validation')
    shown, labels = given(outputs.labels), given(None if data.validation is None else data.validation.labels)
    names, grids = zip(*context.config['choose'].items(), strict=True)
    tried = []
    for values in itertools.product(*grids):
        candidate = dict(zip(names, values, strict=True))
        step = _build_step(context, {**context.config['step'], **candidate}, data.class_counts)
        logits = step.logits(replace(outputs, labels=shown.clone()))
        check_logits(logits, len(labels), data.num_classes)
        metrics = evaluate(logits.numpy(), labels, data.class_counts)
        tried.append({**candidate, 'macro': metrics['macro']})
    best = max(tried, key=lambda row: row['macro'])
    return {name: best[name] for name in names}, tried


def _outputs_on_views(context: StageContext, stage: Stage, split: Split | FileSplit) -> dict[str, Any]:
    """``experts`` and ``views`` of a split's :class:`Outputs`; reads no label."""
    config, declared, workers = context.train_config, context.config['views'], context.loader_workers
    augmentation, size = config['recipe']['augmentation'], config['recipe']['batch_size']
    network = network_of(context, stage).eval()
    preprocess = BatchPreprocessor(context.data, augmentation, config['seed'], views=declared).to(context.device)
    sampler = InstanceBalanced(np.zeros(len(split), dtype=np.int64), config['seed'])
    loader = train_loader(split, sampler, size, augmentation, workers, views=declared)
    with torch.no_grad():
        features = predict(network.backbone, preprocess, split, augmentation, workers)
        experts = network.head(features.to(context.device)).cpu()

    def views(epoch: int) -> Iterator[torch.Tensor]:
        sampler.set_epoch(epoch)
        preprocess.set_epoch(epoch)
        for batch in loader:
            seen = preprocess(batch, training=True)
            with torch.no_grad():
                logits = [network.logits(view).cpu() for view in (seen['images'], *seen.get('others', ()))]
            yield torch.stack(logits)  # outside the context, which would otherwise stay active in the caller

    return {'experts': experts, 'views': views}


def _build_step(context: StageContext, config: Mapping[str, Any], class_counts: list[int]) -> PostHoc:
    return build(MODELS, config, class_counts=class_counts, num_classes=len(class_counts))


def outputs_of(context: StageContext, stage: Stage, split: str) -> Outputs:
    """The outputs of a stage's model on a split; with features and head if the stage extracted them."""
    artifact = context.artifact_of(stage)
    if stage.kind != 'features':
        return load_outputs(artifact.path(f'{split}.npz'))
    contents = torch.load(artifact.path(FEATURES), map_location='cpu', weights_only=True)
    head = trained_head(context, contents['head']).eval()
    with torch.inference_mode():
        (features, labels), (train_features, train_labels) = contents[split], contents['train']
        train = Outputs(joint(head(train_features)), train_labels, train_features)
        return Outputs(joint(head(features)), labels, features, head, train)

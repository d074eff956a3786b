"""The network of a plan: with its initial weights, and as a stage has trained it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ltbench.data.batches import BatchPreprocessor
from ltbench.engine.job import StageContext
from ltbench.errors import given
from ltbench.models.classifier import LongTailClassifier, build_head
from ltbench.models.pretrained import without_weights
from ltbench.seeding import derive_seed
from ltbench.stage import Stage, train_stage_of
from ltbench.store import Artifact

STATE = 'state.pt'
HEAD = 'head.pt'
FEATURES = 'features.pt'
STATISTICS = 'statistics.pt'
"""BN statistics after the views of a head have passed through the backbone."""


def build_model(
    context: StageContext, config: Mapping[str, Any] | None = None, begins: bool = False
) -> LongTailClassifier:
    """The network of a plan with its initial weights: from the run seed, and pre-trained ones of the backbone.

    Args:
        context: The stage.
        config: Of another ``train`` stage; None is that of the stage itself.
        begins: Whether training begins here; otherwise pre-trained weights of the backbone are not needed and not read.
    """
    config, data = config or context.train_config, context.data
    if not begins:
        config = without_weights(config)
    torch.manual_seed(derive_seed(config['seed'], 0, 'init'))
    preprocess = BatchPreprocessor(
        data, config['recipe']['augmentation'], config['seed'], context.share, config['views']
    )
    return LongTailClassifier(config, data.num_classes, data.channels, preprocess)


def load_trained(context: StageContext, artifact: Artifact) -> LongTailClassifier:
    """The network with the weights that a ``train`` stage has saved."""
    return _loaded(context, artifact, None)


def _loaded(context: StageContext, artifact: Artifact, config: Mapping[str, Any] | None) -> LongTailClassifier:
    model = build_model(context, config)
    state = torch.load(artifact.path(STATE), map_location='cpu', weights_only=True)
    model.load_network(state['model'])
    return model.to(context.device, memory_format=torch.channels_last)


def trained_head(context: StageContext, state: dict[str, Tensor]) -> nn.Module:
    """The head of the ``train`` stage with the weights that an artifact holds."""
    head = build_model(context).head
    head.load_state_dict(state)
    return head


def seen_by_head(context: StageContext, stage: Stage) -> LongTailClassifier:
    """The network of the ``train`` stage below, with the statistics of BN that a ``head`` stage was scored with."""
    trained = train_stage_of(stage)
    model = _loaded(context, context.artifact_of(trained), trained.config)
    if stage.kind == 'head' and 'along' not in stage.config and given(stage.needs).config['bn'] == 'train':
        path = context.artifact_of(given(stage.needs)).path(STATISTICS)
        model.backbone.load_state_dict(torch.load(path, map_location='cpu', weights_only=True), strict=False)
    return model


def network_of(context: StageContext, stage: Stage) -> LongTailClassifier:
    """The final network of another plan, including a head that was trained afterwards.

    Args:
        context: The stage that needs it.
        stage: A ``train`` or ``head`` stage whose artifact is in the store.
    """
    model = seen_by_head(context, stage)
    if stage.kind == 'head':
        artifact = context.artifact_of(stage)
        model.head = build_head(
            stage.config['head'],
            model.backbone,
            context.data.num_classes,
            train_stage_of(stage).config['recipe']['precision'],
            base=model.head,
        )
        whole = 'along' in stage.config  # parts of the backbone were also trained
        state = torch.load(artifact.path(STATE if whole else HEAD), map_location='cpu', weights_only=True)
        if whole:
            model.load_network(state['model'])
        else:
            model.head.load_state_dict(state)
        model.to(context.device)
    return model

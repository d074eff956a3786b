"""The model that mmengine's Runner trains: preprocessing, backbone, head, loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from ltbench.errors import UsageError, given
from ltbench.models.bf16 import compute_in_bf16
from ltbench.models.heads import linear_weight
from ltbench.models.losses import Loss
from ltbench.models.mixing import BatchMixing
from ltbench.registry import MODELS, build


class LongTailClassifier(BaseModel):
    """Backbone and head, with the loss of the stage that trains them.

    Args:
        config: ``backbone``, ``head``, ``normalization``, ``rectification``, ``recipe`` (its ``precision``) and
            ``seed`` (default 0) as in a stage's config. With ``'bf16'`` the backbone's convolutions are computed in
            bfloat16; weights, BN statistics, head, loss and optimizer stay in float32.
        num_classes: C.
        in_channels: Channels of the images.
        data_preprocessor: Turns a batch of the data loader into ``images`` (float ``[B, in_channels, H, W]``) and
            ``labels [B]``.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        num_classes: int,
        in_channels: int,
        data_preprocessor: BaseDataPreprocessor | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = build(MODELS, config['backbone'], in_channels=in_channels)
        if config['recipe']['precision'] == 'bf16':
            compute_in_bf16(self.backbone)
        if config['normalization']:
            build(MODELS, config['normalization'], seed=config.get('seed', 0))(self.backbone)
        self.head = build_head(config['head'], self.backbone, num_classes)
        if config['rectification']:
            self.head = RectifiedHead(self.head, build(MODELS, config['rectification'], num_classes=num_classes))
        self.loss: nn.Module | None = None
        self.mixing: BatchMixing | None = None

    def network_state(self) -> dict[str, Tensor]:
        """Weights and statistics of the network, without those of the loss that trains it."""
        state = self.state_dict()
        for name in [name for name in state if name.startswith('loss.')]:
            del state[name]
        return state

    def load_network(self, state: Mapping[str, Tensor]) -> None:
        """Load what :meth:`network_state` gave; the loss stays as it is."""
        loss = {} if self.loss is None else self.loss.state_dict(prefix='loss.')
        self.load_state_dict({**state, **loss})

    def init_weights(self) -> None:
        """Parts initialise themselves when built; mmengine's own pass is not needed."""

    def forward(self, images: Tensor, labels: Tensor | None = None, mode: str = 'tensor') -> Any:
        """Logits ``[B, C]``; with ``mode='loss'`` the loss and, for the log, the number of correct predictions.

        The heads of several experts give ``[B, K, C]``: the loss sees them all, the prediction is their mean.

        Raises:
            UsageError: If the loss gives more than one number, or the head has another number of experts than the
                backbone.
        """
        if mode == 'tensor':
            return joint(self._logits(images))
        criterion, labels = given(self.loss), given(labels)
        if self.mixing is None:
            logits = self._logits(images)
            loss = criterion(logits, labels)
        else:
            images, others, share = self.mixing(images, labels)
            logits = self._logits(images)
            if not isinstance(criterion, Loss):
                name = type(criterion).__name__
                raise UsageError(f'{name} cannot be mixed; derive it from ltbench.models.losses.Loss')
            loss = criterion.mixed(logits, labels, others, share)
        if loss.dim() != 0:
            raise UsageError(f'{type(criterion).__name__} gives {tuple(loss.shape)}; a loss is one number a batch')
        correct = (joint(logits.detach()).argmax(dim=1) == labels).float().sum()
        return {'loss': loss, 'correct': correct}

    def _logits(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        logits = self.head(features)
        if features.dim() == logits.dim() == 3 and features.shape[1] != logits.shape[1]:
            raise UsageError(
                f'the backbone has {features.shape[1]} experts and the head {logits.shape[1]}; give both one number'
            )
        return logits


def joint(logits: Tensor) -> Tensor:
    """``[B, C]`` as it is; the mean over experts of ``[B, K, C]``."""
    return logits.mean(dim=1) if logits.dim() == 3 else logits


class RectifiedHead(nn.Module):
    """A head whose logits pass through one more module.

    Args:
        base: The head.
        rectification: logits ``[B, C]`` -> logits ``[B, C]``.
    """

    def __init__(self, base: nn.Module, rectification: nn.Module) -> None:
        super().__init__()
        self.base, self.rectification = base, rectification

    @property
    def weight(self) -> Tensor:
        """The classifier's weight ``[C, F]``, where it has one."""
        return linear_weight(self.base)

    def forward(self, features: Tensor) -> Tensor:
        """Features -> logits."""
        return self.rectification(self.base(features))


def build_head(head: Mapping[str, Any], backbone: nn.Module, num_classes: int, **context: Any) -> nn.Module:
    """Build a head for the features of ``backbone``."""
    return build(
        MODELS,
        head,
        in_features=backbone.out_features,
        num_classes=num_classes,
        head_init=getattr(backbone, 'head_init', 'default'),
        **context,
    )


def build_loss(
    loss: Mapping[str, Any], class_weights: Mapping[str, Any] | None, class_counts: Sequence[int]
) -> nn.Module:
    """Build a loss and put its class weights in force.

    Raises:
        UsageError: If weights are asked of a loss that does not derive from :class:`Loss`.
    """
    built = build(MODELS, loss, class_counts=class_counts)
    if class_weights:
        if not isinstance(built, Loss):
            raise UsageError(
                f'{loss["type"]} cannot be re-weighted: it does not derive from ltbench.models.losses.Loss'
            )
        built.reweight(torch.as_tensor(build(MODELS, class_weights, class_counts=class_counts)))
    return built

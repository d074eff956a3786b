"""The model that mmengine's Runner trains: preprocessing, backbone, head, loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ltbench.errors import UsageError, given
from ltbench.models.heads import joint, linear_weight
from ltbench.models.losses import Loss
from ltbench.models.mixing import BatchMixing
from ltbench.models.objective import Batch, Objective, Teacher, Update
from ltbench.models.precision import OF_BACKBONE, OF_HEAD, compute_under_autocast
from ltbench.registry import MODELS, build

BESIDE = ('loss.', 'objective.')
"""Name prefixes of the loss and objective, which train the network and are not part of it."""


class Classifier(BaseModel):
    """A backbone and a head that mmengine's Runner trains by a loss.

    Args:
        backbone: Images ``[B, channels, H, W]`` -> features ``[B, F]`` (or ``[B, K, F]`` of K experts).
        head: Features -> logits ``[B, C]`` (or ``[B, K, C]``).
        data_preprocessor: Turns a batch of the data loader into ``images`` and ``labels [B]``.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, data_preprocessor: BaseDataPreprocessor | None = None
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone, self.head = backbone, head
        self.loss: nn.Module | None = None
        self.objective: Objective | None = None
        self.mixing: BatchMixing | None = None
        self.update: Update | None = None
        self.teacher: Teacher | None = None

    def network_state(self) -> dict[str, Tensor]:
        """Weights and statistics of the network, without those of the loss and objective that train it."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(BESIDE)}

    def load_network(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of :meth:`network_state`; loss and objective stay unchanged."""
        beside = {name: value for name, value in self.state_dict().items() if name.startswith(BESIDE)}
        self.load_state_dict({**state, **beside})

    def init_weights(self) -> None:
        """Parts initialise themselves when built; mmengine's own pass is not needed."""

    def forward(self, images: Tensor, labels: Tensor | None = None, mode: str = 'tensor', **beside: Any) -> Any:
        """Logits ``[B, C]``; with ``mode='loss'`` the loss and, for the log, the number of correct predictions.

        Heads of several experts give ``[B, K, C]``: the loss gets all of them, the prediction is their mean.

        Args:
            images: The first view.
            labels: ``[B]``.
            mode: ``'tensor'`` or ``'loss'``.
            beside: ``others``, ``partners`` and ``partner_labels``, see :class:`~ltbench.models.objective.Batch`.

        Raises:
            UsageError: If the loss returns more than one number, or the head has another number of experts than the
                backbone.
        """
        if mode == 'tensor':
            return joint(self.logits(images))
        outputs = self.loss_of(self.mixed(batch_of(images, given(labels), **beside)))
        return {name: outputs[name] for name in ('loss', 'correct')}  # mmengine averages every entry

    def train_step(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One training step, by the declared update."""
        if self.update is None:
            return super().train_step(data, optim_wrapper)
        batch = self.mixed(batch_of(**self.data_preprocessor(data, True)))

        def loss_of(part: Batch) -> dict[str, Tensor]:
            with optim_wrapper.optim_context(self):
                return self.loss_of(part)

        return self.update(loss_of, batch, self, optim_wrapper)

    def mixed(self, batch: Batch) -> Batch:
        """The batch with mixed images, if mixing is declared."""
        if self.mixing is None:
            return batch
        partners = (batch.partners[0], batch.partner_labels) if batch.partners else ()
        images, second, share = self.mixing(batch.images, batch.labels, *partners)
        return replace(batch, views=(images, *batch.views[1:]), second_labels=second, share=share)

    def loss_of(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, ``logits`` and ``correct`` of a batch."""
        criterion = given(self.loss)
        if self.objective is not None:
            loss, logits = self.objective(self, batch)
        elif batch.share is None:
            logits = self.logits(batch.images)
            loss = criterion(logits, batch.labels)
        else:
            logits = self.logits(batch.images)
            if not isinstance(criterion, Loss):
                name = type(criterion).__name__
                raise UsageError(f'{name} cannot take mixed labels; derive it from ltbench.models.losses.Loss')
            loss = criterion.mixed(logits, batch.labels, given(batch.second_labels), batch.share)
        if loss.dim() != 0:
            name = type(self.objective or criterion).__name__
            raise UsageError(f'{name} returns {tuple(loss.shape)}; a loss must be one number per batch')
        correct = (joint(logits.detach()).argmax(dim=1) == batch.labels).float().sum()
        return {'loss': loss, 'logits': logits, 'correct': correct}

    def logits(self, images: Tensor) -> Tensor:
        """``[B, C]``, or ``[B, K, C]`` of K experts."""
        return self.classify(self.backbone(images))

    def classify(self, features: Tensor) -> Tensor:
        """Features -> logits."""
        logits = self.head(features)
        if features.dim() == logits.dim() == 3 and features.shape[1] != logits.shape[1]:
            raise UsageError(
                f'the backbone has {features.shape[1]} experts and the head {logits.shape[1]}; use the same number'
            )
        return logits


class LongTailClassifier(Classifier):
    """The network of a plan.

    Args:
        config: ``backbone``, ``head``, ``normalization``, ``rectification``, ``recipe`` (its ``precision``) and
            ``seed`` (default 0) as in a stage's config. Precisions: see :mod:`ltbench.models.precision`.
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
        backbone = build(MODELS, config['backbone'], in_channels=in_channels)
        precision = config['recipe']['precision']
        if precision in OF_BACKBONE:
            compute_under_autocast(backbone, OF_BACKBONE[precision])
        if config['normalization']:
            build(MODELS, config['normalization'], seed=config.get('seed', 0))(backbone)
        head = build_head(config['head'], backbone, num_classes, precision)
        if config['rectification']:
            experts = getattr(backbone, 'experts', 1)
            head = RectifiedHead(head, build(MODELS, config['rectification'], num_classes=num_classes, experts=experts))
        super().__init__(backbone, head, data_preprocessor)


class HeadOnFeatures(Classifier):
    """A head alone, trained on features that were extracted before.

    Frozen parts of it also keep their statistics while the rest is trained.

    Args:
        head: The head.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__(nn.Identity(), head)

    def train(self, mode: bool = True) -> HeadOnFeatures:
        """Training mode for all but the frozen parts of the head."""
        super().train(mode)
        for module in self.head.modules():
            parameters = list(module.parameters())
            if module is not self.head and parameters and not any(part.requires_grad for part in parameters):
                module.eval()
        return self


def batch_of(
    images: Tensor,
    labels: Tensor,
    others: Sequence[Tensor] = (),
    partners: Sequence[Tensor] = (),
    partner_labels: Tensor | None = None,
) -> Batch:
    """A :class:`~ltbench.models.objective.Batch` from the entries that a data loader gives."""
    return Batch((images, *others), labels, tuple(partners), partner_labels)


class RectifiedHead(nn.Module):
    """A head whose logits pass through one more module.

    Args:
        base: The head.
        rectification: logits ``[B, C]`` -> logits ``[B, C]``; ``[B, K, C]`` likewise of K experts.
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


def build_head(
    head: Mapping[str, Any], backbone: nn.Module, num_classes: int, precision: str = 'fp32', **context: Any
) -> nn.Module:
    """Build a head for the features of ``backbone``, which computes in the ``precision`` of a recipe."""
    built = build(
        MODELS,
        head,
        in_features=backbone.out_features,
        num_classes=num_classes,
        head_init=getattr(backbone, 'head_init', 'default'),
        **context,
    )
    if precision in OF_HEAD:
        compute_under_autocast(built, OF_HEAD[precision])
    return built


def build_loss(
    loss: Mapping[str, Any], class_weights: Mapping[str, Any] | None, class_counts: Sequence[int]
) -> nn.Module:
    """Build a loss and set its class weights.

    Args:
        loss: Config.
        class_weights: Config of a part that returns one weight per class; ``divide_by`` is for :meth:`Loss.reweight`.
        class_counts: Training images per class.

    Raises:
        UsageError: If there are weights but the loss does not derive from :class:`Loss`.
    """
    built = build(MODELS, loss, class_counts=class_counts)
    if class_weights:
        if not isinstance(built, Loss):
            raise UsageError(
                f'{loss["type"]} cannot be re-weighted: it does not derive from ltbench.models.losses.Loss'
            )
        config = dict(class_weights)
        divide_by = config.pop('divide_by', 'weights')
        built.reweight(torch.as_tensor(build(MODELS, config, class_counts=class_counts)), divide_by)
    return built

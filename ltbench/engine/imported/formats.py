"""The official formats of checkpoints, each mapped to the names of :class:`LongTailClassifier`."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltbench.errors import DataError, UsageError, unknown

TORCHVISION_NETWORKS = {
    'resnet10': 'resnet10',
    'resnet18': 'resnet18',
    'resnet50': 'resnet50',
    'resnet101': 'resnet101',
    'resnet152': 'resnet152',
    'resnext50': 'resnext50_32x4d',
    'resnext50_32x4d': 'resnext50_32x4d',
}
CIFAR_DEPTHS = {f'resnet{depth}': depth for depth in (20, 32, 44, 56, 110)}
NOT_WEIGHTS = {
    'epoch': 'tells when it was saved',
    'best_epoch': 'tells when it was saved',
    'best_acc': "the source's own score",
    'best_acc1': "the source's own score",
    'optimizer': 'nothing is trained on',
    'scheduler': 'nothing is trained on',
    'centroids': 'class means of other losses; not part of the classifier',
}
"""Entries beside the weights that official code writes, and why an import does without each."""


@dataclass
class Checkpoint:
    """What a file holds, in our names.

    Attributes:
        path: Where it is.
        source: One of :data:`SOURCES`.
        sha256: Of the file, 64 hex digits.
        weights: Name in :class:`LongTailClassifier` -> tensor. ``nbn_scalar`` stands for every shared scalar.
        arch: As the file says; None where it does not.
        backbone: Config of the network that ``arch`` means; None without ``arch``.
        head: Config of the head.
        normalization: Config of the BN layers' re-parametrisation, or None.
        rectification: Config of what the logits pass through, or None.
        scaled: Whether one factor a class multiplies the logits.
        ignored: Key in the file -> why it is not needed.
        names: Our name -> key in the file, for messages.
    """

    path: Path
    source: str
    sha256: str
    weights: dict[str, Tensor] = field(default_factory=dict)
    arch: str | None = None
    backbone: dict[str, Any] | None = None
    head: dict[str, Any] = field(default_factory=lambda: {'type': 'LinearHead'})
    normalization: dict[str, Any] | None = None
    rectification: dict[str, Any] | None = None
    scaled: bool = False
    ignored: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def take(self, state: dict[str, Tensor], key: str, name: str) -> None:
        """Move the tensor ``key`` of the file to ``name``; one that is not there will be found missing later."""
        self.names[name] = key
        if key in state:
            self.weights[name] = state.pop(key)


def read_checkpoint(path: Path, source: str) -> Checkpoint:
    """Read a file in one of the official formats. Nothing in it is executed.

    Args:
        path: The file, as ``torch.save`` wrote it.
        source: One of :data:`SOURCES`.

    Raises:
        UsageError: If the source or the network that the file names is not known here.
        DataError: If the file is missing, damaged, holds more than plain data and tensors, or is not of that format;
            the message names the keys that are too many.
    """
    if source not in SOURCES:
        raise unknown('source of checkpoints', source, SOURCES)
    content = _load(path)
    with path.open('rb') as file:
        checkpoint = Checkpoint(path, source, hashlib.file_digest(file, 'sha256').hexdigest())
    SOURCES[source](checkpoint, content)
    return checkpoint


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f'no such file: {path}')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition('WeightsUnpickler error:')[2].strip().split('\n')[0] or str(error).split('\n')[0]
        raise DataError(
            f'{path} is refused: it is damaged, or holds more than tensors and plain data, which could run code '
            f'({reason}). If you trust it, load it with its own code and save the weights alone.'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = str(error).split('\n')[0]
        raise DataError(f'{path} cannot be read, it is truncated or no checkpoint: {reason}') from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise DataError(f'{path} holds a {type(content).__name__}, not a dict of names')
    return content


# ---------------------------------------------------------------------------------------------- sources


def _from_nbn(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
    """yuxiangbao/NBN: torchvision's names, ``scale_factor``, perhaps a batch norm on the logits."""
    state = _plain_names(checkpoint, _part(checkpoint, content, 'state_dict'), 'state_dict.')
    _no_more(checkpoint, content, {'state_dict', 'arch'})
    arch = _read_arch(checkpoint, content)
    normalized = 'scale_factor' in state
    if arch is not None:
        base = arch.removesuffix('_nbn')
        checkpoint.backbone = _torchvision_backbone(checkpoint, base)
        normalized = arch != base
    if normalized:
        checkpoint.normalization = {
            'type': 'NormalizedBN', 'normalize': 'both', 'scope': 'last_stage', 'scalar': 'network',
        }  # fmt: skip
        checkpoint.take(state, 'scale_factor', 'nbn_scalar')
        if 'nbn_scalar' in checkpoint.weights:
            _first_scalar(checkpoint)
    if 'fc.bn.running_mean' in state or 'fc.bn.running_var' in state:
        checkpoint.rectification = {'type': 'LogitBatchNorm'}
        checkpoint.take(state, 'fc.bn.running_mean', 'head.rectification.running_mean')
        checkpoint.take(state, 'fc.bn.running_var', 'head.rectification.running_var')
    head = 'head.base.' if checkpoint.rectification else 'head.'
    _linear(checkpoint, state, 'fc', head)
    _backbone(checkpoint, state)


def _from_classifier_balancing(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
    """facebookresearch/classifier-balancing: two networks, the classifier perhaps with one factor a class."""
    best = _part(checkpoint, content, 'state_dict_best')
    _no_more(checkpoint, content, {'state_dict_best'})
    features = _plain_names(checkpoint, _part(checkpoint, best, 'feat_model'), 'state_dict_best.feat_model.')
    classifier = _plain_names(checkpoint, _part(checkpoint, best, 'classifier'), 'state_dict_best.classifier.')
    if more := sorted(map(str, best.keys() - {'feat_model', 'classifier'})):
        raise DataError(f'{checkpoint.path}: state_dict_best holds networks that are not known: {", ".join(more)}')
    checkpoint.scaled = 'scales' in classifier
    if checkpoint.scaled:
        checkpoint.take(classifier, 'scales', 'head.scale')
    _linear(checkpoint, classifier, 'fc', 'head.base.' if checkpoint.scaled else 'head.')
    _too_many(checkpoint, classifier)
    _backbone(checkpoint, features)


def _from_ldam_drw(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
    """kaidic/LDAM-DRW: a CIFAR ResNet whose classifier is linear, or cosine where it has no bias."""
    state = _plain_names(checkpoint, _part(checkpoint, content, 'state_dict'), 'state_dict.')
    _no_more(checkpoint, content, {'state_dict', 'arch'})
    arch = _read_arch(checkpoint, content)
    if arch is not None:
        if arch not in CIFAR_DEPTHS:
            raise unknown(f'network in {checkpoint.path}', arch, CIFAR_DEPTHS)
        checkpoint.backbone = {'type': 'CIFARResNet', 'depth': CIFAR_DEPTHS[arch]}
    if 'linear.bias' in state:
        _linear(checkpoint, state, 'linear', 'head.')
    else:
        checkpoint.head = {'type': 'CosineHead', 'scale': 30.0}  # the scale that its loss multiplies the cosines by
        checkpoint.take(state, 'linear.weight', 'head.weight')
        if 'head.weight' in checkpoint.weights:
            weight = checkpoint.weights['head.weight']
            if weight.dim() != 2:
                raise DataError(f'{checkpoint.path}: linear.weight has shape {list(weight.shape)}, expected [F, C]')
            checkpoint.weights['head.weight'] = weight.T.contiguous()
    _backbone(checkpoint, state)


def _from_torchvision(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
    """pytorch/vision: a state dict of its own networks."""
    wrapped = [key for key, value in content.items() if isinstance(value, Mapping)]
    if wrapped:
        others = ', '.join(sorted(SOURCES.keys() - {checkpoint.source}))
        raise DataError(
            f'{checkpoint.path} is no state dict, it holds {", ".join(sorted(wrapped))}; other sources: {others}'
        )
    state = _plain_names(checkpoint, content, '')
    _linear(checkpoint, state, 'fc', 'head.')
    _backbone(checkpoint, state)


SOURCES: dict[str, Callable[[Checkpoint, dict[str, Any]], None]] = {
    'nbn': _from_nbn,
    'classifier-balancing': _from_classifier_balancing,
    'ldam-drw': _from_ldam_drw,
    'torchvision': _from_torchvision,
}


# ---------------------------------------------------------------------------------------------- parts of a file


def _part(checkpoint: Checkpoint, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(content.get(key), Mapping):
        found = ', '.join(sorted(map(str, content))[:8])
        raise DataError(f'{checkpoint.path} is not in the format of {checkpoint.source}: no {key}, but {found}')
    return dict(content[key])


def _no_more(checkpoint: Checkpoint, content: Mapping[str, Any], used: set[str]) -> None:
    """Account for the entries beside the weights."""
    for key in content.keys() - used:
        if key not in NOT_WEIGHTS:
            raise DataError(f'{checkpoint.path} holds {key!r}, which the format of {checkpoint.source} does not have')
        checkpoint.ignored[key] = NOT_WEIGHTS[key]


def _read_arch(checkpoint: Checkpoint, content: Mapping[str, Any]) -> str | None:
    arch = content.get('arch')
    if arch is not None and not isinstance(arch, str):
        raise DataError(f'{checkpoint.path}: arch is a {type(arch).__name__}, expected a name')
    checkpoint.arch = arch
    return arch


def _torchvision_backbone(checkpoint: Checkpoint, arch: str) -> dict[str, Any]:
    if 'ride' in arch.lower():
        raise UsageError(f'{checkpoint.path} holds {checkpoint.arch}, a network of several experts: not supported')
    if arch not in TORCHVISION_NETWORKS:
        raise unknown(f'network in {checkpoint.path}', arch, TORCHVISION_NETWORKS)
    return {'type': 'TorchvisionResNet', 'name': TORCHVISION_NETWORKS[arch]}


def _plain_names(checkpoint: Checkpoint, state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors without ``module.``, without counters."""
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = str(key).removeprefix('module.')
        if not isinstance(value, Tensor):
            raise DataError(f'{checkpoint.path}: {where}{key} is a {type(value).__name__}, expected a tensor')
        if name in plain:
            raise DataError(f'{checkpoint.path}: {where}{name} is there twice, with and without module.')
        if name.endswith('num_batches_tracked'):
            checkpoint.ignored[where + str(key)] = 'a counter; evaluation reads the running statistics alone'
        else:
            if not torch.isfinite(value).all():
                raise DataError(f'{checkpoint.path}: {where}{key} is not finite')
            plain[name] = value
    return plain


def _first_scalar(checkpoint: Checkpoint) -> None:
    factors = checkpoint.weights['nbn_scalar'].reshape(-1)
    if not len(factors):
        raise DataError(f'{checkpoint.path}: scale_factor is empty')
    checkpoint.weights['nbn_scalar'] = factors[0]
    if len(factors) > 1:
        reason = 'only entry 0 acts in the official code, on the four layers of layer4'
        checkpoint.ignored[f'scale_factor[1:{len(factors)}]'] = reason


def _linear(checkpoint: Checkpoint, state: dict[str, Tensor], key: str, head: str) -> None:
    checkpoint.take(state, f'{key}.weight', f'{head}weight')
    checkpoint.take(state, f'{key}.bias', f'{head}bias')


def _backbone(checkpoint: Checkpoint, state: dict[str, Tensor]) -> None:
    """What begins like a part of a ResNet goes to the backbone, under its own name; the rest is too much."""
    for key in list(state):
        if key.partition('.')[0] in ('conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4'):
            checkpoint.take(state, key, f'backbone.{key}')
    _too_many(checkpoint, state)


def _too_many(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> None:
    if state:
        raise DataError(
            f'{checkpoint.path} holds weights that {checkpoint.arch or "the network"} in the format of '
            f'{checkpoint.source} does not have: {", ".join(sorted(state))}'
        )

"""The official formats of checkpoints, each mapped to the names of :class:`LongTailClassifier`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ltbench.errors import DataError, UsageError, unknown
from ltbench.models.resnet_torchvision import NETWORKS
from ltbench.verbs.imported.reading import as_weight, read_plain, short

TORCHVISION_NETWORKS = {name: name for name in NETWORKS} | {'resnext50': 'resnext50_32x4d'}
LISTED = 8  # names in a message
CIFAR_DEPTHS = {f'resnet{depth}': depth for depth in (20, 32, 44, 56, 110)}
CONTAINERS = ('state_dict', 'model', 'model_state_dict', 'net', 'network')
"""Keys under which trainers store the weights of one network; other files have only the weights."""
PREFIXES = ('module.', '_orig_mod.', 'model.')
"""Prefixes that DataParallel, torch.compile and Lightning add to the names of all weights."""
_WHEN, _SCORE, _TRAINING = 'time of saving', "the source's own score", 'only for further training'
NOT_WEIGHTS = {
    **dict.fromkeys(('epoch', 'best_epoch', 'iteration', 'iter', 'step', 'global_step'), _WHEN),
    **dict.fromkeys(('best_acc', 'best_acc1', 'best_acc5', 'best_prec', 'best_prec1', 'best_prec5'), _SCORE),
    **dict.fromkeys(('acc', 'acc1', 'prec1', 'top1', 'best_top1', 'loss', 'best_loss'), _SCORE),
    **dict.fromkeys(('optimizer', 'optimizer_state_dict', 'scheduler', 'lr_scheduler', 'scaler', 'lr'), _TRAINING),
    'centroids': 'class means of other losses; not part of the classifier',
}
"""Entries beside the weights that official code and common trainers write, and why an import ignores them."""


@dataclass
class Checkpoint:
    """Contents of a file, in our names.

    Attributes:
        path: The file.
        source: One of :data:`SOURCES`.
        sha256: Checksum of the file, 64 hex digits.
        size: Size of the file in bytes.
        weights: Name in :class:`LongTailClassifier` -> tensor. ``nbn_scalar`` stands for every shared scalar.
        arch: Name of the network in the file; None if it has none.
        backbone: Config of the network ``arch``; None without ``arch``.
        head: Config of the head.
        normalization: Config of the BN layers' re-parametrisation, or None.
        rectification: Config of the layer after the logits, or None.
        scaled: Whether the logits are multiplied by one factor per class.
        ignored: Key in the file -> why it is not needed.
        names: Our name -> key in the file, for messages.
    """

    path: Path
    source: str
    sha256: str
    size: int
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
        """Move the tensor ``key`` of the file to ``name``; a missing one is reported later."""
        self.names[name] = short(key)
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
            the message names the unexpected keys.
    """
    if source not in SOURCES:
        raise unknown('source of checkpoints', source, SOURCES)
    content, sha256 = read_plain(path)
    checkpoint = Checkpoint(path, source, sha256, path.stat().st_size)
    SOURCES[source](checkpoint, content)
    return checkpoint


# ---------------------------------------------------------------------------------------------- sources


def _from_nbn(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
    """yuxiangbao/NBN: torchvision's names, ``scale_factor``, optionally a batch norm on the logits."""
    state = _weights(checkpoint, content)
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
    """facebookresearch/classifier-balancing: two networks, the classifier optionally with one factor per class."""
    best = _part(checkpoint, content, 'state_dict_best')
    _no_more(checkpoint, content, {'state_dict_best'})
    features = _plain_names(checkpoint, _part(checkpoint, best, 'feat_model'), 'state_dict_best.feat_model.')
    classifier = _plain_names(checkpoint, _part(checkpoint, best, 'classifier'), 'state_dict_best.classifier.')
    if more := sorted(map(str, best.keys() - {'feat_model', 'classifier'})):
        raise DataError(f'{checkpoint.path}: state_dict_best holds unknown networks: {_listed(more)}')
    checkpoint.scaled = 'scales' in classifier
    if checkpoint.scaled:
        checkpoint.take(classifier, 'scales', 'head.scale')
    _linear(checkpoint, classifier, 'fc', 'head.')
    _too_many(checkpoint, classifier)
    _backbone(checkpoint, features)


def _from_ldam_drw(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
    """kaidic/LDAM-DRW: a CIFAR ResNet whose classifier is linear, or cosine if it has no bias."""
    state = _weights(checkpoint, content)
    arch = _read_arch(checkpoint, content)
    if arch is not None:
        if arch not in CIFAR_DEPTHS:
            raise unknown(f'network in {checkpoint.path}', short(arch), CIFAR_DEPTHS)
        checkpoint.backbone = {'type': 'CIFARResNet', 'depth': CIFAR_DEPTHS[arch]}
    if 'linear.bias' in state:
        _linear(checkpoint, state, 'linear', 'head.')
    else:
        checkpoint.head = {'type': 'CosineHead', 'scale': 30.0}  # the factor of the cosines in its loss
        checkpoint.take(state, 'linear.weight', 'head.weight')
        if 'head.weight' in checkpoint.weights:
            weight = checkpoint.weights['head.weight']
            if weight.dim() != 2:
                raise DataError(f'{checkpoint.path}: linear.weight has shape {list(weight.shape)}, expected [F, C]')
            checkpoint.weights['head.weight'] = weight.T.contiguous()
    _backbone(checkpoint, state)


def _from_torchvision(checkpoint: Checkpoint, content: dict[str, Any]) -> None:
    """pytorch/vision and code that trains its networks: torchvision's names."""
    state = _weights(checkpoint, content)
    arch = _read_arch(checkpoint, content)
    if arch is not None:
        checkpoint.backbone = _torchvision_backbone(checkpoint, arch)
    _linear(checkpoint, state, 'fc', 'head.')
    _backbone(checkpoint, state)


SOURCES: dict[str, Callable[[Checkpoint, dict[str, Any]], None]] = {
    'nbn': _from_nbn,
    'classifier-balancing': _from_classifier_balancing,
    'ldam-drw': _from_ldam_drw,
    'torchvision': _from_torchvision,
}


# ---------------------------------------------------------------------------------------------- parts of a file


def _weights(checkpoint: Checkpoint, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of one network, in one of :data:`CONTAINERS` or at the top; other entries are noted as ignored."""
    found = [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]
    if len(found) > 1:
        raise DataError(f'{checkpoint.path} holds several networks ({", ".join(found)}); save only the one to score')
    if found:
        _no_more(checkpoint, content, {found[0], 'arch'})
        return _plain_names(checkpoint, content[found[0]], f'{found[0]}.')
    if any(isinstance(value, Mapping) for value in content.values()):
        others = ', '.join(sorted(SOURCES.keys() - {checkpoint.source}))
        raise _no_part(checkpoint, content, ' or '.join(CONTAINERS), f'; other sources: {others}')
    return _plain_names(checkpoint, content, '')


def _part(checkpoint: Checkpoint, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(content.get(key), Mapping):
        raise _no_part(checkpoint, content, key)
    return dict(content[key])


def _no_part(checkpoint: Checkpoint, content: Mapping[str, Any], wanted: str, advice: str = '') -> DataError:
    found = ', '.join(sorted(short(str(key)) for key in content)[:8]) or 'nothing'
    return DataError(f'{checkpoint.path} is not in the format of {checkpoint.source}: no {wanted}, but {found}{advice}')


def _no_more(checkpoint: Checkpoint, content: Mapping[str, Any], used: set[str]) -> None:
    """Note the entries beside the weights as ignored; an unknown one is an error."""
    for key in content.keys() - used:
        if key not in NOT_WEIGHTS:
            raise DataError(
                f'{checkpoint.path} holds {short(key)!r}, which the format of {checkpoint.source} does not have'
            )
        checkpoint.ignored[key] = NOT_WEIGHTS[key]


def _read_arch(checkpoint: Checkpoint, content: Mapping[str, Any]) -> str | None:
    arch = content.get('arch')
    if arch is not None and not isinstance(arch, str):
        raise DataError(f'{checkpoint.path}: arch is a {type(arch).__name__}, expected a name')
    checkpoint.arch = arch
    return arch


def _torchvision_backbone(checkpoint: Checkpoint, arch: str) -> dict[str, Any]:
    if 'ride' in arch.lower():
        raise UsageError(f'{checkpoint.path} holds {short(arch)}, a network of several experts: not supported')
    if arch not in TORCHVISION_NETWORKS:
        raise unknown(f'network in {checkpoint.path}', short(arch), TORCHVISION_NETWORKS)
    return {'type': 'TorchvisionResNet', 'name': TORCHVISION_NETWORKS[arch]}


def _plain_names(checkpoint: Checkpoint, state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors, with :data:`PREFIXES` removed from their names, and without counters."""
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise DataError(
                f'{checkpoint.path}: a key of {where.rstrip(".")} is a {type(key).__name__}, expected a name'
            )
        name, shown = key, short(where + key)
        while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ''):
            name = name.removeprefix(prefix)
        if name in plain:
            raise DataError(f'{checkpoint.path}: {short(where + name)} is there twice, with and without module.')
        if name.endswith('num_batches_tracked'):
            checkpoint.ignored[shown] = 'a counter; evaluation uses only the running statistics'
            continue
        try:
            plain[name] = as_weight(value, checkpoint.size)
        except ValueError as error:
            raise DataError(f'{checkpoint.path}: {shown} {error}') from error
    return plain


def _first_scalar(checkpoint: Checkpoint) -> None:
    factors = checkpoint.weights['nbn_scalar'].reshape(-1)
    if not len(factors):
        raise DataError(f'{checkpoint.path}: scale_factor is empty')
    checkpoint.weights['nbn_scalar'] = factors[0]
    if len(factors) > 1:
        reason = 'the official code uses only entry 0, on the four layers of layer4'
        checkpoint.ignored[f'scale_factor[1:{len(factors)}]'] = reason


def _linear(checkpoint: Checkpoint, state: dict[str, Tensor], key: str, head: str) -> None:
    checkpoint.take(state, f'{key}.weight', f'{head}weight')
    checkpoint.take(state, f'{key}.bias', f'{head}bias')


def _backbone(checkpoint: Checkpoint, state: dict[str, Tensor]) -> None:
    """Move the parts of a ResNet to the backbone, under their own names; any other weight is an error."""
    for key in list(state):
        if key.partition('.')[0] in ('conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4'):
            checkpoint.take(state, key, f'backbone.{key}')
    _too_many(checkpoint, state)


def _too_many(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> None:
    if state:
        raise DataError(
            f'{checkpoint.path} holds weights that {checkpoint.arch or "the network"} in the format of '
            f'{checkpoint.source} does not have: {_listed(state)}'
        )


def _listed(names: Iterable[str]) -> str:
    """The first of some names, printable."""
    shown = sorted(short(name) for name in names)
    return ', '.join(shown[:LISTED]) + (f' and {len(shown) - LISTED} more' if len(shown) > LISTED else '')

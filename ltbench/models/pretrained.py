"""Pre-trained weights of a backbone: a file that is identified by its sha256."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ltbench.console import printable
from ltbench.errors import DataError, UsageError, unknown
from ltbench.fingerprint import WEIGHTS
from ltbench.places import with_home
from ltbench.sealed import sha256_of

CLASSIFIER = ('fc.weight', 'fc.bias')
"""Weights of torchvision's classifiers; not loaded."""


def check_declared(weights: Any) -> None:
    """Check that weights are declared as ``dict(sha256=..., file=...)``.

    Raises:
        UsageError: If not; the message says what to write.
    """
    if not isinstance(weights, Mapping):
        raise UsageError(
            f"weights of a backbone are dict(sha256='394f9c45', file='PATH'), or without file for torchvision's in "
            f'$TORCH_HOME; got {weights!r}'
        )
    for key in weights:
        if key not in ('sha256', 'file'):
            raise unknown('entry of the weights of a backbone', str(key), ('sha256', 'file'))
    if not re.fullmatch('[0-9a-f]{8,64}', str(weights.get('sha256'))):
        raise UsageError(
            'weights of a backbone need sha256, the first 8 or more hexadecimal digits of that of their file, got '
            f'{weights.get("sha256")!r}'
        )
    if not isinstance(weights.get('file', ''), str):
        raise UsageError(f'file of the weights of a backbone is a path, got {weights["file"]!r}')


def file_of(weights: Mapping[str, Any], network: str) -> Path:
    """Path of the weights, whether or not they exist.

    Args:
        weights: As :func:`check_declared` takes them.
        network: torchvision's name.

    Raises:
        DataError: If the file is in the home of an unknown user.
    """
    if file := weights.get('file'):
        return with_home(file)
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{network}-{weights["sha256"][:8]}.pth'


def check_there(backbone: Mapping[str, Any]) -> None:
    """Check that the weights declared in a backbone's config, if any, are on this machine; their contents are compared
    when they are loaded.

    Raises:
        DataError: If there is no such file; the message says where to get it.
    """
    weights = backbone.get(WEIGHTS)
    if weights is not None and not file_of(weights, backbone['name']).is_file():
        file = file_of(weights, backbone['name'])
        url = f' from https://download.pytorch.org/models/{file.name}' if not weights.get('file') else ''
        raise DataError(
            f'the pre-trained weights of {backbone["name"]} are missing: {printable(file)}; copy them there{url}, or '
            'name a file: -o weights.file=PATH'
        )


def begin_with(network: nn.Module, weights: Mapping[str, Any], name: str, name_in_file: Callable[[str], str]) -> None:
    """Load weights from their file into a network; its classifier is left out.

    Args:
        network: Without a classifier.
        weights: As :func:`check_declared` takes them.
        name: torchvision's, of the network.
        name_in_file: Maps the name of a weight here to that in the file; several names may map to one.

    Raises:
        DataError: If the file is missing, not the declared one or not a file of weights; if a weight is missing,
            unexpected or of another shape.
    """
    check_there({'name': name, WEIGHTS: weights})
    file = file_of(weights, name)
    if not (digest := sha256_of(file)).startswith(weights['sha256']):
        raise DataError(
            f'{printable(file)} is not the declared file of weights of {name}: its sha256 is {digest[:12]}..., '
            f'declared is {weights["sha256"][:12]}; use the declared file, or declare this one'
        )
    try:
        state = torch.load(file, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f'{printable(file)} is not a file of weights: {printable(reason)}') from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f'{printable(file)} is not a file of weights: it holds more than named tensors')
    own = network.state_dict()
    # files older than 2018 have no counts of batches
    named = {key: old for key in own if (old := name_in_file(key)) in state or not old.endswith('num_batches_tracked')}
    lacking = [key for key in named.values() if key not in state]
    extra = [key for key in state if key not in named.values() and key not in CLASSIFIER]
    if lacking or extra:
        problems = [f'lacks {lacking[0]}' + f' and {len(lacking) - 1} more' * (len(lacking) > 1)] if lacking else []
        problems += [f'has unexpected {extra[0]}' + f' and {len(extra) - 1} more' * (len(extra) > 1)] if extra else []
        raise DataError(f'{printable(file)} does not fit {name}: it {" and ".join(problems)}')
    for key, old in named.items():
        if state[old].shape != own[key].shape:
            raise DataError(
                f'{printable(file)} does not fit {name}: {old} is {list(state[old].shape)}, here it is '
                f'{list(own[key].shape)}'
            )
    network.load_state_dict({key: state[old] for key, old in named.items()}, strict=False)


def without_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a network without pre-trained weights, because all its weights are loaded afterwards."""
    backbone = {key: value for key, value in config['backbone'].items() if key != WEIGHTS}
    return {**config, 'backbone': backbone}

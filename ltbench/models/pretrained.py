"""Weights that a backbone begins with instead of random ones: a file that is named by what it holds."""

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
"""Of torchvision's networks; left out."""


def check_declared(weights: Any) -> None:
    """See that weights are declared as ``dict(sha256=..., file=...)``.

    Raises:
        UsageError: If not, with what to write.
    """
    if not isinstance(weights, Mapping):
        raise UsageError(
            f"weights of a backbone are dict(sha256='394f9c45', file='PATH'), without file those that torchvision has "
            f'put into $TORCH_HOME; got {weights!r}'
        )
    for key in weights:
        if key not in ('sha256', 'file'):
            raise unknown('entry of the weights of a backbone', str(key), ('sha256', 'file'))
    if not re.fullmatch('[0-9a-f]{8,64}', str(weights.get('sha256'))):
        raise UsageError(
            'weights of a backbone need sha256, the first 8 hexadecimal digits or more of that of their file, got '
            f'{weights.get("sha256")!r}'
        )
    if not isinstance(weights.get('file', ''), str):
        raise UsageError(f'file of the weights of a backbone is a path, got {weights["file"]!r}')


def file_of(weights: Mapping[str, Any], network: str) -> Path:
    """Where the weights are, or are to be.

    Args:
        weights: As :func:`check_declared` takes them.
        network: torchvision's name.

    Raises:
        DataError: If the file is in the home of a user who is not there.
    """
    if file := weights.get('file'):
        return with_home(file)
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{network}-{weights["sha256"][:8]}.pth'


def check_there(backbone: Mapping[str, Any]) -> None:
    """See that the weights that a backbone's config declares, if any, are on this machine; their contents are compared
    when they are read.

    Raises:
        DataError: If there is no such file, with where to get it.
    """
    weights = backbone.get(WEIGHTS)
    if weights is not None and not file_of(weights, backbone['name']).is_file():
        file = file_of(weights, backbone['name'])
        where = f'https://download.pytorch.org/models/{file.name} to that place' if not weights.get('file') else 'it'
        raise DataError(
            f'the weights that {backbone["name"]} begins with are missing: {printable(file)}; bring {where}, or name a '
            'file: -o weights.file=PATH'
        )


def begin_with(network: nn.Module, weights: Mapping[str, Any], name: str, name_in_file: Callable[[str], str]) -> None:
    """Load weights from their file into a network; its classifier is left out.

    Args:
        network: Without a classifier.
        weights: As :func:`check_declared` takes them.
        name: torchvision's, of the network.
        name_in_file: From the name of a weight here to that in the file; several may be one there.

    Raises:
        DataError: In one line, if the file is missing, not the one that was declared or no file of weights; if a weight
            is missing, too many or of another shape.
    """
    check_there({'name': name, WEIGHTS: weights})
    file = file_of(weights, name)
    if not (digest := sha256_of(file)).startswith(weights['sha256']):
        raise DataError(
            f'{printable(file)} is not what {name} is to begin with: its sha256 is {digest[:12]}..., declared is '
            f'{weights["sha256"][:12]}; bring that file, or declare this one'
        )
    try:
        state = torch.load(file, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f'{printable(file)} is no file of weights: {printable(reason)}') from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f'{printable(file)} is no file of weights: it holds more than tensors by name')
    own = network.state_dict()
    # files from before 2018 do not count batches
    named = {key: its for key in own if (its := name_in_file(key)) in state or not its.endswith('num_batches_tracked')}
    lacking = [its for its in named.values() if its not in state]
    extra = [its for its in state if its not in named.values() and its not in CLASSIFIER]
    if lacking or extra:
        told = [f'lacks {lacking[0]}' + f' and {len(lacking) - 1} more' * (len(lacking) > 1)] if lacking else []
        told += [f'has {extra[0]}' + f' and {len(extra) - 1} more' * (len(extra) > 1) + ' too many'] if extra else []
        raise DataError(f'{printable(file)} does not fit {name}: it {" and ".join(told)}')
    for key, its in named.items():
        if state[its].shape != own[key].shape:
            raise DataError(
                f'{printable(file)} does not fit {name}: {its} is {list(state[its].shape)}, here it is '
                f'{list(own[key].shape)}'
            )
    network.load_state_dict({key: state[its] for key, its in named.items()}, strict=False)


def without_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a network whose weights are loaded as a whole afterwards."""
    backbone = {key: value for key, value in config['backbone'].items() if key != WEIGHTS}
    return {**config, 'backbone': backbone}

"""Read an untrusted file as tensors and plain data: verified first, and nothing in it is executed."""

from __future__ import annotations

import errno
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ltbench.console import printable
from ltbench.errors import DataError
from ltbench.sealed import open_regular, sha256_of

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of numbers that weights may have. Integers and float8 have no meaning without their scale."""
ZIP = b'PK\x03\x04'
CHUNK = 1 << 20
LONGEST = 200  # characters of a reason, or of a name in a message


def read_plain(path: Path) -> tuple[dict[str, Any], str]:
    """The dict that ``torch.save`` wrote to a file, and the file's sha256.

    The checksums of a zip archive are compared with its contents, which torch does not do; files of torch before
    version 1.6 have none. Tensors stay on the CPU and are not checked yet, see :func:`as_weight`.

    Raises:
        DataError: If the file is missing, no regular file or damaged, holds more than plain data and tensors, or no
            dict of names.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise DataError(f'no such file: {printable(path)}') from error
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise DataError(f'{printable(path)} cannot be read: {reason}') from error
    try:
        with file:
            sha256 = sha256_of(path)
            _verify(path, file)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # about old pickles and storages: a user can do nothing about them
                content = torch.load(file, map_location='cpu', weights_only=True)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f'{printable(path)} cannot be read: {error.strerror or error}') from error
    except pickle.UnpicklingError as error:
        reason = str(error).partition('WeightsUnpickler error:')[2].strip() or str(error)
        reason = reason.partition('. Please use')[0]  # torch advises to run the code
        raise DataError(
            f'{printable(path)} is refused: it is damaged, or holds more than tensors and plain data, which could run '
            f'code ({short(reason)}). If you trust it, load it with its own code and save only the weights.'
        ) from error
    except Exception as error:  # on damaged files torch's reader can raise anything
        reason = short(str(error)) or type(error).__name__
        raise DataError(
            f'{printable(path)} cannot be read, it is truncated, damaged or no checkpoint: {reason}'
        ) from error
    if not isinstance(content, dict):
        raise DataError(f'{printable(path)} holds a {type(content).__name__}, not a dict of names')
    if odd := [key for key in content if not isinstance(key, str)]:
        raise DataError(f'{printable(path)} holds no dict of names: one of its keys is a {type(odd[0]).__name__}')
    return content, sha256


def _verify(path: Path, file: BinaryIO) -> None:
    """Compare every entry of a zip archive with its checksum, and their sizes with that of the file."""
    file.seek(0)
    if file.read(len(ZIP)) != ZIP:
        return  # written by torch before 1.6
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise DataError(
                        f'{printable(path)} is refused: {short(entry.filename)} in it is compressed, which torch.save '
                        'never does; load it with its own code and save it again'
                    )
                with archive.open(entry) as contents:
                    while contents.read(CHUNK):
                        pass
    except DataError:
        raise
    except Exception as error:  # zipfile can raise anything, too
        if (
            isinstance(error, OSError) and error.errno != errno.EINVAL
        ):  # an error of the disk, not a negative position in the file
            raise
        reason = short(str(error)) or type(error).__name__
        no_checksums = '; or it was saved without checksums, by set_crc32_options(False): save it again with them'
        raise DataError(
            f'{printable(path)} is truncated or damaged ({reason}); get a complete copy'
            + (no_checksums if 'CRC' in reason else '')
        ) from error


def as_weight(value: Any, file_size: int) -> Tensor:
    """A plain tensor of real numbers, from an entry of a file.

    Args:
        value: The entry where a weight is expected.
        file_size: Bytes of the file; no tensor in it can have more.

    Raises:
        ValueError: If it is no weight; the message continues after the weight's name.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f'is a {type(value).__name__}, expected a tensor')
    tensor = Tensor.detach(value)  # called on the class: the file may have saved an attribute with this name
    if tensor.device.type == 'meta':
        raise ValueError('has no values, it was saved from the device meta')
    if tensor.is_nested or tensor.layout != torch.strided:
        raise ValueError(f'is {_last(tensor.layout)}; save it dense: .to_dense()')
    if tensor.is_quantized:
        raise ValueError(f'is quantised ({_last(tensor.dtype)}); save it as real numbers: .dequantize()')
    if tensor.dtype not in REAL:
        raise ValueError(f'is {_last(tensor.dtype)}, expected real numbers: {", ".join(map(_last, REAL))}')
    needed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if needed > held or held > file_size:
        raise ValueError(
            f'declares {max(needed, held):,} bytes, but the file has only {min(held, file_size):,} of them'
        )
    if not torch.isfinite(tensor.float()).all():
        raise ValueError('is not finite' + ('' if tensor.dtype != torch.float64 else ' in float32'))
    return tensor


def short(text: str) -> str:
    """The first line of a text, printable, and cut if it is long."""
    line = printable(text.strip().partition('\n')[0])
    return line if len(line) <= LONGEST else f'{line[: LONGEST - 3]}...'


def _last(name: object) -> str:
    return str(name).removeprefix('torch.')

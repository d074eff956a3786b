"""Image files as RGB pixels, by the same rules for small and large images; mean and deviation of pixels."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ltbench.console import printable
from ltbench.errors import DataError
from ltbench.sealed import contents_of
from ltbench.source import code_of

if TYPE_CHECKING:
    from torch import Tensor

GROUND = 'white'
"""The colour behind images with transparent parts."""
NOT_READ = ('BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF')
"""Formats that Pillow recognises but cannot decode, or only by running another program on the file (EPS)."""
JPEG = (b'\xff\xd8', b'\xff\xd9')
"""The first and the last bytes of a file."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns an image upright, by its EXIF orientation."""


class ImageError(DataError):
    """An image file that cannot be decoded.

    Attributes:
        reason: What is wrong with it, without its name.
    """

    reason = ''


def decode(path: Path) -> Image.Image:
    """The image at ``path`` in RGB, 8 bits a channel, as a viewer shows it.

    - Of a file with several frames or pages, the first.
    - Grey of 9 to 16 bits is scaled by the range that its format declares (a TIFF of 12 bits by 4,095), not clipped.
      Pixels that declare no range (32-bit integers, floats) are refused.
    - The EXIF orientation is applied; damaged EXIF counts as none.
    - Transparent parts are laid over white.
    - Grey, palettes, bilevel, CMYK, YCbCr and Lab are converted by Pillow; colour profiles are ignored.

    Raises:
        ImageError: If the file is missing, is no regular file, has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` or
            cannot be decoded; the message names it.
    """
    whole = 'put a whole copy in its place'
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a named pipe would wait for ever
            raise _error(path, 'no regular file', 'remove it')
        with Image.open(path, formats=formats()) as image:
            _check_size(path, image)
            image.load()
            return _upright(_as_rgb(path, image), image)
    except (ImageError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise _error(path, 'it is missing', '`ltbench data check` lists all that are') from error
    except PermissionError as error:
        raise _error(path, 'no permission to read it', 'allow it: chmod u+r') from error
    except UnidentifiedImageError as error:
        raise _error(path, 'in no format that Pillow reads', whole) from error
    except Image.DecompressionBombError as error:
        raise _error(path, str(error), 'scale it down') from error
    except Exception as error:  # on damaged files Pillow's decoders raise errors of any kind
        raise _error(path, printable(str(error)) or type(error).__name__, whole) from error


def decode_jpeg(path: Path) -> Tensor | None:
    """A common JPEG file decoded by OpenCV: bit for bit what :func:`decode` gives, as uint8 ``[H, W, 3]``.

    Both use libjpeg-turbo. This one avoids Pillow's copies, which saves a sixth of the time, and torch crops and scales
    its pixels in a quarter of the time that Pillow takes.

    Returns:
        None for other formats, colours other than RGB and grey, orientations other than upright, and damaged files:
        these are left to :func:`decode`.
    """
    import cv2
    import torch

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        encoded = contents_of(path)
        if not (encoded.startswith(JPEG[0]) and encoded.endswith(JPEG[1])):
            return None
        with Image.open(io.BytesIO(encoded), formats=('JPEG',)) as image:
            _check_size(path, image)
            is_common = image.format == 'JPEG' and image.mode in ('RGB', 'L')
            if not is_common or image.getexif().get(ExifTags.Base.Orientation, 1) in TURNS:
                return None
        return torch.from_numpy(cv2.imdecode(np.frombuffer(encoded, np.uint8), flags))
    except Exception:  # noqa: BLE001 - the other decoder meets the same error, and handles or reports it
        return None


@cache
def decoder() -> str:
    """Hash of these rules, for caches of decoded images: images decoded by other rules are decoded again."""
    return code_of(__file__)


def _error(path: Path, reason: str, mend: str) -> ImageError:
    error = ImageError(f'{printable(path)} cannot be decoded ({reason}); {mend}')
    error.reason = reason
    return error


def _check_size(path: Path, image: Image.Image) -> None:
    limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
    if limit is not None and pixels > limit:
        raise _error(path, f'{pixels:,} pixels, more than {limit:,}', 'scale it down')


def _as_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith('I;16') or (image.mode == 'I' and image.format in ('PNG', 'PPM')):
        return _eight_bits(image).convert('RGB')
    if image.mode in ('I', 'F'):
        kind = 'integer' if image.mode == 'I' else 'float'
        what = f'{kind} pixels of {image.format}, mode {image.mode}, declare no range'
        raise _error(path, what, 'save it with 8 or 16 bits')
    if not image.has_transparency_data:
        return image.convert('RGB')
    ground = Image.new('RGBA', image.size, GROUND)
    ground.alpha_composite(image.convert('RGBA'))
    return ground.convert('RGB')


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of up to 16 bits, scaled to 8."""
    tags: Any = getattr(image, 'tag_v2', {})  # of TIFF; PNG, PPM and JPEG 2000 come scaled to 16 bits
    top = 2 ** int(tags.get(ExifTags.Base.BitsPerSample, (16,))[0]) - 1
    values = np.asarray(image).astype(np.uint32)
    grey = (255 * values + top // 2) // top
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero: Pillow inverts 8 bits, but not 16
        grey = 255 - grey
    if (hidden := image.info.get('transparency')) is not None:
        grey[values == hidden] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _upright(picture: Image.Image, image: Image.Image) -> Image.Image:
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF raises errors of any kind; the pixels are whole
        turn = None
    return picture if turn is None else picture.transpose(turn)


@cache
def formats() -> tuple[str, ...]:
    """The formats that are read: all that this Pillow decodes by itself."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in NOT_READ)


@cache
def suffixes() -> frozenset[str]:
    """Endings of file names, in lower case with their dot, that stand for an image."""
    endings = Image.registered_extensions()
    return frozenset(ending for ending, name in endings.items() if name in formats())


def decode_all(paths: Sequence[Path], size: int) -> np.ndarray:
    """All images at one size.

    Args:
        paths: The files.
        size: Height and width; images of another size are scaled to it (bilinear, antialiased), also if that changes
            their proportions.

    Returns:
        Rows of ``image`` (uint8 ``[size, size, 3]``) and ``readable``: whether it could be decoded; black where not.
    """
    rows = np.zeros(len(paths), dtype=[('image', np.uint8, (size, size, 3)), ('readable', bool)])
    formats()  # loaded once, before there are threads

    def fill(number: int) -> None:
        try:
            colour = decode(paths[number])
        except ImageError:
            return
        if colour.size != (size, size):
            colour = colour.resize((size, size), Image.Resampling.BILINEAR)
        rows['image'][number] = np.asarray(colour)
        rows['readable'][number] = True

    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.filterwarnings('ignore', module=r'PIL\.')  # thousands of warnings about odd EXIF and large images
        list(pool.map(fill, range(len(paths)), chunksize=256))
    return rows


def mean_and_std(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Pixel mean and standard deviation of uint8 images ``[N, H, W, channels]`` by channel, in units of 0..1.

    A constant channel gets the deviation 1, so that normalising it gives 0 and not NaN.

    Raises:
        DataError: If all channels are constant.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        # counting the 256 values, in parts, takes next to no memory; the pixels as floats take eight times the images
        parts = np.array_split(images[..., channel], max(len(images) // 1000, 1))
        counts = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
        shares = counts / counts.sum()
        mean = float(shares @ values)
        means.append(round(mean, 4))
        deviations.append(round(float(np.sqrt(shares @ (values - mean) ** 2)), 4))
    if not any(deviations):
        colour = ', '.join(f'{255 * mean:.0f}' for mean in means)
        raise DataError(f'all {len(images):,} training images are of one colour ({colour}): nothing can be learned')
    return tuple(means), tuple(deviation or 1.0 for deviation in deviations)

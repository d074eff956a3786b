"""Every kind of image file as 8-bit RGB: known pixels in, known pixels out, or a refusal that names the file."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from ltbench.data import images
from ltbench.data.base import FileSplit
from ltbench.data.images import ImageError, decode, decode_all, decode_jpeg, mean_and_std, printable, suffixes
from ltbench.data.large import FileDataset
from ltbench.errors import DataError

ODDITIES = Path(os.environ.get('LTBENCH_DATA', '/work/data')) / 'jpeg_oddities'
GREY16 = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)  # 257 steps of 16 bits are one of 8
GREY8 = [0, 1, 128, 255]


def pixels(path: Path) -> np.ndarray:
    image = decode(path)
    assert image.mode == 'RGB'
    return np.asarray(image)


def grey(path: Path) -> list[int]:
    """The first row of an image of which all channels must be equal."""
    values = pixels(path)
    assert (values == values[..., :1]).all()
    return values[0, :, 0].tolist()


# ---------------------------------------------------------------------------------------------- ranges


@pytest.mark.parametrize('kind', ['png', 'tif', 'pgm', 'jp2'])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, kind):
    if kind == 'jp2' and not features.check('jpg_2000'):
        pytest.skip('this Pillow has no JPEG 2000')
    path = tmp_path / f'grey.{kind}'
    values = np.repeat(GREY16, 4, axis=0)
    if kind == 'pgm':
        path.write_bytes(b'P5 4 4 65535\n' + values.astype('>u2').tobytes())
    else:
        Image.fromarray(values).save(path)
    assert grey(path) == GREY8


def test_a_big_endian_tiff_and_values_between_two_steps_are_rounded(tmp_path):
    path = tmp_path / 'grey.tif'
    Image.frombytes('I;16B', (4, 1), np.array([[128, 129, 385, 386]], dtype='>u2').tobytes()).save(path)
    assert grey(path) == [0, 1, 1, 2]  # half a step is 128.5


def tiff(path: Path, values: np.ndarray, bits: int, photometric: int = 1, sample_format: int = 1) -> Path:
    """A TIFF of one strip, written by hand: Pillow writes no 12-bit ones."""
    if bits == 12:
        flat = values.ravel().tolist()
        pairs = zip(flat[::2], flat[1::2], strict=True)
        data = b''.join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    else:
        data = values.tobytes()
    height, width = values.shape
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    entries |= {279: len(data), 339: sample_format}
    directory = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in entries.items())
    head = b'II*\0' + struct.pack('<I', 8 + len(data))
    path.write_bytes(head + data + struct.pack('<H', len(entries)) + directory + bytes(4))
    return path


def test_twelve_bits_are_scaled_by_the_range_that_they_declare(tmp_path):
    values = np.array([[0, 16, 2056, 4095]], dtype=np.uint16)
    assert grey(tiff(tmp_path / 'twelve.tif', values, 12)) == [0, 1, 128, 255]


def test_sixteen_bits_with_white_as_zero(tmp_path):
    assert grey(tiff(tmp_path / 'inverted.tif', GREY16, 16, photometric=0)) == [255, 254, 127, 0]


@pytest.mark.parametrize(
    ('values', 'sample_format', 'words'),
    [
        (np.array([[0, 70000, 5, 6]], dtype=np.uint32), 1, 'integer pixels of TIFF, mode I, declare no range'),
        (np.array([[0, 1, 2, 3]], dtype=np.uint32), 1, 'integer pixels of TIFF, mode I, declare no range'),
        (np.array([[0, 0.5, 1, 0.25]], dtype=np.float32), 3, 'float pixels of TIFF, mode F, declare no range'),
    ],
)
def test_pixels_without_a_range_are_refused_by_name(tmp_path, values, sample_format, words):
    path = tiff(tmp_path / 'odd.tif', values, 32, sample_format=sample_format)
    with pytest.raises(ImageError, match=rf'odd\.tif cannot be decoded \({words}\); save it with 8 or 16 bits'):
        decode(path)


# ---------------------------------------------------------------------------------------------- alpha, modes, EXIF


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', 'L', 'RGB', 'I;16'])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    """Two pixels, the first fully transparent, the second black: dark ground would make them one."""
    path, options = tmp_path / 'two.png', {}
    image = Image.new('RGBA', (2, 1), (10, 10, 10, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    if mode == 'LA':
        image = image.convert('LA')
    elif mode == 'P':
        image = Image.new('P', (2, 1))
        image.putpalette([10, 10, 10, 0, 0, 0])
        image.putpixel((1, 0), 1)
        options = {'transparency': 0}
    elif mode in ('L', 'RGB'):
        image = image.convert(mode)
        options = {'transparency': 10 if mode == 'L' else (10, 10, 10)}
    elif mode == 'I;16':
        image, options = Image.fromarray(np.array([[2570, 0]], dtype=np.uint16)), {'transparency': 2570}
    image.save(path, **options)
    assert grey(path) == [255, 0]


def test_half_transparent_is_half_white_and_opaque_stays(tmp_path):
    image = Image.new('RGBA', (2, 1), (0, 0, 200, 255))
    image.putpixel((1, 0), (0, 0, 200, 51))
    image.save(tmp_path / 'half.png')
    assert pixels(tmp_path / 'half.png').tolist() == [[[0, 0, 200], [204, 204, 244]]]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['png', 'tif', 'webp'])
def test_exif_orientation_is_applied_once(tmp_path, orientation, kind):
    """The stored pixels of each orientation are made by hand: where its row 0 and column 0 lie in the upright image."""
    upright = np.zeros((2, 3, 3), np.uint8)
    upright[...] = np.arange(18).reshape(2, 3, 3) * 10
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f'turned.{kind}'
    Image.fromarray(np.ascontiguousarray(stored)).save(
        path, exif=exif, **({'lossless': True} if kind == 'webp' else {})
    )
    assert np.array_equal(pixels(path), upright)


def test_modes_are_converted(tmp_path):
    Image.new('CMYK', (1, 1), (0, 255, 255, 0)).save(tmp_path / 'red.tif')
    assert pixels(tmp_path / 'red.tif').tolist() == [[[255, 0, 0]]]
    bilevel = Image.new('1', (2, 1))
    bilevel.putpixel((1, 0), 1)
    bilevel.save(tmp_path / 'bilevel.png')
    assert grey(tmp_path / 'bilevel.png') == [0, 255]
    Image.new('YCbCr', (8, 8), (128, 128, 128)).save(tmp_path / 'grey.jpg')
    assert set(grey(tmp_path / 'grey.jpg')) == {128}


@pytest.mark.parametrize('kind', ['gif', 'tif', 'webp', 'png'])
def test_the_first_frame_stands_for_the_file(tmp_path, kind):
    frames = [Image.new('RGB', (2, 1), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    path = tmp_path / f'two.{kind}'
    frames[0].save(path, save_all=True, append_images=frames[1:], **({'lossless': True} if kind == 'webp' else {}))
    assert pixels(path).tolist() == [[[255, 0, 0]] * 2]


@pytest.mark.parametrize('suffix', ['.jfif', '.gif', '.bmp', '.tga', '.qoi', '.avif', '.jp2'])
def test_what_pillow_opens_is_an_image(tmp_path, suffix):
    feature = {'.avif': 'avif', '.jp2': 'jpg_2000'}.get(suffix)
    if feature and not features.check(feature):
        pytest.skip(f'this Pillow has no {suffix}')
    assert suffix in suffixes()
    path = tmp_path / f'red{suffix}'
    Image.new('RGB', (16, 16), (250, 0, 0)).save(path, **({'format': 'JPEG'} if suffix == '.jfif' else {}))
    assert np.abs(pixels(path).astype(int) - (250, 0, 0)).max() <= 8  # lossy ones miss a little


def test_no_program_is_run_on_a_file(tmp_path):
    """EPS is decoded by Ghostscript, whatever the file is called; stubs of Pillow decode nothing."""
    path = tmp_path / 'picture.png'
    path.write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n')
    with pytest.raises(ImageError, match='in no format that Pillow reads'):
        decode(path)
    assert not suffixes() & {'.eps', '.ps', '.h5', '.hdf', '.mpg', '.wmf', '.txt', ''}


# ---------------------------------------------------------------------------------------------- faults


def test_each_fault_of_a_file_is_named(tmp_path, monkeypatch):
    whole = tmp_path / 'whole.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole)
    (tmp_path / 'cut.png').write_bytes(whole.read_bytes()[:5000])
    (tmp_path / 'text.png').write_bytes(b'not an image')
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'dangling.png').symlink_to('nowhere')
    os.mkfifo(tmp_path / 'pipe.png')  # to open it would wait for ever
    faults = {
        'cut.png': 'truncated', 'text.png': 'in no format', 'empty.png': 'in no format',
        'folder.png': 'no regular file', 'pipe.png': 'no regular file', 'dangling.png': 'it is missing',
    }  # fmt: skip
    for name, words in faults.items():
        with pytest.raises(ImageError, match=rf'{name} cannot be decoded \(.*{words}.*\); ') as caught:
            decode(tmp_path / name)
        assert words in caught.value.reason
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 64 * 64)
    decode(whole)
    words = r'whole.png cannot be decoded \(.*pixels.*\); scale it down'
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 4095)  # of this Pillow itself would only warn
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match=words):
        decode(whole)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)
    with pytest.raises(ImageError, match=words):
        decode(whole)

    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Image, 'open', refuse)
    with pytest.raises(ImageError, match=r'whole.png cannot be decoded \(no permission to read it\)'):
        decode(whole)


@pytest.mark.parametrize('error', [KeyError('x'), IndexError('out'), OverflowError(), ZeroDivisionError('division')])
def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch, error):
    path = tmp_path / 'odd.png'
    Image.new('L', (2, 2)).save(path)

    def fail(_):
        raise error

    monkeypatch.setattr(images, '_as_rgb', lambda *_: fail(_))
    with pytest.raises(ImageError, match=r'odd.png cannot be decoded'):
        decode(path)


def test_too_little_memory_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    Image.new('L', (2, 2)).save(tmp_path / 'whole.png')

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(images, '_as_rgb', fail)
    with pytest.raises(MemoryError):
        decode_all([tmp_path / 'whole.png'], 2)


def test_large_images_are_decoded_by_the_same_rules(tmp_path):
    Image.fromarray(np.full((4, 4), 257 * 7, np.uint16)).save(tmp_path / 'grey.png')
    split = FileSplit(tmp_path, np.array([b'grey.png']), np.array([0]))
    image = FileDataset(split, {'resize': 4, 'center_crop': 4}, training=False).__getitems__([(0, 0)])['images'][0]
    assert (image == 7).all()


@pytest.mark.skipif(not ODDITIES.is_dir(), reason='needs the folder jpeg_oddities')
def test_of_the_jpeg_oddities_all_but_the_truncated_are_decoded():
    paths = sorted(ODDITIES.glob('*.jpg'))
    assert len(paths) == 55
    rows = decode_all(paths, 16)
    assert {path.name for path, good in zip(paths, rows['readable'], strict=True) if not good} == {
        'truncated_jpeg.jpg',
        'ultrahdr.jpg',
    }
    turned = [decode(ODDITIES / f'hopper_orientation_{number}.jpg') for number in range(2, 9)]
    plain = np.asarray(decode(ODDITIES / 'hopper.jpg')).astype(int)
    for image in turned:  # stored turned and encoded again, so only nearly equal
        assert np.abs(np.asarray(image).astype(int) - plain).mean() < 6


# ---------------------------------------------------------------------------------------------- mean and deviation


def test_a_constant_channel_has_deviation_one_and_constant_images_are_refused():
    images = np.zeros((3, 2, 2, 3), np.uint8)
    images[1, ..., 0] = 51
    mean, std = mean_and_std(images)
    assert mean == (round(51 / 255 / 3, 4), 0, 0)
    assert std == (round(0.2 * np.sqrt(2) / 3, 4), 1, 1)
    with pytest.raises(DataError, match=r'all 3 training images are of one colour \(7, 7, 7\): nothing can be learned'):
        mean_and_std(np.full((3, 2, 2, 3), 7, np.uint8))


def test_names_that_are_no_text_are_printable():
    assert printable('plain é') == 'plain é'
    assert printable(os.fsdecode(b'b\xe9b\xe9')) == 'b\\xe9b\\xe9'
    assert printable('two\nlines') == 'two\\nlines'


# ---------------------------------------------------------------------------------------------- JPEG by OpenCV


def jpeg(path: Path, size: tuple[int, int] = (45, 37), mode: str = 'RGB', **options) -> Path:
    """A picture with edges and noise."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = random.integers(-20, 21, (size[1], size[0], 3))
    Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).convert(mode).save(
        path, 'JPEG', **options
    )
    return path


@pytest.mark.parametrize('subsampling', ['4:4:4', '4:2:2', '4:2:0', '4:1:1'])
@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'quality': 30}, {'restart_marker_rows': 1}])
def test_the_fast_decoder_gives_equal_pixels(tmp_path, subsampling, options):
    for size in [(45, 37), (16, 16), (1, 9)]:
        path = jpeg(tmp_path / 'x.JPEG', size, subsampling=subsampling, **options)
        assert np.array_equal(decode_jpeg(path), pixels(path))
    grey_one = jpeg(tmp_path / 'grey.jpg', mode='L')
    assert np.array_equal(decode_jpeg(grey_one), pixels(grey_one))


def test_the_fast_decoder_leaves_the_rest_to_the_other(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    whole = jpeg(tmp_path / 'whole.jpg').read_bytes()
    (tmp_path / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'broken.jpg').write_bytes(whole[:100] + whole[-2:])
    Image.new('RGB', (4, 4)).save(tmp_path / 'png.jpg', 'PNG')
    os.mkfifo(tmp_path / 'fifo.jpg')
    jpeg(tmp_path / 'turned.jpg', exif=turned)
    jpeg(tmp_path / 'cmyk.jpg', mode='CMYK')
    for name in ('cut', 'broken', 'png', 'fifo', 'turned', 'cmyk', 'missing'):
        assert decode_jpeg(tmp_path / f'{name}.jpg') is None, name
    assert decode(tmp_path / 'turned.jpg').size == (37, 45)


@pytest.mark.skipif(not ODDITIES.is_dir(), reason='needs the folder jpeg_oddities')
def test_of_the_jpeg_oddities_those_that_are_common_have_equal_pixels():
    found = {path: decode_jpeg(path) for path in ODDITIES.iterdir()}
    common = {path: image for path, image in found.items() if image is not None}
    assert len(common) > 40
    assert all(np.array_equal(image, pixels(path)) for path, image in common.items())

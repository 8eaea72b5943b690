"""Hard files: both decoders agree on what can be read, and what cannot is masked, listed and silent."""

import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from clear.core.errors import ConfigError
from clear.datasets.images.decode import ImageDecoder, UnreadableImage, decode_image
from clear.datasets.images.pipeline import ImagePipeline

PHOTO = Image.fromarray(load_sample_images().images[0]).resize((64, 48))
DEEP = np.asarray(PHOTO.convert('L')).astype(np.uint16) * 256 + 37


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_alpha(mode):
    image = PHOTO.convert(mode)
    image.putalpha(PHOTO.convert('L'))
    return image


def png_chunk(kind, content):
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def png(width, height, depth, colour, rows, *, interlace=0, chunks=b''):
    """A PNG by hand: `rows` are the filtered bytes of all lines."""
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, interlace)
    return (b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', header) + chunks + png_chunk(b'IDAT', zlib.compress(rows, 9))
            + png_chunk(b'IEND', b''))


def huge_jpeg():
    """A JPEG whose header says 10,000 x 9,000 pixels."""
    content = bytearray(encoded(PHOTO, 'JPEG'))
    start = content.index(b'\xff\xc0')
    content[start + 5:start + 9] = struct.pack('>HH', 9000, 10000)
    return bytes(content)


def exif():
    value = Image.Exif()
    value[0x0112] = 6
    return value


def rgb16():
    rows = b''.join(b'\0' + line.tobytes() for line in (np.asarray(PHOTO).astype(np.uint16) * 256 + 200).astype('>u2'))
    return png(64, 48, 16, 2, rows)


def frames(kind):
    return encoded(PHOTO, kind, save_all=True, append_images=[PHOTO.rotate(90)])


# Name -> (content, whether PIL decodes it for 'cv2').
READABLE = {
    'jpeg': (encoded(PHOTO, 'JPEG'), False),
    'jpeg 4:4:4': (encoded(PHOTO, 'JPEG', subsampling=0, quality=95), False),
    'jpeg progressive': (encoded(PHOTO, 'JPEG', progressive=True), False),
    'jpeg stored as RGB': (encoded(PHOTO, 'JPEG', keep_rgb=True), False),
    'jpeg grey': (encoded(PHOTO.convert('L'), 'JPEG'), False),
    'jpeg with orientation': (encoded(PHOTO, 'JPEG', exif=exif()), False),
    'jpeg with trailing bytes': (encoded(PHOTO, 'JPEG') + bytes(100), False),
    'jpeg cmyk': (encoded(PHOTO.convert('CMYK'), 'JPEG'), True),
    'png': (encoded(PHOTO, 'PNG'), False),
    'png grey': (encoded(PHOTO.convert('L'), 'PNG'), False),
    'png palette': (encoded(PHOTO.convert('P'), 'PNG'), False),
    'png palette, transparent': (encoded(PHOTO.convert('P'), 'PNG', transparency=bytes(range(256))), False),
    'png grey, one transparent': (encoded(PHOTO.convert('L'), 'PNG', transparency=7), False),
    'png 1 bit': (encoded(PHOTO.convert('1'), 'PNG'), False),
    'png LA': (encoded(with_alpha('L'), 'PNG'), False),
    'png RGBA': (encoded(with_alpha('RGB'), 'PNG'), False),
    'png 16 bit grey': (encoded(Image.fromarray(DEEP), 'PNG'), False),
    'png 16 bit RGB': (rgb16(), False),
    'png 2 bit': (png(4, 1, 2, 0, b'\0\x1b'), False),
    'png with gamma': (png(3, 1, 8, 0, b'\0\x10\x60\xf0', chunks=png_chunk(b'gAMA', struct.pack('>I', 90000))), False),
    'png interlaced': (png(1, 1, 8, 2, b'\0\x01\x02\x03', interlace=1), True),
    'png animated': (frames('PNG'), True),
    'png 1 pixel': (encoded(Image.new('RGB', (1, 1), (9, 8, 7)), 'PNG'), False),
    'jpeg 1 pixel': (encoded(Image.new('RGB', (1, 1), (9, 8, 7)), 'JPEG'), False),
    'gif animated': (frames('GIF'), True),
    'webp': (encoded(PHOTO, 'WEBP'), True),
    'webp animated': (frames('WEBP'), True),
    'bmp': (encoded(PHOTO, 'BMP'), True),
    'tiff 32 bit': (encoded(Image.fromarray(DEEP.astype(np.int32)), 'TIFF'), True),
}
# Name -> (content, reason).
UNREADABLE = {
    'nothing': (b'', 'not an image'),
    'text': (b'<html>404 not found</html>', 'not an image'),
    'jpeg, half': (encoded(PHOTO, 'JPEG')[:700], 'truncated'),
    'jpeg, header only': (encoded(PHOTO, 'JPEG')[:40], '.'),
    'jpeg, two bytes': (b'\xff\xd8', '.'),
    'jpeg, endless segments': (b'\xff\xd8' + b'\xff\xe1\0\0' * 50, '.'),
    'jpeg, 0 x 0': (encoded(PHOTO, 'JPEG').replace(struct.pack('>HH', 48, 64), bytes(4), 1), '.'),
    'png, half': (encoded(PHOTO, 'PNG')[:3000], 'truncated'),
    'png, header only': (encoded(PHOTO, 'PNG')[:40], '.'),
    'png, pixels missing': (png(8, 8, 8, 2, b'\0\x01'), '.'),
    'png, 0 x 0': (png(0, 0, 8, 2, b''), '.'),
    'float tiff': (encoded(Image.fromarray(DEEP.astype(np.float32)), 'TIFF'), 'floating-point'),
    # 100 Mpx of zeros in 100 kB; PIL warns of this one, and refuses one twice as large by itself.
    'huge png': (png(10_000, 10_000, 1, 0, bytes(1251 * 10_000)), '10000 x 10000 pixels, more than 89478485'),
    'huger png': (png(20_000, 20_000, 1, 0, b''), 'decompression bomb'),
    'huge jpeg': (huge_jpeg(), '10000 x 9000 pixels, more than'),
}


@pytest.mark.parametrize('name', READABLE)
def test_both_decoders_agree_to_the_bit(name, recwarn):
    content, by_pil = READABLE[name]
    fast, exact = ImageDecoder('cv2'), ImageDecoder('pil')
    array = fast(content)
    assert array.dtype == np.uint8 and array.flags.writeable and array.flags.c_contiguous
    assert np.array_equal(array, exact(content))
    assert np.array_equal(array, np.asarray(decode_image(content)))
    assert sum(fast.fallbacks.values()) == by_pil and not exact.fallbacks
    assert not recwarn.list


def test_values_are_right_where_decoders_could_agree_on_nonsense():
    decode = ImageDecoder('cv2')
    rgb = np.asarray(PHOTO)
    assert np.array_equal(decode(READABLE['png'][0]), rgb)
    assert np.array_equal(decode(READABLE['png 16 bit RGB'][0]), rgb)
    assert np.array_equal(decode(READABLE['png RGBA'][0]), rgb)
    assert np.array_equal(decode(READABLE['png 16 bit grey'][0])[..., 0], DEEP >> 8)
    assert decode(READABLE['png 2 bit'][0])[0, :, 0].tolist() == [0, 85, 170, 255]
    assert decode(READABLE['png with gamma'][0])[0, :, 0].tolist() == [0x10, 0x60, 0xf0]
    assert decode(READABLE['jpeg with orientation'][0]).shape == (48, 64, 3)
    red = encoded(Image.new('RGB', (16, 16), (250, 10, 20)), 'JPEG', quality=95)
    assert np.abs(decode(red).astype(int) - [250, 10, 20]).max() <= 3


@pytest.mark.parametrize('decoder', ['cv2', 'pil'])
@pytest.mark.parametrize('name', UNREADABLE)
def test_bad_files_have_a_reason_and_no_warning(name, decoder):
    content, reason = UNREADABLE[name]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(UnreadableImage, match=reason):
            ImageDecoder(decoder)(content)


@pytest.mark.parametrize('decoder', ['cv2', 'pil'])
def test_huge_images_are_refused_before_they_are_decoded(decoder):
    tracemalloc.start()
    try:
        for name in ('huge png', 'huger png', 'huge jpeg'):
            with pytest.raises(UnreadableImage):
                ImageDecoder(decoder)(UNREADABLE[name][0])
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('decoder', ['cv2', 'pil'])
@pytest.mark.parametrize('augment', [None, 'crop_flip'])
@pytest.mark.parametrize('cache', [None, 'ram', 'disk'])
def test_a_batch_of_all_of_them(tmp_path, decoder, augment, cache):
    files = {**{name: content for name, (content, _) in READABLE.items()},
             **{name: content for name, (content, _) in UNREADABLE.items()},
             'thin': encoded(Image.new('RGB', (1, 3000)), 'PNG'),
             'too thin': encoded(Image.new('1', (1, 50000)), 'PNG')}
    paths = [f'{index}.jpg' for index in range(len(files))] + ['missing.jpg', '.']
    for path, content in zip(paths, files.values()):
        (tmp_path / path).write_bytes(content)
    pipeline = ImagePipeline(tmp_path, paths, resize=48, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
                             decoder=decoder, cache=cache, augment=augment,
                             cache_dir=tmp_path / 'cache' if cache == 'disk' else None)
    expected = [True] * len(READABLE) + [False] * len(UNREADABLE) + [True, False, False, False]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(2):
            images, valid = pipeline.batch(range(len(paths)))
            assert valid.tolist() == expected
            assert images.isfinite().all() and (images[~valid] == 0).all()
    assert sorted(pipeline.bad) == [row for row, good in enumerate(expected) if not good]
    for row, (_, reason) in zip(range(len(READABLE), len(paths)), UNREADABLE.values()):
        assert reason == '.' or reason in pipeline.bad[row]
    assert pipeline.bad[len(paths) - 2] == 'missing' and 'directory' in pipeline.bad[len(paths) - 1]
    assert 'would become 48 x 2400000' in pipeline.bad[len(paths) - 3]
    assert bool(pipeline.fallbacks) == (decoder == 'cv2')


def test_bad_files_print_nothing(capfd):
    """The libraries below OpenCV write to the process's stderr, past Python; so they are not asked for these files.

    One kind is left: a PNG that has its end, but too few pixels before it. libpng prints one line for it.
    """
    for content in (content for name, (content, _) in UNREADABLE.items() if name != 'png, pixels missing'):
        with pytest.raises(UnreadableImage):
            ImageDecoder('cv2')(content)
    assert capfd.readouterr() == ('', '')


def test_unknown_decoder():
    with pytest.raises(ConfigError, match="decoder is 'turbo', expected one of 'cv2', 'pil'"):
        ImageDecoder('turbo')

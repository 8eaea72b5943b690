"""Opening images of every common mode, and refusing what is none."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from clear.datasets.images import decode
from clear.datasets.images.decode import UnreadableImage, decode_image

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_rgb():
    return np.repeat(GREY[..., None], 3, axis=2)


def test_rgb_and_grey_keep_their_values():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decode_image(encoded(Image.fromarray(rgb), 'PNG'))), rgb)
    assert np.array_equal(np.asarray(decode_image(encoded(Image.fromarray(GREY), 'PNG'))), grey_rgb())


def test_16_bit_grey_keeps_its_high_byte():
    deep = GREY.astype(np.uint16) * 256 + 17
    assert np.array_equal(np.asarray(decode_image(encoded(Image.fromarray(deep), 'PNG'))), grey_rgb())
    wide = encoded(Image.fromarray(deep.astype(np.int32)), 'TIFF')
    assert np.array_equal(np.asarray(decode_image(wide)), grey_rgb())


def test_alpha_is_dropped():
    rgba = np.dstack([grey_rgb(), np.full((8, 8), 10, np.uint8)])
    assert np.array_equal(np.asarray(decode_image(encoded(Image.fromarray(rgba), 'PNG'))), grey_rgb())
    grey_alpha = Image.fromarray(GREY).convert('LA')
    assert np.array_equal(np.asarray(decode_image(encoded(grey_alpha, 'PNG'))), grey_rgb())


def test_palette_with_transparency(recwarn):
    image = Image.fromarray(GREY).convert('P')
    content = encoded(image, 'PNG', transparency=bytes(range(256)))
    assert np.array_equal(np.asarray(decode_image(content)), grey_rgb())
    assert not recwarn.list


def test_cmyk_and_bilevel():
    red = Image.new('CMYK', (8, 8), (0, 255, 255, 0))
    assert np.abs(np.asarray(decode_image(encoded(red, 'JPEG'))).astype(int) - [255, 0, 0]).max() <= 4
    assert np.asarray(decode_image(encoded(Image.new('1', (8, 8), 1), 'PNG'))).min() == 255


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind, options', [('JPEG', {}), ('PNG', {}), ('WEBP', dict(lossless=True)), ('TIFF', {}),
                                           ('TIFF', dict(compression='tiff_lzw'))])
def test_exif_orientation_is_left_alone_in_every_format(kind, options, orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    plain = np.asarray(decode_image(encoded(image, kind, **options)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encoded(image, kind, exif=exif, **options)
    assert Image.open(io.BytesIO(turned)).getexif()[0x0112] == orientation
    assert np.array_equal(np.asarray(decode_image(turned)), plain)
    assert np.array_equal(decode.ImageDecoder('cv2')(turned), plain)


def test_no_format_is_rendered_by_another_program(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    stub = tmp_path / 'gs'
    stub.write_text(f'#!/bin/sh\ntouch {tmp_path}/started\n')
    stub.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    monkeypatch.setattr(EpsImagePlugin, 'gs_binary', None)  # what it found on the PATH before
    page = (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EndProlog\nshowpage\n%%Trailer\n'
            b'%%EOF\n')
    for name in ('page.jpg', 'page.png', 'page.eps'):
        (tmp_path / name).write_bytes(page)
        with pytest.raises(UnreadableImage, match='^not an image$'):
            decode_image(tmp_path / name)
    for decoder in decode.DECODERS:
        with pytest.raises(UnreadableImage, match='^not an image$'):
            decode.ImageDecoder(decoder)(page)
    assert not (tmp_path / 'started').exists()


def test_common_raster_formats_are_read():
    image = Image.new('RGB', (8, 8), 'red')
    for kind in ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM', 'JPEG2000', 'ICO', 'PCX', 'SGI', 'TGA'):
        red, green, blue = np.asarray(decode_image(encoded(image, kind))).reshape(-1, 3).mean(0)
        assert red > 250 and green < 5 and blue < 5, kind


def test_first_frame_of_an_animation():
    frames = [Image.new('RGB', (8, 8), colour) for colour in ('red', 'blue')]
    for kind in ('GIF', 'PNG'):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.asarray(decode_image(content))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize('make, reason', [
    (lambda good: good[:len(good) // 2], 'truncated'), (lambda good: b'', 'not an image'),
    (lambda good: b'<html>404</html>', 'not an image'), (lambda good: good[:20], '.+'),
])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_damaged_content(make, reason, kind):
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with pytest.raises(UnreadableImage, match=reason):
        decode_image(make(encoded(Image.fromarray(rgb), kind)))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UnreadableImage, match='^missing$'):
        decode_image(tmp_path / 'none.jpg')
    with pytest.raises(UnreadableImage, match='[Dd]irectory'):
        decode_image(tmp_path)


@pytest.mark.parametrize('read', [decode_image, decode.read_file])
def test_only_regular_files_are_opened(tmp_path, monkeypatch, read):
    os.mkfifo(tmp_path / 'pipe.jpg')
    (tmp_path / 'link.jpg').symlink_to('pipe.jpg')
    for path in (tmp_path / 'pipe.jpg', str(tmp_path / 'link.jpg'), '/dev/zero'):
        with pytest.raises(UnreadableImage, match='^not a regular file$'):
            read(path)  # opening the pipe would wait for a writer, reading the device would never end
    monkeypatch.setattr(decode, 'MAX_BYTES', 10)
    (tmp_path / 'large.jpg').write_bytes(bytes(11))
    with pytest.raises(UnreadableImage, match='11 bytes, more than 10'):
        read(tmp_path / 'large.jpg')


@pytest.mark.parametrize('name', ['a\0b.jpg', '\ud800.jpg', '\udcff.jpg'])
def test_names_that_no_file_has_are_missing(tmp_path, name):
    with pytest.raises(UnreadableImage, match='^missing$'):
        decode_image(f'{tmp_path}/{name}')


def test_floats_and_bombs_are_bad(monkeypatch):
    with pytest.raises(UnreadableImage, match='floating-point'):
        decode_image(encoded(Image.fromarray(GREY.astype(np.float32)), 'TIFF'))
    monkeypatch.setattr(decode, 'MAX_PIXELS', 63)
    with pytest.raises(UnreadableImage, match='8 x 8 pixels, more than 63'):
        decode_image(encoded(Image.fromarray(GREY), 'PNG'))


def test_pil_own_bomb_error_is_bad(monkeypatch):
    content = encoded(Image.fromarray(GREY), 'PNG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    with pytest.raises(UnreadableImage, match='decompression bomb'):
        decode_image(content)


def test_shortage_of_the_machine_is_no_bad_image(monkeypatch):
    def no_handles(*_, **__):
        raise OSError(24, 'Too many open files')

    monkeypatch.setattr(Image, 'open', no_handles)
    with pytest.raises(OSError, match='Too many open files'):
        decode_image(b'x')

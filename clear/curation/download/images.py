"""What a body says of itself without a pixel decoded: whether it is an image, of which size, and whether all of it."""

from __future__ import annotations

from typing import NamedTuple

from clear.datasets.images.decode import MAX_PIXELS, UnreadableImage, read_header

NOT_IMAGE = 'not_image'
TOO_MANY_PIXELS = 'too_many_pixels'
INCOMPLETE = 'incomplete'
# Reasons of `image_header`, which all stand: the same bytes come again.
REASONS = {
    NOT_IMAGE: 'no raster image that can be read',
    TOO_MANY_PIXELS: 'the header declares more than max_pixels',
    INCOMPLETE: 'the end of the file is missing, so that its pixels cannot be decoded',
}
_MARKUP = (b'<!doctype', b'<html', b'<?xml', b'<head', b'<body', b'<script', b'<!--', b'<svg')
_BEFORE_MARKUP = b'\xef\xbb\xbf \t\r\n'  # a byte order mark and blanks
_JPEG_END, _PNG_END = b'\xff\xd9', b'IEND\xaeB`\x82'


class Header(NamedTuple):
    """Of an image file: PIL's name of the format, and its size in pixels."""

    format: str
    width: int
    height: int


def image_header(body: bytes, max_pixels: int = MAX_PIXELS) -> Header | str:
    """The header of an image file, or the reason why it is none of ours, one of `REASONS`."""
    try:
        header = Header(*read_header(body))
    except UnreadableImage as error:
        # PIL refuses by itself what is far above its own limit.
        return TOO_MANY_PIXELS if 'pixels' in str(error) else NOT_IMAGE
    if not header.width or not header.height:
        return NOT_IMAGE
    if header.width * header.height > max_pixels:
        return TOO_MANY_PIXELS
    return header if has_end(body) else INCOMPLETE


def has_end(body: bytes) -> bool:
    """Whether a JPEG, PNG, GIF or WebP has its end; true for what is none of them, which is not known."""
    if body.startswith(b'\xff\xd8'):
        # In the data of a scan 0xFF is followed by 0 or a restart: the first end after its start is the image's own,
        # not that of a thumbnail before it or of a film behind it.
        return body.endswith(_JPEG_END) or body.find(_JPEG_END, _scan_of(body)) > 0
    if body.startswith(b'\x89PNG\r\n\x1a\n'):
        return body.rfind(_PNG_END) > 0
    if body.startswith((b'GIF87a', b'GIF89a')):
        return body.rstrip(b'\0').endswith(b';')
    if body.startswith(b'RIFF') and body[8:12] == b'WEBP':
        return len(body) >= 8 + int.from_bytes(body[4:8], 'little')
    return True


def is_markup(body: bytes) -> bool:
    """Whether it is a page in place of an image."""
    return body[:256].lstrip(_BEFORE_MARKUP).lower().startswith(_MARKUP)


def _scan_of(jpeg: bytes) -> int:
    """Where its pixels begin: after the segments, of which a thumbnail is part of one."""
    position = 2
    while jpeg[position:position + 1] == b'\xff' and jpeg[position + 1:position + 2] != b'\xda':
        # A fill byte, or a segment with its length.
        position += 1 if jpeg[position + 1:position + 2] == b'\xff' else 2 + int.from_bytes(
            jpeg[position + 2:position + 4], 'big')
    return position

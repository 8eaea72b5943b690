"""A stream of photos of 32 pixels whose end is known beforehand: records, photos, the host's failures, two towers.

What becomes of record n is said by `fate(n)`, one thing after the other, and nothing here reads what stages wrote.
"""

import io
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import torch
from metadata_files import row
from PIL import Image

from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.preprocess import Preprocess
from clear.models.towers.text.base import TextEncoder
from clear.registry import MODELS

EDGE = 32
FIRST_ID = 2**53 + 1  # as floats, neighbours would be the same
# Kind -> colours of the upper and the lower half. `scarce` is taken by one photo in four hundred.
KINDS = {'red': ((220, 40, 40), (220, 40, 40)), 'sky': ((60, 110, 230), (40, 170, 60)),
         'lake': ((40, 170, 60), (60, 110, 230)), 'sand': ((230, 210, 60), (230, 140, 40)),
         'scarce': ((230, 40, 220), (40, 220, 220)), 'dark': ((20, 20, 20), (60, 60, 60)),
         'snow': ((240, 240, 240), (200, 200, 210))}
CLASSES = ('red', 'sky', 'lake', 'sand', 'scarce')
# Rows that are no record, by their place in two hundred; see `bad_row`.
BAD_ROWS = ('id word', 'id empty', 'no upload', 'upload word', 'no address', 'marker 2', 'no marker', '22 columns',
            '24 columns', 'empty line', 'blanks', 'long')
# Records whose date nobody can use, and a video.
BAD_DATES = ('null', '', '0000-00-00 00:00:00', '2012-13-05', '2010:03:04 05:06:07', '2012-02', '1362300300',
             '05/04/2011', '2011', '2012-02-30 01:02:03.0', '2013-08-31T19:32:13', '2013-08-31', '2013-08-31 19:32',
             '2099-01-01 00:00:00.0', 'as uploaded')
# Text that other readers stumble over.
TITLES = ('lake', '"vintage 5 inch lens', 'a "quoted" one', 'car\rriage', '\x00nul', 'r\udce9sum\udce9', '100%', '%FF',
          "it's", 'a%0Ab', ',x,,')
# What the host answers -> what is said of the record.
ANSWERS = {('404',): 'http_4xx', ('410',): 'http_4xx', ('500', 'ok'): 'ok', ('503', 'ok'): 'ok', ('reset', 'ok'): 'ok',
           ('html',): 'html', ('gzip',): 'encoded', ('empty',): 'empty', ('noai',): 'opt_out',
           ('bomb',): 'too_many_pixels',
           ('to:file:///etc/hostname',): 'forbidden_scheme', ('to:http://192.0.2.7/x.jpg',): 'forbidden_address',
           ('to:/photo_unavailable.png',): 'placeholder', ('503',): 'http_5xx'}
# Photos that decoders disagree about, or that have no direction. Of the first three the download sees that they are
# none, of 'damaged' whoever decodes it.
ODD_PHOTOS = ('last two bytes', 'sixty percent', 'text', 'damaged', 'more bytes', 'progressive', '4:2:2', 'grey',
              '16 bit', 'clear', 'turned', 'one colour')
NO_PHOTOS = ODD_PHOTOS[:3]


@dataclass(frozen=True)
class Fate:
    """What record n is: `bad` row, bad `date`, `video`, the host's `answers`, an `odd` photo, a copy of `same`."""

    bad: str = ''
    date: str | None = None
    video: bool = False
    answers: tuple[str, ...] = ()
    odd: str = ''
    same: int | None = None


def fate(number: int) -> Fate:
    """What is out of order with record `number`; one in eight is."""
    turn, place = divmod(number, 8)
    if place != 5:
        return Fate()
    group, turn = turn % 5, turn // 5
    if group == 0:
        bad = BAD_ROWS[turn % len(BAD_ROWS)]
        return Fate(bad=bad if bad != 'long' or number < 4000 else 'blanks')  # each of those takes a megabyte
    if group == 1:
        return Fate(date=BAD_DATES[turn % len(BAD_DATES)])
    if group == 2:
        return Fate(answers=list(ANSWERS)[turn % len(ANSWERS)])
    if group == 3:
        return Fate(odd=ODD_PHOTOS[turn % len(ODD_PHOTOS)])
    return Fate(video=True) if turn % 2 else Fate(same=number - 1)


def kind(number: int) -> str:
    """Odd photos are of no class: what decoders make of them does not change the counts."""
    if fate(number).odd not in ('', 'more bytes', 'progressive', '4:2:2'):
        return 'dark'
    if number % 400 == 7:
        return 'scarce'
    return [name for name in KINDS if name != 'scarce'][random.Random(number).randrange(6)]


def uploaded(number: int, count: int) -> datetime:
    """Later for later records but for some, and for two in a row the same second."""
    return datetime(2005, 1, 1, tzinfo=UTC) + timedelta(seconds=(number // 2) * (250_000_000 // count)
                                                        - (number % 17 == 0) * 1_000_000)


def line(number: int, count: int, port: int) -> bytes:
    """A line of the metadata, without its end."""
    given, rng = fate(number), random.Random(number)
    at = uploaded(number, count)
    taken = f'{at - timedelta(hours=3):%Y-%m-%d %H:%M:%S}' + ('.0', '.5', '')[number % 3]
    if given.date is not None:
        taken = f'{at:%Y-%m-%d %H:%M:%S}.0' if given.date == 'as uploaded' else given.date
    query = '?sig=a%2Bb%2F%3D%7E&u=x+y' if number % 11 == 0 else ''
    shown = number if given.same is None else given.same
    cells = row(number, rng, id=str(FIRST_ID + number), taken=taken, uploaded=str(int(at.timestamp())),
                title=TITLES[number % len(TITLES)], marker='1' if given.video else '0',
                url=f'http://127.0.0.1:{port}/photos/{shown}.jpg{query}')
    return bad_row(given.bad, cells) if given.bad else '\t'.join(cells).encode('utf-8', 'surrogateescape')


def bad_row(what: str, cells: list[str]) -> bytes:
    changes = {'id word': (0, '12ab'), 'id empty': (0, ''), 'no upload': (4, ''), 'upload word': (4, 'null'),
               'no address': (14, ''), 'marker 2': (22, '2'), 'no marker': (22, ''), 'long': (7, 'x' * (1 << 20))}
    if what in changes:
        place, value = changes[what]
        cells[place] = value
    whole = '\t'.join({'22 columns': cells[:22], '24 columns': [*cells, 'x']}.get(what, cells))
    text = {'empty line': '', 'blanks': whole.replace('\t', ' ')}.get(what, whole)
    return text.encode('utf-8', 'surrogateescape')


def outcome(number: int) -> str:
    """What is said of a record after the download, or 'rejected'."""
    given = fate(number)
    if given.bad:
        return 'rejected'
    if given.date is not None:
        return 'bad_date'
    if given.video:
        return 'video'
    if given.answers:
        return ANSWERS[given.answers]
    if given.same is not None:
        return 'duplicate'
    return 'decode_error' if given.odd in NO_PHOTOS else 'ok'


@cache
def _flat(kind: str) -> np.ndarray:
    return np.stack([np.broadcast_to(colour, (EDGE // 2, EDGE, 3)) for colour in KINDS[kind]]).reshape(EDGE, EDGE, 3)


def photo(number: int) -> bytes:
    """The bytes of photo `number`, no two alike."""
    odd = fate(number).odd
    if odd == 'text':
        return b'this was never a photo, number %d' % number
    noise = np.random.default_rng(number).normal(0, 12, (EDGE, EDGE, 3))
    image = Image.fromarray((_flat(kind(number)) + noise).clip(0, 255).astype(np.uint8))
    if odd == 'one colour':  # of the colour that the encoder takes for nothing: the vector is zero
        return _written(Image.new('RGB', (EDGE, EDGE), (128, 128, 128)), 'PNG') + b'%d' % number
    if odd == '16 bit':
        return _written(image.convert('L').convert('I;16').point(lambda value: value * 256), 'PNG')
    if odd == 'damaged':
        written = bytearray(_written(image, 'PNG'))
        written[len(written) // 2] ^= 255
        return bytes(written)
    if odd == 'clear':
        image.putalpha(Image.new('L', image.size, 200))
        return _written(image, 'PNG')
    if odd == 'turned':
        exif = Image.Exif()
        exif[0x0112] = 6
        return _written(image, 'JPEG', exif=exif)
    written = _written(image.convert('L') if odd == 'grey' else image, 'JPEG', progressive=odd == 'progressive',
                       subsampling='4:2:2' if odd == '4:2:2' else '4:2:0')
    if odd == 'last two bytes':
        return written[:-2]
    if odd == 'sixty percent':
        return written[:len(written) * 6 // 10]
    return written + bytes(200) if odd == 'more bytes' else written


def _written(image: Image.Image, how: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, how, **({'quality': 85} if how == 'JPEG' else {}), **options)
    return file.getvalue()


@MODELS.register_module()
class HalvesEncoder(ImageEncoder):
    """The mean colours of the upper and the lower half; grey of 128 is zero."""

    def __init__(self):
        same = torch.nn.Conv2d(3, 3, 1, bias=False)
        same.weight.data = torch.eye(3).reshape(3, 3, 1, 1)
        super().__init__(torch.nn.Sequential(same, torch.nn.AdaptiveAvgPool2d((2, 1)), torch.nn.Flatten()),
                         preprocess=Preprocess(resize=EDGE, crop=EDGE, mean=(128 / 255,) * 3, std=(0.25,) * 3),
                         classifier=None, identity={})


@MODELS.register_module()
class HalvesTextEncoder(TextEncoder):
    """The vector of the photo that the name of a kind means."""

    def __init__(self):
        super().__init__(torch.nn.BatchNorm1d(1), embed_dim=6, max_length=None, identity={})  # weights that are ones

    def _embed(self, texts, use_pooler):
        # (upper, lower) of each channel, as the encoder's flatten has them.
        colours = [np.array(KINDS[text]).T.ravel() - 128.0 for text in texts]
        return torch.from_numpy(np.stack(colours)).float()

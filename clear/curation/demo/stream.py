"""A small photo stream to try curation on: metadata in YFCC100M's form with every kind of bad row, its side files, the
photographs, and what a host does when it is asked for them.

    OUT/yfcc100m_dataset            23 columns; beside it _autotags-v1, _exif, _hash and _lines
    OUT/photos/<number>.jpg         what `clear.curation.demo.server` serves
    OUT/script.json, OUT/robots.txt how it fails
    OUT/truth.csv                   id, subject and share of the stream of every photo
    OUT/demo.json                   the arguments; written last
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clear.core.checks import check_whole
from clear.core.errors import DataError
from clear.core.files import read_json, write_json
from clear.core.logs import Report
from clear.curation.demo.photos import photo_at, subject_at
from clear.datasets.make.writing import new_folder

FORMAT_VERSION = 1  # raise it when the same arguments make other files
MARKER = 'demo.json'
METADATA = 'yfcc100m_dataset'
PORT = 8371
_FIRST, _LAST = datetime(2004, 3, 1, tzinfo=UTC), datetime(2014, 3, 1, tzinfo=UTC)
_FIRST_ID = 3_000_000_000
# One photo in forty gets one, in turns; see `clear.curation.demo.server.ANSWERS`.
FAILURES = (['404'], ['410'], ['500', 'ok'], ['503', '503', 'ok'], ['html'], ['short'], ['long', 'ok'], ['cut'],
            ['reset', 'ok'], ['gzip'], ['empty'], ['noai'], ['bomb'], ['to:/photos/{other}.jpg'],
            ['to:/photo_unavailable.png'], ['to:file:///etc/hostname'])


@dataclass(frozen=True)
class Demo:
    """The arguments of a stream.

    Attributes:
        photos: how many that can be fetched, or could if the host were well.
        port: of the host, 127.0.0.1.
        seed: of everything that is drawn.
    """

    photos: int = 1800
    port: int = PORT
    seed: int = 0

    def url(self, number: int) -> str:
        return f'http://127.0.0.1:{self.port}/photos/{number}.jpg'


def write_stream(out: str | Path, demo: Demo | None = None, *, overwrite: bool = False,
                 progress: Report | None = None) -> bool:
    """Write a stream to the folder `out`, which appears as a whole or not at all.

    Returns:
        True if it was written, False if `out` held this one before.

    Raises:
        ConfigError: if an argument cannot be met.
        DataError: if `out` has other content and `overwrite` is False.
    """
    demo = demo or Demo()
    check_whole('photos', demo.photos, 100)
    check_whole('port', demo.port, 1)
    marker = dict(name='curation-demo', version=FORMAT_VERSION, **asdict(demo))
    path = Path(out) / MARKER
    if path.is_file() and not overwrite:
        if read_json(path) == marker:
            return False
        raise DataError(f'{out} holds another stream. Write to another folder, or use --overwrite.')
    with new_folder(out, replace=overwrite) as root:
        _write_photos(root, demo, progress)
        _write_metadata(root, demo)
        write_json(root / 'script.json', {str(number): answers for number, answers in script_of(demo).items()})
        (root / 'robots.txt').write_text('User-agent: *\nDisallow: /private/\n')
        write_json(root / MARKER, marker)
    return True


def script_of(demo: Demo) -> dict[int, list[str]]:
    """Number of a photo -> what the host answers, for those for which it does not simply serve it."""
    found = {}
    for place, number in enumerate(range(20, demo.photos, 40)):
        answers = FAILURES[place % len(FAILURES)]
        found[number] = [answer.format(other=number + 1) for answer in answers]
    return found


def _write_photos(root: Path, demo: Demo, progress: Report | None) -> None:
    (root / 'photos').mkdir()
    with (root / 'truth.csv').open('w', newline='') as file:
        truth = csv.writer(file)
        truth.writerow(['id', 'subject', 'share'])
        last = b''
        for number in range(demo.photos):
            share, rng = number / demo.photos, random.Random(f'{demo.seed} photo {number}')
            subject = subject_at(share, rng)
            if number % 150 != 149:  # else the one before again, byte for byte
                last = photo_at(subject, share, rng)
                shown = subject
            (root / 'photos' / f'{number}.jpg').write_bytes(last)
            truth.writerow([_FIRST_ID + number, shown, f'{share:.4f}'])
            if progress is not None:
                progress(number + 1, demo.photos)


def _write_metadata(root: Path, demo: Demo) -> None:
    rows = list(_with_bad_rows(demo))
    data = b'\n'.join(row if isinstance(row, bytes) else '\t'.join(row).encode('utf-8', 'surrogateescape')
                      for row in rows) + b'\n'
    (root / METADATA).write_bytes(data)
    cells = [row for row in rows if not isinstance(row, bytes) and row[0].isdigit()]
    tags = ('outdoor:0.93,sky:0.71', 'indoor:0.8', '', 'food:0.99,, ratio 4:3:0.52')
    exif = ('Exif+IFD0.Make:Canon,Exif+IFD0.Model:Canon+EOS', '', 'Exif+SubIFD.ISO:400')
    _lines(root / f'{METADATA.removesuffix("_dataset")}_autotags-v1',
           [f'{row[0]}\t{tags[place % 4]}'.rstrip('\t') for place, row in enumerate(cells)])
    _lines(root / 'yfcc100m_exif', [f'{row[0]}\t{exif[place % 3]}'.rstrip('\t') for place, row in enumerate(cells)])
    # By no means in the order of the table.
    _lines(root / 'yfcc100m_hash', [f'{row[0]}\t{hash_of(row[14])}' for row in reversed(cells)])
    _lines(root / 'yfcc100m_lines', [f'{place}\t{row[0]}' for place, row in enumerate(cells)])


def _lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text('\n'.join(lines) + '\n')


def hash_of(url: str) -> str:
    """The name of a photo in the public store: MD5 of its address, each byte printed without a leading zero."""
    return ''.join(f'{byte:x}' for byte in hashlib.md5(url.encode(), usedforsecurity=False).digest())


def _with_bad_rows(demo: Demo) -> Iterator[list[str] | bytes]:
    """The rows of the table: cells, or bytes of a line that is none. The bad ones lie between the good."""
    bad = bad_rows(demo)
    every = demo.photos // (len(bad) + 1)
    for number in range(demo.photos):
        yield photo_row(demo, number)
        if number % every == every - 1 and bad:
            yield bad.pop(0)
    yield from bad


def photo_row(demo: Demo, number: int, **changes: str) -> list[str]:
    """The 23 cells of a photo."""
    rng = random.Random(f'{demo.seed} row {number}')
    span = (_LAST - _FIRST).total_seconds()
    uploaded = _FIRST + timedelta(seconds=int(span * (number + rng.random()) / demo.photos))
    taken = uploaded - timedelta(seconds=rng.randrange(3600, 30 * 86400))
    url = demo.url(number)
    cells = dict(
        id=str(_FIRST_ID + number), uid=f'{10_000_000 + number % 97}@N00',
        nickname=rng.choice(['J%C3%BCrgen+K', 'ann', '']),
        taken=f'{taken:%Y-%m-%d %H:%M:%S}.0', uploaded=str(int(uploaded.timestamp())),
        device=rng.choice(['Canon+PowerShot+ELPH+310+HS', 'NIKON+D90', '']),
        title=rng.choice(['lake', '"vintage 5 inch lens', 'caf%C3%A9+%26+bar', '100%', 'a%0Ab', '%FF', "it's"]),
        description=rng.choice(['', 'taken+on+%3Ca+href%3D%22http%3A%2F%2Fx.example%22%3Ea+walk%3C%2Fa%3E']),
        tags=rng.choice(['', 'a', 'new+york,b%2Cc', ',x,,']), machine=rng.choice(['', 'geo:lat=1']),
        lon=rng.choice(['', '-12.5']), lat=rng.choice(['', '48.1']), accuracy=rng.choice(['', '16']),
        page='http://127.0.0.1/page', url=url, license='Attribution License',
        license_url='http://creativecommons.org/licenses/by/2.0/', server='3000', farm='4', secret='00abc',
        original='0def', ext='jpg', marker='0')
    return list((cells | changes).values())


def bad_rows(demo: Demo) -> list[list[str] | bytes]:
    """One row of each kind that real files have and that gives no photo, or one without a usable date."""
    number = iter(range(demo.photos, demo.photos + 100))

    def row(**changes: str) -> list[str]:
        return photo_row(demo, next(number), **changes)

    whole = '\t'.join(row()).encode()
    return [
        row(id='12ab'), row(id=''), row(uploaded='null'), row(uploaded=''), row(url=''), row(marker='2'),
        row(marker=''), row()[:22], [*row(), 'one more'], b'', whole.replace(b'\t', b' '),
        '\t'.join(row(description='x' * (1 << 20))).encode(),
        # Records, whose dates nobody can use.
        row(taken='null'), row(taken=''), row(taken='0000-00-00 00:00:00'), row(taken='2012-13-05 00:00:00.0'),
        row(taken='2012-02-30 00:00:00.0'), row(taken='1362300300'), row(taken='2010:03:04 05:06:07'),
        row(taken='2039-01-01 00:00:00.0'), row(taken='2013-08-31T19:32:13'), row(marker='1'),
        # Records like all others but for their text.
        row(title='\x00nul', lon='east', lat='91'), row(title='car\rriage'), row(title='r\udce9sum\udce9'),
        row(accuracy='99', server='x')]


def photos(root: Path) -> Callable[[int], bytes | None]:
    """The photographs of a written stream by number, for `PhotoServer`."""

    def photo(number: int) -> bytes | None:
        path = root / 'photos' / f'{number}.jpg'
        return path.read_bytes() if path.is_file() else None

    return photo


def script(root: Path) -> dict[int, list[str]]:
    """How the host of a written stream fails, for `PhotoServer`."""
    return {int(number): answers for number, answers in json.loads((root / 'script.json').read_text()).items()}

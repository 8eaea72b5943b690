"""Photo metadata in the public forms, with the rows that real files have, and a straight-line reading of them."""

import bz2
import gzip
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_to_bytes

COLUMNS = 23


def row(number: int, rng: random.Random, **changes: str) -> list[str]:
    """The 23 cells of one photo."""
    uploaded = datetime(2004, 3, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(300_000_000))
    taken = uploaded - timedelta(seconds=rng.randrange(1, 10_000_000))
    cells = dict(
        id=str(3_000_000_000 + number), uid=f'{rng.randrange(10**8)}@N00', nickname='J%C3%BCrgen+K',
        taken=f'{taken:%Y-%m-%d %H:%M:%S}.0', uploaded=str(int(uploaded.timestamp())), device='Canon+EOS',
        title=rng.choice(['lake', '"unclosed', 'caf%C3%A9+%26+bar', '100%', 'a%0Ab', '%FF']), description='',
        tags=rng.choice(['', 'a', 'new+york,b%2Cc', ',x,,']), machine='', lon=rng.choice(['', '-12.5']), lat='',
        accuracy='16', page='http://photos.example/1/', url=f'http://static.example/{number}.jpg', license='CC',
        license_url='http://cc.example/', server='3000', farm='4', secret='00abc', original='', ext='jpg', marker='0')
    assert not set(changes) - set(cells)
    return list((cells | changes).values())


def write(path: Path, rows: list[list[str]], end: str = '\n') -> Path:
    """Rows as a file, packed as its suffix says."""
    data = '\n'.join('\t'.join(cells) for cells in rows).encode('utf-8', 'surrogateescape') + end.encode()
    packers = {'.bz2': bz2.compress, '.gz': gzip.compress}
    path.write_bytes(packers.get(path.suffix, bytes)(data))
    return path


def decode(cell: str) -> str:
    """What a url-encoded cell says."""
    return unquote_to_bytes(cell.replace('+', ' ').encode('utf-8', 'surrogateescape')).decode('utf-8', 'replace')


def kept(rows: list[list[str]]) -> list[tuple[int, int]]:
    """(upload second, id) of the photos with a valid date, one after the other, in the order (time, id)."""
    found = []
    for cells in rows:
        if len(cells) != COLUMNS or not cells[14] or cells[22] != '0':
            continue
        if not cells[0].isdigit() or not cells[4].isdigit():
            continue
        try:
            taken = datetime.strptime(cells[3], '%Y-%m-%d %H:%M:%S.%f').replace(tzinfo=UTC)
        except ValueError:
            continue
        if taken < datetime.fromtimestamp(int(cells[4]), UTC):
            found.append((int(cells[4]), int(cells[0])))
    return sorted(found)

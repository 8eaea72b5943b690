"""Photo metadata in the public forms, with the rows that real files have, and a straight-line reading of them."""

import bz2
import contextlib
import gzip
import json
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_to_bytes

COLUMNS = 23
SQLITE_NAMES = ('photoid', 'uid', 'unickname', 'datetaken', 'dateuploaded', 'capturedevice', 'title', 'description',
                'usertags', 'machinetags', 'longitude', 'latitude', 'accuracy', 'pageurl', 'downloadurl', 'licensename',
                'licenseurl', 'serverid', 'farmid', 'secret', 'secretoriginal', 'ext', 'marker')


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


def _values(cells: list[str]) -> list:
    """Cells as the published database has them: numbers as numbers, nothing as NULL."""
    numbers = dict.fromkeys((0, 4, 12, 17, 18, 22), int) | dict.fromkeys((10, 11), float)
    values = []
    for place, cell in enumerate(cells):
        try:
            values.append(numbers.get(place, str)(cell) if cell else None)
        except ValueError:
            values.append(cell)
    return values


def write_sqlite(path: Path, rows: list[list[str]], table: str = 'yfcc100m_dataset', names=SQLITE_NAMES,
                 rowids: list[int] | None = None, columns: str = '') -> Path:
    """Rows of 23 cells as a table of an SQLite database."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(f'CREATE TABLE {table} ({columns or ", ".join(names)})')
        for place, cells in enumerate(rows):
            values = [value.encode('utf-8', 'surrogateescape') if isinstance(value, str) and not value.isascii()
                      else value for value in _values(cells)]
            names_ = ['_rowid_', *names] if rowids else names
            values = [rowids[place], *values] if rowids else values
            # Bytes as text, also those that are no UTF-8.
            marks = ', '.join('CAST(? AS TEXT)' if isinstance(value, bytes) else '?' for value in values)
            database.execute(f'INSERT INTO {table} ({", ".join(names_)}) VALUES ({marks})', values)
    return path


def write_json_lines(path: Path, rows: list[list[str]], **more: str) -> Path:
    """Rows of 23 cells as lines of JSON, packed as the suffix says."""
    lines = [json.dumps(dict(zip(SQLITE_NAMES, _values(cells))) | {name: value.format(place)
                                                                  for name, value in more.items()})
             for place, cells in enumerate(rows)]
    data = ''.join(line + '\n' for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)
    return path

"""Photo records: what the columns of YFCC100M's metadata are called and how each is typed.

Rows whose id, upload time, address or marker cannot be read are rejected; any other cell that cannot be read is null
and counted. Text is decoded once, beside the bytes as they came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow
from pyarrow import compute

from clear.curation.metadata import cells
from clear.curation.metadata.cells import Cells, Spans

# The 23 columns in the order of the tab-separated files, by the names of the published SQLite table.
COLUMNS = ('photoid', 'uid', 'unickname', 'datetaken', 'dateuploaded', 'capturedevice', 'title', 'description',
           'usertags', 'machinetags', 'longitude', 'latitude', 'accuracy', 'pageurl', 'downloadurl', 'licensename',
           'licenseurl', 'serverid', 'farmid', 'secret', 'secretoriginal', 'ext', 'marker')
# With the row number, the id and the hash in front, and the other 22 behind.
WIDE_COLUMNS = ('row', 'photoid', 'hash', *COLUMNS[1:])
# Text that is url-encoded -> the name of its bytes; the decoded text is called NAME_text.
_ENCODED = dict(unickname='nickname', capturedevice='device', title='title', description='description')
_ENCODED_LISTS = dict(usertags='user_tags', machinetags='machine_tags')
_PLAIN = dict(uid='user_id', pageurl='page_url', downloadurl='url', licensename='license_name',
              licenseurl='license_url', secret='secret', secretoriginal='secret_original', ext='ext')
# What is read where it lies.
_NUMBERS = ('photoid', 'datetaken', 'dateuploaded', 'accuracy', 'serverid', 'farmid', 'marker')
_TEXT, _BYTES = pyarrow.string(), pyarrow.binary()
_TAGS = pyarrow.list_(_TEXT)
SCHEMA = pyarrow.schema([
    ('id', pyarrow.int64()), ('line', pyarrow.int64()), ('is_video', pyarrow.bool_()),
    # Parquet knows no seconds: as such they would come back as milliseconds.
    ('uploaded_at', pyarrow.timestamp('us', tz='UTC')),
    # Time of the camera, which knows no zone; the flag says so to whoever compares it with a time in UTC.
    ('taken_at', pyarrow.timestamp('us')), ('taken_at_is_local', pyarrow.bool_()),
    ('url', _TEXT), ('hash', _TEXT), ('user_id', _TEXT),
    *((name, kind) for raw in _ENCODED.values() for name, kind in ((raw, _BYTES), (f'{raw}_text', _TEXT))),
    *((name, kind) for raw in _ENCODED_LISTS.values() for name, kind in ((raw, _BYTES), (f'{raw}_text', _TAGS))),
    ('lon', pyarrow.float64()), ('lat', pyarrow.float64()), ('geo_accuracy', pyarrow.int8()),
    ('page_url', _TEXT), ('license_name', _TEXT), ('license_url', _TEXT), ('server_id', pyarrow.int32()),
    ('farm_id', pyarrow.int32()), ('secret', _TEXT), ('secret_original', _TEXT), ('ext', _TEXT)])
# Dictionaries and bounds where they save something: few values, and what is looked for by range.
STORED = dict(compression='zstd', write_statistics=['id', 'line', 'uploaded_at', 'taken_at'], use_dictionary=[
    'is_video', 'taken_at_is_local', 'user_id', 'nickname', 'nickname_text', 'device', 'device_text', 'geo_accuracy',
    'license_name', 'license_url', 'server_id', 'farm_id', 'ext'])
REJECTED = pyarrow.schema([('line', pyarrow.int64()), ('reason', _TEXT)])


@dataclass
class Batch:
    """Some records, and what became of the lines that are none.

    Attributes:
        records: rows of `SCHEMA`.
        rejected: line -> reason.
        unreadable: column -> cells that are neither empty nor of its type, null in `records`.
        noted: what else the receipt counts.
    """

    records: pyarrow.Table
    rejected: dict[int, str] = field(default_factory=dict)
    unreadable: Counter = field(default_factory=Counter)
    noted: Counter = field(default_factory=Counter)


def from_cells(found: Cells, columns: tuple[str, ...], numbers: np.ndarray) -> Batch:
    """Records of a block of tab-separated lines.

    Args:
        columns: `COLUMNS` or `WIDE_COLUMNS`.
        numbers: (N,) int64, of all lines of the block in the whole data set.
    """
    numbers_at = [place for place, name in enumerate(columns) if name in _NUMBERS]
    texts_at = [place for place, name in enumerate(columns) if name not in _NUMBERS and name != 'row']
    raw = {columns[place]: found.spans(place) for place in numbers_at}
    raw |= zip((columns[place] for place in texts_at), found.arrays(texts_at))
    batch = typed(raw, numbers[found.rows])
    for row, count in found.wrong.items():
        batch.rejected[int(numbers[row])] = f'{count} columns in place of {len(columns)}'
    return batch


def typed(raw: Mapping[str, pyarrow.BinaryArray | Spans], lines: np.ndarray) -> Batch:
    """Records of binary columns by the names of `COLUMNS`, with `hash` where there is one; numbers may be `Spans`.

    Args:
        lines: (N,) int64, of each row in the whole data set.
    """
    ids, is_id = cells.integers(raw['photoid'])
    uploaded, is_time = cells.uploads(raw['dateuploaded'])
    marker, is_marker = cells.integers(raw['marker'])
    is_marker &= marker <= 1
    has_url = compute.binary_length(raw['downloadurl']).to_numpy(zero_copy_only=False) > 0
    rejected: dict[int, str] = {}
    for is_right, reason in ((is_marker, 'marker is neither 0 nor 1'), (has_url, 'no address'),
                             (is_time, 'upload time is no number of seconds'), (is_id, 'id is no number')):
        rejected.update({int(line): reason for line in lines[~is_right]})
    keep = is_id & is_time & is_marker & has_url
    if not keep.all():
        mask = pyarrow.array(keep)
        raw = {name: column.filter(mask) for name, column in raw.items()}
        ids, uploaded, marker, lines = ids[keep], uploaded[keep], marker[keep], lines[keep]
    batch = Batch(SCHEMA.empty_table(), rejected)
    columns = dict(
        id=ids, line=lines, is_video=marker == 1, uploaded_at=uploaded,
        taken_at=_nullable(*cells.times(raw['datetaken']), raw['datetaken'], pyarrow.int64(), 'taken_at', batch),
        taken_at_is_local=np.ones(len(ids), bool),
        hash=cells.text(raw['hash']) if 'hash' in raw else cells.url_hashes(raw['downloadurl']),
        lon=_nullable(*cells.decimals(raw['longitude']), raw['longitude'], pyarrow.float64(), 'lon', batch),
        lat=_nullable(*cells.decimals(raw['latitude']), raw['latitude'], pyarrow.float64(), 'lat', batch),
        geo_accuracy=_whole(raw['accuracy'], pyarrow.int8(), 127, 'geo_accuracy', batch),
        server_id=_whole(raw['serverid'], pyarrow.int32(), 2**31 - 1, 'server_id', batch),
        farm_id=_whole(raw['farmid'], pyarrow.int32(), 2**31 - 1, 'farm_id', batch))
    columns |= {name: cells.text(raw[source]) for source, name in _PLAIN.items()}
    for source, name in _ENCODED.items():
        columns |= {name: raw[source], f'{name}_text': cells.decoded(raw[source])}
    for source, name in _ENCODED_LISTS.items():
        columns |= {name: raw[source], f'{name}_text': cells.lists(raw[source])}
    batch.records = pyarrow.table([_as(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names], SCHEMA)
    return batch


def _as(values: np.ndarray | pyarrow.Array, kind: pyarrow.DataType) -> pyarrow.Array:
    array = values if isinstance(values, pyarrow.Array) else pyarrow.array(values)
    return array if array.type == kind else array.cast(kind)


def _whole(raw: pyarrow.BinaryArray | Spans, kind: pyarrow.DataType, most: int, name: str,
           batch: Batch) -> pyarrow.Array:
    values, is_number = cells.integers(raw)
    return _nullable(values, is_number & (values <= most), raw, kind, name, batch)


def _nullable(values: np.ndarray, is_right: np.ndarray, raw: pyarrow.BinaryArray | Spans, kind: pyarrow.DataType,
              name: str, batch: Batch) -> pyarrow.Array:
    """Values, null where they are not right; what is empty or the word `null` is no cell that cannot be read."""
    if not is_right.all():
        batch.unreadable[name] += int((~is_right & ~cells.is_blank(raw)).sum())
    return pyarrow.array(values, mask=~is_right).cast(kind)

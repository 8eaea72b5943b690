"""Rows of a table of one's own as photo records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow
from pyarrow import compute

from clear.curation.metadata import cells
from clear.curation.metadata.own.table_parts import TableRows
from clear.curation.metadata.own.times import TimeFormat, read_time
from clear.curation.metadata.records import SCHEMA, Batch

_TEXT = pyarrow.string()
OWN_SCHEMA = pyarrow.schema([*SCHEMA, ('path', _TEXT), ('source_id', _TEXT)])
# Columns of a record that a table may fill, beside those that every stream has: name -> the one for its bytes.
KEPT_COLUMNS = {'title': 'title', 'description': 'description', 'nickname': 'nickname', 'device': 'device',
                'user_id': '', 'page_url': '', 'license_name': '', 'license_url': '', 'lon': '', 'lat': ''}
_SUFFIX = r'(?i)\.(?P<ext>jpe?g|png|gif|webp|bmp|tiff?|heic|avif)(?:[?#].*)?$'
_LEAVES = r'^/|(?:^|/)\.\.(?:/|$)|\x00'
HOUR = 3_600_000_000


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what.

    Attributes:
        time: when the photo came into the stream, by `time_formats`.
        taken: when it was taken, by `taken_formats`; '' = not known.
        url, path: where it is; '' = no such column.
        id: '' = the number of the row.
        has_text_ids: ids are any text, kept as `source_id`; the number of the row is the id.
        utc_offset_hours: what clocks without a zone are ahead of UTC, for `time`.
        keep: column of the record -> column of the table.
    """

    time: str
    time_formats: Sequence[TimeFormat]
    taken: str = ''
    taken_formats: Sequence[TimeFormat] = ()
    url: str = ''
    path: str = ''
    id: str = ''
    has_text_ids: bool = False
    utc_offset_hours: float = 0.0
    keep: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The columns that are needed, each once."""
        found = (self.time, self.taken, self.url, self.path, self.id, *self.keep.values())
        return list(dict.fromkeys(name for name in found if name))


def own_records(rows: TableRows, wanted: Columns, first: int) -> Batch:
    """Records of some rows, with the columns of `OWN_SCHEMA`.

    Args:
        first: number of the file's first line, counted over all files.
    """
    lines = rows.lines + first
    batch = Batch(OWN_SCHEMA.empty_table(), {line + first: reason for line, reason in rows.rejected.items()})
    uploaded, has_time, is_utc = _times(rows.columns[wanted.time], wanted.time_formats, 'time', batch)
    uploaded = np.where(is_utc, uploaded, uploaded - round(wanted.utc_offset_hours * HOUR))
    url, path = (cells.text(rows.columns[name]) if name else pyarrow.array([''] * len(lines), _TEXT)
                 for name in (wanted.url, wanted.path))
    ids, is_id, texts = lines, np.ones(len(lines), bool), None
    if wanted.has_text_ids:
        texts = cells.text(rows.columns[wanted.id])
        is_id = _is_filled(texts)
    elif wanted.id:
        ids, is_id = cells.integers(rows.columns[wanted.id])
    stays = compute.invert(compute.match_substring_regex(path, _LEAVES)).to_numpy(zero_copy_only=False)
    good = np.ones(len(lines), bool)
    for is_right, reason in ((_is_filled(url) | _is_filled(path), 'no address'), (stays, 'path leads out of the root'),
                             (has_time, 'time fits no format'),
                             (is_id, 'no id' if wanted.has_text_ids else 'id is no number')):
        batch.rejected.update(dict.fromkeys(lines[~is_right].tolist(), reason))
        good &= is_right
    columns = dict(id=ids, line=lines, is_video=np.zeros(len(lines), bool), uploaded_at=uploaded, url=_or_null(url),
                   path=_or_null(path), source_id=texts, hash=_hashes(url), ext=_suffixes(url, path))
    columns |= _taken(rows, wanted, lines, batch)
    for name, source in wanted.keep.items():
        columns |= _kept(name, rows.columns[source], batch)
    batch.records = table_of(columns, len(lines), OWN_SCHEMA).filter(pyarrow.array(good))
    return batch


def table_of(columns: Mapping[str, np.ndarray | pyarrow.Array | None], count: int, schema: pyarrow.Schema
             ) -> pyarrow.Table:
    """Columns as a table of a schema; what is not given is null."""
    arrays = []
    for name, kind in zip(schema.names, schema.types):
        values = columns.get(name)
        if values is None:
            arrays.append(pyarrow.nulls(count, kind))
        else:
            array = values if isinstance(values, pyarrow.Array) else pyarrow.array(values)
            arrays.append(array if array.type == kind else array.cast(kind))
    return pyarrow.table(arrays, schema)


def _times(column: pyarrow.Array, formats: Sequence[TimeFormat], what: str, batch: Batch
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) microseconds, whether a cell is a time, and whether it is in UTC; which formats fitted is counted."""
    if pyarrow.types.is_timestamp(column.type):
        has_time = column.is_valid().to_numpy(zero_copy_only=False)
        micros = column.cast(pyarrow.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return micros, has_time, np.full(len(column), column.type.tz is not None)
    found = [read_time(formats, text) for text in cells.text(column).to_pylist()]
    if len(formats) > 1:
        batch.noted.update(Counter(f'{what} as {each[2]}' for each in found if each))
    found = [each or (0, None) for each in found]  # in UTC, on another clock, or none
    return (np.array([each[0] for each in found], np.int64), np.array([each[1] is not None for each in found], bool),
            np.array([each[1] is True for each in found], bool))


def _taken(rows: TableRows, wanted: Columns, lines: np.ndarray, batch: Batch) -> dict[str, np.ndarray | pyarrow.Array]:
    if not wanted.taken:
        return dict(taken_at_is_local=np.ones(len(lines), bool))
    column = rows.columns[wanted.taken]
    taken, has_time, is_utc = _times(column, wanted.taken_formats, 'taken', batch)
    blanks = compute.equal(compute.binary_length(column), 0).to_numpy(zero_copy_only=False) \
        if pyarrow.types.is_binary(column.type) else ~has_time
    batch.unreadable['taken_at'] += int((~has_time & ~blanks).sum())
    return dict(taken_at=pyarrow.array(taken, mask=~has_time), taken_at_is_local=~is_utc)


def _kept(name: str, column: pyarrow.Array, batch: Batch) -> dict[str, pyarrow.Array]:
    if name in ('lon', 'lat'):
        values, is_number = cells.decimals(column)
        batch.unreadable[name] += int((~is_number & _is_filled(column)).sum())
        return {name: pyarrow.array(values, mask=~is_number)}
    text = cells.text(column)
    return {name: column, f'{name}_text': text} if KEPT_COLUMNS[name] else {name: text}


def _is_filled(column: pyarrow.Array) -> np.ndarray:
    return compute.greater(compute.binary_length(column), 0).to_numpy(zero_copy_only=False)


def _or_null(text: pyarrow.StringArray) -> pyarrow.StringArray:
    return compute.if_else(pyarrow.array(_is_filled(text)), text, pyarrow.scalar(None, _TEXT))


def _hashes(url: pyarrow.StringArray) -> pyarrow.StringArray:
    is_filled = pyarrow.array(_is_filled(url))
    return compute.if_else(is_filled, cells.url_hashes(url.cast(pyarrow.binary())), pyarrow.scalar(None, _TEXT))


def _suffixes(url: pyarrow.StringArray, path: pyarrow.StringArray) -> pyarrow.StringArray:
    """Of the path, else of the address; 'jpg' where there is none that an image has."""
    text = compute.if_else(pyarrow.array(_is_filled(path)), path, url)
    found = compute.struct_field(compute.extract_regex(text, _SUFFIX), 'ext')
    return compute.utf8_lower(found).fill_null('jpg')

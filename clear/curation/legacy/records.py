"""Records of the earlier curation as typed columns, and where their images are."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow

from clear.curation.export.original import KEYS
from clear.curation.legacy.sources import Record
from clear.curation.metadata.records import COLUMNS, SCHEMA, Batch, typed

AUTO_TAGS = pyarrow.field('auto_tags', pyarrow.list_(pyarrow.struct([('concept', pyarrow.string()),
                                                                     ('score', pyarrow.float64())])))
RECORDS_SCHEMA = SCHEMA.append(AUTO_TAGS)
_CELLS = dict(zip(COLUMNS, KEYS))  # the 23 columns of the metadata stand first in both
_LINE = re.compile('[0-9]{1,18}')


def lines_of(records: Sequence[Record], first: int) -> np.ndarray:
    """(N,) int64: `LINE_NUM` of each record, or its place in the source."""
    return np.array([int(text) if _LINE.fullmatch(text := _text(record.get('LINE_NUM'))) else first + place
                     for place, record in enumerate(records)], np.int64)


def as_batch(records: Sequence[Record], lines: np.ndarray) -> Batch:
    """Records in columns of `RECORDS_SCHEMA`; those without readable id, time, address or marker are rejected."""
    raw = {column: _cells(records, key) for column, key in _CELLS.items()}
    hashes = _cells(records, 'HASH_VALUE')
    if all(len(value) for value in hashes.to_pylist()):
        raw['hash'] = hashes
    batch = typed(raw, lines)
    kept = np.isin(lines, batch.records['line'].to_numpy())
    tags = [_tags(record.get('AUTO_TAG_SCORES')) for record, is_kept in zip(records, kept) if is_kept]
    batch.records = batch.records.append_column(AUTO_TAGS, pyarrow.array(tags, AUTO_TAGS.type))
    return batch


def image_path(record: Record) -> str:
    """Where the image of a record was: absolute in general; empty if the record does not say."""
    folder, path = _text(record.get('IMG_DIR')), _text(record.get('IMG_PATH'))
    return f'{folder}/{path}' if folder and not path.startswith('/') else path


def _cells(records: Sequence[Record], key: str) -> pyarrow.BinaryArray:
    return pyarrow.array([_text(record.get(key)).encode('utf-8', 'surrogateescape') for record in records],
                         pyarrow.binary())


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else ''


def _tags(scores: object) -> list[dict]:
    if not isinstance(scores, dict):
        return []
    return [dict(concept=name, score=value) for name, value in scores.items()
            if isinstance(name, str) and isinstance(value, (int, float))]

"""Records by the keys of CLEAR's JSON files, nearly all of them text, as the metadata's cells were."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import pyarrow
from pyarrow import compute, types

from clear.curation.filters import micros

if TYPE_CHECKING:
    from clear.core.types import Plain

# Key -> column of records, whose empty cells are ''. Bytes are the cells as they came, url-encoded.
_TEXT = dict(USER_ID='user_id', NICKNAME='nickname', DEVICE='device', TITLE='title', DESCRIPTION='description',
             USER_TAGS='user_tags', MACHINE_TAGS='machine_tags', LON='lon', LAT='lat', GEO_ACCURACY='geo_accuracy',
             PAGE_URL='page_url', DOWNLOAD_URL='url', LICENSE_NAME='license_name', LICENSE_URL='license_url',
             SERVER_ID='server_id', FARM_ID='farm_id', SECRET='secret', SECRET_ORIGINAL='secret_original', EXT='ext',
             HASH_VALUE='hash')
KEYS = ('ID', 'USER_ID', 'NICKNAME', 'DATE_TAKEN', 'DATE_UPLOADED', 'DEVICE', 'TITLE', 'DESCRIPTION', 'USER_TAGS',
        'MACHINE_TAGS', 'LON', 'LAT', 'GEO_ACCURACY', 'PAGE_URL', 'DOWNLOAD_URL', 'LICENSE_NAME', 'LICENSE_URL',
        'SERVER_ID', 'FARM_ID', 'SECRET', 'SECRET_ORIGINAL', 'EXT', 'IMG_OR_VIDEO', 'AUTO_TAG_SCORES', 'LINE_NUM',
        'EXIF', 'HASH_VALUE')
# Columns that are read; own sources bring `source_id`, side files those behind it.
COLUMNS = ('id', 'line', 'is_video', 'uploaded_at', 'taken_at', *_TEXT.values(), 'source_id', 'auto_tags', 'exif_text',
           'line_number')


def read_columns(known: Collection[str]) -> list[str]:
    """The columns that a table of records has of those that are read."""
    return [name for name in COLUMNS if name in known]


def originals(records: pyarrow.StructArray) -> list[dict[str, Plain]]:
    """Records of `read_columns` as CLEAR wrote them, without `IMG_DIR` and `IMG_PATH`.

    A time that could not be read is 'null', any other empty cell ''. Numbers are written as Python does, so that `10`
    of a longitude becomes `10.0`.
    """
    columns = {field.name: records.field(place) for place, field in enumerate(records.type)}
    empty = pyarrow.nulls(len(records), pyarrow.string())
    made: Mapping[str, list] = dict(
        ID=_texts(columns['id']), DATE_TAKEN=_taken(columns.get('taken_at', empty)),
        DATE_UPLOADED=[str(moment // 1_000_000) for moment in micros(columns['uploaded_at']).to_pylist()],
        IMG_OR_VIDEO=[int(bool(value)) for value in columns.get('is_video', empty).to_pylist()],
        AUTO_TAG_SCORES=[_pairs(value) or {} for value in columns.get('auto_tags', empty).to_pylist()],
        LINE_NUM=_texts(columns.get('line_number', columns.get('line', empty))),
        EXIF=[_pairs(value) for value in columns.get('exif_text', empty).to_pylist()],
        **{key: _texts(columns.get(name, empty)) for key, name in _TEXT.items()})
    rows = [dict(zip(KEYS, values)) for values in zip(*(made[key] for key in KEYS))]
    for row, source_id in zip(rows, columns.get('source_id', empty).to_pylist()):
        if source_id is not None:
            row['SOURCE_ID'] = source_id
    return rows


def _texts(column: pyarrow.Array) -> list[str]:
    if column.null_count == len(column):
        return [''] * len(column)
    if types.is_binary(column.type):
        return [(cell or b'').decode('utf-8', 'surrogateescape') for cell in column.to_pylist()]
    cells = column.to_pylist()
    if types.is_string(column.type):
        return [cell or '' for cell in cells] if column.null_count else cells
    return ['' if cell is None else str(cell) for cell in cells]


def _pairs(value: list[dict] | None) -> dict[str, Plain] | None:
    """Pairs, each an object with two values, as one object."""
    return None if value is None else dict(tuple(pair.values()) for pair in value)


def _taken(column: pyarrow.Array) -> list[str]:
    if not types.is_timestamp(column.type):
        return ['null'] * len(column)
    # As text they end in a fraction of six digits.
    cells = compute.strftime(column.cast(pyarrow.timestamp('us')), '%Y-%m-%d %H:%M:%S').to_pylist()
    short = (None if cell is None else cell.rstrip('0') for cell in cells)
    return ['null' if cell is None else f'{cell}0' if cell.endswith('.') else cell for cell in short]

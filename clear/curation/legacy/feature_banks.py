"""Features of the earlier curation as a bank, and a bank as features that its programs read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute

from clear.core.checks import check_choice, check_whole
from clear.core.errors import DataError
from clear.core.files import atomic_writer
from clear.curation.legacy.old_features import (
    KINDS,
    OldFeatures,
    array_name,
    cuts,
    file_name,
    find_features,
)
from clear.curation.legacy.places import Places
from clear.curation.legacy.records import image_path
from clear.curation.legacy.sources import Record, read_records
from clear.datasets.columns import check_unique, text_column
from clear.datasets.fingerprints import bank_source_fingerprint
from clear.datasets.make.writing import new_folder
from clear.datasets.readers.dates import parse_time
from clear.features.bank import FeatureBank
from clear.features.identity import DTYPES, bank_identity
from clear.features.writing import allocate_array, room_on_disk, write_rows, write_small_files

SHARD_ROWS = 500_000
_PIECE = 1 << 14  # records that are looked at together
_BLOCK = 1 << 16


def import_features(folder: str | Path, out: str | Path, *, model: str | None = None, bucket: str | None = None,
                    dtype: str | None = None, images: str | Path | None = None, old_root: str | None = None,
                    overwrite: bool = False) -> FeatureBank:
    """Store a bucket's features as one bank, rows in their order; arrays are copied block by block.

    Ids are those of the photos. Rows without features (zeros, NaN) are masked. What made them cannot be known: the bank
    names the model, and `verified` in its `meta.json` is False until `verify_bank` has seen images agree.

    Args:
        folder: of the bucket, see `clear.curation.legacy.old_features`.
        model: needed if there are features of several.
        bucket: its name; by default that of the folder.
        dtype: of the bank; by default that of the features.
        images: the folder that the images are below now, to which the bank's paths are relative then; without it they
            are the names of the files.
        old_root: where that was when the records were written, see `Places`.
        overwrite: replace the bank at `out`.

    Raises:
        ConfigError: for an unknown dtype, or several models of which none is named.
        DataError: if something is missing or damaged, or index and arrays do not go together.
    """
    found = find_features(folder, model)
    shards = found.shards
    dtype = shards[0].raw.dtype.name if dtype is None else check_choice('dtype', dtype, DTYPES)
    count, dim = sum(len(shard.raw) for shard in shards), shards[0].raw.shape[1]
    columns = _columns(found, None if images is None else Places(images, old_root))
    check_unique(columns['id'], found.index)
    bucket = Path(folder).resolve().name if bucket is None else bucket
    valid, content = np.zeros(count, bool), hashlib.sha256()
    with room_on_disk(Path(out)), new_folder(out, replace=overwrite) as staging:
        allocate_array(staging / 'features.npy', dtype, (count, dim))
        start = 0
        for shard in shards:
            for rows, is_valid in shard.blocks():
                stored = _stored(rows, dtype, found)
                write_rows(staging / 'features.npy', start, stored)
                content.update(stored.tobytes())
                valid[start:start + len(rows)] = is_valid
                start += len(rows)
        labels = np.full(count, -1, np.int64)
        source = bank_source_fingerprint(_cells(columns['id']), labels, (bucket for _ in range(count)), [])
        data = hashlib.sha256(f'{source}{content.hexdigest()}'.encode()).hexdigest()
        write_small_files(
            staging, identity=bank_identity(f'imported:{found.model}', data, None, dtype), dim=dim, labels=labels,
            valid=valid, ids=columns['id'], paths=columns['path'], timestamps=columns['timestamp'],
            buckets=pyarrow.repeat(bucket, count), class_names=[],
            notes=dict(encoder=dict(type='imported', model=found.model), source='curation', verified=False))
    return FeatureBank.open(out)


def export_features(banks: Sequence[FeatureBank], folder: str | Path, model: str, *, records: str | Path | None = None,
                    image_dir: str | Path | None = None, shard_rows: int = SHARD_ROWS, overwrite: bool = False
                    ) -> list[Path]:
    """Write banks of one bucket as its features: near-equal shards of both kinds, then the index.

    Masked rows are zeros in both, where the earlier programs divided by zero and wrote NaN.

    Args:
        folder: of the bucket.
        model: as the files are named.
        records: the bucket's file (`bucket_<b>.json`), whose order the shards take, as the earlier programs' do; every
            one of its records needs features. Without it the order is that of the banks, and records hold no more than
            ID, IMG_DIR and IMG_PATH.
        image_dir: IMG_DIR of these records.
        overwrite: replace features of that model.

    Returns:
        The files, the index last.

    Raises:
        DataError: if banks do not go together, a record has no features, or there are features of that model already.
    """
    check_whole('shard_rows', shard_rows, 1)
    folder, name = Path(folder), file_name(model)
    index, place = folder / f'features_{name}.json', folder / f'features_{name}'
    if not overwrite and index.exists():
        raise DataError(f'{index} exists. Replace it with --overwrite, or choose another name.')
    if len({(bank.dim, bank.meta['dtype'], json.dumps(bank.meta['encoder'], sort_keys=True)) for bank in banks}) != 1:
        raise DataError(f'{banks[0].path} and the other banks are of different models or types.')
    rows = np.arange(sum(map(len, banks))) if records is None else _rows_of_records(banks, Path(records))
    shards = cuts(len(rows), shard_rows)
    with room_on_disk(folder), new_folder(place, replace=overwrite) as staging:
        for number, part in enumerate(shards):
            _write_shard(staging, number, banks, rows[part.start:part.stop])
    lists = _records_of_banks(banks, image_dir) if records is None else _records_in(Path(records))
    with room_on_disk(folder), atomic_writer(index, 'w') as file:
        file.write('[[')
        for number, part in enumerate(shards):
            file.write(('' if not number else ', ') + '[')
            for position, record in enumerate(islice(lists, len(part))):
                file.write((', ' if position else '') + json.dumps(record))
            file.write(']')
        paths = [{kind: str(place / array_name(number, kind)) for kind in KINDS} for number in range(len(shards))]
        file.write(f'], {json.dumps(paths)}]')
    return [*(Path(path) for each in paths for path in each.values()), index]


def _stored(rows: np.ndarray, dtype: str, found: OldFeatures) -> np.ndarray:
    with np.errstate(over='ignore'):
        stored = rows.astype(dtype)
    if not np.isfinite(stored).all():
        raise DataError(f"{found.folder}: features leave the range of {dtype}, which ends at 65504. Use "
                        "dtype='float32'.")
    return stored


def _columns(found: OldFeatures, places: Places | None) -> dict[str, pyarrow.ChunkedArray]:
    """Id, path and time of all records, whose number must be that of the rows."""
    parts: dict[str, list] = dict(id=[], path=[], timestamp=[])
    for number, records in enumerate(found.lists()):
        count = 0
        while piece := list(islice(records, _PIECE)):
            count += len(piece)
            parts['id'].append(text_column([str(record['ID']) for record in piece]))
            parts['path'].append(text_column([_path(record, places, found) for record in piece]))
            parts['timestamp'].append(pyarrow.array([_taken_at(record) for record in piece],
                                                    pyarrow.timestamp('us', tz='UTC')))
        rows = len(found.shards[number].raw)
        if count != rows:
            raise DataError(f'{found.index} lists {count} records for shard {number}, whose arrays have {rows} rows.')
    return {name: pyarrow.chunked_array(values) for name, values in parts.items()}


def _path(record: Record, places: Places | None, found: OldFeatures) -> str:
    full = image_path(record)
    if places is None:
        return full.rpartition('/')[2] or str(record['ID'])
    below = places.below(full)
    if below is None:
        raise DataError(f"{found.index}: the image of {record['ID']}, '{full}', is not below {places.root}. Say with "
                        'old_root where that folder was.')
    return below


def _taken_at(record: Record) -> datetime | None:
    try:
        return parse_time(record.get('DATE_TAKEN'))
    except (ValueError, OverflowError):
        return None


def _cells(column: pyarrow.ChunkedArray) -> Iterator[str]:
    for chunk in column.chunks:
        yield from chunk.to_pylist()


def _write_shard(folder: Path, number: int, banks: Sequence[FeatureBank], rows: np.ndarray) -> None:
    files = [folder / array_name(number, kind) for kind in KINDS]
    shape = (len(rows), banks[0].dim)
    allocate_array(files[0], banks[0].meta['dtype'], shape)
    allocate_array(files[1], 'float32', shape)
    ends = np.cumsum([len(bank) for bank in banks])
    for start in range(0, len(rows), _BLOCK):
        wanted = rows[start:start + _BLOCK]
        homes = np.searchsorted(ends, wanted, side='right')
        raw = np.zeros((len(wanted), banks[0].dim), banks[0].meta['dtype'])
        for home in np.unique(homes):
            mine = homes == home
            bank, first = banks[home], ends[home] - len(banks[home])
            places = wanted[mine] - first
            raw[mine] = np.where(bank.valid[places][:, None], np.asarray(bank.features)[places], 0)
        write_rows(files[0], start, raw)
        unit = raw.astype(np.float32)
        lengths = np.linalg.norm(unit, axis=1, keepdims=True)
        write_rows(files[1], start, np.divide(unit, lengths, out=np.zeros_like(unit), where=lengths > 0))


def _rows_of_records(banks: Sequence[FeatureBank], records: Path) -> np.ndarray:
    """The row among all banks of each record of a file."""
    ids = pyarrow.chunked_array([bank.index['id'].combine_chunks() for bank in banks], pyarrow.string())
    found, listed = [], _records_in(records)
    while piece := [str(record['ID']) for record in islice(listed, _PIECE)]:
        rows = compute.index_in(pyarrow.array(piece, pyarrow.string()), ids)
        if rows.null_count:
            missing = piece[compute.index(rows.is_null(), True).as_py()]
            raise DataError(f"{banks[0].path} has no features of '{missing}', which {records} lists.")
        found.append(rows.to_numpy().astype(np.int64))
    return np.concatenate(found)


def _records_in(path: Path) -> Iterator[Record]:
    return (record for _, record in read_records(path))


def _records_of_banks(banks: Sequence[FeatureBank], image_dir: str | Path | None) -> Iterator[Record]:
    for bank in banks:
        for batch in bank.index.select(['id', 'path']).to_batches(_PIECE):
            for name, path in zip(batch['id'].to_pylist(), batch['path'].to_pylist()):
                yield dict(ID=name, IMG_DIR='' if image_dir is None else str(image_dir), IMG_PATH=path)

"""Writing a bank: its small files, arrays of known size, and `write_bank` for features that are in memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from clear.core.checks import check_choice
from clear.core.errors import NO_ROOM, DataError
from clear.core.files import atomic_writer, write_json
from clear.datasets.columns import text_column
from clear.datasets.fingerprints import bank_source_fingerprint
from clear.datasets.make.writing import new_folder
from clear.datasets.readers.labels import check_class_names, class_indices
from clear.features.bank import BAD_FILE, INDEX_COLUMNS, INDEX_FILE, META_FILE, FeatureBank
from clear.features.identity import DTYPES, FORMAT, Identity, bank_identity, fingerprint_of

if TYPE_CHECKING:
    from clear.core.types import Options


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """Turn a full disk into a message.

    Raises:
        DataError: saying what to do; what was written so far is kept.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DataError(f'No room to write {folder} ({os.strerror(error.errno)}). No bank was made. Free some space '
                        'and run the same command again: finished blocks are kept.') from error


def allocate_array(path: Path, dtype: str, shape: Sequence[int]) -> None:
    """Make a `.npy` file of this size whose disk space is taken at once, so that a full disk shows now."""
    with path.open('wb') as file:
        _write_header(file, np.dtype(dtype), tuple(shape))
        size = file.tell() + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        file.flush()
        if hasattr(os, 'posix_fallocate'):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        os.fsync(file.fileno())


def write_rows(path: Path, start: int, rows: np.ndarray) -> None:
    """Overwrite rows `start ...` of an allocated `.npy` file and wait until they are on disk."""
    # Not through a memory map: a full disk would kill the process there instead of raising.
    with path.open('r+b') as file:
        header = _header_size(file)
        data = memoryview(np.ascontiguousarray(rows)).cast('B')
        row_bytes = rows[:1].nbytes
        position = header + start * row_bytes
        while len(data):
            written = os.pwrite(file.fileno(), data, position)
            data, position = data[written:], position + written
        os.fsync(file.fileno())


def _write_header(file, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    header = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, header)


def _header_size(file) -> int:
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file atomically."""
    with atomic_writer(path) as file:
        _write_header(file, array.dtype, array.shape)
        # Not `np.save`: its errors do not say that the disk is full.
        file.write(memoryview(np.ascontiguousarray(array)).cast('B'))


def write_small_files(folder: Path, *, identity: Identity, dim: int, labels: np.ndarray, valid: np.ndarray,
                      ids: Sequence[str], paths: Sequence[str], buckets: Sequence[str | None],
                      timestamps: Sequence[datetime | None], class_names: Sequence[str], bad: Sequence[dict] = (),
                      maps: dict[str, list[int]] | None = None, notes: Options | None = None) -> None:
    """Write everything of a bank but its features and maps; `meta.json` last.

    Args:
        ids, paths, buckets, timestamps: one per row; of millions as Arrow holds them.
        bad: records of unreadable images, in row order.
        maps: level -> (C, H, W).
        notes: what else `meta.json` tells: plain values that are equal in every run.
    """
    save_array(folder / 'labels.npy', labels.astype(np.int64))
    save_array(folder / 'valid.npy', valid.astype(bool))
    _write_index(folder / INDEX_FILE, ids, paths, buckets, timestamps)
    if bad:
        with atomic_writer(folder / BAD_FILE, 'w') as file:
            file.writelines(json.dumps(record) + '\n' for record in bad)
    write_json(folder / META_FILE, {
        'format': FORMAT, 'fingerprint': fingerprint_of(identity), 'identity': identity, 'dtype': identity['dtype'],
        'dim': dim, 'count': len(labels), 'num_valid': int(valid.sum()), 'class_names': list(class_names),
        'maps': maps or {}, **(notes or {})})


def _write_index(path: Path, ids, paths, buckets, timestamps) -> None:
    import pyarrow
    from pyarrow import parquet

    held = (pyarrow.Array, pyarrow.ChunkedArray)
    texts = [values if isinstance(values, held) else text_column(values) for values in (ids, paths, buckets)]
    if not isinstance(timestamps, held):
        timestamps = pyarrow.array(timestamps, pyarrow.timestamp('us', tz='UTC'))
    table = pyarrow.table([pyarrow.array(np.arange(len(ids))), *texts, timestamps], names=list(INDEX_COLUMNS))
    with atomic_writer(path) as file:
        parquet.write_table(table, file)


def check_ids(ids: Sequence[str], where: str) -> None:
    """Refuse two images with one id: rows are found by it.

    Raises:
        DataError: naming the first that is there twice.
    """
    seen: set[str] = set()
    twice = next((name for name in ids if name in seen or seen.add(name)), None)
    if twice is not None:
        raise DataError(f"{where}: the id '{twice}' is there twice; every image needs an id of its own.")


def write_bank(out: str | Path, features: torch.Tensor | np.ndarray, labels: Sequence[int] | torch.Tensor, *,
               ids: Sequence[str] | None = None, paths: Sequence[str] | None = None,
               buckets: Sequence[str | None] | None = None, timestamps: Sequence[datetime | None] | None = None,
               class_names: Sequence[str] | None = None, valid: Sequence[bool] | None = None, dtype: str = 'float32',
               encoder: str | None = None, notes: Options | None = None, overwrite: bool = False) -> FeatureBank:
    """Store features that are in memory as a bank.

    Args:
        features: (N, D), finite; rows where `valid` is False are stored as zeros.
        labels: (N,) class indices, -1 = no label.
        ids: one per row, unique; by default '0', '1', ...
        class_names: by index; by default the classes are those that occur, named by their numbers: of 3 and 7 the
            bank's labels are 0 and 1.
        encoder: fingerprint of what made the features; by default a hash of the features themselves.
        notes: plain values to add to `meta.json`.
        overwrite: replace what `out` holds.

    Raises:
        DataError: if lengths differ, ids or class names repeat, features are not finite in `dtype`, a label has no
            name, or `out` has content.
        ConfigError: for an unknown dtype.
    """
    check_choice('dtype', dtype, DTYPES)
    features = np.asarray(features)
    count = len(features)
    labels = np.asarray(labels, dtype=np.int64)
    valid = np.ones(count, dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
    if class_names is None:
        places, class_names = class_indices(labels.tolist(), None, 'labels')
        labels = np.array(places, dtype=np.int64)
    columns = dict(ids=[str(row) for row in range(count)] if ids is None else list(ids),
                   paths=[''] * count if paths is None else list(paths),
                   buckets=[None] * count if buckets is None else list(buckets),
                   timestamps=[None] * count if timestamps is None else list(timestamps))
    _check_table(features, labels, valid, class_names, columns)
    stored = np.where(valid[:, None], features, 0).astype(dtype)
    if not np.isfinite(stored).all():
        row = int((~np.isfinite(stored)).any(axis=1).nonzero()[0][0])
        raise DataError(f'Row {row} of the features is not finite as {dtype}.')
    content = hashlib.sha256(stored.tobytes()).hexdigest()
    data = bank_source_fingerprint(columns['ids'], labels, columns['buckets'], class_names)
    identity = bank_identity(encoder or f'sha256:{content}', data, None, dtype)
    with room_on_disk(Path(out)), new_folder(out, replace=overwrite) as folder:
        save_array(folder / 'features.npy', stored)
        write_small_files(folder, identity=identity, dim=features.shape[1], labels=labels, valid=valid,
                          class_names=class_names, notes=notes, **columns)
    return FeatureBank.open(out)


def remove_folder(path: Path) -> None:
    """Delete a folder of ours; its `meta.json` first, so that a half-deleted bank is none."""
    (path / META_FILE).unlink(missing_ok=True)
    shutil.rmtree(path)


def _check_table(features: np.ndarray, labels: np.ndarray, valid: np.ndarray, class_names: Sequence[str],
                 columns: dict[str, list]) -> None:
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise DataError(f'features should be floating point of shape (N, D), found {features.dtype} '
                        f'{features.shape}.')
    lengths = {'features': len(features), 'labels': len(labels), 'valid': len(valid),
               **{name: len(values) for name, values in columns.items()}}
    if len(set(lengths.values())) > 1 or not len(features):
        raise DataError(f'A bank needs at least one row, and as many of each: {lengths}.')
    if labels.min() < -1 or labels.max() >= len(class_names):
        raise DataError(f'Labels {labels.min()} ... {labels.max()} do not fit {len(class_names)} class names (-1 means '
                        'no label).')
    check_ids(columns['ids'], 'write_bank')
    check_class_names(class_names, 'write_bank')

"""A feature bank on disk, read as memory-mapped arrays and as whole tensors.

::

    BANK/meta.json           format, fingerprint and its parts, dtype, dim, count, class names
    BANK/features.npy        (N, D) float16 or float32; rows of unreadable images are zero
    BANK/labels.npy          (N,) int64, -1 = no label
    BANK/valid.npy           (N,) bool, False = the image could not be read
    BANK/index.parquet       row, id, path, bucket, timestamp
    BANK/maps_<level>.npy    (N, C, H, W), only if asked for at extraction
    BANK/bad_samples.jsonl   the unreadable images and why, only if there are any
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch

from clear.core.errors import DataError
from clear.core.files import parse_json, read_json, read_text, regular_file
from clear.features.identity import DTYPES, FORMAT, Identity, fingerprint_of, require_same

META_FILE = 'meta.json'
INDEX_FILE = 'index.parquet'
BAD_FILE = 'bad_samples.jsonl'
INDEX_COLUMNS = ('row', 'id', 'path', 'bucket', 'timestamp')
_NPY_MAGIC = b'\x93NUMPY'


class Meta(TypedDict):
    """The content of `meta.json`; besides, `encoder`, `block_size` and `batch_size` say how the bank was made."""

    format: NotRequired[int]  # not of a bank that is planned only
    fingerprint: str
    identity: Identity
    dtype: str
    dim: int
    count: int
    num_valid: int
    class_names: list[str]
    maps: dict[str, list[int]]
    source: NotRequired[str]
    clip_length: NotRequired[int]  # of a bank of clips


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


# Keys of `meta.json`, each with what its value must be.
_META_CHECKS = {
    'fingerprint': lambda value: isinstance(value, str),
    'identity': lambda value: isinstance(value, dict),
    'dtype': lambda value: isinstance(value, str) and value in DTYPES,
    'dim': _is_size, 'count': _is_size, 'num_valid': _is_size,
    'class_names': lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    'maps': lambda value: isinstance(value, dict) and all(
        isinstance(shape, list) and len(shape) == 3 and all(map(_is_size, shape)) for shape in value.values())}


class FeatureBank:
    """The features of one data set under one encoder. Made by `extract`, `write_bank` or `import_legacy`.

    Arrays are mapped into memory, so opening is quick at any size and processes share one copy.

    Attributes:
        path: the folder.
        meta: the content of `meta.json`.
        features: (N, D) memory map, float16 or float32.
        labels: (N,) int64, -1 = no label.
        valid: (N,) bool, False where the image could not be read.
    """

    def __init__(self, path: Path, meta: Meta):
        self.path = path
        self.meta = meta
        self.features: np.memmap = _load(path / 'features.npy', meta['dtype'], (meta['count'], meta['dim']), 'r')
        self.labels: np.ndarray = _load(path / 'labels.npy', 'int64', (meta['count'],))
        self.valid: np.ndarray = _load(path / 'valid.npy', 'bool', (meta['count'],))

    @classmethod
    def open(cls, path: str | Path, *, expect: str | dict | None = None) -> FeatureBank:
        """Open a bank.

        Args:
            expect: the fingerprint, or the identity, that the bank must have.

        Raises:
            DataError: if there is no bank, it is incomplete or damaged, or it is not the expected one; the message
                then shows both fingerprints.
        """
        path = Path(path)
        if not (path / META_FILE).is_file():
            unfinished = Path(f'{path}.partial').is_dir()
            raise DataError(f'{path} is no feature bank: it has no {META_FILE}.' + (
                f' {path}.partial is an extraction that has not finished; run it again to continue.' if unfinished
                else ' tools/extract_features.py makes banks.'))
        meta = _read_meta(path / META_FILE)
        if expect is not None:
            require_same(str(path), meta['identity'], expect, 'Extract into another folder, or replace this bank '
                         'explicitly (--overwrite).')
        return cls(path, meta)

    def __len__(self) -> int:
        return self.meta['count']

    def __repr__(self) -> str:
        return f'FeatureBank({self.path}, {len(self)} x {self.dim} {self.meta["dtype"]}, {self.fingerprint[:12]})'

    @property
    def dim(self) -> int:
        return self.meta['dim']

    @property
    def fingerprint(self) -> str:
        return self.meta['fingerprint']

    @property
    def class_names(self) -> list[str]:
        return self.meta['class_names']

    @property
    def clip_length(self) -> int:
        """How many rows that follow each other make a clip (`clear.datasets.clips`); 1 of single images.

        Raises:
            DataError: if `meta.json` says something that cannot be.
        """
        length = self.meta.get('clip_length', 1)
        if not _is_size(length) or length < 1 or len(self) % length:
            raise DataError(f'{self.path / META_FILE} is damaged or was edited: clip_length is {str(length)[:80]}, of '
                            f'{len(self)} rows.')
        return length

    @cached_property
    def index(self):
        """The pyarrow table (row, id, path, bucket, timestamp), in row order.

        Raises:
            DataError: if the file is damaged or has other columns or rows.
        """
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.read_table(regular_file(self.path / INDEX_FILE))
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f'{self.path / INDEX_FILE} cannot be read: {error}') from error
        if tuple(table.column_names) != INDEX_COLUMNS or table.num_rows != len(self):
            raise DataError(f'{self.path / INDEX_FILE} has columns {table.column_names} and {table.num_rows} rows; '
                            f'expected {list(INDEX_COLUMNS)} and {len(self)}.')
        return table

    def column(self, name: str) -> list[str | None]:
        """The ids, paths or buckets of all rows: that column of `index` as text, whatever the names."""
        return [value.decode('utf-8', 'surrogatepass') if isinstance(value, bytes) else value
                for value in self.index[name].to_pylist()]

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.column('id'))}

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """Rows (N,) int64 of images by id, in the order of `ids`, unreadable ones included.

        Raises:
            DataError: naming the first id that the bank does not have.
        """
        try:
            return np.array([self._row_of_id[name] for name in ids], dtype=np.int64)
        except KeyError as error:
            raise DataError(f'{self.path} has no image {error}. Its first id is '
                            f"'{next(iter(self._row_of_id), None)}'. Was the bank made from other data?") from None

    def subset_rows(self, bucket: str | None = None, split: Iterable[str] | None = None) -> np.ndarray:
        """Rows (M,) int64 of readable images, of one bucket and of one split if they are given.

        Args:
            bucket: the bucket's name.
            split: ids of the split's images; their order is kept. Splits are lists, not part of the bank.

        Raises:
            DataError: if no row has that bucket, or an id is not in the bank.
        """
        rows = np.arange(len(self)) if split is None else self.rows_of(split)
        if bucket is not None:
            names = np.array(self.column('bucket'), dtype=object)
            if not (names == str(bucket)).any():
                known = sorted({str(name) for name in names if name is not None})
                raise DataError(f"{self.path} has no bucket '{bucket}'; it has {', '.join(known) or 'none'}.")
            rows = rows[names[rows] == str(bucket)]
        return rows[self.valid[rows]]

    def tensors(self, rows: Sequence[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (M, D) float32 and labels (M,) int64 in memory, of the readable images among `rows` (None: all)."""
        rows = np.arange(len(self)) if rows is None else self._checked(rows)
        return self._take(rows[self.valid[rows]])

    def batches(self, indices: Sequence[int] | torch.Tensor, batch_size: int,
                device: str | torch.device = 'cpu') -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches (features (B, D) float32, labels (B,) int64) of the given rows, in their order; the last is smaller.

        Each batch is one indexing operation: no per-sample Python, no worker processes.

        Raises:
            ValueError: if a row is outside the bank or its image was unreadable, or batch_size < 1.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size is {batch_size}, expected at least 1.')
        rows = self._checked(indices)
        if not self.valid[rows].all():
            bad = int(rows[~self.valid[rows]][0])
            raise ValueError(f'Row {bad} of {self.path} is an image that could not be read; subset_rows() leaves such '
                             'rows out.')
        return self._batches(rows, batch_size, device)

    def maps(self, level: int) -> np.memmap:
        """The feature maps (N, C, H, W) of one level, 0 (fine) ... 4 (coarse), memory-mapped.

        Raises:
            DataError: if the bank has no maps of that level.
        """
        shape = self.meta['maps'].get(str(level))
        if shape is None:
            raise DataError(f'{self.path} has no maps of level {level}; it has levels '
                            f'{", ".join(self.meta["maps"]) or "none"}. Extract with maps=[{level}].')
        return _load(self.path / f'maps_{level}.npy', self.meta['dtype'], (len(self), *shape), 'r')

    def bad_samples(self) -> list[dict]:
        """The images that could not be read: `{'row', 'bucket', 'id', 'reason'}` each."""
        path = self.path / BAD_FILE
        lines = read_text(path).splitlines() if path.is_file() else []
        return [parse_json(line, f'{path}:{number}') for number, line in enumerate(lines, start=1)]

    def _batches(self, rows: np.ndarray, batch_size: int, device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(rows), batch_size):
            features, labels = self._take(rows[start:start + batch_size])
            yield features.to(device), labels.to(device)

    def _take(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        # A base array: indexing a memmap builds a memmap object around every result.
        features = torch.from_numpy(np.asarray(self.features)[rows])
        return features.to(torch.float32), torch.from_numpy(self.labels[rows])

    def _checked(self, rows) -> np.ndarray:
        rows = rows.cpu().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows)
        rows = rows.astype(np.int64, copy=False) if rows.size else np.zeros(0, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise ValueError(f'Rows {rows.min()} ... {rows.max()} are outside the bank, 0 ... {len(self) - 1}.')
        return rows


def _read_meta(path: Path) -> Meta:
    meta = read_json(path)
    if not isinstance(meta, dict) or meta.get('format') != FORMAT:
        found = meta.get('format') if isinstance(meta, dict) else None
        raise DataError(f'{path} has bank format {found!r}; this version reads format {FORMAT}.')
    missing = [key for key in _META_CHECKS if key not in meta]
    if missing:
        raise DataError(f'{path} lacks {", ".join(missing)}: it was not written by this framework, or is damaged.')
    wrong = [key for key, fits in _META_CHECKS.items() if not fits(meta[key])]
    if wrong:
        raise DataError(f'{path} is damaged or was edited: {wrong[0]} is {str(meta[wrong[0]])[:80]}.')
    if meta['fingerprint'] != fingerprint_of(meta['identity']):
        raise DataError(f'{path} is damaged or was edited: its fingerprint does not belong to its content.')
    return meta


def _load(path: Path, dtype: str, shape: tuple[int, ...], mode: str | None = None) -> np.ndarray:
    """A `.npy` file of exactly this dtype and shape; never unpickled.

    Raises:
        DataError: if it is anything else.
    """
    try:
        # np.load alone would also take an archive of arrays, which has neither dtype nor shape.
        with regular_file(path).open('rb') as file:
            if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
                raise DataError(f'{path} is damaged or no .npy file.')
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f'{path} is missing or damaged: {error}') from error
    if array.dtype != np.dtype(dtype) or array.shape != tuple(shape):
        raise DataError(f'{path} holds {array.dtype} of shape {array.shape}; meta.json says {dtype} of shape '
                        f'{tuple(shape)}. The bank is damaged; extract it again.')
    return array

"""Images as an Arrow table: what a reader gives and what a consumer takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import compute, parquet, types

from clear.core.errors import DataError, nearest
from clear.core.files import regular_file
from clear.datasets.columns import (
    PARTS,
    as_column,
    check_below,
    check_labels,
    check_types,
    check_unique,
    encoded_texts,
    packed,
    plain_text,
    plain_texts,
    unpacked,
)
from clear.datasets.fingerprints import bank_source_fingerprint
from clear.datasets.images.contents import ImageContents
from clear.datasets.images.decode import decode_image
from clear.datasets.readers.labels import check_class_names

_BLOCK = 65_536  # cells that are read at once


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images below one root, in an order that never changes. Only `id` and `path` need be there.

    | column                     | holds                                                              |
    |----------------------------|--------------------------------------------------------------------|
    | `id`, `path`               | text, no id twice; paths are relative to `root`                    |
    | `label`, or `labels`       | int32 class index, -1 = none; or a list of them per image          |
    | `difficult`                | with `labels`: classes that are neither there nor absent for sure  |
    | `bucket`, `split`          | text, null = none                                                  |
    | `taken_at`, `uploaded_at`  | timestamp in UTC                                                   |
    | `caption`                  | text, or a list of texts per image                                 |
    | `mask`, `clip`             | text: the path of a mask, relative to `root`; the clip of a frame  |
    | `shard`, `offset`, `bytes` | text, int64: a part of that file is the image; null = `path` is it |

    Attributes:
        root: what paths are relative to.
        table: the columns above; others are carried along.
        class_names: class index to name.
        kind: the `type` of a config that they were read by; empty if by none.
        name: a short name, which the folder of a bank gets; by default that of the root.

    Raises:
        DataError: if a column is missing or has the wrong type, an id or a class name is there twice, an id or path is
            empty, a label has no name, or a path leaves the root, or an image has a shard without a place in it.
    """

    root: Path
    table: pyarrow.Table
    class_names: Sequence[str] = field(default=())
    kind: str = ''
    name: str = ''

    def __post_init__(self):
        object.__setattr__(self, 'name', self.name or self.root.name)
        check_types(self.table, self.root)
        check_unique(self.table['id'], self.root)
        check_class_names(self.class_names, str(self.root))
        check_labels(self.table, len(self.class_names), self.root)
        for name in (each for each in ('path', 'mask') if each in self):
            check_below(self.table[name], self.root)
        if 'shard' in self:
            check_below(encoded_texts(self.table['shard']).dictionary, self.root)

    @classmethod
    def from_columns(cls, root: Path, columns: Mapping[str, Sequence], class_names: Sequence[str] = (),
                     **attributes: object) -> Self:
        """A table of lists or arrays; without `id` the paths are the ids (one column under both names).

        Raises:
            DataError: as the class does, or if values do not fit their column.
        """
        arrays = {name: as_column(name, values, root) for name, values in columns.items()}
        if 'path' in arrays:
            arrays = {'id': arrays.get('id', arrays['path'])} | arrays
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f'{root}: columns of different lengths, {lengths}.')
        return cls(root, pyarrow.table(arrays), class_names, **attributes)

    @classmethod
    def open(cls, file: str | Path, root: str | Path | None = None, class_names: Sequence[str] = ()) -> ImageTable:
        """A Parquet file with the columns of the class; without `id` the paths are the ids.

        Args:
            root: by default the folder of the file.

        Raises:
            DataError: as the class does, or if the file is none.
        """
        file = Path(file)
        try:
            table = parquet.read_table(regular_file(file), memory_map=True)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f'{file} cannot be read as a table: {error}') from error
        return cls(file.parent if root is None else Path(root), _with_ids(table), class_names)

    @classmethod
    def trusted(cls, root: Path, columns: Mapping[str, Sequence], class_names: Sequence[str] = ()) -> Self:
        """As `from_columns`, of what a reader has checked itself, line by line: nothing is looked at again."""
        arrays = {name: as_column(name, values, root) for name, values in columns.items()}
        arrays = {'id': arrays.get('id', arrays['path'])} | arrays
        images = object.__new__(cls)
        images.__dict__.update(root=root, table=pyarrow.table(arrays), class_names=class_names, kind='', name=root.name)
        return images

    def __len__(self) -> int:
        return self.table.num_rows

    def __contains__(self, column: str) -> bool:
        return column in self.table.column_names

    def __getitem__(self, column: str) -> pyarrow.ChunkedArray:
        """A column.

        Raises:
            DataError: if these images have none of that name.
        """
        try:
            return self.table.column(column)
        except KeyError:
            near = nearest(column, self.table.column_names)
            raise DataError(f"{self.root}: these images have no column '{column}'{f', nearest: {near}' if near else ''}"
                            f'. Columns: {", ".join(self.table.column_names)}.') from None

    def text(self, column: str, row: int) -> str | None:
        """A cell of a column of text."""
        return plain_text(self[column][row].as_py())

    def texts(self, column: str) -> list[str | None]:
        """A whole column of text as a list: for few images, or where every one is read anyway."""
        return plain_texts(self[column])

    def captions(self, row: int) -> list[str]:
        """The captions of an image, which may be none.

        Raises:
            DataError: if these images have no captions.
        """
        value = self['caption'][row].as_py()
        return [value] if isinstance(value, str) else value or []

    def caption_counts(self) -> np.ndarray:
        """(N,) int64: how many captions each image has.

        Raises:
            DataError: if these images have no captions.
        """
        column = self['caption'].combine_chunks()
        values = column.dictionary if types.is_dictionary(column.type) else column
        counts = compute.list_value_length(values) if types.is_list(values.type) else compute.is_valid(values)
        counts = counts.cast(pyarrow.int64()).fill_null(0)
        if types.is_dictionary(column.type):
            counts = counts.take(column.indices)
        return counts.fill_null(0).to_numpy(zero_copy_only=False)

    def caption_texts(self) -> pyarrow.Array:
        """Every caption as Arrow holds it: one that many images share perhaps once.

        Raises:
            DataError: if these images have no captions.
        """
        column = self['caption'].combine_chunks()
        values = column.dictionary.take(column.indices.unique()) if types.is_dictionary(column.type) else column
        return values.flatten() if types.is_list(values.type) else values

    def buckets(self) -> list[str | None]:
        """The bucket of every image, None where there is none."""
        return self.texts('bucket') if 'bucket' in self else [None] * len(self)

    def times(self) -> list[datetime | None]:
        """When every image was taken, in UTC, else when it was uploaded; None where neither is known."""
        known = [self[name].cast(pyarrow.timestamp('us', tz='UTC'), safe=False) for name in ('taken_at', 'uploaded_at')
                 if name in self]
        return compute.coalesce(*known).to_pylist() if known else [None] * len(self)

    @property
    def are_stored(self) -> bool:
        """Whether every image is a file below the root, or a part of one; others are opened by their table alone."""
        return type(self).open_image is ImageTable.open_image

    @property
    def are_files(self) -> bool:
        """Whether every image is a file of its own below the root."""
        return self.are_stored and 'shard' not in self

    @property
    def shard_parts(self) -> pyarrow.Table | None:
        """Columns `shard`, `offset` and `bytes`; None where every image is a file."""
        return self.table.select(PARTS) if 'shard' in self else None

    @cached_property
    def contents(self) -> ImageContents:
        """Reads the bytes of an image, wherever it lies."""
        return ImageContents(self.root, self.shard_parts)

    def open_image(self, row: int) -> Image.Image:
        """The image of a row as RGB.

        Raises:
            UnreadableImage: with the reason.
        """
        return decode_image(self.contents.read(row, self.text('path', row)))

    def content(self, row: int) -> bytes | None:
        """The file of an image as it is; None where images are no files.

        Raises:
            UnreadableImage: with the reason.
        """
        return self.contents.read(row, self.text('path', row)) if self.are_stored else None

    def expect(self, rows: Iterable[int]) -> None:
        """Have images that lie in shards brought into memory while something else is done: a batch at once."""
        self.contents.expect(rows)

    def fingerprint(self) -> str:
        """What a bank knows its data by: SHA-256 of ids, labels, buckets, clips, class names and image sizes, in order.

        A missing file has size -1. A file whose content changes at equal size goes unnoticed: reading every image would
        cost as much as the bank saves.
        """
        clips = self.texts('clip') if 'clip' in self else None
        return bank_source_fingerprint(self.cells('id'), self.label_array(), self.buckets(), self.class_names,
                                       self.contents.sizes(self.cells('path')), clips)

    def with_column(self, name: str, values: pyarrow.Array) -> Self:
        """The same images with one column more, or another one of that name.

        Raises:
            DataError: as the class does.
        """
        place = self.table.column_names.index(name) if name in self else len(self.table.column_names)
        table = self.table.remove_column(place) if name in self else self.table
        table = table.add_column(place, name, values)
        check_types(table, self.root)
        return self._changed(table=table)

    def of_kind(self, kind: str) -> Self:
        """The same images, said to be read by a `type`."""
        return self._changed(kind=kind)

    def cells(self, column: str) -> Cells:
        """A column of text as a sequence, of which nothing is copied: for many images, of which some are looked at."""
        return Cells(self, column)

    def label_array(self) -> np.ndarray:
        """(N,) int64 class indices, -1 where there is none."""
        if 'label' not in self:
            return np.full(len(self), -1, np.int64)
        return self.table['label'].fill_null(-1).to_numpy().astype(np.int64)

    def bucket_names(self) -> list[str]:
        """Names of the buckets in the order in which they first occur; empty without buckets."""
        return plain_texts(self.table['bucket'].unique().drop_null()) if 'bucket' in self else []

    def in_buckets(self) -> tuple[Self, dict[str, range]]:
        """The images bucket after bucket, in the order in which these first occur, and the rows of each.

        Images without a bucket are together in one called ''; without the column all are in one called 'all'.
        """
        if 'bucket' not in self:
            return self, {'all': range(len(self))}
        encoded = encoded_texts(self['bucket'])
        names = [*plain_texts(encoded.dictionary), '']
        codes = encoded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
        firsts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1]) if len(codes) else np.zeros(0, int)
        ordered = list(dict.fromkeys(codes[firsts].tolist()))
        images = self
        if len(ordered) < len(firsts):
            places = np.zeros(len(names), np.int64)
            places[ordered] = range(len(ordered))
            images = self.select(np.argsort(places[codes], kind='stable'))
        ends = np.cumsum([0, *np.bincount(codes, minlength=len(names))[ordered]]).tolist()
        return images, {names[code]: range(*pair) for code, pair in zip(ordered, zip(ends, ends[1:]))}

    def select(self, rows: slice | np.ndarray | Sequence[int] | None = None, *, bucket: str | None = None
               ) -> Self:
        """Some of the images. A slice, or a bucket whose rows follow each other, shares memory with the whole.

        Args:
            rows: a slice, indices, or a mask (N,) bool.
            bucket: in place of rows, the name of a bucket.

        Raises:
            DataError: if there is no such bucket.
            ValueError: if both or none is given, or a mask has another length.
        """
        if (rows is None) == (bucket is None):
            raise ValueError('select takes either rows or bucket.')
        if bucket is not None:
            return self._part(_cut(self.table, self._rows_of(bucket)))
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._part(self.table.slice(start, max(stop - start, 0)))
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise ValueError(f'a mask for {len(self)} images has shape ({len(self)},), found {rows.shape}.')
            return self._part(_cut(self.table, rows.nonzero()[0]))
        return self._part(_taken(self.table, rows.astype(np.int64)))

    def _rows_of(self, bucket: str) -> np.ndarray:
        mask = compute.equal(self['bucket'], bucket).fill_null(False)
        rows = mask.to_numpy().nonzero()[0]
        if not len(rows):
            raise DataError(f"{self.root}: no bucket is called '{bucket}'; there are "
                            f'{", ".join(self.bucket_names()) or "none"}.')
        return rows

    def _part(self, table: pyarrow.Table) -> Self:
        return self._changed(table=table)  # what holds for the whole holds for a part, so nothing is checked again

    def _changed(self, **attributes: object) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__ | attributes)
        other.__dict__.pop('contents', None)  # it belongs to the rows
        return other

    def __getstate__(self) -> dict[str, object]:
        table = self.table.drop_columns('id') if self['id'].equals(self['path']) else self.table  # one column, as here
        return {name: value for name, value in self.__dict__.items() if name != 'contents'} | dict(table=packed(table))

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state | dict(table=_with_ids(unpacked(state['table']))))


class Cells(Sequence):
    """A column of text of some images, read cell by cell; equal to any sequence of the same cells.

    Loader workers share what Arrow holds. Of a list they would copy, page by page, what they look at.
    """

    def __init__(self, images: ImageTable, column: str):
        self._images, self._column = images, column
        self._values = images[column]

    def __reduce__(self) -> tuple:
        return Cells, (self._images, self._column)  # what the images share is pickled once

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return self._images.select(row).texts(self._column)
        return plain_text(self._values[row].as_py())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from self[start:start + _BLOCK]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return self[:] == list(other)

    __hash__ = None


def _with_ids(table: pyarrow.Table) -> pyarrow.Table:
    """Without a column `id` the paths are the ids, one column under both names."""
    if 'id' in table.column_names or 'path' not in table.column_names:
        return table
    return table.add_column(0, 'id', table['path'])


def _cut(table: pyarrow.Table, rows: np.ndarray) -> pyarrow.Table:
    """Ascending rows; a view where they follow each other."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return table.slice(int(rows[0]), len(rows))
    return _taken(table, rows)


def _taken(table: pyarrow.Table, rows: np.ndarray) -> pyarrow.Table:
    if not table['id'].equals(table['path']):
        return table.take(pyarrow.array(rows))
    # Most ids are the paths; they stay one column under both names, and half of the memory.
    return _with_ids(table.drop_columns(['id']).take(pyarrow.array(rows)))

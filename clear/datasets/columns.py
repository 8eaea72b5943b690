"""Columns of images as Arrow holds them: what each should hold, text, and text that repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute, types

from clear.core.errors import DataError
from clear.core.files import inside


def _is_text(kind: pyarrow.DataType) -> bool:
    """Text; or bytes, where names of files are not UTF-8, which Arrow's text cannot hold."""
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _is_name(kind: pyarrow.DataType) -> bool:
    return _is_text(kind.value_type if types.is_dictionary(kind) else kind)


def _is_caption(kind: pyarrow.DataType) -> bool:
    """A text, or a list of texts; where many images have the same, as a dictionary."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return _is_text(kind.value_type if types.is_list(kind) else kind)


def _is_label_list(kind: pyarrow.DataType) -> bool:
    return (types.is_list(kind) or types.is_large_list(kind)) and types.is_int32(kind.value_type)


def _is_time(kind: pyarrow.DataType) -> bool:
    return types.is_timestamp(kind) and kind.tz == 'UTC'


# Column -> (test of its type, what the type should be).
COLUMNS: dict[str, tuple[Callable[[pyarrow.DataType], bool], str]] = {
    **dict.fromkeys(('id', 'path', 'mask'), (_is_text, 'text')),
    'caption': (_is_caption, 'text, or lists of text'),
    **dict.fromkeys(('bucket', 'split', 'shard', 'clip'), (_is_name, 'text')),
    'label': (types.is_int32, 'int32 (class indices, -1 = no label)'),
    **dict.fromkeys(('labels', 'difficult'), (_is_label_list, 'lists of int32 (class indices)')),
    **dict.fromkeys(('offset', 'bytes'), (types.is_int64, 'int64')),
    'taken_at': (_is_time, 'timestamps in UTC')}
# Where an image lies that is no file: the second and third belong to the first, and mean nothing without it.
PARTS = ('shard', 'offset', 'bytes')
_BLOCK = 500_000  # ids that are compared at once


def as_column(name: str, values: Sequence, root: Path) -> pyarrow.Array | pyarrow.ChunkedArray:
    """Values in the type of their column.

    Raises:
        DataError: if they do not fit it.
    """
    if isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray)):
        return values
    classes = pyarrow.list_(pyarrow.int32())
    kinds = {'label': pyarrow.int32(), 'labels': classes, 'difficult': classes, 'offset': pyarrow.int64(),
             'bytes': pyarrow.int64(), 'taken_at': pyarrow.timestamp('us', tz='UTC')}
    try:
        if name not in COLUMNS or name in kinds:
            return pyarrow.array(values, kinds.get(name))
        if name == 'caption' and any(isinstance(value, (list, tuple)) for value in values):
            return pyarrow.array(values, pyarrow.list_(pyarrow.string()))
        return text_column(values)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise wrong_type(name, f'values that are not: {error}', root) from error


def text_column(values: Sequence[str | None]) -> pyarrow.Array:
    """Text as Arrow holds it; as bytes where a name, as of a file, is not UTF-8."""
    try:
        return pyarrow.array(values, pyarrow.string())
    except UnicodeEncodeError:
        return pyarrow.array([None if value is None else value.encode('utf-8', 'surrogatepass') for value in values],
                             pyarrow.binary())


def chunked_texts(parts: Sequence[pyarrow.Array | pyarrow.ChunkedArray]) -> pyarrow.ChunkedArray:
    """Columns of text one after another; all of bytes if one is."""
    tables = [pyarrow.table({'text': part}) for part in parts]
    return pyarrow.concat_tables(tables, promote_options='permissive')['text']


def runs(values: Iterable[tuple[str, int]]) -> pyarrow.DictionaryArray:
    """A column of (text, how often it follows itself), one run after another: the bucket of images by bucket."""
    values = list(values)
    places = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in values))}
    indices = np.repeat(np.array([places[name] for name, _ in values], np.int32), [count for _, count in values])
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(indices), text_column(list(places)))


def encoded_texts(values: pyarrow.ChunkedArray) -> pyarrow.DictionaryArray:
    """A column of texts that repeat, each of them held once."""
    values = values.combine_chunks()
    return values if types.is_dictionary(values.type) else values.dictionary_encode()


def wrong_type(name: str, found: str, root: Path) -> DataError:
    """That a column has another type than it should."""
    return DataError(f"{root}: column '{name}' should hold {COLUMNS[name][1]}, found {found}.")


def plain_texts(values: pyarrow.Array | pyarrow.ChunkedArray) -> list[str | None]:
    """Text as Python holds it; names of files that are not UTF-8 as `os.fsdecode` gives them."""
    return [plain_text(value) for value in values.to_pylist()]


def plain_text(value: str | bytes | None) -> str | None:
    """One cell of text, as `plain_texts` gives it."""
    return value.decode('utf-8', 'surrogatepass') if isinstance(value, bytes) else value


def packed(table: pyarrow.Table) -> pyarrow.Buffer:
    """A table as a message, to be pickled: the table itself, if it is a slice, would take with it what it is of."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def unpacked(message: pyarrow.Buffer) -> pyarrow.Table:
    """The table of `packed`."""
    with pyarrow.ipc.open_stream(message) as reader:
        return reader.read_all()


class TextCells:
    """Cells of a column of text in which none is empty, for reading a few rows over and over.

    Arrow's own `take` spends a tenth of a millisecond before it takes the first.
    """

    def __init__(self, values: pyarrow.Array | pyarrow.ChunkedArray):
        if isinstance(values, pyarrow.ChunkedArray):
            values = values.combine_chunks()
        values = values.cast(pyarrow.large_binary())
        _, offsets, content = values.buffers()
        self._offsets = np.frombuffer(offsets, np.int64)[values.offset:values.offset + len(values) + 1]
        self._content: pyarrow.Buffer | bytes = content or b''

    def at(self, rows: np.ndarray) -> list[str]:
        """The texts of rows, as `plain_texts` gives them."""
        content = memoryview(self._content)
        return [str(content[start:end], 'utf-8', 'surrogatepass')
                for start, end in zip(self._offsets[rows].tolist(), self._offsets[rows + 1].tolist())]


def repeated_text(values: pyarrow.Array | pyarrow.ChunkedArray) -> str | None:
    """A text that is there twice; None if all are different."""
    # Sorted and compared with the next: a hash table of 10 M ids takes 1.1 GB, their order 0.16.
    order = compute.sort_indices(values)
    for start in range(0, len(values) - 1, _BLOCK):
        block = values.take(order[start:start + _BLOCK + 1])
        place = compute.index(compute.equal(block[1:], block[:-1]), True).as_py()
        if place >= 0:
            return plain_texts(block[place:place + 1])[0]
    return None


# What a column must hold


def check_types(table: pyarrow.Table, root: Path) -> None:
    """Refuse a table without ids or paths, or with a column of another type than its name says.

    Raises:
        DataError: naming the table and what is wrong.
    """
    for name in ('id', 'path'):
        if name not in table.column_names:
            raise DataError(f"{root}: a table of images needs a column '{name}'; it has "
                            f'{", ".join(table.column_names)}.')
    unread = () if 'shard' in table.column_names else PARTS
    for name, kind in zip(table.column_names, table.schema.types):
        if name in COLUMNS and name not in unread and not COLUMNS[name][0](kind):
            raise wrong_type(name, str(kind), root)
    for name in ('id', 'path'):
        if table[name].null_count:
            raise DataError(f'{root}: {table[name].null_count} rows have no {name}.')
    if 'shard' in table.column_names:
        _check_parts(table, root)


def _check_parts(table: pyarrow.Table, root: Path) -> None:
    for name in PARTS[1:]:
        if name not in table.column_names:
            raise DataError(f"{root}: images with a column 'shard' need a column '{name}', which says where in its "
                            f'shard an image lies; they have {", ".join(table.column_names)}.')
        odd = compute.not_equal(table[name].is_null(), table['shard'].is_null())
        if (count := compute.sum(odd).as_py()):
            raise DataError(f"{root}: {count} rows have one of 'shard' and '{name}' without the other.")
        least = compute.min(table[name]).as_py()
        if least is not None and least < 0:
            raise DataError(f"{root}: column '{name}' has {least}, below 0.")


def check_unique(ids: pyarrow.ChunkedArray, root: Path) -> None:
    """Refuse ids that repeat.

    Raises:
        DataError: naming the table and what is wrong.
    """
    if (twice := repeated_text(ids)) is not None:
        raise DataError(f"{root}: the id '{twice}' is there twice; every image needs an id of its own.")


def check_labels(table: pyarrow.Table, num_classes: int, root: Path) -> None:
    """Refuse labels without a class name.

    Raises:
        DataError: naming the table and what is wrong.
    """
    for name, lowest in (('label', -1), ('labels', 0), ('difficult', 0)):
        if name not in table.column_names:
            continue
        values = table[name] if name == 'label' else compute.list_flatten(table[name])
        found = compute.min_max(values).as_py()
        if found['min'] is not None and (found['min'] < lowest or found['max'] >= num_classes):
            raise DataError(f'{root}: labels {found["min"]} ... {found["max"]} do not fit {num_classes} class names '
                            f'{"(-1 means no label)" if lowest else "(an empty list means no label)"}.')


def check_below(paths: pyarrow.ChunkedArray, root: Path) -> None:
    """Refuse paths that leave the root.

    Raises:
        DataError: naming the table and what is wrong.
    """
    odd = compute.or_(compute.starts_with(paths, '/'), compute.match_substring(paths, '..'))
    for path in plain_texts(paths.filter(odd)):  # pathlib takes 10 us per path, a test of text none
        inside(root, path)

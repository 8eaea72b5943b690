"""What each side file holds, and the columns that records get of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute

from clear.curation.metadata import cells
from clear.curation.metadata.forms.base import TOO_LONG
from clear.curation.metadata.streams import LineFile

_TEXT, _BYTES = pyarrow.string(), pyarrow.binary()
_SCORE = r'^(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$'


@dataclass(frozen=True)
class SideRows:
    """Some lines of a side file.

    Attributes:
        ids: (N,) int64.
        values: (N,) binary; empty where a line has none.
        lines: (N,) int64, counted from 0.
        rejected: number of a line -> reason.
    """

    ids: np.ndarray
    values: pyarrow.BinaryArray
    lines: np.ndarray
    rejected: dict[int, str]


@dataclass(frozen=True)
class Kind:
    """A kind of side file.

    Attributes:
        fields: columns of the records, in place of those of the same name.
        typed: values, null where a record has no line, -> these columns, and what of them cannot be read.
        id_cell: which of the two cells of a line is the id.
    """

    fields: tuple[pyarrow.Field, ...]
    typed: Callable[[pyarrow.BinaryArray], tuple[list[pyarrow.Array], Counter]]
    id_cell: int = 0


def read_side(path: Path, kind: Kind) -> Iterator[SideRows]:
    """The lines of a side file, plain or packed; a line without a TAB has an id and no value.

    Raises:
        DataError: if it is missing, or a packed one is damaged or cut short.
    """
    with LineFile(path) as file:
        for block in file.blocks(0):
            found = cells.cut(_with_tabs(block.data), 2)
            ids, is_id = cells.integers(found.spans(kind.id_cell))
            numbers = block.numbers
            rejected = {int(numbers[row]): f'{count} columns in place of 2' for row, count in found.wrong.items()}
            lines = numbers[found.rows]
            rejected |= dict.fromkeys(lines[~is_id].tolist(), 'id is no number')
            rejected |= dict.fromkeys(block.too_long, TOO_LONG)
            values, = found.arrays([1 - kind.id_cell])
            yield SideRows(ids[is_id], values.filter(pyarrow.array(is_id)), lines[is_id], rejected)


def _with_tabs(block: bytes) -> bytes:
    """Lines, each of which has a TAB: at its end where it had none."""
    data = np.frombuffer(block, np.uint8)
    ends, tabs = np.flatnonzero(data == 10), np.flatnonzero(data == 9)
    before = np.searchsorted(tabs, ends)
    lacks = np.diff(before, prepend=0) == 0
    return np.insert(data, ends[lacks], 9).tobytes() if lacks.any() else block


def pairs(values: pyarrow.BinaryArray, last: bool) -> tuple[pyarrow.Int32Array, pyarrow.Array, pyarrow.Array, int]:
    """Comma-separated `a:b` of every cell: offsets, the raw sides as text, and how many items are no such pair.

    Blank items are left out, and those that are no pair.

    Args:
        last: whether the last colon parts an item, else the first.
    """
    listed = cells.lists(values, decode=False)
    items = listed.flatten()
    cut = compute.split_pattern(items, ':', max_splits=1, reverse=last)
    is_pair = compute.equal(compute.list_value_length(cut), 2).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(is_pair)])[listed.offsets.to_numpy() - listed.offsets[0].as_py()]
    sides = cut.filter(pyarrow.array(is_pair)).flatten()
    left, right = (sides.take(pyarrow.array(np.arange(first, len(sides), 2))) for first in (0, 1))
    return pyarrow.array(offsets, pyarrow.int32()), left, right, int((~is_pair).sum())


def _auto_tags(values: pyarrow.BinaryArray) -> tuple[list[pyarrow.Array], Counter]:
    filled = values.fill_null(b'')
    offsets, names, scores, lost = pairs(filled, last=True)
    is_score = compute.match_substring_regex(scores, _SCORE).to_numpy(zero_copy_only=False)
    kept = pyarrow.array(is_score)
    offsets = np.concatenate([[0], np.cumsum(is_score)])[offsets.to_numpy()]
    concepts = cells.decoded(names.filter(kept).cast(_BYTES))
    items = pyarrow.StructArray.from_arrays([concepts, scores.filter(kept).cast(pyarrow.float64())],
                                            fields=list(AUTO_TAGS.type.value_type))
    lost += int((~is_score).sum())
    return [_lists(offsets, items, values)], Counter({'unreadable auto_tags': lost} if lost else {})


def _exif(values: pyarrow.BinaryArray) -> tuple[list[pyarrow.Array], Counter]:
    offsets, keys, told, lost = pairs(values.fill_null(b''), last=False)
    items = pyarrow.StructArray.from_arrays([cells.decoded(side.cast(_BYTES)) for side in (keys, told)],
                                            fields=list(EXIF_TEXT.type.value_type))
    return ([values, _lists(offsets.to_numpy(), items, values)], Counter({'unreadable exif': lost} if lost else {}))


def _hash(values: pyarrow.BinaryArray) -> tuple[list[pyarrow.Array], Counter]:
    text = cells.text(values.fill_null(b''))
    is_blank = compute.equal(compute.binary_length(text), 0)
    return [compute.if_else(is_blank, pyarrow.scalar(None, _TEXT), text)], Counter()


def _line(values: pyarrow.BinaryArray) -> tuple[list[pyarrow.Array], Counter]:
    numbers, is_number = cells.integers(values.fill_null(b''))
    lost = int((~is_number & values.is_valid().to_numpy(zero_copy_only=False)).sum())
    return ([pyarrow.array(numbers, mask=~is_number)], Counter({'unreadable line_number': lost} if lost else {}))


def _lists(offsets: np.ndarray, items: pyarrow.StructArray, values: pyarrow.BinaryArray) -> pyarrow.ListArray:
    """A list for every value, null where that is."""
    is_null = values.is_null().to_numpy(zero_copy_only=False)
    marks = pyarrow.array(offsets, pyarrow.int32(), mask=np.append(is_null, False))
    return pyarrow.ListArray.from_arrays(marks, items)


AUTO_TAGS = pyarrow.field('auto_tags', pyarrow.list_(pyarrow.struct([('concept', _TEXT),
                                                                     ('score', pyarrow.float64())])))
EXIF_TEXT = pyarrow.field('exif_text', pyarrow.list_(pyarrow.struct([('key', _TEXT), ('value', _TEXT)])))
# Argument of the stage -> what it holds.
KINDS = dict(autotags=Kind((AUTO_TAGS,), _auto_tags), exif=Kind((pyarrow.field('exif', _BYTES), EXIF_TEXT), _exif),
             hash=Kind((pyarrow.field('hash', _TEXT),), _hash),
             lines=Kind((pyarrow.field('line_number', pyarrow.int64()),), _line, id_cell=1))

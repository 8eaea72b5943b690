"""Cells of a tab-separated block as Arrow columns, typed and decoded column by column, without a loop over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import compute

_HEX = np.full(256, -1, np.int16)
_HEX[[*b'0123456789']] = range(10)
_HEX[[*b'abcdef']] = _HEX[[*b'ABCDEF']] = range(10, 16)
_DIGITS = np.frombuffer(b'0123456789abcdef', np.uint8)
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_POWERS = 10 ** np.arange(19, dtype=np.int64)


class Spans(NamedTuple):
    """Cells of one column where they lie.

    Attributes:
        data: (M,) uint8, bytes of these cells and of others.
        starts, ends: (N,) int64.
    """

    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Cells:
    """Rows of bytes, cut at every TAB and LF.

    Attributes:
        rows: numbers of the lines with as many cells as there should be, from 0 in the block.
        wrong: number of a line -> how many cells it has, of all others.
        data: (M,) uint8, the bytes of these rows.
        ends: (N, count) where each cell ends, which is where a TAB or LF stands.
    """

    rows: np.ndarray
    wrong: dict[int, int]
    data: np.ndarray
    ends: np.ndarray

    def spans(self, column: int) -> Spans:
        """A column where it lies."""
        ends = self.ends[:, column]
        if column:
            return Spans(self.data, self.ends[:, column - 1] + 1, ends)
        starts = np.zeros_like(ends)
        starts[1:] = self.ends[:-1, -1] + 1
        return Spans(self.data, starts, ends)

    def columns(self) -> list[pyarrow.BinaryArray]:
        """All columns as Arrow's."""
        count = self.ends.shape[1]
        offsets = np.zeros(self.ends.size + 1, np.int32)
        np.add(self.ends.reshape(-1), 1, out=offsets[1:], casting='unsafe')
        # Every cell with the TAB or LF behind it, so that they lie one after the other as Arrow wants them.
        cells = pyarrow.Array.from_buffers(pyarrow.binary(), self.ends.size,
                                           [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(self.data)])
        places = np.arange(len(self.rows)) * count
        return [_without_last_byte(cells.take(pyarrow.array(places + column))) for column in range(count)]


def cut(block: bytes, count: int) -> Cells:
    """Cut whole lines into `count` cells each.

    Args:
        block: lines that end with LF; below 2 GiB.
    """
    data = np.frombuffer(block, np.uint8)
    ends = _cell_ends(data)
    line_ends = np.flatnonzero(data[ends] == 10)
    found = np.diff(line_ends, prepend=-1)
    is_whole = found == count
    wrong = {int(row): int(found[row]) for row in np.flatnonzero(~is_whole)}
    if wrong:
        data = data[np.repeat(is_whole, np.diff(ends[line_ends], prepend=-1))]
        ends = _cell_ends(data)
    return Cells(np.flatnonzero(is_whole), wrong, data, ends.reshape(-1, count))


def _cell_ends(data: np.ndarray) -> np.ndarray:
    # TAB is 9 and LF 10; the difference wraps round below 9.
    return np.flatnonzero(data - np.uint8(9) < 2)


def _without_last_byte(cells: pyarrow.BinaryArray) -> pyarrow.BinaryArray:
    offsets, data = parts(cells)
    keep = np.ones(len(data), bool)
    keep[offsets[1:] - 1] = False
    return made(offsets - np.arange(len(offsets)), data[keep])


def parts(cells: pyarrow.BinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """(N + 1,) int64 offsets that begin with 0, and the bytes as (M,) uint8, of a binary or text column."""
    _, raw_offsets, raw = cells.buffers()
    width = np.int64 if pyarrow.types.is_large_binary(cells.type) or pyarrow.types.is_large_string(cells.type) \
        else np.int32
    offsets = np.frombuffer(raw_offsets, width, len(cells) + 1, cells.offset * np.dtype(width).itemsize)
    data = np.frombuffer(raw, np.uint8)[offsets[0]:offsets[-1]] if raw is not None else np.zeros(0, np.uint8)
    return offsets.astype(np.int64) - offsets[0], data


def _spans(cells: pyarrow.BinaryArray | Spans) -> Spans:
    if isinstance(cells, Spans):
        return cells
    offsets, data = parts(cells)
    return Spans(data, offsets[:-1], offsets[1:])


def made(offsets: np.ndarray, data: np.ndarray) -> pyarrow.BinaryArray:
    """A binary column of offsets and bytes."""
    buffers = [None, pyarrow.py_buffer(offsets.astype(np.int32)), pyarrow.py_buffer(np.ascontiguousarray(data))]
    return pyarrow.Array.from_buffers(pyarrow.binary(), len(offsets) - 1, buffers)


def decoded(cells: pyarrow.BinaryArray) -> pyarrow.StringArray:
    """Url-encoded text as text: `+` is a blank, `%xx` a byte; bytes that are no UTF-8 become U+FFFD.

    As `urllib.parse.unquote_to_bytes` after `+` was replaced: a `%` without two hex digits behind it stays.
    """
    offsets, data = parts(cells)
    data = np.where(data == 43, np.uint8(32), data)
    percents = np.flatnonzero(data == 37)
    if len(percents):
        ends = offsets[np.searchsorted(offsets, percents, 'right')]
        percents = percents[percents + 2 < ends]
        high, low = _HEX[data[percents + 1]], _HEX[data[percents + 2]]
        is_code = (high >= 0) & (low >= 0)
        percents = percents[is_code]
        data[percents] = (high * 16 + low)[is_code]
        keep = np.ones(len(data), bool)
        keep[percents + 1] = keep[percents + 2] = False
        removed = np.zeros(len(data) + 1, np.int64)
        np.cumsum(~keep, out=removed[1:])
        offsets, data = offsets - removed[offsets], data[keep]
    return text(made(offsets, data))


def text(cells: pyarrow.BinaryArray) -> pyarrow.StringArray:
    """Bytes as text; what is no UTF-8 becomes U+FFFD."""
    try:
        return cells.cast(pyarrow.string())
    except pyarrow.ArrowInvalid:
        return pyarrow.array([value.decode('utf-8', 'replace') for value in cells.to_pylist()], pyarrow.string())


def lists(cells: pyarrow.BinaryArray, decode: bool = True) -> pyarrow.ListArray:
    """Comma-separated items, each url-encoded, as lists of text; blank items are left out.

    Commas cut before anything is decoded: `%2C` is part of an item.
    """
    offsets, data = parts(cells)
    commas = np.flatnonzero(data == 44)
    # Every comma ends an item, and so does the end of a cell.
    ends = np.sort(np.concatenate([commas, offsets[1:]]), kind='stable')
    is_cell_end = np.zeros(len(ends), bool)
    is_cell_end[np.searchsorted(commas, offsets[1:]) + np.arange(len(offsets) - 1)] = True
    starts = np.empty_like(ends)
    if len(ends):
        starts[0] = 0
        starts[1:] = np.where(is_cell_end[:-1], ends[:-1], ends[:-1] + 1)
    keep_bytes = np.ones(len(data), bool)
    keep_bytes[commas] = False
    lengths = ends - starts
    has_text = lengths > 0
    items = made(np.concatenate([[0], np.cumsum(lengths[has_text])]), data[keep_bytes])
    cell_of = np.cumsum(is_cell_end) - is_cell_end
    counts = np.bincount(cell_of[has_text], minlength=len(cells))
    list_offsets = pyarrow.array(np.concatenate([[0], np.cumsum(counts)]), pyarrow.int32())
    return pyarrow.ListArray.from_arrays(list_offsets, decoded(items) if decode else text(items))


def integers(cells: pyarrow.BinaryArray | Spans) -> tuple[np.ndarray, np.ndarray]:
    """Decimal digits as (N,) int64, and (N,) bool where a cell is such a number, of at most 18 digits."""
    data, starts, ends = _spans(cells)
    lengths = ends - starts
    is_number = (lengths > 0) & (lengths <= 18)
    values = np.zeros(len(starts), np.int64)
    for place in range(int(lengths[is_number].max(initial=0))):
        rows = np.flatnonzero(is_number & (lengths > place))
        digits = data[ends[rows] - 1 - place].astype(np.int64) - 48
        is_digit = (digits >= 0) & (digits <= 9)
        is_number[rows[~is_digit]] = False
        values[rows] += np.where(is_digit, digits, 0) * _POWERS[place]
    values[~is_number] = 0
    return values, is_number


def decimals(cells: pyarrow.BinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """Decimal numbers (digits, a point, a sign) as (N,) float64, and (N,) bool where a cell is one."""
    as_text = text(cells)
    is_number = compute.match_substring_regex(as_text, r'^-?[0-9]{1,9}(\.[0-9]{0,20})?$').to_numpy(zero_copy_only=False)
    filled = compute.if_else(pyarrow.array(is_number), as_text, '0')
    return filled.cast(pyarrow.float64()).to_numpy(zero_copy_only=False), is_number


def times(cells: pyarrow.BinaryArray | Spans) -> tuple[np.ndarray, np.ndarray]:
    """`YYYY-MM-DD HH:MM:SS[.f]` as (N,) int64 microseconds since 1970 in the zone of the text, and where a cell is one.

    The day must exist, and the year be 1 or later; a fraction has one to six digits. ISO's other forms (`T`, zones, no
    seconds) are none.
    """
    data, starts, ends = _spans(cells)
    lengths = ends - starts
    is_time = (lengths == 19) | (lengths >= 21) & (lengths <= 26)
    rows = np.flatnonzero(is_time)
    if not len(rows):
        return np.zeros(len(starts), np.int64), is_time
    at = data[starts[rows, None] + np.arange(19)].astype(np.int64) - 48
    good = np.ones(len(rows), bool)
    for place, sign in ((4, 45), (7, 45), (10, 32), (13, 58), (16, 58)):
        good &= at[:, place] == sign - 48
    figures = np.delete(at, [4, 7, 10, 13, 16], 1)
    good &= ((figures >= 0) & (figures <= 9)).all(1)
    year = figures[:, :4] @ np.array([1000, 100, 10, 1])
    month, day, hour, minute, second = (figures[:, place] * 10 + figures[:, place + 1] for place in range(4, 14, 2))
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = _DAYS[np.clip(month, 1, 12) - 1] + ((month == 2) & is_leap)
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= days)
    good &= (hour <= 23) & (minute <= 59) & (second <= 59)
    micros = np.zeros(len(rows), np.int64)
    has_fraction = lengths[rows] > 19
    for place in range(int(lengths[rows].max()) - 19):
        here = np.flatnonzero(has_fraction & (lengths[rows] > 19 + place))
        values = data[starts[rows[here]] + 19 + place].astype(np.int64)
        if place == 0:
            good[here[values != 46]] = False
            continue
        digits = values - 48
        good[here[(digits < 0) | (digits > 9)]] = False
        micros[here] += digits * 10 ** (6 - place)
    whole = ((_days_since_1970(year, np.clip(month, 1, 12), day) * 24 + hour) * 60 + minute) * 60 + second
    values = np.zeros(len(starts), np.int64)
    values[rows] = np.where(good, whole * 1_000_000 + micros, 0)
    is_time[rows] = good
    return values, is_time


def _days_since_1970(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Days in the proleptic Gregorian calendar, counted from March so that a leap day ends a year."""
    year = year - (month <= 2)
    era, of_era = year // 400, year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def url_hashes(urls: pyarrow.BinaryArray) -> pyarrow.StringArray:
    """The file name that an image has in the public store: MD5 of its URL, each byte printed without a leading zero."""
    import hashlib

    digests = np.frombuffer(b''.join(hashlib.md5(url, usedforsecurity=False).digest() for url in urls.to_pylist()),
                            np.uint8).reshape(-1, 16)
    figures = np.empty((len(digests), 32), np.uint8)
    figures[:, ::2], figures[:, 1::2] = _DIGITS[digests >> 4], _DIGITS[digests & 15]
    keep = np.ones((len(digests), 32), bool)
    keep[:, ::2] = digests >> 4 > 0
    offsets = np.concatenate([[0], np.cumsum(keep.sum(1))])
    return made(offsets, figures[keep]).cast(pyarrow.string())

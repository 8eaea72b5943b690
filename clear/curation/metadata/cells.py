"""Cells of a tab-separated block as Arrow columns, typed and decoded column by column, without a loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import compute

try:  # twice as fast on a few bytes as OpenSSL's, which sets a context up each time
    from _md5 import md5
except ImportError:
    from hashlib import md5

_PLUS_IS_BLANK = bytes.maketrans(b'+', b' ')
_HEX = np.full(256, -1, np.int16)
_HEX[[*b'0123456789']] = range(10)
_HEX[[*b'abcdef']] = _HEX[[*b'ABCDEF']] = range(10, 16)
_DIGITS = np.frombuffer(b'0123456789abcdef', np.uint8)
_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_LAST_SECOND = 253_402_300_799
_MEAN_YEAR = 31_556_952_000_000
_NEW_YEARS = np.arange('1970', '10001', dtype='datetime64[Y]').astype('datetime64[us]').astype(np.int64)
_ALL_ZEROS, _SIXES, _THREES, _HIGH = (np.uint64(int.from_bytes(bytes([byte] * 8))) for byte in (48, 6, 0x33, 0xF0))


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text, 'little'))


_NULL = _word(b'\0\0\0\0null')
# The signs of a time where they stand in its words, and which bytes they are.
_DATE_SIGNS, _DATE_MASK = _word(b'0000-00-'), _word(b'\0\0\0\0\xff\0\0\xff')
_BLANK, _BLANK_MASK, _DAY_MASK = _word(b'00 00000'), _word(b'\0\0\xff\0\0\0\0\0'), _word(b'\xff\xff\0\0\0\0\0\0')
_CLOCK_SIGNS, _CLOCK_MASK = _word(b'00:00:00'), _word(b'\0\0\xff\0\0\xff\0\0')


class Spans(NamedTuple):
    """Cells of one column where they lie.

    Attributes:
        data: (M,) uint8, bytes of these cells and of others.
        starts, ends: (N,) int64.
    """

    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def filter(self, mask: pyarrow.BooleanArray) -> Spans:
        """The cells where `mask` is true, as columns of Arrow have it."""
        keep = mask.to_numpy(zero_copy_only=False)
        return Spans(self.data, self.starts[keep], self.ends[keep])


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

    def arrays(self, columns: Sequence[int]) -> list[pyarrow.BinaryArray]:
        """Some columns as Arrow's."""
        count = self.ends.shape[1]
        offsets = np.zeros(self.ends.size + 1, np.int32)
        np.add(self.ends.reshape(-1), 1, out=offsets[1:], casting='unsafe')
        # Every cell with the TAB or LF behind it, so that they lie one after the other as Arrow wants them.
        cells = pyarrow.Array.from_buffers(pyarrow.binary(), self.ends.size,
                                           [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(self.data)])
        places = np.arange(len(self.rows)) * count
        return [_without_last_byte(cells.take(pyarrow.array(places + column))) for column in columns]


def cut(block: bytes, count: int, lines: int | None = None) -> Cells:
    """Cut whole lines into `count` cells each.

    Args:
        block: lines that end with LF; below 2 GiB.
        lines: how many, if that is known: it saves a pass where all have `count` cells.
    """
    data = np.frombuffer(block, np.uint8)
    ends = _cell_ends(data)
    if lines is not None and len(ends) == lines * count and (data[ends[count - 1::count]] == 10).all():
        return Cells(np.arange(lines), {}, data, ends.reshape(-1, count))
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
    data = np.frombuffer(bytearray(data.tobytes().translate(_PLUS_IS_BLANK)), np.uint8)
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
        offsets, data = offsets - 2 * np.searchsorted(percents, offsets), data[keep]
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
    for place in range(0, int(lengths[is_number].max(initial=0)), 8):  # the last eight figures first
        # Bits of these eight bytes that lie before the cell: they become '0'. A shift by all 64 gives 0.
        before = (np.clip(place + 8 - lengths, 0, 8) << 3).astype(np.uint64)
        words = _words(data, ends - place - 8) >> before << before | _ALL_ZEROS >> (np.uint64(64) - before)
        is_number &= _are_digits(words)
        values += _eight_digits(words) * 10 ** place
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
    values = np.zeros(len(starts), np.int64)
    if not len(rows):
        return values, is_time
    if len(rows) < len(starts):
        starts, lengths = starts[rows], lengths[rows]
    # As in `YYYY-MM-`, `DD HH:MM` and `HH:MM:SS`; the signs between are made figures for the test.
    first, second, third = _words(data, starts), _words(data, starts + 8), _words(data, starts + 11)
    good = ((first ^ _DATE_SIGNS) & _DATE_MASK) == 0
    good &= ((second ^ _BLANK) & _BLANK_MASK) == 0
    good &= ((third ^ _CLOCK_SIGNS) & _CLOCK_MASK) == 0
    good &= _are_digits(first & ~_DATE_MASK | _ALL_ZEROS & _DATE_MASK)
    good &= _are_digits(second & _DAY_MASK | _ALL_ZEROS & ~_DAY_MASK)
    good &= _are_digits(third & ~_CLOCK_MASK | _ALL_ZEROS & _CLOCK_MASK)
    year = _figures(first, 0) * 100 + _figures(first, 2)
    month, day = _figures(first, 5), _figures(second, 0)
    hour, minute, seconds = _figures(third, 0), _figures(third, 3), _figures(third, 6)
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    some_month = np.clip(month, 1, 12)
    days = _DAYS[some_month - 1] + ((month == 2) & is_leap)
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= days)
    good &= (hour <= 23) & (minute <= 59) & (seconds <= 59)
    micros = np.zeros(len(rows), np.int64)
    has_fraction = np.flatnonzero(lengths > 19)
    if len(has_fraction):
        good[has_fraction] &= data[starts[has_fraction] + 19] == ord('.')
    for place in range(int(lengths.max()) - 20):
        here = has_fraction[lengths[has_fraction] > 20 + place]
        digits = data[starts[here] + 20 + place].astype(np.int64) - 48
        good[here[(digits < 0) | (digits > 9)]] = False
        micros[here] += digits * 10 ** (5 - place)
    whole = ((_days_since_1970(year, some_month, day) * 24 + hour) * 60 + minute) * 60 + seconds
    values[rows] = np.where(good, whole * 1_000_000 + micros, 0)
    is_time[rows] = good
    return values, is_time


def is_blank(cells: pyarrow.BinaryArray | Spans) -> np.ndarray:
    """(N,) bool, where a cell is empty or the word `null`."""
    data, starts, ends = _spans(cells)
    lengths = ends - starts
    found = lengths == 0
    rows = np.flatnonzero(lengths == 4)
    found[rows] = _words(data, starts[rows]) << np.uint64(32) == _NULL
    return found


def uploads(cells: pyarrow.BinaryArray | Spans) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970, up to the year 9999, as (N,) int64 microseconds, and where a cell is such a number."""
    seconds, is_time = integers(cells)
    is_time &= seconds <= _LAST_SECOND
    seconds[~is_time] = 0
    return seconds * 1_000_000, is_time


def years(micros: np.ndarray) -> np.ndarray:
    """(N,) int64, the calendar year of times in microseconds since 1970, between 1970 and 9999."""
    found = micros // _MEAN_YEAR  # right or one off
    found -= micros < _NEW_YEARS[found]
    found += micros >= _NEW_YEARS[found + 1]
    return found + 1970


def _words(data: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N,) uint64, the eight bytes from each place on, the first one lowest; what lies outside of the data is 0."""
    if len(data) < 8:
        data = np.concatenate([data, np.zeros(8 - len(data), np.uint8)])
    last = len(data) - 8
    eights = np.ndarray((last + 1,), '<u8', data, strides=(1,))
    words = eights[np.clip(places, 0, last)]
    for outside, shift in ((places < 0, np.left_shift), (places > last, np.right_shift)):
        rows = np.flatnonzero(outside)
        if len(rows):
            beyond = np.abs(places[rows] - np.clip(places[rows], 0, last))
            words[rows] = shift(words[rows], np.minimum(beyond * 8, 64).astype(np.uint64))
    return words


def _are_digits(words: np.ndarray) -> np.ndarray:
    """(N,) bool, whether all eight bytes are decimal digits."""
    return (words & _HIGH | (words + _SIXES & _HIGH) >> np.uint64(4)) == _THREES


def _eight_digits(words: np.ndarray) -> np.ndarray:
    """(N,) int64 of eight decimal digits, joined two by two, then four by four."""
    words = (words & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(10 << 8 | 1) >> np.uint64(8)
    words = (words & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 << 16 | 1) >> np.uint64(16)
    return ((words & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10_000 << 32 | 1) >> np.uint64(32)).astype(np.int64)


def _figures(words: np.ndarray, place: int) -> np.ndarray:
    """(N,) int64 of the two decimal digits at a place of words."""
    pair = words >> np.uint64(8 * place)
    return ((pair & np.uint64(15)) * np.uint64(10) + (pair >> np.uint64(8) & np.uint64(15))).astype(np.int64)


def _days_since_1970(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Days in the proleptic Gregorian calendar, counted from March so that a leap day ends a year."""
    year = year - (month <= 2)
    era, of_era = year // 400, year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def url_hashes(urls: pyarrow.BinaryArray) -> pyarrow.StringArray:
    """The file name that an image has in the public store: MD5 of its URL, each byte printed without a leading zero."""
    digests = np.frombuffer(b''.join([md5(url).digest() for url in urls.to_pylist()]), np.uint8).reshape(-1, 16)
    figures = np.empty((len(digests), 32), np.uint8)
    figures[:, ::2], figures[:, 1::2] = _DIGITS[digests >> 4], _DIGITS[digests & 15]
    keep = np.ones((len(digests), 32), bool)
    keep[:, ::2] = digests >> 4 > 0
    offsets = np.concatenate([[0], np.cumsum(keep.sum(1))])
    return made(offsets, figures[keep]).cast(pyarrow.string())

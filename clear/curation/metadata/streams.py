"""Lines of plain, gzip and bzip2 files as blocks of bytes: only LF ends a line, whatever else stands in it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from clear.core.errors import DataError
from clear.core.files import regular_file
from clear.core.logs import Report

BLOCK_BYTES = 4 << 20  # what is made of it on the way stays near the processor
MAX_LINE_BYTES = 1 << 20
_PACKED = {b'BZh': bz2.open, b'\x1f\x8b\x08': gzip.open}
_DAMAGE = (EOFError, OSError, zlib.error)


@dataclass(frozen=True)
class Survey:
    """What a pass over a file found.

    Attributes:
        lines: LFs, and one more if the file ends without.
        bytes: unpacked.
        sha256: of the file as it is, packed or not.
        marks: place of the first byte of every `interval`-th line, unpacked.
    """

    lines: int
    bytes: int
    sha256: str
    marks: list[int]


class Block(NamedTuple):
    """Whole lines that follow each other.

    Attributes:
        first: number of the first line.
        data: the lines; each ends with LF.
        too_long: numbers of lines above `MAX_LINE_BYTES` that were left out.
        count: how many lines `data` has.
    """

    first: int
    data: bytes
    too_long: list[int]
    count: int

    @property
    def numbers(self) -> np.ndarray:
        """(N,) int64 of the lines in `data`."""
        numbers = np.arange(self.first, self.first + self.count + len(self.too_long))
        return numbers if not self.too_long else np.setdiff1d(numbers, self.too_long)


class LineFile:
    """A file of lines, plain or packed, to be read forwards; a context manager.

    Raises:
        DataError: here or later, if it is missing, or a packed one is damaged or cut short.
    """

    def __init__(self, path: str | Path):
        self.path = regular_file(path)
        with self.path.open('rb') as file:
            self._opener = _PACKED.get(file.read(3))
        self._file: IO[bytes] = self._opener(self.path, 'rb') if self._opener else self.path.open('rb')

    @property
    def is_packed(self) -> bool:
        return self._opener is not None

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def first_line(self) -> bytes:
        """The first line without its LF.

        Raises:
            DataError: if the file has none, or one above `MAX_LINE_BYTES`.
        """
        block = next(self.blocks(0, 0, 1 << 16), None)
        if block is None or not block.data or 0 in block.too_long:
            raise DataError(f'{self.path} {"has no lines" if block is None else "begins with a line above 1 MiB"}.')
        return block.data.split(b'\n', 1)[0]

    def survey(self, interval: int, progress: Report | None = None) -> Survey:
        """Count the lines, hash the file and note where shards of `interval` lines begin; nothing is kept of it."""
        lines, place, marks, last = 0, 0, [0], b'\n'
        for piece in self._pieces(0, None):
            line_ends = None
            found = _line_ends(piece)
            while len(marks) * interval <= lines + found:
                if line_ends is None:
                    line_ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == 10)
                marks.append(place + int(line_ends[len(marks) * interval - lines - 1]) + 1)
            lines, place, last = lines + found, place + len(piece), piece[-1:]
            if progress is not None:
                progress(place, None)
        if marks[-1] >= place:
            marks.pop()
        with self.path.open('rb') as packed:
            digest = hashlib.file_digest(packed, 'sha256').hexdigest()
        return Survey(lines + (last != b'\n'), place, digest, marks)

    def blocks(self, first: int, place: int = 0, end: int | None = None) -> Iterator[Block]:
        """The lines between two places, in blocks of some megabytes.

        Args:
            first: number of the line that begins at `place`.
            place, end: in bytes of what is unpacked, where lines begin; None = to the end. Of a packed file all that
                lies before is unpacked, unless it was read already.
        """
        number = first
        for piece in self._pieces(place, end):
            data, is_too_long = self._whole_lines(piece)
            too_long: list[int] = []
            data = _without_long(data, number, too_long)
            count = _line_ends(data)
            if is_too_long:
                too_long.append(number + count + len(too_long))
            yield Block(number, data, too_long, count)
            number += count + len(too_long)

    def _whole_lines(self, piece: bytes) -> tuple[bytes, bool]:
        """A piece with the rest of its last line, or without that line where it is too long, and whether it is."""
        if piece.endswith(b'\n'):
            return piece, False
        start = piece.rfind(b'\n') + 1
        rest = self._file.readline(max(MAX_LINE_BYTES + 1 - (len(piece) - start), 0))
        if rest.endswith(b'\n'):
            return piece + rest, False
        if len(piece) - start + len(rest) <= MAX_LINE_BYTES:  # the file ends without LF
            return b''.join((piece, rest, b'\n')), False
        while (rest := self._file.readline(BLOCK_BYTES)) and not rest.endswith(b'\n'):
            pass
        return piece[:start], True

    def lines(self, place: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes | None]]:
        """Each line that begins between two places, with its LF, and where it begins; None in place of one above
        `MAX_LINE_BYTES`. For forms whose rows have to be looked at one by one; `blocks` is faster."""
        try:
            self._file.seek(place)
            while (end is None or place < end) and (line := self._file.readline(MAX_LINE_BYTES + 1)):
                begin, place = place, place + len(line)
                is_whole = line.endswith(b'\n') or len(line) <= MAX_LINE_BYTES
                yield begin, line if is_whole else None
                while not is_whole and (line := self._file.readline(MAX_LINE_BYTES)):
                    place, is_whole = place + len(line), line.endswith(b'\n')
        except _DAMAGE as error:
            raise DataError(f'{self.path} is damaged or cut short ({error}). Fetch it again.') from error

    def _pieces(self, place: int, end: int | None) -> Iterator[bytes]:
        try:
            self._file.seek(place)
            while piece := self._file.read(BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - place)):
                yield piece
                place = self._file.tell()  # whoever reads the pieces may have read on to the end of a line
        except _DAMAGE as error:
            raise DataError(f'{self.path} is damaged or cut short ({error}). Fetch it again.') from error


def _without_long(data: bytes, number: int, too_long: list[int]) -> bytes:
    """Whole lines without those above the limit, whose numbers are added to `too_long`.

    Args:
        number: of the first line.
    """
    kept, start, begin = [], 0, 0
    while start < len(data):
        # As far as line ends lie within the limit of each other: one search per MiB, not one per line.
        end = data.rfind(b'\n', start, start + MAX_LINE_BYTES + 1)
        if end < 0:
            kept.append(data[begin:start])
            too_long.append(number + sum(map(_line_ends, kept)) + len(too_long))
            begin = end = data.index(b'\n', start)
            begin += 1
        start = end + 1
    return b''.join((*kept, data[begin:])) if kept else data


def _line_ends(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == 10))  # three times as fast as `bytes.count`

"""What a form of metadata offers: a look at a file, its rows in ranges, and the keys that decide about each row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pyarrow

from clear.curation.filters import NO_DATE, RECORD_OUTCOMES, outcome_codes
from clear.curation.metadata import cells
from clear.curation.metadata.cells import Spans
from clear.curation.metadata.inputs import OpenFile
from clear.curation.metadata.records import Batch, typed

if TYPE_CHECKING:
    from clear.core.types import Plain

TOO_LONG = 'longer than 1 MiB'
OUTCOMES = (*RECORD_OUTCOMES, 'rejected')
_REJECTED = np.uint8(len(RECORD_OUTCOMES))
# What decides about a row, in the order of `keys_of`.
KEY_COLUMNS = ('photoid', 'dateuploaded', 'marker', 'datetaken', 'downloadurl')


class Range(NamedTuple):
    """Rows that follow each other in a file.

    Attributes:
        first: number of the first row, counted over all files.
        place, end: where they begin and end, in what the form counts: unpacked bytes, or rowids; None = at the end.
    """

    first: int
    place: int
    end: int | None


@dataclass(frozen=True)
class Survey:
    """What a pass over a file found.

    Attributes:
        rows: how many there are, those that will be rejected included.
        sha256: of the file as it is, packed or not.
        marks: place of every `interval`-th row.
        end: place behind the last row.
    """

    rows: int
    sha256: str
    marks: list[int]
    end: int

    def ranges(self, first: int, interval: int) -> list[Range]:
        """The rows from one mark to the next.

        Args:
            first: number of the first row of the file, counted over all files.
            interval: rows from mark to mark.
        """
        ends = [*self.marks[1:], self.end]
        return [Range(first + place * interval, *between) for place, between in enumerate(zip(self.marks, ends))]


@dataclass(frozen=True)
class Rows:
    """Some rows as they stand in a file.

    Attributes:
        columns: name of `COLUMNS` -> cells; `hash` too where the file brings it.
        lines: (N,) int64, the number of each row.
        rejected: number of a row that is not in `columns` -> reason.
    """

    columns: Mapping[str, pyarrow.BinaryArray | Spans]
    lines: np.ndarray
    rejected: dict[int, str] = field(default_factory=dict)


class Keys(NamedTuple):
    """What decides about the records of a block.

    Attributes:
        ids, uploaded_at, taken_at: (N,) int64, microseconds since 1970.
        outcome: (N,) uint8, the place in `OUTCOMES`: as of `filters.outcome_codes`, or that it cannot be read.
    """

    ids: np.ndarray
    uploaded_at: np.ndarray
    taken_at: np.ndarray
    outcome: np.ndarray


class Form(OpenFile):
    """A file of metadata in one of the forms, open.

    Class attributes:
        NAME: what the plan calls it.
    """

    NAME: ClassVar[str] = ''

    @abstractmethod
    def check(self) -> None:
        """Look at what can be seen without reading it all.

        Raises:
            DataError: if the file is empty, or columns are missing.
        """

    @abstractmethod
    def traits(self) -> Mapping[str, Plain]:
        """What the plan keeps of the file's layout."""

    @abstractmethod
    def survey(self, interval: int) -> Survey:
        """Count the rows, hash the file, and note where every `interval`-th row begins."""

    @abstractmethod
    def rows(self, wanted: Range | None = None, names: Collection[str] | None = None) -> Iterator[Rows]:
        """The rows of a range, some thousands at a time.

        Args:
            wanted: None = all, numbered from 0.
            names: the columns that are needed, if that saves anything; None = all.
        """

    def batches(self, wanted: Range) -> Iterator[Batch]:
        """The typed records of a range, some thousands at a time."""
        for found in self.rows(wanted):
            batch = typed(found.columns, found.lines)
            batch.rejected.update(found.rejected)
            yield batch

    def read_keys(self) -> Iterator[Keys]:
        """The keys of all rows, some thousands at a time."""
        for found in self.rows(names=KEY_COLUMNS):
            yield keys_of([found.columns[name] for name in KEY_COLUMNS], len(found.rejected))


def keys_of(found: list[pyarrow.BinaryArray] | list[Spans], lost: int) -> Keys:
    """The keys of some rows.

    Args:
        found: the columns of `KEY_COLUMNS`.
        lost: rows beside them that cannot even be cut into cells.
    """
    ids, is_id = cells.integers(found[0])
    uploaded, is_uploaded = cells.uploads(found[1])
    marker, is_marker = cells.integers(found[2])
    taken, has_date = cells.times(found[3])
    taken[~has_date] = NO_DATE
    outcome = outcome_codes(marker == 1, taken, uploaded)
    outcome[~(is_id & is_uploaded & is_marker & (marker <= 1) & _is_filled(found[4]))] = _REJECTED
    if lost:
        nothing = np.zeros(lost, np.int64)
        ids, uploaded, taken = (np.concatenate([values, nothing]) for values in (ids, uploaded, taken))
        outcome = np.concatenate([outcome, np.full(lost, _REJECTED)])
    return Keys(ids, uploaded, taken, outcome)


def _is_filled(column: pyarrow.BinaryArray | Spans) -> np.ndarray:
    if isinstance(column, Spans):
        return column.ends > column.starts
    return np.diff(cells.parts(column)[0]) > 0

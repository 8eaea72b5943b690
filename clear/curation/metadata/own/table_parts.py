"""What a kind of table offers: its column names, its rows in ranges of a fixed number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow

from clear.curation.metadata.inputs import OpenFile


class Part(NamedTuple):
    """Some rows of a table.

    Attributes:
        first: number of the line (of a Parquet file: row) that begins at `place`, counted in the file from 0.
        place, end: where they begin and end, in unpacked bytes or rows; None = at the end.
    """

    first: int
    place: int
    end: int | None


@dataclass(frozen=True)
class TableSurvey:
    """What a pass over a table found.

    Attributes:
        lines: how many there are, for the numbers of the next file's.
        sha256: of the file as it is, packed or not.
        parts: ranges of rows.
    """

    lines: int
    sha256: str
    parts: list[Part]


@dataclass(frozen=True)
class TableRows:
    """Some rows of a table.

    Attributes:
        columns: name -> values: bytes, or times (`timestamp`) of a column that has these.
        lines: (N,) int64, number of the line that each row begins with, counted in the file from 0.
        rejected: number of a line that is no row -> reason.
    """

    columns: Mapping[str, pyarrow.Array]
    lines: np.ndarray
    rejected: dict[int, str] = field(default_factory=dict)


class Table(OpenFile):
    """A table file, open."""

    @abstractmethod
    def names(self) -> list[str]:
        """The columns."""

    def has_times(self, name: str) -> bool:
        """Whether a column holds times, not text that tells them."""
        return False

    @abstractmethod
    def survey(self, interval: int) -> TableSurvey:
        """Count the lines, hash the file, and cut its rows into parts of `interval`."""

    @abstractmethod
    def rows(self, part: Part | None, names: Sequence[str]) -> Iterator[TableRows]:
        """Some columns of a part, of all rows with None, some thousands at a time."""

"""Stretches of time, half-open, and which of them each record is in. Times are microseconds in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from clear.core.types import Plain

MICROSECOND, SECOND = 1, 1_000_000
FIRST, LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max  # before and behind all times
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Range:
    """A bucket: from a record on, up to another.

    Attributes:
        start, end: microseconds since 1970, `end` not included.
        first_id, end_id: of records at the very `start` those from this id on are in it, at the very `end` those below
            this one; None = all at `start`, none at `end`.
    """

    name: str
    start: int
    end: int
    first_id: int | None = None
    end_id: int | None = None


@dataclass(frozen=True)
class Subset:
    """Some of the records.

    Attributes:
        where: a condition in SQL; None if `ids` say which.
        ids: them, or the path of a Parquet file with a column `id`.
    """

    where: str | None
    ids: str | Sequence[int] | None


class Rule:
    """How time is cut.

    Class attributes:
        NEEDS_ORDER: whether the cuts depend on the records.

    Attributes:
        subset: the records on which they depend; None = all.
    """

    NEEDS_ORDER: ClassVar[bool] = False
    subset: Subset | None = None

    def sources(self) -> dict[str, Plain]:
        """What it reads beside the records, see `Stage.sources`."""
        return {}

    def ranges(self, ordered: Iterator[tuple[np.ndarray, np.ndarray]] | None, count: int) -> list[Range]:
        """The buckets in order, which do not overlap.

        Args:
            ordered: (times, ids) of the records that decide in the order (time, id), piece by piece; None unless
                NEEDS_ORDER.
            count: how many these are.
        """
        raise NotImplementedError


def micros(when: datetime) -> int:
    """Microseconds since 1970."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def places(ranges: Sequence[Range], times: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(N,) int32: the place of every record's bucket, -1 for those in none.

    Args:
        times: (N,) int64 microseconds.
        ids: (N,) int64.
    """
    starts = np.array([each.start for each in ranges])
    found = np.searchsorted(starts, times, 'right').astype(np.int32) - 1
    # At a start that is divided by ids, and there may be several buckets within one moment, go back to the right one.
    first_ids = np.array([FIRST if each.first_id is None else each.first_id for each in ranges])
    while True:
        is_before = (found >= 0) & (times == starts[found]) & (ids < first_ids[found])
        if not is_before.any():
            break
        found[is_before] -= 1
    ends = np.array([each.end for each in ranges])
    end_ids = np.array([FIRST if each.end_id is None else each.end_id for each in ranges])
    is_inside = (found >= 0) & ((times < ends[found]) | (times == ends[found]) & (ids < end_ids[found]))
    return np.where(is_inside, found, -1)

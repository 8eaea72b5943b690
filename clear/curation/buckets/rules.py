"""Rules that cut time into buckets: half-open, [start, end), but for `Periods`. Times are microseconds in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol

import numpy as np

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json
from clear.datasets.readers.dates import parse_time

MICROSECOND, SECOND = 1, 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = dict(month=1, quarter=3, year=12)


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


class Rule(Protocol):
    """How time is cut.

    Attributes:
        NEEDS_ORDER: whether the cuts depend on the records.
    """

    NEEDS_ORDER: ClassVar[bool]

    def ranges(self, ordered: Iterator[tuple[np.ndarray, np.ndarray]] | None, count: int) -> list[Range]:
        """The buckets in order, which do not overlap.

        Args:
            ordered: (times, ids) of all records in the order (time, id), piece by piece; None unless NEEDS_ORDER.
            count: how many records there are.
        """


@dataclass(frozen=True)
class Equal:
    """Buckets of near-equal size in the order (time, id); the first `count % buckets` have one record more.

    CLEAR's own rule sorts by upload time alone, so that ties follow the order of folders; here they follow ids.
    """

    buckets: int = 11
    NEEDS_ORDER: ClassVar[bool] = True

    def __post_init__(self):
        check_whole('rule.buckets', self.buckets, 1)

    def ranges(self, ordered: Iterator[tuple[np.ndarray, np.ndarray]] | None, count: int) -> list[Range]:
        """As `Rule.ranges`."""
        if count < self.buckets:
            raise DataError(f'{count} records cannot fill {self.buckets} buckets.')
        sizes = np.full(self.buckets, count // self.buckets)
        sizes[:count % self.buckets] += 1
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        firsts: list[tuple[int, int]] = []
        last, seen = 0, 0
        for times, ids in ordered:
            for start in starts[(starts >= seen) & (starts < seen + len(times))]:
                firsts.append((int(times[start - seen]), int(ids[start - seen])))
            seen, last = seen + len(times), int(times[-1]) if len(times) else last
        ends = [*firsts[1:], (last + MICROSECOND, None)]
        return [Range(str(place), start[0], end[0], start[1], end[1])
                for place, (start, end) in enumerate(zip(firsts, ends))]


@dataclass(frozen=True)
class Calendar:
    """A bucket for each year, quarter or month, from the first to the last of a range; records outside are dropped.

    Args:
        every: 'year', 'quarter' or 'month'.
        first, last: the first and last of them, e.g. '2004' and '2014', or '2010-03' for a month or the quarter that it
            begins in.
    """

    every: str = 'year'
    first: str = '2004'
    last: str = '2014'
    NEEDS_ORDER: ClassVar[bool] = False

    def __post_init__(self):
        check_choice('rule.every', self.every, _MONTHS)
        if self._index(self.last) < self._index(self.first):
            raise ConfigError(f'rule.last ({self.last}) lies before rule.first ({self.first}).')

    def _index(self, text: str) -> int:
        """Which year, quarter or month a date is in, counted from year 0."""
        try:
            when = parse_time(str(text))
        except ValueError as error:
            raise ConfigError(f'rule: {error}.') from error
        if when is None:
            raise ConfigError(f"rule: '{text}' is no date.")
        return (when.year * 12 + when.month - 1) // _MONTHS[self.every]

    def ranges(self, ordered: Iterator[tuple[np.ndarray, np.ndarray]] | None, count: int) -> list[Range]:
        """As `Rule.ranges`."""
        return [Range(self._name(place), self._start(place), self._start(place + 1))
                for place in range(self._index(self.first), self._index(self.last) + 1)]

    def _start(self, place: int) -> int:
        month = place * _MONTHS[self.every]
        return micros(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC))

    def _name(self, place: int) -> str:
        month = place * _MONTHS[self.every]
        year, month = month // 12, month % 12
        names = dict(year=f'{year}', quarter=f'{year}-q{month // 3 + 1}', month=f'{year}-{month + 1:02}')
        return names[self.every]


@dataclass(frozen=True)
class Periods:
    """Periods closed at both ends, to the second, as CLEAR-10's; records outside all of them are dropped.

    Args:
        periods: `[dict(start='2004-01-01 11:52:13', end='2007-04-09 03:27:17'), ...]` in UTC, or the path of a JSON
            file of that.

    Raises:
        ConfigError: if one ends before it starts, or overlaps the next; equal end and start overlap by a second.
    """

    periods: str | Sequence[dict]
    NEEDS_ORDER: ClassVar[bool] = False

    def __post_init__(self):
        self._read()

    def _read(self) -> list[tuple[datetime, datetime]]:
        source = self.periods if isinstance(self.periods, str) else 'rule.periods'
        listed = read_json(self.periods) if isinstance(self.periods, str) else self.periods
        if not isinstance(listed, Sequence) or not listed or not all(
                isinstance(each, dict) and set(each) >= {'start', 'end'} for each in listed):
            raise ConfigError(f'{source} is no list of dict(start=..., end=...).')
        found = []
        for place, each in enumerate(listed):
            try:
                start, end = (parse_time(each[key]) for key in ('start', 'end'))
            except ValueError as error:
                raise ConfigError(f'{source}: period {place}: {error}.') from error
            if start is None or end is None or end < start:
                raise ConfigError(f'{source}: period {place} ends before it starts, or has no date: {each}.')
            if found and start <= found[-1][1]:
                raise ConfigError(f'{source}: period {place} starts at {start:%Y-%m-%d %H:%M:%S}, inside period '
                                  f'{place - 1}, which ends at {found[-1][1]:%Y-%m-%d %H:%M:%S}; both ends belong to a '
                                  'period.')
            found.append((start, end))
        return found

    def ranges(self, ordered: Iterator[tuple[np.ndarray, np.ndarray]] | None, count: int) -> list[Range]:
        """As `Rule.ranges`."""
        return [Range(str(place), micros(start), micros(end.replace(microsecond=0)) + SECOND)
                for place, (start, end) in enumerate(self._read())]


RULES = dict(Equal=Equal, Calendar=Calendar, Periods=Periods)


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
    first_ids = np.array([np.iinfo(np.int64).min if each.first_id is None else each.first_id for each in ranges])
    while True:
        is_before = (found >= 0) & (times == starts[found]) & (ids < first_ids[found])
        if not is_before.any():
            break
        found[is_before] -= 1
    ends = np.array([each.end for each in ranges])
    end_ids = np.array([np.iinfo(np.int64).min if each.end_id is None else each.end_id for each in ranges])
    is_inside = (found >= 0) & ((times < ends[found]) | (times == ends[found]) & (ids < end_ids[found]))
    return np.where(is_inside, found, -1)

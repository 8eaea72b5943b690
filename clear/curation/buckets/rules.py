"""Rules that cut time into buckets: half-open, [start, end), but for `Periods`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.configs.bases import shipped_file
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json, regular_file
from clear.curation.buckets.ranges import FIRST, LAST, MICROSECOND, SECOND, Range, Rule, Subset, micros
from clear.datasets.readers.dates import parse_time

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

_MONTHS = dict(month=1, quarter=3, year=12)


@dataclass(frozen=True)
class Equal(Rule):
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
        firsts, last = _begins(ordered, count, self.buckets)
        ends = [*firsts[1:], (last + MICROSECOND, None)]
        return [Range(str(place), start[0], end[0], start[1], end[1])
                for place, (start, end) in enumerate(zip(firsts, ends))]


@dataclass(frozen=True)
class Quantile(Rule):
    """Buckets in which a subset of the records is of near-equal size, as by `Equal`; all records are cut where it is.

    The first bucket holds whatever lies before the subset, the last whatever lies behind it.

    Args:
        buckets: how many.
        where: the subset as a condition on the columns of the stage that is read, in DuckDB's SQL, e.g.
            "lat IS NOT NULL" or "list_contains(user_tags_text, 'bus')".
        ids: the subset as ids, or the path of a Parquet file that has them in column `id`.
    """

    buckets: int = 11
    where: str | None = None
    ids: str | Sequence[int] | None = None
    NEEDS_ORDER: ClassVar[bool] = True

    def __post_init__(self):
        check_whole('rule.buckets', self.buckets, 1)
        if (self.where is None) == (self.ids is None):
            raise ConfigError("rule: Quantile takes either where, a condition such as 'lat IS NOT NULL', or ids.")
        if self.where is not None:
            check_text('rule.where', self.where)
        elif not isinstance(self.ids, str):
            for each in self.ids:
                check_whole('rule.ids', each)

    @property
    def subset(self) -> Subset:
        """The records that decide."""
        return Subset(self.where, self.ids)

    def sources(self) -> dict[str, Plain]:
        """The checksum of the file of ids."""
        if not isinstance(self.ids, str):
            return {}
        with regular_file(self.ids).open('rb') as file:
            return dict(ids=hashlib.file_digest(file, 'sha256').hexdigest())

    def ranges(self, ordered: Iterator[tuple[np.ndarray, np.ndarray]] | None, count: int) -> list[Range]:
        """As `Rule.ranges`; `ordered` and `count` are the subset's."""
        if count < self.buckets:
            raise DataError(f'the {count} records of the subset cannot give {self.buckets} buckets.')
        cuts = _begins(ordered, count, self.buckets)[0][1:]
        edges = [(FIRST, None), *cuts, (LAST, None)]
        return [Range(str(place), start[0], end[0], start[1], end[1])
                for place, (start, end) in enumerate(zip(edges[:-1], edges[1:]))]


def _begins(ordered: Iterator[tuple[np.ndarray, np.ndarray]], count: int, buckets: int
            ) -> tuple[list[tuple[int, int]], int]:
    """(time, id) at which each of near-equal buckets begins, and the last time."""
    sizes = np.full(buckets, count // buckets)
    sizes[:count % buckets] += 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    firsts: list[tuple[int, int]] = []
    last, seen = 0, 0
    for times, ids in ordered:
        for start in starts[(starts >= seen) & (starts < seen + len(times))]:
            firsts.append((int(times[start - seen]), int(ids[start - seen])))
        seen, last = seen + len(times), int(times[-1]) if len(times) else last
    return firsts, last


@dataclass(frozen=True)
class Calendar(Rule):
    """A bucket for each year, quarter or month, from the first to the last of a range; records outside are dropped.

    Args:
        every: 'year', 'quarter' or 'month'.
        first, last: the first and last of them, e.g. '2004' and '2014', or '2010-03' for a month or the quarter that it
            begins in.
    """

    every: str = 'year'
    first: str = '2004'
    last: str = '2014'

    def __post_init__(self):
        check_choice('rule.every', self.every, _MONTHS)
        if self._index(self.last) < self._index(self.first):
            raise ConfigError(f'rule.last ({self.last}) lies before rule.first ({self.first}).')

    def _index(self, text: str) -> int:
        """Which year, quarter or month a date is in, counted from year 0."""
        try:
            when = parse_time(str(text))
        except ValueError as error:
            raise ConfigError(f"rule: '{text}': {error}.") from error
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
class Periods(Rule):
    """Periods closed at both ends, to the second, as CLEAR-10's; records outside all of them are dropped.

    Args:
        periods: `[dict(start='2004-01-01 11:52:13', end='2007-04-09 03:27:17'), ...]` in UTC, or the path of a JSON
            file of that; `configs/curation/clear_10_time.json` is shipped.

    Raises:
        ConfigError: if one ends before it starts, or overlaps the next; equal end and start overlap by a second.
    """

    periods: str | Sequence[dict]

    def __post_init__(self):
        self._read()

    def sources(self) -> dict[str, Plain]:
        """What the file says."""
        return {} if not isinstance(self.periods, str) else dict(
            periods=[[start.isoformat(), end.isoformat()] for start, end in self._read()])

    def _read(self) -> list[tuple[datetime, datetime]]:
        source = self.periods if isinstance(self.periods, str) else 'rule.periods'
        listed = read_json(shipped_file(self.periods)) if isinstance(self.periods, str) else self.periods
        if not isinstance(listed, Sequence) or not listed or not all(
                isinstance(each, dict) and set(each) >= {'start', 'end'} for each in listed):
            raise ConfigError(f'{source} is no list of dict(start=..., end=...).')
        found: list[tuple[datetime, datetime]] = []
        for place, each in enumerate(listed):
            try:
                start, end = (parse_time(each[key]) for key in ('start', 'end'))
            except ValueError as error:
                raise ConfigError(f'{source}: period {place}: {error}.') from error
            if start is None or end is None or end < start:
                raise ConfigError(f'{source}: period {place} ends before it starts, or has no date: {each}.')
            start, end = start.replace(microsecond=0), end.replace(microsecond=0)
            if found and start <= found[-1][1]:
                raise ConfigError(f'{source}: period {place} starts at {start:%Y-%m-%d %H:%M:%S}, inside period '
                                  f'{place - 1}, which ends at {found[-1][1]:%Y-%m-%d %H:%M:%S}; both ends belong to a '
                                  'period.')
            found.append((start, end))
        return found

    def ranges(self, ordered: Iterator[tuple[np.ndarray, np.ndarray]] | None, count: int) -> list[Range]:
        """As `Rule.ranges`."""
        return [Range(str(place), micros(start), micros(end) + SECOND)
                for place, (start, end) in enumerate(self._read())]


RULES = dict(Equal=Equal, Calendar=Calendar, Periods=Periods, Quantile=Quantile)


def made_rule(given: Options) -> Rule:
    """A rule from its config.

    Raises:
        ConfigError: if it is none.
    """
    if not isinstance(given, Mapping) or given.get('type') not in RULES:
        raise ConfigError(f"rule is {given!r}; expected a dict with type, one of {', '.join(RULES)}.")
    options = {key: value for key, value in given.items() if key != 'type'}
    made = RULES[given['type']]
    check_keys('rule', options, {each.name for each in fields(made)}, given['type'])
    return made(**options)

"""Points in time as metadata write them: many formats, one result, an aware datetime in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

# What exports write where nothing is known; a year 0000 is a camera whose clock was never set.
MISSING = frozenset({'', '-', 'null', 'none', 'nan', 'nat', 'n/a', 'unknown'})
_DATE = re.compile(r'(\d{4})(?:([-/:.])(\d{1,2})(?:\2(\d{1,2}))?)?(?:[T ]+(.+))?')
_CLOCK = re.compile(r'(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(Z|UTC|[+-]\d{2}:?\d{2})?', re.IGNORECASE)


def parse_time(value: Any) -> datetime | None:
    """A point in time, or None where there is none.

    Understood are years (`2010`), months (`2010-05`), dates (`2010-05-02`, also with `/`, `.` or EXIF's `:`), dates
    with a time of day, with or without a zone (without one it is UTC), ISO 8601, `Mon, 02 Jan 2006 15:04:05 +0100`,
    seconds since 1970 (nine digits or more, as YFCC100M's upload dates are written), milliseconds (13 digits), and
    datetimes. A part that is left out is the earliest there is. Orders that change meaning between countries
    (`02/05/2010`) are refused.

    Raises:
        ValueError: if `value` is something else.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        return None if value != value else _utc(value)  # pandas' NaT is a datetime that equals nothing
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    text = str(value).strip()
    if text.lower() in MISSING or text.startswith('0000'):
        return None
    if re.fullmatch(r'\d{9,}(\.\d*)?', text):
        return _from_seconds(text)
    match = _DATE.fullmatch(text)
    if match:
        year, _, month, day, rest = match.groups()
        return _utc(datetime.fromisoformat(f'{year}-{int(month or 1):02}-{int(day or 1):02}{_clock(rest, text)}'))
    try:
        return _utc(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError):
        raise ValueError(f"'{text}' is no date; expected e.g. 2010-05-02, 2010-05-02 13:24:13 or seconds since 1970"
                         ) from None


def _utc(value: datetime) -> datetime:
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


def _from_seconds(text: str) -> datetime:
    seconds = float(text)
    whole = text.split('.')[0]
    try:
        return datetime.fromtimestamp(seconds / 1000 if len(whole) >= 13 else seconds, UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"'{text}' is no number of seconds since 1970 that a date can hold") from None


def _clock(rest: str | None, text: str) -> str:
    """The time of day as ISO 8601 wants it; empty without one."""
    if rest is None:
        return ''
    match = _CLOCK.fullmatch(rest.strip())
    if not match:
        raise ValueError(f"'{text}' is no date: '{rest}' is no time of day")
    clock, zone = match.groups()
    hour, _, others = clock.replace(',', '.').partition(':')
    zone = (zone or '').upper().replace('UTC', '+00:00').replace('Z', '+00:00')
    return f'T{int(hour):02}:{others}{zone}'

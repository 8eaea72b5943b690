"""Points in time as metadata write them: many formats, one result, an aware datetime in UTC."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

# What exports write where nothing is known; a year 0000 is a camera whose clock was never set.
MISSING = frozenset({'', '-', 'null', 'none', 'nan', 'nat', 'n/a', 'unknown'})
_DATE = re.compile(r'(\d{4})(?:([-/:.])(\d{1,2})(?:\2(\d{1,2}))?)?(?:[T ]+(.+))?')
_CLOCK = re.compile(r'(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(Z|UTC|[+-]\d{2}:?\d{2})?', re.IGNORECASE)


def parse_time(value: object) -> datetime | None:
    """A point in time, or None where there is none.

    Understood are years (`2010`), months (`2010-05`), dates (`2010-05-02`, also with `/`, `.` or EXIF's `:`), dates
    with a time of day, with or without a zone (without one it is UTC), ISO 8601, `Mon, 02 Jan 2006 15:04:05 +0100`,
    compact dates as cameras write them (`20100502`, `2010050213`, `201005021324`, `20100502132413`), seconds since
    1970 (nine digits or more, as YFCC100M's upload dates are written), milliseconds (13 digits), and datetimes. A part
    that is left out is the earliest there is. Orders that change meaning between countries (`02/05/2010`) are refused,
    and so are seconds past the next year.

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
    compact = _from_digits(text.removesuffix('.0'))
    if compact is not None:
        return compact
    if re.fullmatch(r'\d{9,}(\.\d*)?', text):
        return _from_seconds(text)
    match = _DATE.fullmatch(text)
    if match:
        year, _, month, day, rest = match.groups()
        return _utc(datetime.fromisoformat(f'{year}-{int(month or 1):02}-{int(day or 1):02}{_clock(rest, text)}'))
    if not text.isdigit():
        with contextlib.suppress(ValueError):  # the rest of ISO 8601: 20100502T132413Z, 2010-W17-7
            return _utc(datetime.fromisoformat(text))
    try:
        return _utc(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError):
        raise ValueError(f"'{text}' is no date; expected e.g. 2010-05-02, 2010-05-02 13:24:13 or seconds since 1970"
                         ) from None


def _utc(value: datetime) -> datetime:
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


def _from_digits(text: str) -> datetime | None:
    """The date that 8, 10, 12 or 14 digits write, from 1900 to the next year; None if they are none.

    No ten digits are a date and seconds too: seconds up to the next year begin with 10 to 17, dates with 19 or 20.
    """
    if not (re.fullmatch('[0-9]{8,14}', text) and len(text) % 2 == 0 and 1900 <= int(text[:4]) <= _next_year()):
        return None
    try:
        return datetime(int(text[:4]), *(int(text[place:place + 2]) for place in range(4, len(text), 2)), tzinfo=UTC)
    except ValueError:
        return None


def _from_seconds(text: str) -> datetime:
    whole = text.split('.')[0]
    try:
        time = datetime.fromtimestamp(float(text) / (1000 if len(whole) >= 13 else 1), UTC)
    except (OverflowError, OSError, ValueError):
        time = None
    if time is None or time.year > _next_year():
        raise ValueError(f"'{text}' is neither a date such as 20100502132413 nor a number of seconds since 1970 up to "
                         f'the year {_next_year()}')
    return time


def _next_year() -> int:
    return datetime.now(UTC).year + 1


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

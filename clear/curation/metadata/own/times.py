"""Times in formats that a config states: nothing is guessed, and what does not fit as a whole is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from clear.core.errors import ConfigError

UNIX = {'unix': 1_000_000, 'unix_ms': 1_000}  # format -> microseconds of its unit
_MONTHS = ('jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec')
_PARTS = {'Y': '[0-9]{4}', 'm': '[0-9]{2}', 'd': '[0-9]{2}', 'H': '[0-9]{2}', 'M': '[0-9]{2}', 'S': '[0-9]{2}',
          'f': '[0-9]{1,6}', 'b': '|'.join(_MONTHS), 'z': 'Z|[+-][0-9]{2}:?[0-9]{2}'}
_EPOCH = datetime(1970, 1, 1)
_MOST_FIGURES = 18


class TimeFormat:
    """A format in the letters of `strftime`, or 'unix' or 'unix_ms' for whole (milli)seconds since 1970.

    `%Y` has four figures, `%m %d %H %M %S` two (`%-m` and so on: one or two), `%f` one to six (`.5` is half a second);
    `%b` is an English month of three letters, `%z` a zone. What is not told is the first instant of what is: `%Y-%m`
    is midnight of the first day. Every sign of the text must fit, and the day must exist.

    Args:
        text: the format.
        stars: whether `*` stands for anything, as in names of files.

    Raises:
        ConfigError: for letters that it does not know, or a day without its month.
    """

    def __init__(self, text: str, stars: bool = False):
        self.text = text
        self._unit = UNIX.get(text)
        self._pattern = re.compile('' if self._unit else _compiled(text, stars), re.ASCII | re.IGNORECASE | re.DOTALL)

    def read(self, text: str) -> tuple[int, bool] | None:
        """Microseconds since 1970 and whether they are in UTC, else on the clock that the text has; None if it is none
        of this format."""
        if self._unit:
            fits = text.isascii() and text.isdigit() and len(text) <= _MOST_FIGURES
            return _within(int(text) * self._unit, True) if fits else None
        found = self._pattern.fullmatch(text)
        if not found:
            return None
        parts = found.groupdict()
        month = _MONTHS.index(parts['b'].lower()) + 1 if parts.get('b') else int(parts.get('m', 1))
        try:
            when = datetime(int(parts['Y']), month, *(int(parts.get(name, least)) for name, least in
                                                      (('d', 1), ('H', 0), ('M', 0), ('S', 0))))
        except ValueError:
            return None
        micros = (when - _EPOCH) // timedelta(microseconds=1) + int(parts.get('f', '').ljust(6, '0'))
        zone = parts.get('z')
        return (micros, False) if zone is None else _within(micros - _offset(zone), True)


def read_time(formats: Sequence[TimeFormat], text: str) -> tuple[int, bool, str] | None:
    """By the first format that fits: microseconds, whether in UTC, and which format it was."""
    for each in formats:
        found = each.read(text)
        if found is not None:
            return *found, each.text
    return None


def time_formats(where: str, given: str | Sequence[str], stars: bool = False) -> list[TimeFormat]:
    """The formats of an argument.

    Raises:
        ConfigError: naming the argument.
    """
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConfigError(f"{where} is {given!r}; expected a format such as '%Y-%m-%d %H:%M:%S', or a list of some.")
    try:
        return [TimeFormat(text, stars) for text in texts]
    except ConfigError as error:
        raise ConfigError(f'{where}: {error}') from error


def _compiled(text: str, stars: bool) -> str:
    pattern, known = '', []
    for piece in re.findall(r'%-?.|[^%]+|%', text, re.DOTALL):
        letter = piece.lstrip('%-') if piece.startswith('%') else ''
        if piece == '%%' or not piece.startswith('%'):
            escaped = re.escape(piece.replace('%%', '%'))
            pattern += escaped.replace(r'\*', '.*') if stars else escaped
        elif letter not in _PARTS or letter in known or (piece.startswith('%-') and letter not in 'mdHMS'):
            what = 'is there twice' if letter in known else f"is none of {' '.join('%' + each for each in _PARTS)}"
            raise ConfigError(f"'{piece}' in '{text}' {what}.")
        else:
            known.append(letter)
            figures = _PARTS[letter].replace('{2}', '{1,2}') if piece.startswith('%-') else _PARTS[letter]
            pattern += f'(?P<{letter}>{figures})'
    _check_order(text, known)
    return pattern


def _check_order(text: str, known: Sequence[str]) -> None:
    """Raise a ConfigError for a part without the coarser ones, such as a day without a month."""
    steps = [('Y',), ('m', 'b'), ('d',), ('H',), ('M',), ('S',), ('f',)]
    has = [any(letter in known for letter in step) for step in steps]
    if not has[0] or any(later and not earlier for earlier, later in zip(has, has[1:])) or {'m', 'b'} <= set(known):
        raise ConfigError(f"'{text}' tells no time: %Y, then %m or %b, %d, %H, %M, %S and %f, each only with those "
                          'before it.')


def _offset(zone: str) -> int:
    """Microseconds that a zone is ahead of UTC."""
    if zone.upper() == 'Z':
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return (-1 if zone[0] == '-' else 1) * minutes * 60_000_000


def _within(micros: int, is_utc: bool) -> tuple[int, bool] | None:
    """None for a time outside the years that a calendar has."""
    return (micros, is_utc) if _FIRST <= micros <= _LAST else None


_FIRST, _LAST = ((datetime(*day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
                 for day in ((1, 1, 1), (9999, 12, 31)))

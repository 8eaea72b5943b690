"""Whether a list of class names is that of the classes of some data."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from clear.core.errors import DataError
from clear.datasets.prompts import readable_names

MATCHES = ('check', 'name', 'order')
# A number, or a number behind one letter as in the ids of WordNet: says nothing about what the class shows.
_CODE = re.compile(r'[a-z]?\d+')
# Below this share of equal names a list that was not written for the data is taken for another set's.
LEAST_SHARE = 0.5


def plain_name(name: str) -> str:
    """A name without capitals, accents, blanks and other signs that are neither letters nor digits."""
    parts = unicodedata.normalize('NFKD', name.casefold())
    return ''.join(sign for sign in parts if sign.isalnum())


def list_rows(names: Sequence[str], known: Sequence[str], match: str = 'check', *,
              known_as: Sequence[Iterable[str]] | None = None, source: str = 'names', is_own: bool = True
              ) -> tuple[list[int], str]:
    """The row of a list of names for each class of the data, and by what it was found.

    Names are compared as `plain_name` writes them; numbers are indices of the list, from 0, or from 1 where they are
    1 ... C.

    Args:
        names: the list.
        known: the classes of the data, in the order of their labels.
        match: 'check' takes the list in its order and refuses one of another length, one that has a name of the data
            at another place, and, if it is not `is_own`, one that has less than half of the names. Where all data
            names are numbers or codes that are not in the list, their number alone counts. 'name' takes the names that
            the data have, in the order of the data. 'order' looks at the number alone.
        known_as: what else each class of the list may be called.
        source: what to call the list in a message.
        is_own: whether the list was written for these data, so that it may use words of its own.

    Returns:
        C rows of `names`, and 'names', 'numbers' or 'order'.

    Raises:
        DataError: for a list that does not fit.
    """
    if match != 'name' and len(names) != len(known):
        raise DataError(f"{source} has {len(names)} names, the bank of 'test' {len(known)} classes."
                        + ("" if len(names) < len(known) else " match='name' takes those that the data have."))
    if match == 'order':
        return [*range(len(names))], 'order'
    places: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        for word in {plain_name(other) for other in (name, *(known_as[row] if known_as else ()))} - {''}:
            places.setdefault(word, []).append(row)
    found: list[list[int]] = []
    seen: Counter[str] = Counter()
    for name in map(plain_name, readable_names(known)):
        found.append(places.get(name, [])[seen[name]:])  # the second class of one name is that of the list
        seen[name] += 1
    by = 'names'
    if not any(found) and (numbers := _numbers(known, len(names))) is not None:
        found, by = [[number] for number in numbers], 'numbers'
    if match == 'name':
        lacking = [name for name, rows in zip(known, found) if not rows]
        if lacking:
            raise DataError(f"{source} has no name of {len(lacking)} classes of 'test', the first is '{lacking[0]}'. "
                            'Names are compared without capitals, accents, blanks and signs.')
        return [rows[0] for rows in found], by
    return _check_order(names, known, found, by, source, is_own)


def _check_order(names: Sequence[str], known: Sequence[str], found: Sequence[list[int]], by: str, source: str,
                 is_own: bool) -> tuple[list[int], str]:
    for place, rows in enumerate(found):
        if rows and place not in rows:
            raise DataError(f"{source} is in another order than the classes of 'test': class {place} of the data is "
                            f"'{known[place]}', that of the list '{names[place]}', and '{known[place]}' is class "
                            f"{rows[0]} of the list. match='name' takes the names in the order of the data, "
                            "match='order' takes the list as it is.")
    share = sum(map(bool, found)) / len(known)
    if share < 1:
        by = 'names' if share >= LEAST_SHARE else 'order'
    if not is_own and share < LEAST_SHARE and not all(_CODE.fullmatch(name.casefold()) for name in known):
        place = next(place for place, rows in enumerate(found) if not rows)
        raise DataError(f"{source} does not look like the classes of 'test': {sum(map(bool, found))} of {len(known)} "
                        f"names are the same, and class {place} of the data is '{known[place]}', that of the list "
                        f"'{names[place]}'. If it is the same class in other words, say match='order'.")
    return [*range(len(names))], by


def _numbers(known: Sequence[str], count: int) -> list[int] | None:
    """Names that are numbers as rows of a list of `count`."""
    if not all(name.isascii() and name.isdigit() and len(name) < 10 for name in known):
        return None
    numbers = [int(name) for name in known]
    if len(numbers) == count and sorted(numbers) == [*range(1, count + 1)]:
        return [number - 1 for number in numbers]
    return numbers if max(numbers) < count and len(set(numbers)) == len(numbers) else None

"""Values of a database or of JSON as the cells that the same row has in a tab-separated file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow

from clear.core.errors import DataError, nearest

Value = str | bytes | int | float | None


def column(values: Sequence[Value]) -> pyarrow.BinaryArray:
    """Values of one column as cells; what is null is empty."""
    return pyarrow.array([value if type(value) is bytes else cell(value) for value in values], pyarrow.binary())


def cell(value: object) -> bytes:
    """A value as text: numbers in figures without an exponent, text in UTF-8."""
    if value is None:
        return b''
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return format(Decimal(repr(value)), 'f').encode()
    text = str(value)
    try:
        return text.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:  # half of a pair, as JSON may spell it
        return text.encode('utf-8', 'surrogatepass')


def check_columns(path: Path, found: Collection[str], expected: Sequence[str]) -> None:
    """Raise a DataError, with the nearest name, if a file lacks a column."""
    lacking = [name for name in expected if name not in found]
    if lacking:
        near = nearest(lacking[0], [name for name in found if name not in expected])
        more = f' (and {len(lacking) - 1} more)' if len(lacking) > 1 else ''
        hint = f'Did you mean to call {near} so?' if near else f'It has {", ".join(map(str, found))}.'
        raise DataError(f"{path} has no column '{lacking[0]}'{more}. {hint}")

"""The table of the checkpoints of a run: a row for each, and what was measured of it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import write_csv

_COLUMNS = ('checkpoint', 'epoch', 'iteration')


@dataclass
class Row:
    """A checkpoint with what was measured of it.

    Attributes:
        name: that of its file.
        metrics: '<task>/<metric>' -> value; main: task -> the metric that it reports.
    """

    name: str
    epoch: int
    iteration: int
    metrics: dict[str, float] = field(default_factory=dict)
    main: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """The row of a table: `latest` of two moments are two rows."""
        return self.name, self.iteration


def write_table(path: Path, rows: Iterable[Row]) -> Path:
    """A row per checkpoint, a column per metric, atomically; what failed is empty, floats in full precision."""
    rows = [*rows]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    return write_csv(path, [[*_COLUMNS, *names], *([row.name, row.epoch, row.iteration,
                                                    *(row.metrics.get(name, '') for name in names)] for row in rows)])


def read_table(path: Path) -> list[Row]:
    """What `write_table` has written, without rows of which nothing was measured; none if there is no file.

    Raises:
        DataError: for another table.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline='', encoding='utf-8') as file:
            found = [*csv.DictReader(file, strict=True)]
        rows = [Row(each.pop('checkpoint'), int(each.pop('epoch')), int(each.pop('iteration')),
                    {name: _number(value) for name, value in each.items() if value != ''}) for each in found]
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f'{path} is no table of checkpoints ({type(error).__name__}: {error}), so what was measured '
                        'before cannot be kept. Move it away, or choose another folder with --out.') from error
    return [row for row in rows if row.metrics]


def _number(value: str) -> float:
    return int(value) if value.removeprefix('-').isdecimal() else float(value)

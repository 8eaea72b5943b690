"""What calls in Python return: runs, banks and tables that show themselves, as HTML in a notebook, else as text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.journal import read_run
from clear.core.errors import DataError
from clear.core.files import atomic_writer, write_csv
from clear.core.results import RESULTS_FILE, Results
from clear.engine.repeats import SUMMARY_FILE
from clear.engine.reports.find_runs import find_runs
from clear.visualization.figures import run_figures, to_png
from clear.visualization.page import table_of
from clear.visualization.probing import format_probe_table, probe_figures
from clear.visualization.tables import format_matrix, format_value

if TYPE_CHECKING:
    import numpy as np

    from clear.core.types import Plain
    from clear.features import FeatureBank


@dataclass(frozen=True)
class Table:
    """Rows under names; `records()` is what `pandas.DataFrame` takes.

    Args:
        columns: their names.
        rows: a value for every column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __len__(self) -> int:
        return len(self.rows)

    def records(self) -> list[dict[str, object]]:
        """A dict per row."""
        return [dict(zip(self.columns, row)) for row in self.rows]

    def to_csv(self, path: str | Path) -> Path:
        """Write the table, values in full precision; its path."""
        return write_csv(path, [self.columns, *self.rows])

    def _texts(self) -> list[list[str]]:
        return [[format_value(value) for value in row] for row in self.rows]

    def __repr__(self) -> str:
        cells = [[*self.columns], *self._texts()]
        widths = [max(len(row[place]) for row in cells) for place in range(len(self.columns))]
        return '\n'.join('  '.join(text.rjust(width) if place else text.ljust(width)
                                   for place, (text, width) in enumerate(zip(row, widths))).rstrip() for row in cells)

    def _repr_html_(self) -> str:
        return table_of(self.columns, self._texts())


@dataclass(frozen=True)
class Picture:
    """A figure as a PNG file in memory.

    Args:
        name: what it shows.
        png: the content of the file.
    """

    name: str
    png: bytes

    def save(self, path: str | Path) -> Path:
        """Write the file; its path."""
        with atomic_writer(path) as file:
            file.write(self.png)
        return Path(path)

    def __repr__(self) -> str:
        return f'Picture({self.name}, {len(self.png)} bytes)'

    def _repr_png_(self) -> bytes:
        return self.png

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        return f'<img style="max-width: 100%" alt="{escape(self.name)}" src="data:image/png;base64,{data}">'


class Pictures(dict[str, Picture]):
    """Figures by name, shown one below the other."""

    def _repr_html_(self) -> str:
        return '\n'.join(picture._repr_html_() for picture in self.values())


class Run:
    """A run in its folder: results, tables and figures, read when they are asked for.

    Args:
        work_dir: the folder of a run of whatever kind, finished or not; None for what was measured without one.
        results: what was measured; None reads `results.json`.

    Raises:
        DataError: if the folder does not exist.
    """

    def __init__(self, work_dir: str | Path | None, results: Results | None = None):
        self.work_dir = None if work_dir is None else Path(work_dir)
        if self.work_dir is not None and not self.work_dir.is_dir():
            raise DataError(f'{self.work_dir} is no folder of a run.')
        if results is not None:
            self.results = results

    @cached_property
    def results(self) -> Results | None:
        """What was measured; None of a run that has parts only, or has measured nothing yet."""
        return read_run(self.work_dir) if (self.work_dir / RESULTS_FILE).is_file() else None

    @cached_property
    def parts(self) -> list[Run]:
        """The runs that it is made of: of each seed, value of a sweep, or bucket of a stream.

        Where a summary says which seeds and values were asked for, others are left out; the log names them.
        """
        if self.work_dir is None:
            return []
        if (self.work_dir / SUMMARY_FILE).is_file():
            return [Run(found.path.parent) for found in find_runs([str(self.work_dir)])]
        folders = sorted((path.parent for pattern in ('*', '*/seed_*') for path in
                          self.work_dir.glob(f'{pattern}/{RESULTS_FILE}')), key=_by_number)
        return [Run(folder) for folder in folders]

    @property
    def name(self) -> str:
        """Its config's name."""
        return self.results.name if self.results is not None else self.work_dir.name

    def table(self) -> Table:
        """The metrics; of probes a row per job; of a run of parts a row per part."""
        if self.results is None:
            names = list(dict.fromkeys(name for part in self.parts for name in _numbers(part.results.metrics)))
            return Table(['run', *names], [[str(part.work_dir.relative_to(self.work_dir)),
                                            *(part.results.metrics.get(name) for name in names)]
                                           for part in self.parts])
        rows = self.results.extras.get('rows')
        if isinstance(rows, list) and rows:
            names = list(dict.fromkeys(name for row in rows for name in row))
            return Table(names, [[row.get(name) for name in names] for row in rows])
        return Table(['metric', 'value'], list(_numbers(self.results.metrics).items()))

    def matrix(self) -> Table | None:
        """The accuracy matrix: rows trained through a bucket, columns tested on one; None without one."""
        if self.results is None or self.results.acc_matrix is None:
            return None
        names, matrix = self.results.bucket_names, self.results.acc_matrix
        rows = names if len(matrix) == len(names) else ['all'] * len(matrix)
        return Table(['bucket', *names], [[name, *row] for name, row in zip(rows, matrix)])

    def figures(self) -> Pictures:
        """Its figures: those of the results, else the files that the run has drawn."""
        if self.results is not None:
            drawn = {**run_figures(self.results), **(probe_figures(self.results) if self._is_probe else {})}
            if drawn:
                return Pictures({stem: Picture(stem, to_png(figure)) for stem, figure in drawn.items()})
        files = sorted(self.work_dir.glob('figures/*.png')) if self.work_dir is not None else []
        return Pictures({path.stem: Picture(path.stem, path.read_bytes()) for path in files})

    @property
    def _is_probe(self) -> bool:
        return 'jobs' in self.results.extras and 'rows' in self.results.extras

    def __repr__(self) -> str:
        lines = [self._heading()]
        if self.results is not None and self._is_probe:
            lines.append(format_probe_table(self.results))
        else:
            if self.results is not None and self.results.acc_matrix is not None:
                lines.append(format_matrix(self.results.acc_matrix, self.results.bucket_names))
            lines.append(repr(self.table()))
        return '\n\n'.join(lines)

    def _repr_html_(self) -> str:
        shown = [f'<p><b>{escape(self.name)}</b> {escape(self._heading().removeprefix(self.name))}</p>',
                 self.table()._repr_html_()]
        figures = self.figures()
        shown += [picture._repr_html_() for picture in list(figures.values())[:1]]
        if len(figures) > 1:
            # A figure is a hundred kilobytes of the notebook's file.
            shown.append(f'<p><code>.figures()</code> has {len(figures)}: {escape(", ".join(figures))}</p>')
        return '\n'.join(shown)

    def _heading(self) -> str:
        facts = [self.name]
        if self.results is not None:
            facts.append(self.results.protocol)
            if self.results.progress is not None and self.results.progress[0] < self.results.progress[1]:
                facts.append('unfinished: {} of {} buckets'.format(*self.results.progress))
        elif self.parts:
            facts.append(f'{len(self.parts)} runs')
        return '  '.join([*facts, *([] if self.work_dir is None else [str(self.work_dir)])])


class Bank:
    """A feature bank that shows itself.

    Args:
        bank: the bank on the disk, whose arrays are mapped into memory.
    """

    def __init__(self, bank: FeatureBank):
        self.bank = bank
        self.work_dir = bank.path

    @property
    def features(self) -> np.ndarray:
        """(N, D), rows of unreadable images zero."""
        return self.bank.features

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, -1 without one."""
        return self.bank.labels

    @property
    def results(self) -> dict[str, Plain]:
        """The content of `meta.json`."""
        return dict(self.bank.meta)

    def table(self) -> Table:
        """What it holds."""
        meta = self.bank.meta
        return Table(['bank', str(self.work_dir)], [
            ['images', meta['count']], ['unreadable', meta['count'] - meta['num_valid']], ['numbers', meta['dim']],
            ['dtype', meta['dtype']], ['classes', len(meta['class_names'])], ['fingerprint', meta['fingerprint'][:16]]])

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _numbers(metrics: dict[str, Plain]) -> dict[str, Plain]:
    """The metrics that are single numbers, and of those on training data each under the name that says so."""
    flat = {**{name: value for name, value in metrics.items() if name != 'train_overlap'},
            **{f'train_overlap {name}': value for name, value in (metrics.get('train_overlap') or {}).items()}}
    return {name: value for name, value in flat.items() if isinstance(value, (int, float))}


def _by_number(folder: Path) -> tuple[str, int, str]:
    stem, _, number = folder.name.rpartition('_')
    return str(folder.parent), int(number) if number.isdecimal() else -1, stem

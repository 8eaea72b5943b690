"""The `results.csv` of one run or many as one table: encoders x tasks, one number each."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from clear.core.errors import DataError, nearest
from clear.core.files import read_text
from clear.core.logs import logger

TABLE_FILE = 'results.csv'
# The columns of a run's table that are read here.
COLUMNS = ('encoder', 'method', 'pretrain_dataset', 'epochs', 'task', 'level', 'kind', 'seed', 'metric', 'value',
           'higher_is_better')
CHOICES = dict(level=('image', 'pixel'), kind=('semantic', 'structural'), higher_is_better=('True', 'False'))


@dataclass(frozen=True)
class Encoder:
    """An encoder of the table; what is not known is empty."""

    name: str
    method: str = ''
    pretrain_dataset: str = ''
    epochs: str = ''


@dataclass(frozen=True)
class SuiteTask:
    """A task of the table and the metric that stands for it.

    Attributes:
        level: 'image' or 'pixel'; kind: 'semantic' or 'structural'.
    """

    name: str
    metric: str
    level: str
    kind: str
    higher_is_better: bool

    @property
    def task_class(self) -> str:
        """One of the four classes, such as 'pixel structural'."""
        return f'{self.level} {self.kind}'

    @property
    def sign(self) -> int:
        """What makes more of the metric better."""
        return 1 if self.higher_is_better else -1

    @property
    def axis(self) -> str:
        """The metric as an axis on which up is better."""
        return self.metric if self.higher_is_better else f'-{self.metric}'


@dataclass(frozen=True)
class Scores:
    """Encoders x tasks.

    Attributes:
        values: (encoder, task) -> the mean over seeds.
        seeds: (encoder, task) -> the values of the seeds.
    """

    encoders: dict[str, Encoder]
    tasks: dict[str, SuiteTask]
    values: dict[tuple[str, str], float]
    seeds: dict[tuple[str, str], list[float]]

    def better(self, encoder: str, task: str) -> float | None:
        """The value, negated where lower is better; None where there is none."""
        value = self.values.get((encoder, task))
        return None if value is None else self.tasks[task].sign * value

    def column(self, task: str) -> dict[str, float]:
        """Encoder -> `better` on a task, of those that have it."""
        found = {name: self.better(name, task) for name in self.encoders}
        return {name: value for name, value in found.items() if value is not None}


def read_scores(runs: Sequence[str | Path], metrics: Mapping[str, str] | None = None) -> Scores:
    """The tables of some runs, joined. The log names means of fewer seeds than others of their task, and encoders that
    have a task but not its metric.

    Args:
        runs: folders of runs, or their `results.csv`.
        metrics: task -> the metric that stands for it; by default the first of its rows, which is the one that the
            task reports.

    Raises:
        DataError: if a file is no such table, two runs disagree on a task or an encoder, a number is there twice, or a
            metric is asked for that a task does not have.
    """
    metrics, rows = dict(metrics or {}), []
    for run in runs:
        path = Path(run) / TABLE_FILE if Path(run).is_dir() else Path(run)
        rows += [(path, number, row) for number, row in enumerate(_rows(path), start=2)]
    known = _known_metrics(rows, metrics)
    encoders: dict[str, Encoder] = {}
    tasks: dict[str, SuiteTask] = {}
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for path, number, row in rows:
        name = row['task']
        if row['metric'] != metrics.get(name, known[name][0]):
            continue
        where = f'{path}:{number}'
        _agreed(encoders, Encoder(row['encoder'], row['method'], row['pretrain_dataset'], row['epochs']), where)
        for column, allowed in CHOICES.items():
            if row[column] not in allowed:
                raise DataError(f"{where}: {column} is '{row[column]}'; expected {' or '.join(map(repr, allowed))}.")
        _agreed(tasks, SuiteTask(name, row['metric'], row['level'], row['kind'], row['higher_is_better'] == 'True'),
                where)
        seeds = cells.setdefault((row['encoder'], name), {})
        if row['seed'] in seeds:
            of_seed = f", seed {row['seed']}," if row['seed'] else ''
            raise DataError(f"{where}: {row['metric']} of {row['encoder']} on {name}{of_seed} stands there twice. Each "
                            'run counts once.')
        seeds[row['seed']] = _number(row['value'], where)
    if not cells:
        raise DataError(f'{", ".join(map(str, runs))}: no finished job.')
    for cell in dict.fromkeys((row['encoder'], row['task']) for _, _, row in rows):
        if cell not in cells:
            logger.warning('%s on %s is left out: it has no %s.', *cell, tasks[cell[1]].metric)
    _warn_of_missing_seeds(cells)
    return Scores(encoders, tasks, {cell: fmean(seeds.values()) for cell, seeds in cells.items()},
                  {cell: list(seeds.values()) for cell, seeds in cells.items()})


def _known_metrics(rows: Sequence[tuple[Path, int, Mapping[str, str]]], asked: Mapping[str, str]
                   ) -> dict[str, list[str]]:
    """Task -> the metrics of its rows, in their order.

    Raises:
        DataError: if a metric is asked for that a task does not have.
    """
    known: dict[str, list[str]] = {}
    for _, _, row in rows:
        known.setdefault(row['task'], []).append(row['metric'])
    for task, metric in asked.items():
        if task not in known:
            raise DataError(f"The tables have no task '{task}'. Nearest: {nearest(task, known) or ', '.join(known)}.")
        if metric not in known[task]:
            near = nearest(metric, known[task]) or ', '.join(dict.fromkeys(known[task]))
            raise DataError(f"Task {task} has no metric '{metric}'. Nearest: {near}.")
    return known


def _warn_of_missing_seeds(cells: Mapping[tuple[str, str], Mapping[str, float]]) -> None:
    """Say which means are of fewer seeds than others of their task, as where a job has failed."""
    most: dict[str, int] = {}
    for (_, task), seeds in cells.items():
        most[task] = max(most.get(task, 0), len(seeds))
    for (encoder, task), seeds in cells.items():
        if len(seeds) < most[task]:
            logger.warning('%s on %s: the mean of %d of %d seeds.', encoder, task, len(seeds), most[task])


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f'{path} is not there; a probing run writes {TABLE_FILE} into its work_dir.')
    reader = csv.DictReader(io.StringIO(read_text(path), newline=''))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f'{path} is no table of a probing run: it has no column {", ".join(missing)}.')
    rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(f'{path}:{number} has another number of cells than the header.')
    return rows


def _agreed(known: dict, found: Encoder | SuiteTask, where: str) -> None:
    first = known.setdefault(found.name, found)
    if first != found:
        raise DataError(f'{where}: {found} is {first} elsewhere. Tables that are joined must agree; give one of them '
                        'another name.')


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: the value is '{text}', no finite number.")
    return value

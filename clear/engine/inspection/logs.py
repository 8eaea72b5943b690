"""The numbers that a run logged, as curves: of our runs, and of `vis_data/scalars.json` of any mmengine run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from clear.core.errors import ConfigError, DataError, suggestion
from clear.core.results import RESULTS_FILE, read_results
from clear.visualization.comparison import is_number
from clear.visualization.figures import new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALARS = ('vis_data/scalars.json', '*/vis_data/scalars.json', '*.log.json')
# Places of a line, which are no curves.
_PLACES = ('epoch', 'iter', 'iteration', 'step', 'experience', 'mode')


@dataclass
class TrainingLog:
    """What one run logged.

    Attributes:
        name: of the run, for legends.
        curves: key -> (x, y), x in iterations or epochs.
        units: key -> what x counts.
        iteration_s: epoch -> mean seconds per iteration of each logged interval, where the log tells them.
    """

    name: str
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    iteration_s: dict[int, list[float]] = field(default_factory=dict)

    def add(self, key: str, x: float, y: float, unit: str) -> None:
        xs, ys = self.curves.setdefault(key, ([], []))
        xs.append(x)
        ys.append(y)
        self.units.setdefault(key, unit)


def read_log(place: str | Path) -> TrainingLog:
    """The log of a run.

    Args:
        place: a work_dir, a `results.json`, or a file of JSON lines (`scalars.json` of mmengine, `*.log.json` of its
            predecessors). Of a folder the finest is taken: scalars by iterations, else `results.json` by epochs.

    Raises:
        DataError: if there is none, or the file holds no numbers.
    """
    path = Path(place)
    if path.is_dir():
        found = [file for pattern in SCALARS for file in sorted(path.glob(pattern))]
        path = found[-1] if found else path / RESULTS_FILE  # mmengine names its folders by the time of the start
    if not path.is_file():
        raise DataError(f'{place} holds no log: neither vis_data/scalars.json nor {RESULTS_FILE}.')
    log = TrainingLog(_name_of(path))
    if path.name == RESULTS_FILE:
        _read_results(log, path)
    else:
        _read_lines(log, path)
    if not log.curves:
        raise DataError(f'{path} holds no numbers to draw.')
    return log


def _name_of(path: Path) -> str:
    folders = [part for part in path.resolve().parent.parts if part != 'vis_data']
    return folders[-1] if folders else path.stem


def _read_results(log: TrainingLog, path: Path) -> None:
    entries = read_results(path).extras.get('train_log') or []
    unit = 'experience' if any('experience' in entry for entry in entries) else 'epoch'
    for number, entry in enumerate(entries):
        for key, value in entry.items():
            if key not in _PLACES and is_number(value):
                log.add(key, entry.get(unit, number + 1), value, unit)


def _read_lines(log: TrainingLog, path: Path) -> None:
    entries = _entries_of(path)
    trained = {key for entry in entries if _is_of_training(entry) for key in entry}
    before, last = 0, (1, 0)  # iterations of earlier epochs; epoch and iteration of the last line
    for number, entry in enumerate(entries):
        if _is_of_training(entry):
            epoch = int(entry.get('epoch') or 1)
            if epoch > last[0] and entry['iter'] <= last[1]:  # mmcv's count from 1 in every epoch
                before += last[1]
            last = epoch, entry['iter']
            place, unit = before + entry['iter'], 'iteration'
            if is_number(entry.get('time')):
                log.iteration_s.setdefault(epoch, []).append(float(entry['time']))
        else:
            place, unit = entry.get('step', entry.get('epoch', number + 1)), 'epoch'
        for key, value in entry.items():
            if key not in _PLACES and is_number(value):
                # `time` is that of validation here, which is another curve.
                log.add(key if unit == 'iteration' or key not in trained else f'val/{key}', place, value, unit)


def _entries_of(path: Path) -> list[dict]:
    entries = []
    for number, line in enumerate(path.read_text(errors='replace').splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that a crash has cut
        if not isinstance(entry, dict):
            raise DataError(f'{path}:{number + 1} is no log of training: expected one JSON object per line.')
        entries.append(entry)
    return entries


def _is_of_training(entry: dict) -> bool:
    return is_number(entry.get('iter')) and entry.get('mode') != 'val'  # mmcv's lines of validation have `iter` too


def curves_figure(logs: Sequence[TrainingLog], keys: Sequence[str], title: str = '') -> Figure:
    """One panel per key, a line per run.

    Raises:
        ConfigError: for a key that no log has, with the nearest.
    """
    known = sorted({key for log in logs for key in log.curves})
    for key in keys:
        if key not in known:
            raise ConfigError(f"No log has '{key}'.{suggestion(key, known)} There are: {', '.join(known)}.")
    figure = new_figure(8, 0.6 + 3 * len(keys), title or ', '.join(log.name for log in logs)[:100],
                        ', '.join(keys))
    panels = figure.subplots(len(keys), 1, squeeze=False)[:, 0]
    styles = ('-', '--', '-.', ':')
    for panel, key in zip(panels, keys):
        units = sorted({log.units[key] for log in logs if key in log.curves})
        if len(units) > 1:
            raise ConfigError(f"Of '{key}' some logs count {units[0]}s and others {units[1]}s; compare logs of one "
                              'kind, e.g. results.json of each.')
        for number, log in enumerate(log for log in logs if key in log.curves):
            x, y = log.curves[key]
            panel.plot(x, y, label=plain_text(log.name, 60), linewidth=1.2, linestyle=styles[number % len(styles)],
                       marker='o' if len(x) < 50 else None, markersize=3)
        panel.set_ylabel(plain_text(key, 40))
        panel.set_xlabel(units[0])
        panel.grid(color='0.93')
        if len(logs) > 1:
            panel.legend(fontsize=8, frameon=False)
    return figure


@dataclass
class IterationTimes:
    """Seconds per iteration of a run.

    Attributes:
        mean_s: over all logged intervals.
        std_s: over the means of epochs.
        slowest, fastest: an epoch and its mean.
    """

    mean_s: float
    std_s: float
    slowest: tuple[int, float]
    fastest: tuple[int, float]


def iteration_times(log: TrainingLog, *, include_outliers: bool = False) -> IterationTimes:
    """How long iterations took.

    Args:
        include_outliers: count the first logged interval of every epoch too, which holds the start of the loader.

    Raises:
        DataError: if the log tells no times.
    """
    kept = {epoch: times if include_outliers or len(times) == 1 else times[1:]
            for epoch, times in log.iteration_s.items()}
    if not kept:
        raise DataError(f'{log.name}: its log tells no time of iterations; vis_data/scalars.json does.')
    means = {epoch: mean(times) for epoch, times in kept.items()}
    slowest, fastest = max(means, key=means.get), min(means, key=means.get)
    return IterationTimes(mean(each for times in kept.values() for each in times),
                          stdev(means.values()) if len(means) > 1 else 0.0, (slowest, means[slowest]),
                          (fastest, means[fastest]))

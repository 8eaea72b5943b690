"""Hyper-parameter lists: which values, in which folders, and what is said about them at the end."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.config import EXECUTION_KEYS, to_plain
from clear.core.errors import ConfigError, TrainingError, suggestion
from clear.core.files import write_csv, write_json
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, Results, read_results
from clear.engine.continual.keys import DEFAULTS, REQUIRED, check_continual_config, with_defaults
from clear.engine.repeats import CONFIDENCE, SUMMARY_FILE, Spread, summarise

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Plain

TABLE_FILE = 'sweep.csv'
HONESTY = ('These are accuracies on the test sets, so no value is called the best: one that is chosen by them would be '
           'chosen on test data. Choose on validation data, and report the test accuracy of that value alone.')


@dataclass(frozen=True)
class Point:
    """One choice of values, and the folder of its run in the work_dir; empty where nothing is swept."""

    values: dict[str, Plain] = field(default_factory=dict)
    folder: str = ''


def plan_sweep(cfg: Config) -> list[Point]:
    """The product of the lists in `sweep`, every config checked; one point without values if there is no sweep.

    Raises:
        ConfigError, RegistryError: for a key that nobody reads, a list without values or with one twice, and a value
            that cannot be.
    """
    sweep = cfg.get('sweep')
    if sweep is None:
        return [Point()]
    if not isinstance(sweep, dict) or not sweep:
        raise ConfigError(f"sweep is {sweep!r}; expected lists by key, as {{'cl_strategy.optimizer.lr': [0.1, 1.0]}}; "
                          'on the command line --cfg-options sweep.cl_strategy.optimizer.lr=[0.1,1.0]')
    lists = {key: _check_list(key, values) for key, values in _by_key(to_plain(dict(sweep)))}
    for key in lists:
        inside = [other for other in lists if other.startswith(f'{key}.')]
        if inside:
            raise ConfigError(f'sweep: {inside[0]} lies in {key}, so the values of one would replace those of the '
                              'other; sweep one of them.')
    names = _short_names(list(lists))
    points = []
    for values in product(*lists.values()):
        point = dict(zip(lists, values))
        folder = '-'.join(f'{names[key]}_{_file_name(value)}' for key, value in point.items())
        points.append(Point(point, folder))
        _check_point(cfg, point)
    if len({point.folder for point in points}) < len(points):
        raise ConfigError('sweep: two values would have the same folder; write them so that their letters and digits '
                          'differ.')
    return points


def _by_key(sweep: dict, before: str = '') -> Iterator[tuple[str, Plain]]:
    """Dotted keys and their values, also of dicts in dicts, which `--cfg-options sweep.a.b=[1,2]` makes."""
    for key, values in sweep.items():
        if isinstance(values, dict) and values:
            yield from _by_key(values, f'{before}{key}.')
        else:
            yield f'{before}{key}', values


def _check_list(key: str, values: object) -> list[Plain]:
    top = key.split('.')[0]
    if top in ('seed', 'seeds'):
        raise ConfigError(f'sweep.{key}: several seeds are asked for by seeds=[0, 1, 2].')
    if top in EXECUTION_KEYS or top in ('sweep', 'runner_type', 'default_scope'):
        raise ConfigError(f"sweep.{key}: '{top}' does not decide the result; there is nothing to compare.")
    known = {*DEFAULTS, *REQUIRED} - set(EXECUTION_KEYS)
    if top not in known:
        raise ConfigError(f"sweep: nobody reads '{key}'.{suggestion(key, known)}")
    if not isinstance(values, list) or not values:
        raise ConfigError(f'sweep.{key} is {values!r}; expected a list of values.')
    twice = [value for position, value in enumerate(values) if value in values[:position]]
    if twice:
        raise ConfigError(f'sweep.{key} has {twice[0]!r} twice.')
    return values


def _check_point(cfg: Config, values: dict[str, Plain]) -> None:
    """Refuse values that no run can have, as far as is seen without data."""
    from torch import nn

    from clear.continual.strategies.build import build_optimizer

    try:
        one = with_defaults(with_values(cfg, values))
        check_continual_config(one)
        if one['cl_strategy'].get('optimizer'):
            build_optimizer(one['cl_strategy']['optimizer'], nn.Linear(1, 1))
    except ConfigError as error:
        raise type(error)(f"sweep, {', '.join(f'{key}={value!r}' for key, value in values.items())}: {error}"
                          ) from error


def with_values(cfg: Config, values: dict[str, Plain]) -> Config:
    """A copy of a config with those values.

    Raises:
        ConfigError: for a key below something that is neither a dict nor a list.
    """
    one = copy.deepcopy(cfg)
    for key, value in values.items():
        parent, _, last = key.rpartition('.')
        target = value_at(one, parent) if parent else one
        if isinstance(target, dict) or target is one:
            target[last] = copy.deepcopy(value)
        else:
            value_at(one, key)
            target[int(last)] = copy.deepcopy(value)
    return one


def value_at(cfg: Config, key: str) -> object:
    """The value of a dotted key, in which numbers are places in lists.

    Raises:
        ConfigError: if there is none.
    """
    found, path = dict(cfg.items()), ''
    for part in key.split('.'):
        if not isinstance(found, (dict, list)):
            raise ConfigError(f"'{path}' is {found!r}, which has no key '{part}'.")
        inside = dict(found) if isinstance(found, dict) else {str(place): value for place, value in enumerate(found)}
        path = f'{path}.{part}'.lstrip('.')
        if part not in inside:
            raise ConfigError(f"'{path}' is not in the config.{suggestion(part, inside)}")
        found = found[part] if isinstance(found, dict) else found[int(part)]
    return found


def _short_names(keys: list[str]) -> dict[str, str]:
    """The last part of each key, or as much more as tells them apart."""
    last = [key.split('.')[-1] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last)}


def _file_name(value: Plain) -> str:
    return re.sub(r'[^\w.+-]+', '_', str(value)).strip('_')[:60]


# What is said at the end


def write_sweep(cfg: Config, points: Sequence[Point],
                runs: Sequence[Sequence[tuple[Path, TrainingError | None]]], seeds: Sequence[int] | None,
                work_dir: Path) -> None:
    """Write `summary.json`, `sweep.csv` and a figure, and show the table.

    Args:
        runs: folder and error of the runs of each point, one of each seed.
        seeds: of every point; None for one run each.
    """
    entries, found = [], None
    for point, group in zip(points, runs):
        results = [read_results(folder / RESULTS_FILE) for folder, error in group if error is None]
        found = next(iter(results), found)
        entry = dict(values=point.values, folder=point.folder, metrics=_metrics(results) if
                     len(results) == len(group) else {})
        failed = next((error for _, error in group if error is not None), None)
        if failed is not None:
            entry['error'] = str(failed)
        entries.append(entry)
    given = [cfg.get('seed', 0)] if seeds is None else list(seeds)
    write_json(work_dir / SUMMARY_FILE, dict(name=found.name, protocol=found.protocol, confidence=CONFIDENCE,
                                             seeds=given, metrics={}, sweep=entries))
    write_csv(work_dir / TABLE_FILE, _csv_rows(entries))
    logger.info('\n%s\n\n%s\n\nsummary  %s\ntable    %s', format_sweep(entries), HONESTY, work_dir / SUMMARY_FILE,
                work_dir / TABLE_FILE)
    if cfg.get('report', True):
        from clear.visualization.figures import write_figures
        from clear.visualization.sweeps import sweep_figure

        figure = sweep_figure(entries, found.name)
        if figure is not None:
            write_figures(dict(sweep=figure), work_dir / 'figures')
            logger.info('figure   %s', work_dir / 'figures' / 'sweep.png')


def _metrics(results: Sequence[Results]) -> dict[str, Spread | float]:
    if len(results) > 1:
        return summarise(results)['metrics']
    return {name: value for result in results for name, value in result.metrics.items()
            if isinstance(value, (int, float))}


def format_sweep(entries: Sequence[dict]) -> str:
    """A line for each choice of values, of runs with several seeds the mean and deviation of each metric."""
    rows = [[_cell(value) for value in row] for row in _rows(entries)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(text.rjust(width) for text, width in zip(row, widths)) for row in rows)


def _rows(entries: Sequence[dict]) -> Iterator[list]:
    names = list(dict.fromkeys(name for entry in entries for name in entry['metrics']))
    yield [*(key.removeprefix('cl_strategy.') for key in entries[0]['values']), *names]
    for entry in entries:
        yield [*map(str, entry['values'].values()), *(entry['metrics'].get(name) for name in names)]


def _cell(value: object) -> str:
    if value is None:
        return '-'
    if isinstance(value, dict):
        return f"{value['mean']:.3f} +- {value['std']:.3f}"
    return value if isinstance(value, str) else f'{value:.3f}'


def _csv_rows(entries: Sequence[dict]) -> Iterator[list[str]]:
    names = list(dict.fromkeys(name for entry in entries for name in entry['metrics']))
    spread = any(isinstance(entry['metrics'].get(name), dict) for entry in entries for name in names)
    columns = [column for name in names for column in ((name, f'{name}_std') if spread else (name,))]
    yield [*entries[0]['values'], 'folder', *columns, 'error']
    for entry in entries:
        cells = []
        for name in names:
            value = entry['metrics'].get(name)
            cells += ['', ''] if spread and value is None else [repr(value['mean']), repr(value['std'])] if spread \
                else ['' if value is None else repr(value)]
        yield [*map(str, entry['values'].values()), entry['folder'], *cells, entry.get('error', '')]

"""Several seeds of one config: which, whether they are finished, then mean, spread and confidence interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, TypedDict

from clear.core import dist
from clear.core.config import config_hash, is_hash_of, to_plain
from clear.core.errors import ConfigError
from clear.core.files import write_json
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, Results, read_results, stored_config
from clear.engine.checkpoint import LATEST, OUTDATED_FILE
from clear.engine.schema import computed_config, differences

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.continual.runner import ContinualRunner


class Spread(TypedDict):
    """A metric over repeats: mean, standard deviation, the ends of the interval, and the value of every run."""

    mean: float
    std: float
    low: float
    high: float
    values: list[float]


class Summary(TypedDict):
    """What `summary.json` holds."""

    name: str
    protocol: str
    confidence: float
    seeds: list[int | None]
    metrics: dict[str, Spread]


SUMMARY_FILE = 'summary.json'
CONFIDENCE = 0.95


def check_seeds(seeds: object) -> list[int]:
    """The seeds of a config.

    Raises:
        ConfigError: unless they are at least two different whole numbers.
    """
    numbers = list(seeds) if isinstance(seeds, (list, tuple)) else []
    if len(numbers) < 2 or len(set(numbers)) < len(numbers) or \
            not all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in numbers):
        raise ConfigError(f'seeds is {seeds!r}; expected at least two different whole numbers, e.g. [0, 1, 2].')
    return numbers


def seed_folder(work_dir: Path, seed: int) -> Path:
    """Where the run of a seed lies."""
    return work_dir / f'seed_{seed}'


def write_summary(folders: Sequence[Path], work_dir: Path) -> Summary:
    """Write `summary.json` of the finished runs in `folders`, one of each seed, and show it."""
    summary = summarise([read_results(folder / RESULTS_FILE) for folder in folders])
    if dist.is_main():
        write_json(work_dir / SUMMARY_FILE, summary)
        logger.info('\n%s\n\nsummary  %s', format_summary(summary), work_dir / SUMMARY_FILE)
    return summary


def is_finished(folder: Path) -> bool:
    """True if the run in `folder` has measured every row of its matrix, and is not to be replaced."""
    path = folder / RESULTS_FILE
    if not path.is_file() or (folder / OUTDATED_FILE).exists():
        return False
    measured, rows = read_results(path).progress or (0, 1)
    return measured == rows and (folder / 'report.html').is_file()


def check_finished(runs: Sequence[tuple[Config | dict, Path]]) -> None:
    """Refuse finished runs that these configs would not repeat: they must not be averaged with those to come.

    Args:
        runs: the config of a single run, with its seed, and its folder.

    Raises:
        ConfigError: naming what differs: config, seed, protocol or data.
        CheckpointError: if another form of the method wrote the run.
    """
    from clear.continual.training.versions import check_versions
    from clear.engine.checkpoint import load_checkpoint

    finished = [(cfg, folder) for cfg, folder in runs if is_finished(folder)]
    for (_, folder), runner in zip(finished, built_runners(cfg for cfg, _ in finished)):
        results = read_results(folder / RESULTS_FILE)
        changed = _differences(results, runner)
        if changed:
            raise ConfigError(f'{folder} holds a finished run that this command would not repeat: '
                              f'{"; ".join(changed)}. Resume with the same config and data, replace every run with '
                              '--overwrite, or choose another folder with --work-dir.')
        if (folder / LATEST).is_file():
            methods = load_checkpoint(folder / LATEST)['progress'].get('methods', {})
            check_versions(folder / LATEST, methods, runner.strategy)


def built_runners(cfgs: Iterable[Config]) -> Iterator[ContinualRunner]:
    """A built runner of each config in turn; neighbours of one scenario share its data."""
    from clear.engine.continual.runner import ContinualRunner

    last: ContinualRunner | None = None
    for cfg in cfgs:
        runner = ContinualRunner(cfg)
        if last is not None and last.cfg['scenario'] == runner.cfg['scenario']:
            runner.share_data(last)
        runner.build()
        yield runner
        last = runner


def _differences(results: Results, runner: ContinualRunner) -> list[str]:
    """Where a finished run is not what a built runner would do, as `key: there -> here`."""
    from clear.continual.training.versions import without_remedies

    saved = stored_config(results)
    asked = without_remedies(to_plain(runner.cfg), saved, runner.strategy) if 'cl_strategy' in saved else runner.cfg
    changed = []
    if not is_hash_of(results.config_hash, asked):
        there, here = (computed_config({**config, 'seed': runner.cfg['seed']}) for config in (saved, asked))
        changed = differences(there, here) if saved else []
        changed = changed or [f'config_hash: {results.config_hash} -> {config_hash(asked)}']
    there = dict(seed=results.seeds.get('train'), protocol=results.protocol,
                 data_fingerprint=results.extras.get('data_fingerprint'))
    here = dict(seed=runner.cfg['seed'], protocol=runner.results().protocol, data_fingerprint=runner.info.fingerprint)
    return changed + differences(there, here)


def summarise(runs: Sequence[Results]) -> Summary:
    """Mean, standard deviation and confidence interval of every metric over repeats.

    The deviation is that of a sample (N - 1); the interval is mean +- t s / sqrt(N) with Student's t of N - 1 degrees
    of freedom at 95 %, for normally distributed repeats.
    """
    from scipy.stats import t

    metrics: dict[str, Spread] = {}
    for name in runs[0].metrics:
        values = [run.metrics.get(name) for run in runs]
        if not all(isinstance(value, (int, float)) for value in values):
            continue
        spread = stdev(values)
        half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread / math.sqrt(len(values))
        metrics[name] = dict(mean=mean(values), std=spread, low=mean(values) - half, high=mean(values) + half,
                             values=values)
    return dict(name=runs[0].name, protocol=runs[0].protocol, confidence=CONFIDENCE,
                seeds=[run.seeds.get('train') for run in runs], metrics=metrics)


def format_summary(summary: Summary) -> str:
    """One line per metric: mean, deviation and interval."""
    lines = [f"{len(summary['seeds'])} seeds of {summary['name']}, mean +- std [95 % interval of the mean]"]
    for name, item in summary['metrics'].items():
        lines.append(f"{name:18} {item['mean']:.3f} +- {item['std']:.3f} [{item['low']:.3f}, {item['high']:.3f}]")
    return '\n'.join(lines)

"""Several seeds of one config as one command: a run per seed, then mean, spread and confidence interval."""

from __future__ import annotations

import ast
import copy
import gc
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, TypedDict

from clear.core import dist
from clear.core.config import config_hash, is_hash_of, to_plain
from clear.core.errors import ConfigError
from clear.core.files import write_json
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, Results, read_results
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


def run_seeds(cfg: Config | dict, seeds: Sequence[int], work_dir: Path, run: Callable[[dict, Path], None]) -> Summary:
    """Run a config once per seed, into `work_dir/seed_<n>`, and write `summary.json`.

    Runs that are finished are left as they are, so an interrupted command is continued by the same command with
    `--resume`.

    Args:
        cfg: of one run; `seed` and `work_dir` are filled in.
        run: trains one config in its folder.

    Returns:
        What `summarise` gives.
    """
    for position, seed in enumerate(seeds):
        folder = work_dir / f'seed_{seed}'
        if is_finished(folder):
            logger.info('seed %d is finished: %s', seed, folder)
            continue
        one = copy.deepcopy(cfg)
        one.pop('seeds', None)
        one['seed'], one['work_dir'] = seed, str(folder)
        logger.info('\nseed %d (%d of %d)', seed, position + 1, len(seeds))
        run(one, folder)
        gc.collect()  # A runner is a circle, which would keep its data until the collector next looks at everything.
    summary = summarise([read_results(work_dir / f'seed_{seed}' / RESULTS_FILE) for seed in seeds])
    if dist.is_main():
        write_json(work_dir / SUMMARY_FILE, summary)
        logger.info('\n%s\n\nsummary  %s', format_summary(summary), work_dir / SUMMARY_FILE)
    return summary


def is_finished(folder: Path) -> bool:
    """True if the run in `folder` has measured every row of its matrix."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return False
    measured, rows = read_results(path).progress or (0, 1)
    return measured == rows and (folder / 'report.html').is_file()


def check_finished(cfg: Config | dict, seeds: Sequence[int], work_dir: Path) -> None:
    """Refuse finished seeds that this config would not repeat: they must not be averaged with those to come.

    Raises:
        ConfigError: naming what differs: config, seed, protocol or data.
        CheckpointError: if another form of the method wrote the seed.
    """
    from clear.continual.training.versions import check_versions
    from clear.engine.checkpoint import LATEST, load_checkpoint
    from clear.engine.continual.runner import ContinualRunner

    finished = [seed for seed in seeds if is_finished(work_dir / f'seed_{seed}')]
    if not finished:
        return
    runner = ContinualRunner({key: value for key, value in cfg.items() if key != 'seeds'})
    runner.build()
    for seed in finished:
        folder = work_dir / f'seed_{seed}'
        results = read_results(folder / RESULTS_FILE)
        changed = _differences(results, runner, seed)
        if changed:
            raise ConfigError(f'{folder} holds a finished run that this command would not repeat: '
                              f'{"; ".join(changed)}. Resume with the same config and data, replace every seed with '
                              '--overwrite, or choose another folder with --work-dir.')
        if (folder / LATEST).is_file():
            methods = load_checkpoint(folder / LATEST)['progress'].get('methods', {})
            check_versions(folder / LATEST, methods, runner.strategy)


def _differences(results: Results, runner: ContinualRunner, seed: int) -> list[str]:
    """Where a finished run is not what a built runner would do with this seed, as `key: there -> here`."""
    from clear.continual.training.versions import without_remedies

    saved = _config_of(results)
    asked = without_remedies(to_plain(runner.cfg), saved, runner.strategy) if 'cl_strategy' in saved else runner.cfg
    changed = []
    if not is_hash_of(results.config_hash, asked):
        there, here = (computed_config({**config, 'seed': seed}) for config in (saved, asked))
        changed = differences(there, here) if saved else []
        changed = changed or [f'config_hash: {results.config_hash} -> {config_hash(asked)}']
    there = dict(seed=results.seeds.get('train'), protocol=results.protocol,
                 data_fingerprint=results.extras.get('data_fingerprint'))
    here = dict(seed=seed, protocol=runner.results().protocol, data_fingerprint=runner.info.fingerprint)
    return changed + differences(there, here)


def _config_of(results: Results) -> dict[str, object]:
    """The config that stands in a results file; empty if it cannot be read there."""
    try:
        lines = ast.parse(results.extras.get('config_text') or '').body
        return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
    except (SyntaxError, ValueError, AttributeError, TypeError):
        return {}


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

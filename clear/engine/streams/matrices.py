"""What a stream measures on every bucket after each bucket: matrices with the CLEAR metrics, as table and figure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, Results, software, write_results
from clear.engine.streams.over_time_table import format_results, matrix_metrics, write_table
from clear.engine.training.keys import computed_config, runner_config_hash
from clear.evaluation.over_time import EACH_BUCKET

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Options, Plain

PROTOCOL = 'clear/stream/v1'
TABLE_FILE, FIGURES, REPORT = 'results.csv', 'figures', 'report.html'
EVALUATION_KEYS = {'data', 'tasks', 'batch_size', 'num_workers'}


def check_evaluation(options: object) -> dict[str, Plain] | None:
    """`stream.evaluation` as it is; None if there is none.

    Raises:
        ConfigError: for other keys, or without data or tasks.
    """
    if options is None:
        return None
    example = "dict(data=dict(test=dict(type=...)), tasks=[dict(type='ZeroShot')])"
    if not isinstance(options, dict):
        raise ConfigError(f'stream.evaluation is {options!r}; expected {example}.')
    check_keys('stream.evaluation', options, EVALUATION_KEYS, 'evaluation')
    data, tasks = options.get('data'), options.get('tasks')
    if not isinstance(data, dict) or 'test' not in data:
        raise ConfigError(f'stream.evaluation.data is {data!r}; expected the images of every split, {example}.')
    if not isinstance(tasks, list) or not tasks or not all(isinstance(each, dict) and 'type' in each for each in tasks):
        raise ConfigError(f'stream.evaluation.tasks is {tasks!r}; expected {example}.')
    return options


def evaluation_hook(evaluation: Mapping[str, Plain], buckets: Sequence[str]) -> Options:
    """The hook that measures every bucket at the end of a run."""
    # Beyond any number of epochs: what is left is the last one, which is always measured.
    return dict(evaluation, type='TaskHook', buckets=list(buckets), interval=10 ** 9)


def require_measured(evaluation: Mapping, buckets: Sequence[str], metrics: Mapping[str, Plain], through: str) -> None:
    """Refuse to go on without a number that the matrices need.

    Raises:
        DataError: naming those that the run on bucket `through` did not leave.
    """
    absent = [f'{label}/{bucket}' for label in map(_label, evaluation['tasks']) for bucket in buckets
              if f'{label}/{bucket}' not in metrics]
    if absent:
        raise DataError(f'The run on bucket {through} left no {", ".join(absent)}, which stream.evaluation measures '
                        'after its last epoch. Did a hook end the run before?')


def report_matrices(cfg: Config, evaluation: Mapping, buckets: Sequence[str], measured: Sequence[Mapping[str, Plain]],
                    work_dir: Path, branched_from: Mapping[str, Plain] | None = None) -> Results:
    """Matrices of a finished stream, rows = trained through bucket i, columns = tested on bucket j.

    They are printed, and written with the CLEAR metrics to `results.json`, `results.csv` and `figures/`.

    Args:
        measured: the metrics of the run on each bucket.
        branched_from: of a branch where it began; rows before are those of another run.
    """
    names, owns = list(buckets), list(range(len(buckets)))
    matrices, metrics, undefined = {}, {}, {}
    for task in evaluation['tasks']:
        label = _label(task)
        matrix = [[row.get(f'{label}/{bucket}') for bucket in names] for row in measured]
        name = f'{label}/{EACH_BUCKET}'
        values, undefined[name] = matrix_metrics(matrix, owns, names)
        matrices[name] = matrix
        metrics.update({f'{name}/{metric}': value for metric, value in values.items()})
    first = next(iter(matrices.values()))
    is_fraction = all(value is None or 0 <= value <= 1 for row in first for value in row)
    rows = [dict(name=f'bucket {name}', through=name, file=None) for name in names]
    results = Results(
        name=cfg.get('name') or work_dir.name, runner='StreamRunner', protocol=PROTOCOL, metrics=metrics,
        acc_matrix=first if is_fraction else None,
        config_hash=runner_config_hash(computed_config(cfg, dist.world_size())), seeds=dict(train=cfg.get('seed')),
        **software(), world_size=dist.world_size(),
        extras=dict(bucket_names=names, checkpoints=rows, matrices=matrices, undefined=undefined,
                    **({} if branched_from is None else dict(branched_from=dict(branched_from)))))
    write_results(work_dir / RESULTS_FILE, results)
    write_table(work_dir / TABLE_FILE, results)
    _draw(results, owns, work_dir)
    logger.info('%s\n\nresults  %s', format_results(results), work_dir / RESULTS_FILE)
    return results


def _label(task: Mapping) -> str:
    return str(task.get('name') or task['type'])


def _draw(results: Results, owns: Sequence[int], work_dir: Path) -> None:
    from clear.visualization.figures import write_figures
    from clear.visualization.report import write_report
    from clear.visualization.representation import representation_figure

    extras = results.extras
    rows = [each['name'] for each in extras['checkpoints']]
    write_figures({name.replace('/', '_'): representation_figure(
        matrix, rows, extras['bucket_names'], owns, results.name, f'{name.rsplit("/", 1)[0]}, on each bucket',
        name.rsplit('/', 1)[0])
        for name, matrix in extras['matrices'].items()}, work_dir / FIGURES)
    write_report(results, work_dir / REPORT, date=time.time())

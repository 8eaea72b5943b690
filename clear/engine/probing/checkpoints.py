"""Every checkpoint of an alignment run on the same tasks: a table with one row each, and curves over the training."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.checks import check_text
from clear.core.config import to_plain
from clear.core.errors import ConfigError, TrainingError
from clear.core.files import atomic_writer, load_tensors
from clear.core.logs import logger, setup_logging
from clear.core.programs.startup import set_threads
from clear.core.storage.damage import COUNT, check_shape
from clear.engine.checkpoint import numbered_checkpoints
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.tasks import build_task, task_options
from clear.engine.work_dir import held
from clear.evaluation.task import needs_of, reads_text_alone
from clear.models.alignment.encoder import run_checkpoint

if TYPE_CHECKING:
    from clear.core.types import Plain

FOLDER = 'evaluation'
TABLE_FILE = 'evaluation_metrics_all.csv'
SINGLE_FILE = 'single_evaluation_metrics@{}.csv'
FIGURE_FILE = 'metrics_over_training'
_HOOK = 'TaskHook'


@dataclass
class Row:
    """A checkpoint with what was measured of it.

    Attributes:
        checkpoint: as an `AlignedRun` takes it; the name is that of the file.
        metrics: '<task>/<metric>' -> value; main: task -> the metric that it reports.
    """

    name: str
    checkpoint: str
    epoch: int
    iteration: int
    metrics: dict[str, float] = field(default_factory=dict)
    main: dict[str, str] = field(default_factory=dict)


class CheckpointScan:
    """Measures the checkpoints of a run one after another, each in a folder of its own, and skips what is done.

    A checkpoint whose task fails has empty cells; the others go on. Weights that have changed under the same name, and
    tasks or data that have changed, are measured again.

    Args:
        run: the work_dir of an alignment.
        cfg: a probing config, whose encoders are not read; None takes the tasks that the run itself measured while it
            trained.
        checkpoints: their names, `'epoch_3'`, `'best'` ...; none for all that the run keeps.
        out: where everything is written; by default the folder `evaluation` of the run.

    Raises:
        CheckpointError: if there is no run, or a checkpoint is not there.
        ConfigError: for a config that cannot be run, or a run that measured nothing while no config is given.
    """

    def __init__(self, run: str | Path, cfg: dict | None = None, *, checkpoints: Sequence[str] = (),
                 out: str | Path | None = None):
        self.run_dir = Path(check_text('run', str(run)))
        self.is_whole = not checkpoints
        self.rows = [_row(self.run_dir, name) for name in checkpoints] if checkpoints else kept_rows(self.run_dir)
        self.out = self.run_dir / FOLDER if out is None else Path(out)
        names = [row.name for row in self.rows]
        if len({*names}) < len(names):
            raise ConfigError(f'checkpoints: two of {", ".join(names)} have one name.')
        cfg = _tasks_of_run(self.run_dir, self.rows[0].checkpoint) if cfg is None else to_plain(cfg)
        cfg.setdefault('banks', {}).setdefault('root', str(self.out / 'banks'))
        self.cfg = with_defaults(cfg)
        check_probe_config(self._config(self.rows[0]))

    def describe(self) -> str:
        """What will be measured."""
        return '\n'.join([f'run          {self.run_dir}', f'checkpoints  {", ".join(row.name for row in self.rows)}',
                          f'tasks        {", ".join(str(t.get("name") or t["type"]) for t in self.cfg["tasks"])}',
                          f'results      {self.out}'])

    def plan(self) -> None:
        """Build every encoder and read all data; nothing is encoded or written.

        Raises:
            ClearError: for the first that cannot be as the config has it.
        """
        for row in self.rows:
            runner = self._runner(row)
            runner.resume()
            runner.plan()

    def run(self) -> list[Path]:
        """Measure what is not done yet; the tables. They are written anew after each checkpoint.

        Raises:
            TrainingError: at the end, if a task failed; the others are measured and written.
        """
        failed = []
        with held(self.out):
            for place, row in enumerate(self.rows):
                runner = self._runner(row)
                runner.resume()
                try:
                    results = runner.run()
                except TrainingError as error:
                    failed.append(f'{row.name}: {error}')
                    results = runner.results()
                row.metrics = {name.partition('/')[2]: value for name, value in results.metrics.items()}
                row.main = {job.task: job.result['metric'] for job in runner.jobs if job.result}
                paths = self._write(self.rows[:place + 1])
                logger.info('checkpoint %d/%d  %s', place + 1, len(self.rows), row.name)
            if self.is_whole and len(self.rows) > 1:
                self._draw()
        logger.info('\n%s', '\n'.join(f'table    {path}' for path in paths))
        if failed:
            raise TrainingError(f'{len(failed)} of {len(self.rows)} checkpoints have failed tasks; the same command '
                                'tries these alone again.\n' + '\n'.join(failed))
        return paths

    def _config(self, row: Row) -> dict[str, Any]:
        return {**self.cfg, 'name': f'{self.run_dir.name} {row.name}',
                'encoders': {row.name: dict(run=str(self.run_dir), checkpoint=row.checkpoint,
                                            info=dict(epochs=row.epoch))}}

    def _runner(self, row: Row) -> ProbeRunner:
        return ProbeRunner(self._config(row), self.out / row.name)

    def _write(self, rows: Sequence[Row]) -> list[Path]:
        if self.is_whole:
            return [_write_table(self.out / TABLE_FILE, rows)]
        return [_write_table(self.out / SINGLE_FILE.format(row.name), [row]) for row in rows]

    def _draw(self) -> None:
        from clear.visualization.figures import write_figures
        from clear.visualization.probing_figures import curves_figure

        by_epoch = len({row.epoch for row in self.rows}) == len(self.rows)
        tasks = dict(task for row in self.rows for task in row.main.items())
        panels = {task: {metric: [row.metrics.get(f'{task}/{metric}', float('nan')) for row in self.rows]}
                  for task, metric in tasks.items()}
        if panels:
            figure = curves_figure(self.run_dir.name, 'What each checkpoint measures, over the training',
                                   [row.epoch if by_epoch else row.iteration for row in self.rows],
                                   {f'{task} [{metric}]': lines for (task, metric), lines in
                                    zip(tasks.items(), panels.values())}, 'epoch' if by_epoch else 'iteration')
            write_figures({FIGURE_FILE: figure}, self.out / 'figures')


def evaluate_checkpoints(run: str | Path, cfg: dict | None = None, *, checkpoints: Sequence[str] = (),
                         out: str | Path | None = None, device: str | None = None, dry_run: bool = False) -> None:
    """See `CheckpointScan`, whose errors it raises."""
    setup_logging(None)
    scan = CheckpointScan(run, cfg, checkpoints=checkpoints, out=out)
    if device is not None:
        scan.cfg['device'] = device
    set_threads(scan.cfg['threads'])
    logger.info('%s', scan.describe())
    if dry_run:
        scan.plan()
        logger.info('dry run: nothing was encoded or written')
    else:
        scan.run()


def kept_rows(run: Path) -> list[Row]:
    """The checkpoints of a run in the order of training: every `epoch_*` and `iter_*`, and of `latest` and `best` those
    that are none of them.

    Raises:
        CheckpointError: if there is none, or one is damaged.
    """
    names = [path.stem for kind in ('epoch', 'iter') for path in numbered_checkpoints(run, kind)]
    rows = [_row(run, name) for name in names]
    for name in ('latest', 'best'):
        if (run / f'{name}.pth').is_file() or (name == 'latest' and not rows):
            row = _row(run, name)
            if row.iteration not in {each.iteration for each in rows}:
                rows.append(row)
    return sorted(rows, key=lambda row: row.iteration)


def _row(run: Path, name: str) -> Row:
    path = run_checkpoint(run, name)
    saved = load_tensors(path)
    check_shape(path, saved, dict(progress=dict(epoch=COUNT, iter=COUNT)))
    return Row(path.stem, name, saved['progress']['epoch'], saved['progress']['iter'])


def _tasks_of_run(run: Path, name: str) -> dict[str, Any]:
    """A probing config of the tasks that a run measured while it trained."""
    path = run_checkpoint(run, name)
    config: Mapping[str, Plain] = load_tensors(path)['config']
    seed = config.get('seed') or 0
    tasks = []
    for hook in config.get('custom_hooks') or ():
        if not isinstance(hook, Mapping) or hook.get('type') != _HOOK or hook.get('buckets'):
            continue
        for task in hook['tasks']:
            needs = needs_of(build_task(task_options(task, seed)))
            tasks.append({**task, **({} if reads_text_alone(needs) else dict(data=hook['data']))})
    if not tasks:
        raise ConfigError(f'{path}: its run measured no tasks while it trained ({_HOOK}); give a probing config with '
                          'tasks and data: --config configs/evaluation/....py')
    return dict(tasks=to_plain(tasks), seed=seed)


def _write_table(path: Path, rows: Sequence[Row]) -> Path:
    """A row per checkpoint, a column per metric, atomically; what failed is empty, floats in full precision."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    with atomic_writer(path, 'w') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['checkpoint', 'epoch', 'iteration', *names])
        for row in rows:
            writer.writerow([row.name, row.epoch, row.iteration, *(row.metrics.get(name, '') for name in names)])
    return path

"""Every checkpoint of an alignment run on the same tasks: a table with one row each, and curves over the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.checks import check_text
from clear.core.config import load_config, to_plain
from clear.core.errors import CheckpointError, ConfigError, TrainingError
from clear.core.files import load_tensors
from clear.core.logs import logger, setup_logging
from clear.core.programs.startup import set_threads
from clear.core.storage.damage import COUNT, check_shape
from clear.engine.checkpoint import numbered_checkpoints
from clear.engine.probing.checkpoint_table import Row, read_table, write_table
from clear.engine.probing.jobs import plan_jobs
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.tasks import build_task, task_options
from clear.engine.probing.work.records import JOBS_FILE, finished_jobs
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


class CheckpointScan:
    """Measures the checkpoints of a run one after another, each in a folder of its own, and skips what is done.

    A checkpoint whose task fails has empty cells, one that cannot be read is left out; the others go on. Weights that
    have changed under the same name, and data that have changed, are measured again. Rows of an earlier call whose
    checkpoint is gone by now, as a run under way keeps its newest alone, stay as they were measured.

    A folder holds one list of tasks, which may grow: numbers of other tasks are never replaced.

    Args:
        run: the work_dir of an alignment.
        cfg: a probing config, whose encoders are not read; None takes the tasks that the run itself measured while it
            trained.
        checkpoints: their names, `'epoch_3'`, `'best'` ...; none for all that the run keeps.
        name: of the config. What it measures has a folder of its own of this name, below `evaluation`.
        out: where everything is written; by default the folder `evaluation` of the run, or that of `name` in it.

    Raises:
        CheckpointError: if there is no run, a checkpoint is not there, or none can be read.
        ConfigError: for a config that cannot be run, a run that measured nothing while no config is given, or tasks
            that are not those of the numbers in `out`.
    """

    def __init__(self, run: str | Path, cfg: dict | None = None, *, checkpoints: Sequence[str] = (), name: str = '',
                 out: str | Path | None = None):
        self.run_dir = Path(check_text('run', str(run)))
        if (self.run_dir / 'config.py').is_file():
            load_config(self.run_dir / 'config.py')  # its `custom_imports`: the model may be of the user's own classes
        self.is_whole = not checkpoints
        self.out = self.run_dir / FOLDER / name if out is None else Path(out)
        self.given = [*checkpoints] or kept_names(self.run_dir)
        self.paths = [run_checkpoint(self.run_dir, each) for each in self.given]
        self.rows, self.damaged = self._read_rows()
        cfg = _tasks_of_run(self._path(self.rows[0])) if cfg is None else to_plain(cfg)
        banks = self.run_dir / FOLDER if out is None else self.out  # those of all configs
        cfg.setdefault('banks', {}).setdefault('root', str(banks / 'banks'))
        self.cfg = with_defaults(cfg)
        check_probe_config(self._config(self.rows[0]))
        self._check_earlier(is_elsewhere=out is not None)

    def describe(self) -> str:
        """What will be measured."""
        return '\n'.join([f'run          {self.run_dir}', f'checkpoints  {", ".join(row.name for row in self.rows)}',
                          f'tasks        {", ".join(str(t.get("name") or t["type"]) for t in self.cfg["tasks"])}',
                          f'results      {self.out}', *(f'cannot be read: {each}' for each in self.damaged)])

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
            DataError: if the table of an earlier call cannot be read.
            TrainingError: at the end, if a task failed or a checkpoint is damaged; the others are measured and written.
        """
        failed: list[str] = []
        paths: list[Path] = []
        with held(self.out):
            table = {row.key: row for row in read_table(self.out / TABLE_FILE)} if self.is_whole else {}
            self._note_kept(table.values())
            for place, row in enumerate(self.rows):
                if not self._path(row).exists():
                    logger.warning('%s is gone, before it was measured: does its training still run?', row.name)
                    continue
                runner = self._runner(row)
                runner.resume()
                try:
                    results = runner.run()
                except TrainingError as error:
                    failed.append(f'{row.name}: {error}')
                    results = runner.results()
                row.metrics = {name.partition('/')[2]: value for name, value in results.metrics.items()}
                row.main = {job.task: job.result['metric'] for job in runner.jobs if job.result}
                table[row.key] = row
                paths = self._write(_in_order(table.values()))
                logger.info('checkpoint %d/%d  %s', place + 1, len(self.rows), row.name)
            if self.is_whole and len(table) > 1:
                self._draw(_in_order(table.values()))
        logger.info('\n%s', '\n'.join(f'table    {path}' for path in paths))
        self._raise_failures(failed)
        return paths

    def _raise_failures(self, failed: Sequence[str]) -> None:
        count, parts = len(self.rows) + len(self.damaged), []
        if failed:
            parts.append(f'{len(failed)} of {count} checkpoints have failed tasks; the same command tries these alone '
                         'again.\n' + '\n'.join(failed))
        if self.damaged:
            parts.append(f'{len(self.damaged)} of {count} checkpoints cannot be read; the others are measured.\n'
                         + '\n'.join(self.damaged))
        if parts:
            raise TrainingError('\n'.join(parts))

    def _read_rows(self) -> tuple[list[Row], list[str]]:
        """The checkpoints in the order of training, and what is wrong with those that cannot be read."""
        names = [path.stem for path in self.paths]
        if len({*names}) < len(names):
            raise ConfigError(f'checkpoints: two of {", ".join(names)} have one name.')
        rows, damaged = [], []
        for path in self.paths:
            if self.is_whole and not path.exists():
                continue  # a run under way has replaced it by now
            try:
                saved = load_tensors(path)
                check_shape(path, saved, dict(progress=dict(epoch=COUNT, iter=COUNT)))
            except CheckpointError as error:
                damaged.append(f'{path.stem}: {error}')
                continue
            row = Row(path.stem, saved['progress']['epoch'], saved['progress']['iter'])
            # Of a whole run `latest` and `best` are mostly one of the numbered.
            if not self.is_whole or row.iteration not in {each.iteration for each in rows}:
                rows.append(row)
        if not rows:
            raise CheckpointError('\n'.join(damaged) or f'{self.run_dir}: its checkpoints went while they were read.')
        return (_in_order(rows) if self.is_whole else rows), damaged

    def _check_earlier(self, is_elsewhere: bool) -> None:
        """Refuse a folder of numbers that those of this call would stand in the place of.

        A run that was moved as a whole has its folder with it; one elsewhere is of the run that it was made for.
        """
        planned = {(job.task, job.seed): job.task_hash for job in plan_jobs(self._config(self.rows[0]))}
        for folder in sorted(path.parent for path in self.out.glob(f'*/{JOBS_FILE}')):
            for job in finished_jobs(folder):
                if planned.get((job.task, job.seed)) != job.task_hash:
                    is_planned = any(job.task == task for task, _ in planned)
                    how = 'with other arguments or data' if is_planned else 'which is no task of this call'
                elif is_elsewhere and Path(job.encoder_cfg.get('run', '')).resolve() != self.run_dir.resolve():
                    how = 'of another run'
                else:
                    continue
                raise ConfigError(f"{folder} holds numbers of '{job.task}', {how}. They are not replaced: choose "
                                  'another folder with --out, or move this one away.')

    def _path(self, row: Row) -> Path:
        return next(path for path in self.paths if path.stem == row.name)

    def _config(self, row: Row) -> dict[str, Any]:
        given = self.given[self.paths.index(self._path(row))]
        return {**self.cfg, 'name': f'{self.run_dir.name} {row.name}',
                'encoders': {row.name: dict(run=str(self.run_dir), checkpoint=given, info=dict(epochs=row.epoch))}}

    def _runner(self, row: Row) -> ProbeRunner:
        return ProbeRunner(self._config(row), self.out / row.name)

    def _note_kept(self, earlier: Iterable[Row]) -> None:
        here, last = {row.key for row in self.rows}, max(row.iteration for row in self.rows)
        gone = [row for row in earlier if row.key not in here]
        if gone:
            logger.info('kept as measured before: %s', ', '.join(f'{row.name} (epoch {row.epoch})' for row in gone))
        renewed = {row.name for row in self.rows} - {'latest', 'best'}
        if any(row.iteration > last or row.name in renewed for row in gone):
            logger.warning('Some of these are of no training that leads to the checkpoints of now. If %s was trained '
                           'anew, move %s away.', self.run_dir, self.out)

    def _write(self, rows: Sequence[Row]) -> list[Path]:
        if self.is_whole:
            return [write_table(self.out / TABLE_FILE, rows)]
        return [write_table(self.out / SINGLE_FILE.format(row.name), [row]) for row in rows]

    def _draw(self, rows: Sequence[Row]) -> None:
        from clear.visualization.figures import write_figures
        from clear.visualization.probing_figures import curves_figure

        by_epoch = len({row.epoch for row in rows}) == len(rows)
        tasks = dict(task for row in rows for task in row.main.items())
        panels = {task: {metric: [row.metrics.get(f'{task}/{metric}', float('nan')) for row in rows]}
                  for task, metric in tasks.items()}
        if panels:
            figure = curves_figure(self.run_dir.name, 'What each checkpoint measures, over the training',
                                   [row.epoch if by_epoch else row.iteration for row in rows],
                                   {f'{task} [{metric}]': lines for (task, metric), lines in
                                    zip(tasks.items(), panels.values())}, 'epoch' if by_epoch else 'iteration')
            write_figures({FIGURE_FILE: figure}, self.out / 'figures')


def evaluate_checkpoints(run: str | Path, cfg: dict | None = None, *, checkpoints: Sequence[str] = (),
                         name: str = '', out: str | Path | None = None, device: str | None = None,
                         dry_run: bool = False) -> None:
    """See `CheckpointScan`, whose errors it raises."""
    setup_logging(None)
    scan = CheckpointScan(run, cfg, checkpoints=checkpoints, name=name, out=out)
    if device is not None:
        scan.cfg['device'] = device
    set_threads(scan.cfg['threads'])
    logger.info('%s', scan.describe())
    if dry_run:
        scan.plan()
        logger.info('dry run: nothing was encoded or written')
    else:
        scan.run()


def kept_names(run: Path) -> list[str]:
    """The checkpoints of a run: every `epoch_*` and `iter_*`, then `latest` and `best`; `latest` if there is none."""
    names = [path.stem for kind in ('epoch', 'iter') for path in numbered_checkpoints(run, kind)]
    return [*names, *(name for name in ('latest', 'best') if (run / f'{name}.pth').is_file())] or ['latest']


def _in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.iteration)


def _tasks_of_run(path: Path) -> dict[str, Any]:
    """A probing config of the tasks that the run of a checkpoint measured while it trained."""
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

"""Frozen encoders on many tasks: find or make the banks, run every task, keep what is done, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.config import config_hash, to_plain
from clear.core.configs.building import building
from clear.core.errors import ClearError, ConfigError, DataError, Interrupted, TrainingError
from clear.core.files import write_text
from clear.core.logs import logger
from clear.core.programs.signals import on_stop, received
from clear.core.programs.startup import choose_device
from clear.core.results import RESULTS_FILE, Results, config_text, software, write_results
from clear.engine.probing.jobs import Job, plan_jobs
from clear.engine.probing.keys import check_probe_config, with_defaults
from clear.engine.probing.table import cells, flat_metrics, tidy_rows, write_csv
from clear.engine.probing.tasks import build_task
from clear.engine.probing.work.board import Board
from clear.engine.probing.work.collect import collect
from clear.engine.probing.work.execution import FAILURES, Executor
from clear.engine.probing.work.folders import job_folder
from clear.engine.probing.work.hands import OwnHands, hired
from clear.engine.probing.work.records import publish, restore_jobs, save_jobs
from clear.engine.probing.work.scalars import SCALARS, write_scalars
from clear.engine.probing.work.shards import Shard, shard_numbers
from clear.engine.probing.work.turns import take_turns
from clear.evaluation.task import ChecksFit
from clear.features.planned import planned_banks

if TYPE_CHECKING:
    from mmengine.config import Config
    from PIL.Image import Image

    from clear.engine.probing.work.hands import Hands

PROTOCOL = 'clear/probe/v1'
TABLE_FILE = 'results.csv'


class ProbeRunner:
    """Runs every task on every encoder. A job that fails is recorded and the others go on.

    After each job `jobs.json`, `results.json` and `results.csv` are written, so a kill loses the job under way.

    Args:
        cfg: a probing config (see `clear.engine.probing.keys`); not changed.
        work_dir: where everything is written; None writes nothing.
        shard: the part of the jobs to be done; its table and log have a folder of their own.
        is_checked: the config was checked, as a program does before it comes here.

    Raises:
        ConfigError, RegistryError: for a config that cannot be run, before any data are read.
    """

    @building('The config')
    def __init__(self, cfg: Config | dict, work_dir: Path | None = None, *, shard: Shard | None = None,
                 is_checked: bool = False):
        if dist.world_size() > 1:
            raise ConfigError('ProbeRunner works in one process; tools/extract_features.py makes banks with several.')
        self.cfg = with_defaults(cfg)
        if not is_checked:
            check_probe_config(self.cfg)
        self.work_dir = Path(work_dir) if work_dir is not None else None
        self.device = choose_device(self.cfg['device'])
        if self.work_dir is None and (self.cfg['workers'] or self.cfg['engine'] == 'ray'):
            raise ConfigError('workers hand over what they have done in a work_dir; give one, or leave workers=0.')
        self.shard = shard
        self.jobs = plan_jobs(self.cfg)
        self._planned = [(job, 1) for job in self.jobs]  # with the number of its shard
        if shard is not None:
            self._planned = [*zip(self.jobs, shard_numbers(self.jobs, shard.count))]
            self.jobs = [job for job, number in self._planned if number == shard.place]
        self._is_resumed = False
        self._executor = Executor(self.cfg, self.work_dir, self.device)

    def resume(self) -> int:
        """Take over what an earlier run in the work_dir has finished; how many jobs."""
        self._is_resumed = True
        count = restore_jobs(self.jobs, self.work_dir, self._executor.finder) if self.work_dir is not None else 0
        logger.info('resumed: %d of %d jobs are finished', count, len(self.jobs))
        return count

    @property
    def place(self) -> Path | None:
        """Where tables are written."""
        return self.work_dir if self.work_dir is None or self.shard is None else self.shard.folder(self.work_dir)

    def collect(self, others: Sequence[Path] = ()) -> Results:
        """Make the table of what shards have finished, in the work_dir and in others.

        Raises:
            DataError: naming the jobs that are missing; see `clear.engine.probing.work.collect`.
        """
        collect(self.jobs, self.work_dir, others)
        self._write_scalars(self.jobs)
        return self._finish()

    def describe(self) -> str:
        """What the run will do: encoders, tasks, and every job with its state."""
        width = max(len(job.key) for job, _ in self._planned)
        part = '' if self.shard is None else f', shard {self.shard} of {len(self._planned)},'
        lines = [f"encoders  {', '.join(self.cfg['encoders'])}",
                 f"tasks     {', '.join(dict.fromkeys(job.task for job, _ in self._planned))}",
                 f'jobs      {len(self.jobs)}{part} on {self._workers_in_words()}, '
                 f'{sum(job.state == "done" for job in self.jobs)} finished before', f'work_dir  {self.work_dir}']
        own = {job.key for job in self.jobs}
        lines += [f'  {job.key:<{width}}  {job.options["type"]:<16}  {job.hash}  '
                  + (job.state if job.key in own else f'shard {number}') for job, number in self._planned]
        return '\n'.join(lines)

    def _workers_in_words(self) -> str:
        count, engine = self.cfg['workers'], self.cfg['engine']
        if engine == 'ray':
            return f'{count or "all"} workers of Ray'
        return f'{self.device.type}' + (f', {count} workers' if count else '')

    @building('The config')
    def plan(self) -> None:
        """Build every encoder and read every data source of the jobs to be done; nothing is encoded or written.

        Jobs whose data are missing are named; in a run they fail, and the others go on.

        Raises:
            ConfigError, CheckpointError: for the first encoder or source that cannot be as the config has it.
        """
        with planned_banks():
            for job in self.jobs:
                try:
                    if job.state != 'done':
                        self._executor.finder.check(job)
                        found = self._executor.finder.find(job)
                        task = build_task(job.options, str(self.device))
                        if isinstance(task, ChecksFit):
                            task.check_fit(*found)
                except DataError as error:
                    logger.warning('%s would fail: %s', job.key, error)

    def run(self) -> Results:
        """Run what is not done yet.

        Raises:
            ConfigError: for a task that needs what its data cannot give, before anything is encoded.
            TrainingError: at the end, if jobs failed; everything else is done and written.
            Interrupted: after SIGTERM or Ctrl-C; finished jobs are kept.
        """
        todo = [job for job in self.jobs if job.state != 'done']
        for job in todo:
            self._executor.finder.check(job)
        self._write_scalars(self.jobs)  # of what an earlier run finished: it may have been killed just before
        with on_stop(_stop), self._hired() as hands, Board(len(todo), hands.is_apart).shown() as board:
            try:
                for job in take_turns(hands, todo, self._is_resumed, partial(self._begun, board), board.look):
                    board.end(job)
                    self._save()
                    self._write_scalars([job])
                    if received():  # a library caught what the signal raised
                        _stop()
            except (Interrupted, KeyboardInterrupt, SystemError):  # the last is what Ray makes of one in a handler
                for job in todo:
                    job.state = 'pending' if job.state == 'running' else job.state
                self._save()
                if received():
                    _stop()
                raise
        return self._finish()

    @contextmanager
    def _hired(self) -> Iterator[Hands]:
        """Who does the jobs."""
        if not self.cfg['workers'] and self.cfg['engine'] != 'ray':
            yield OwnHands(self._executor.do, self.device)
            return
        with hired(self.cfg, self.work_dir, self.device, self._lost) as hands:
            yield hands

    def _begun(self, board: Board, job: Job, where: str) -> None:
        board.begin(job, where)
        if self.work_dir is not None:
            save_jobs(self.jobs, self.place)

    def _write_scalars(self, jobs: Sequence[Job]) -> None:
        for job in jobs if self.cfg['tensorboard'] and self.work_dir is not None else ():
            try:
                if job.state == 'done':
                    write_scalars(job_folder(self.work_dir, job.key), job.task, self.work_dir / SCALARS / job.key)
            except DataError as error:  # the result is there, its curves are not
                logger.warning('%s: %s', job.key, error)

    def _lost(self, job: Job, how: str) -> None:
        """Note a job whose worker was lost: nobody else does."""
        job.state, job.error, job.result = 'failed', how, None
        write_text(self.work_dir / FAILURES / f'{job.key}.txt', f'{how}\n')
        publish(job, self.work_dir)

    # Results

    def results(self) -> Results:
        """The results of what is finished."""
        return Results(
            name=self.cfg['name'] or 'probe', runner=type(self).__name__, protocol=PROTOCOL,
            metrics=flat_metrics(self.jobs), config_hash=config_hash(self.cfg), seeds=dict(train=self.cfg['seed']),
            **software(), timing={job.key: job.time_s for job in self.jobs if job.time_s is not None},
            extras=dict(rows=tidy_rows(self.jobs, self.cfg), jobs=cells(self.jobs),
                        config_text=config_text(to_plain(self.cfg))))

    def _save(self) -> None:
        if self.work_dir is None:
            return
        save_jobs(self.jobs, self.place)
        write_csv(self.place / TABLE_FILE, tidy_rows(self.jobs, self.cfg))
        write_results(self.place / RESULTS_FILE, self.results())
        for job in self.jobs:
            if job.state == 'done':
                (self.work_dir / FAILURES / f'{job.key}.txt').unlink(missing_ok=True)

    def _picture(self, key: str, split: str, row: int) -> Image | None:
        """An image of a job's data, for figures; None where there is none to show."""
        job = next(job for job in self.jobs if job.cell == key)
        try:
            return self._executor.finder.picture(job, split, row)
        except ClearError:  # the results are there, their data no longer are
            return None

    def _finish(self) -> Results:
        from clear.visualization.figures import write_figures
        from clear.visualization.pixels import example_figures
        from clear.visualization.probing import DRAWN_IN_PAGE, format_probe_table, probe_figures
        from clear.visualization.probing_figures import task_figures
        from clear.visualization.report import write_report

        results = self.results()
        logger.info('\n%s', format_probe_table(results))
        if self.work_dir is not None:
            self._save()
            folders = {job.key: job_folder(self.work_dir, job.key) for job in self.jobs if job.state == 'done'}
            figures = write_figures({**probe_figures(results), **task_figures(results, self._picture),
                                     **example_figures(folders)}, self.place / 'figures')
            write_report(results, self.place / 'report.html', date=time.time(),
                         figures=[path for path in figures if path.stem not in DRAWN_IN_PAGE])
            logger.info('\nresults  %s\ntable    %s\nreport   %s', self.place / RESULTS_FILE,
                        self.place / TABLE_FILE, self.place / 'report.html')
        failed = [job for job in self.jobs if job.state == 'failed']
        if failed:
            where = f' Tracebacks: {self.work_dir / FAILURES}/.' if self.work_dir is not None else ''
            raise TrainingError(f'{len(failed)} of {len(self.jobs)} jobs failed; the others are done.{where} The same '
                                'command with --resume tries only the failed ones again.\n'
                                + '\n'.join(f'  {job.key}: {job.error}' for job in failed[:10]))
        return results


def _stop() -> None:
    raise Interrupted('Stopped by a signal. Finished jobs are kept; continue with --resume.')

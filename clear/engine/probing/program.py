"""Probes of frozen encoders, from command-line arguments to a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.core.programs.startup import set_threads
from clear.engine.base import MeasuringProgram
from clear.engine.probing.keys import KNOWN, check_probe_config, with_defaults
from clear.engine.probing.work.folders import FOLDER, RESULT_FILE, job_folder
from clear.engine.probing.work.shards import Shard
from clear.engine.work_dir import held, start_logs
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.probing.runner import ProbeRunner


@RUNNERS.register_module('ProbeRunner')
class ProbeProgram(MeasuringProgram):
    """Runs every task on every encoder (see `clear.engine.probing.runner`)."""

    KEYS = KNOWN
    shard: Shard | None = None
    OPTIONS = frozenset({'shard', 'collect'})
    FILES = ('results.csv', 'jobs.json', 'report.html', 'jobs/*--*', 'tensorboard/*--*', 'shards/*-of-*',
             'failures/*.txt', 'figures/*.png')

    @classmethod
    @building('The config')
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """See `check_probe_config`."""
        if program == 'test':
            raise ConfigError('tools/test.py evaluates checkpoints of training; run a probing config with '
                              'tools/train.py.')
        if program == 'train':
            check_probe_config(with_defaults(cfg))

    def measuring(self) -> ProbeRunner:
        """The runner of the jobs."""
        from clear.engine.probing.runner import ProbeRunner

        return ProbeRunner(self.cfg, self.work_dir, shard=self.shard, is_checked=True)

    @property
    def place(self) -> Path:
        """The work_dir; of a shard its own folder there, since others work in the same work_dir."""
        return self.work_dir if self.shard is None else self.shard.folder(self.work_dir)

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """Do what is not done yet of all jobs or of a shard, or collect what shards have done."""
        shard, others = vars(args).get('shard'), vars(args).get('collect')
        if shard is not None and others is not None:
            raise ConfigError('--shard does a part of the jobs, --collect makes the table of all; give one of them.')
        if others is not None:
            self._collect(args, [Path(folder) for folder in others])
            return
        self.shard = None if shard is None else Shard.parse(shard)
        is_fresh = not (args.resume or args.overwrite or args.dry_run)
        if is_fresh and any(path.exists() for path in self._published()):
            raise ConfigError(f'{self.work_dir} already holds finished jobs. Continue with --resume, replace them with '
                              '--overwrite, or choose another folder with --work-dir.')
        super().run(args, on_built)

    def _published(self) -> Iterator[Path]:
        """Results that a run from the start would replace: of a shard those of its jobs, whoever did them."""
        if self.shard is None:
            yield from self.work_dir.glob(f'{FOLDER}/*/{RESULT_FILE}')
        elif (self.work_dir / FOLDER).is_dir():
            yield from (job_folder(self.work_dir, job.key) / RESULT_FILE for job in self.measuring().jobs)

    def _collect(self, args: argparse.Namespace, others: list[Path]) -> None:
        for option in ('resume', 'overwrite', 'amp'):
            if getattr(args, option, None):
                raise ConfigError(f'--{option}: --collect trains nothing and keeps what is there; leave it out.')
        set_threads(self.cfg.get('threads'))
        runner = self.measuring()
        if args.dry_run:
            runner.resume()
            logger.info('%s\ndry run: nothing was written', runner.describe())
            return
        with held(self.work_dir):
            start_logs(self.work_dir, self.cfg, is_resumed=False)
            runner.collect(others)

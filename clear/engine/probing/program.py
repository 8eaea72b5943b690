"""Probes of frozen encoders, from command-line arguments to a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.core.programs.startup import resume_collection, set_threads
from clear.engine.base import RunnerProgram
from clear.engine.probing.keys import KNOWN, check_probe_config, with_defaults
from clear.engine.work_dir import held, refuse_run, replacing, start_logs
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config


@RUNNERS.register_module('ProbeRunner')
class ProbeProgram(RunnerProgram):
    """Runs every task on every encoder (see `clear.engine.probing.runner`)."""

    KEYS = KNOWN
    FILES = ('results.csv', 'jobs.json', 'report.html', 'failures/*.txt', 'figures/*.png')

    @classmethod
    @building('The config')
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """See `check_probe_config`."""
        if program == 'test':
            raise ConfigError('tools/test.py evaluates checkpoints of training; run a probing config with '
                              'tools/train.py.')
        if program == 'train':
            check_probe_config(with_defaults(cfg))

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """Run what is not done yet; nothing is built before its turn comes."""
        from clear.engine.probing.runner import ProbeRunner

        cfg, work_dir = self.cfg, self.work_dir
        if args.amp:
            raise ConfigError('--amp: heads on frozen features are trained in float32; leave it out.')
        if args.resume not in (None, False, True):
            raise ConfigError('--resume takes no checkpoint for a ProbeRunner: what is finished stands in the '
                              'work_dir.')
        set_threads(cfg.get('threads'))
        runner = ProbeRunner(cfg, work_dir, is_checked=True)
        if args.dry_run:
            if args.resume:
                runner.resume()
            runner.plan()
            logger.info('%s\ndry run: nothing was computed or written', runner.describe())
            return
        with held(work_dir):
            if not args.resume and not args.overwrite:
                refuse_run(work_dir, [work_dir])
            with replacing(work_dir, args.overwrite and not args.resume):
                # A rerun may add encoders and tasks: its config is the one to keep.
                start_logs(work_dir, cfg, is_resumed=False)
            if args.resume:
                runner.resume()
            logger.info('%s', runner.describe())
            resume_collection()
            runner.run()

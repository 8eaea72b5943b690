"""Stages, from command-line arguments to finished folders."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.core.programs.startup import resume_collection, set_threads
from clear.engine.base import RunnerProgram
from clear.engine.stages.keys import KNOWN, check_stage_config, with_defaults
from clear.engine.work_dir import held, start_logs
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config


@RUNNERS.register_module('StageRunner')
class StageProgram(RunnerProgram):
    """Runs the stages of a config (see `clear.engine.stages.runner`)."""

    KEYS = KNOWN
    # --overwrite makes stages anew that it is asked for, and leaves the others.
    FILES = ('results.json',)
    MARK = 'stages'

    @classmethod
    @building('The config')
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """See `check_stage_config`."""
        if program != 'train':
            raise ConfigError('stages make data sets; run their configs with tools/curate.py.')
        check_stage_config(with_defaults(cfg))

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """Do what is not done yet.

        Args:
            args: of `tools/curate.py`, or of `tools/train.py`, which has no `--stages`.

        Raises:
            ConfigError: also for an option that stages do not have.
        """
        from clear.engine.stages.runner import StageRunner

        for option in ('amp', 'branch', 'device', 'seed'):
            if getattr(args, option, None) is not None:
                raise ConfigError(f'--{option}: stages have no such option; leave it out.')
        if args.resume not in (None, False, True):
            raise ConfigError('--resume takes no checkpoint for stages: what is finished stands in their folders.')
        set_threads(self.cfg.get('threads'))
        names = vars(args).get('stages')  # train.py has no such option
        runner = StageRunner(self.cfg, self.work_dir, names, bool(args.overwrite))
        if args.dry_run:
            runner.plan()
            logger.info('%s\ndry run: nothing was made', runner.describe())
            return
        with held(self.work_dir):
            if not args.resume and not args.overwrite:
                runner.refuse_begun()
            start_logs(self.work_dir, self.cfg, is_resumed=False)
            if on_built is not None:
                on_built()
            logger.info('%s', runner.describe())
            resume_collection()
            runner.run()

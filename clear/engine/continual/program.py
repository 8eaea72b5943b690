"""Continual learning, from command-line arguments to a finished run, or to several."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.journal import JOURNAL
from clear.core import dist
from clear.core.config import to_plain
from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.core.files import write_json
from clear.core.logs import logger
from clear.core.programs.startup import set_threads
from clear.core.storage.tracking import EVENT_FILES, WANDB_ID, wandb_files
from clear.engine.base import RunnerProgram
from clear.engine.checkpoint import ITERATION, LATEST
from clear.engine.continual.keys import KNOWN, check_continual_config, with_defaults
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.prediction.base import Classifier


@RUNNERS.register_module('ContinualRunner')
class ContinualProgram(RunnerProgram):
    """Trains a strategy over a stream (see `clear.engine.continual.runner`); with `seeds` or `sweep`, once for each."""

    KEYS = KNOWN
    FILES = (LATEST, ITERATION, JOURNAL, 'exp_*.pth', 'report.html', 'summary.json', 'sweep.csv', 'figures/*.png',
             WANDB_ID, f'tensorboard/{EVENT_FILES}', 'csv/training_results.csv', 'csv/eval_results.csv',
             *wandb_files('wandb'))
    MARK = 'cl_strategy'

    @classmethod
    @building('The config')
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """See `check_continual_config`; loggers and metrics are of training only."""
        unused = {} if program == 'train' else dict(loggers=[], metrics=[], load_from=None)
        check_continual_config(with_defaults(cfg) | unused)

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """See `RunnerProgram.run`.

        Raises:
            ConfigError: also for options that do not go together, or seeds that are none.
        """
        cfg = self.cfg
        if args.amp is not None:
            cfg['amp'] = args.amp
        if args.branch and args.resume:
            raise ConfigError('--branch starts a new run from a checkpoint, --resume continues one; give one of them.')
        if args.seed is not None:
            cfg.pop('seeds', None)
        if cfg.get('seeds') is None and cfg.get('sweep') is None:
            self._run_one(args, on_built)
        else:
            set_threads(cfg.get('threads'))
            self._run_several(args)

    def _run_one(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        from clear.engine.continual.runner import ContinualRunner

        self.runner = ContinualRunner(self.cfg, None if args.dry_run else self.work_dir, is_checked=True)
        super().run(args, on_built)

    def _run_several(self, args: argparse.Namespace) -> None:
        from clear.engine.continual.several import describe_several, run_several

        def run(cfg: Config, folder: Path, resume: bool, built: Callable[[], None]) -> None:
            options = copy.copy(args)
            options.resume, options.overwrite, options.branch = resume, not resume, None
            type(self)(cfg)._run_one(options, built)

        if args.dry_run:
            describe_several(self.cfg, self.work_dir, args)
        else:
            run_several(self.cfg, self.work_dir, args, run)

    def build(self) -> None:
        self.runner.build()

    def dry_run(self, args: argparse.Namespace) -> None:
        from clear.features import planned_banks

        with planned_banks():
            self.build()
        self.runner.work_dir = self.work_dir
        logger.info('%s\ndry run: nothing was trained or written', self.describe())

    def describe(self) -> str:
        return self.runner.describe()

    def train(self, args: argparse.Namespace) -> None:
        self.runner.train(args.resume, branch=args.branch)

    def test(self, args: argparse.Namespace) -> None:
        """Measure a checkpoint on the test set of every bucket."""
        from clear.engine.continual.runner import ContinualRunner

        cfg = self.cfg
        set_threads(cfg.get('threads'))
        cfg['loggers'], cfg['metrics'], cfg['load_from'] = [], [], None
        runner = ContinualRunner(cfg, is_checked=True)
        runner.build()
        accuracies = runner.test(Path(args.checkpoint))
        names = runner.info.column_names
        known = [value for value in accuracies if value is not None]
        mean = sum(known) / len(known) if known else None
        for name, value in zip(names, accuracies):
            logger.info('bucket %-6s %s', name, '-' if value is None else f'{value:.3f}')
        logger.info('mean %s', '-' if mean is None else f'{mean:.3f}')
        if args.out and dist.is_main():
            write_json(args.out, dict(checkpoint=str(args.checkpoint), protocol=runner.info.protocol, mean=mean,
                                      accuracy=dict(zip(names, accuracies)), config=to_plain(runner.cfg)))

    def classifier(self, checkpoint: Path, task: int | None = None) -> Classifier:
        """The model of a checkpoint, with all that its input needs."""
        from clear.engine.prediction.continual import ContinualClassifier

        return ContinualClassifier(self.cfg, checkpoint, task)

    def predict(self, args: argparse.Namespace) -> None:
        """Print the likeliest classes of images."""
        from clear.engine.prediction.program import predict

        predict(self.classifier(Path(args.checkpoint), args.task), args)

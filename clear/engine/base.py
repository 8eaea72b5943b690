"""What a runner offers the programs in `tools/`, with the usual way from a config to a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from clear.core.checks import check_shared_keys
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.core.programs.startup import resume_collection, set_threads
from clear.engine.work_dir import claimed, held, refuse_run, replacing, start_logs

if TYPE_CHECKING:
    from mmengine.config import Config


class RunnerProgram:
    """A run of one kind, as `tools/train.py` sees it; registered in `RUNNERS` under the name of its `runner_type`.

    A subclass says what it reads and writes, and how it is built, described and trained. Its module is imported for
    every run of whatever kind: what is heavy is imported where it is used. It may offer `test(args)` and
    `predict(args)` too, with the arguments of `tools/test.py` and `tools/predict.py`.

    Args:
        cfg: the `mmengine.Config` of the run, checked, with `name` and `work_dir`.
    """

    # The top-level keys that it reads.
    KEYS: ClassVar[Set[str]]
    # What it writes into its work_dir, and --overwrite removes: names and patterns, below folders that others share
    # file by file. A work_dir with results.json, latest.pth or iteration.pth holds a run; latest.pth can be resumed.
    FILES: ClassVar[Sequence[str]]
    # Of `--shard` and `--collect`, those that it has.
    OPTIONS: ClassVar[Set[str]] = frozenset()
    # A config that has this key and names no runner_type belongs to this runner.
    MARK: ClassVar[str | None] = None

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.work_dir = Path(cfg['work_dir'])

    @classmethod
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """Refuse what can be seen in the config alone, before anything is read or built; may change `cfg`.

        Args:
            program: 'train', 'test' or 'predict': what is going to be done.

        Raises:
            ConfigError, RegistryError: naming the key.
        """
        check_shared_keys(cfg)

    def build(self) -> None:
        """Read the data and build everything."""

    def describe(self) -> str:
        """What the run will do; asked when it is built."""
        return f'work_dir  {self.work_dir}'

    def train(self, args: argparse.Namespace) -> None:
        """Do the work, from `args.resume` on if that is set; the folder is this run's by now."""
        raise NotImplementedError

    def dry_run(self, args: argparse.Namespace) -> None:
        """Build everything, say what would happen, leave nothing behind."""
        self.build()
        logger.info('%s\ndry run: nothing was trained or written', self.describe())

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """Do what the arguments of `tools/train.py` say.

        Args:
            on_built: called when everything is built, before training.

        Raises:
            ConfigError: if the folder holds another run, or the run cannot be built: what was there is kept then.
        """
        set_threads(self.cfg.get('threads'))
        if args.dry_run:
            self.dry_run(args)
            return
        with claimed(self.work_dir, args.resume, args.overwrite):
            with replacing(self.work_dir, args.overwrite and not args.resume):
                start_logs(self.work_dir, self.cfg, is_resumed=bool(args.resume))
                self.build()
            if on_built is not None:
                on_built()
            logger.info('%s', self.describe())
            resume_collection()
            self.train(args)


class Measuring(Protocol):
    """Measures frozen encoders part by part, and notes every part that is finished."""

    def resume(self) -> int:
        """Take over the finished parts of an earlier run; how many."""

    def plan(self) -> None:
        """Build everything; nothing is encoded or written."""

    def describe(self) -> str:
        """What will be done."""

    def run(self) -> object:
        """Do what is not done yet, and report."""


class MeasuringProgram(RunnerProgram):
    """A run that measures frozen encoders: no checkpoint, since what is finished stands in the work_dir."""

    def measuring(self) -> Measuring:
        """What does the work; nothing is encoded or written yet."""
        raise NotImplementedError

    @property
    def place(self) -> Path:
        """The folder of the log and the results of this run."""
        return self.work_dir

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """Do what is not done yet; nothing is built before its turn comes.

        Raises:
            ConfigError: also for an option that such runs do not have.
        """
        if args.amp:
            raise ConfigError('--amp: heads on frozen features are trained in float32; leave it out.')
        if args.resume not in (None, False, True):
            raise ConfigError(f"--resume takes no checkpoint for a {self.cfg['runner_type']}: what is finished stands "
                              'in the work_dir.')
        set_threads(self.cfg.get('threads'))
        measuring = self.measuring()
        if args.dry_run:
            if args.resume:
                measuring.resume()
            measuring.plan()
            logger.info('%s\ndry run: nothing was encoded, trained or written', measuring.describe())
            return
        with held(self.place):
            if not args.resume and not args.overwrite:
                refuse_run(self.place, [self.place])
            with replacing(self.place, args.overwrite and not args.resume):
                # A rerun may add to what is measured: its config is the one to keep.
                start_logs(self.place, self.cfg, is_resumed=False)
            if args.resume:
                measuring.resume()
            logger.info('%s', measuring.describe())
            resume_collection()
            measuring.run()

"""From command-line arguments to a finished run of the ordinary Runner."""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.core.files import write_json
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE
from clear.core.storage.tracking import EVENT_FILES, WANDB_ID, wandb_files
from clear.engine.base import RunnerProgram
from clear.engine.checkpoint import ITERATION, LATEST
from clear.engine.scopes import settle
from clear.engine.training.keys import KNOWN, check_runner_config
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.engine.prediction.base import Classifier
    from clear.engine.training.runner import Runner

_TRAINING_KEYS = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr',
                  'val_dataloader', 'val_cfg', 'val_evaluator', 'load_from', 'custom_hooks')


@RUNNERS.register_module('Runner')
class TrainingProgram(RunnerProgram):
    """Trains and tests what a config in mmengine's keys says (see `clear.engine.training.runner`)."""

    KEYS = KNOWN
    FILES = (LATEST, ITERATION, 'best.pth', 'epoch_*.pth', 'iter_*.pth', '[0-9]*.log', 'vis_data/*.*', WANDB_ID,
             'report.html', 'figures/*.png', f'tensorboard/{EVENT_FILES}', *wandb_files('wandb'),
             *wandb_files('vis_data/wandb'))

    def __init__(self, cfg: Config):
        super().__init__(cfg)
        self.notes = settle(cfg).lines()

    @staticmethod
    def from_cfg(cfg: Config) -> Runner:
        """The Runner itself, for whoever builds it from the registry as mmengine does."""
        from clear.engine.training.runner import Runner

        return Runner.from_cfg(cfg)

    @classmethod
    def check(cls, cfg: Config, program: str = 'train') -> None:
        """See `check_runner_config`, of the config as `settle` leaves it."""
        settled = copy.deepcopy(cfg)
        settle(settled)
        check_runner_config(settled, is_training=program == 'train')

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """See `RunnerProgram.run`.

        Raises:
            ConfigError: also for an option that such runs do not have.
        """
        prepare(self.cfg, args)
        super().run(args, on_built)

    def dry_run(self, args: argparse.Namespace) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            self.runner = build_runner(dict(self.cfg, work_dir=scratch))
            logger.info('%s\ndry run: nothing was trained or written', self.describe())

    def build(self) -> None:
        self.runner = build_runner(self.cfg)

    def describe(self) -> str:
        from clear.engine.training.plan import describe_run

        return describe_run(self.runner, self.work_dir, self.notes)

    def train(self, args: argparse.Namespace) -> None:
        """Train in a work_dir that is ready for it.

        Raises:
            CheckpointError, DataError, TrainingError, Interrupted: see `Runner.train`.
        """
        results = self.runner.train(resume=args.resume)
        for name, value in results.metrics.items():
            logger.info('%s %s', name, '-' if value is None else f'{value:.4g}')
        logger.info('\nresults  %s', self.work_dir / RESULTS_FILE)
        if (self.work_dir / 'report.html').is_file():
            logger.info('report   %s', self.work_dir / 'report.html')

    def test(self, args: argparse.Namespace) -> None:
        """Evaluate a checkpoint on the test data, or on the validation data if there are no others."""
        test(self.cfg, Path(args.checkpoint), args.out)

    def classifier(self, checkpoint: Path, task: int | None = None) -> Classifier:
        """The model of a checkpoint, with all that its input needs.

        Raises:
            ConfigError: also for a task, which models with one head have not.
        """
        from clear.engine.prediction.ordinary import OrdinaryClassifier

        if task is not None:
            raise ConfigError('--task is for models with a head for each task; this one has one head.')
        return OrdinaryClassifier(self.cfg, checkpoint, partial(build_runner, is_training=False))

    def predict(self, args: argparse.Namespace) -> None:
        """Print the likeliest classes of images."""
        from clear.engine.prediction.program import predict

        predict(self.classifier(Path(args.checkpoint), args.task), args)


def prepare(cfg: Config, args: argparse.Namespace) -> None:
    """Put what the command line says into an ordinary config.

    Raises:
        ConfigError: for an option that such runs do not have.
    """
    if args.branch:
        raise ConfigError('--branch is for continual runs and streams. To start from the weights of another run set '
                          'load_from.')
    set_precision(cfg, args.amp)
    for vis_backend in (cfg.get('visualizer') or {}).get('vis_backends') or ():
        if vis_backend.get('type') == 'WandbVisBackend' and 'WANDB_MODE' not in os.environ and not has_wandb_key():
            os.environ['WANDB_MODE'] = 'offline'
            logger.info('W&B: no key here, so this run is logged into the work_dir; `wandb sync` uploads it later.')


def test(cfg: Config, checkpoint: Path, out: str | None) -> None:
    """Evaluate a checkpoint on the test data of an ordinary config, or its validation data if it has no others.

    Raises:
        ConfigError: if the config has neither.
    """
    from clear.engine.training.hooks.results import measured_value

    split, measured, _ = measure(cfg, checkpoint)
    metrics = {name: value for name, found in measured.items() if (value := measured_value(found)) is not None}
    for name, value in metrics.items():
        logger.info('%s %s', name, value if isinstance(value, list) else f'{value:.4g}')
    if out and dist.is_main():
        write_json(out, dict(checkpoint=str(checkpoint), split=split, metrics=metrics))


def measure(cfg: Config, checkpoint: Path, evaluator: dict | None = None
            ) -> tuple[str, dict[str, object], Runner]:
    """What the evaluators of a config find of a checkpoint.

    Args:
        evaluator: in place of the config's.

    Returns:
        The split that was measured, 'test', or 'val' where the config has no other; what was found; the runner.

    Raises:
        ConfigError: if the config has neither.
    """
    from clear.engine.checkpoint import load_model_weights

    split = 'test' if cfg.get('test_dataloader') is not None else 'val'
    if cfg.get(f'{split}_dataloader') is None:
        raise ConfigError('The config has neither test_dataloader nor val_dataloader: there is nothing to test. An '
                          'encoder alone is evaluated by a probing config, see docs/probing.md.')
    if split == 'val':
        logger.info('The config has no test data; these are the numbers of its validation data.')
        cfg = dict(cfg, test_dataloader=cfg['val_dataloader'], test_cfg={}, test_evaluator=cfg['val_evaluator'])
    kept = {key: value for key, value in cfg.items() if key not in _TRAINING_KEYS}
    if evaluator is not None:
        kept['test_evaluator'] = evaluator
    with tempfile.TemporaryDirectory() as scratch:
        runner = build_runner(dict(kept, work_dir=scratch), is_training=False)
        load_model_weights(runner.bare_model, checkpoint)
        return split, runner.test(), runner


def set_precision(cfg: Config, amp: bool | None) -> None:
    """Let `--amp`, `--no-amp` or the key `amp` decide the type of `optim_wrapper`."""
    choice = cfg.get('amp') if amp is None else amp
    wrapper = cfg.get('optim_wrapper')
    if choice is None or not isinstance(wrapper, dict):
        return
    if choice:
        wrapper['type'] = 'AmpOptimWrapper'
        if choice in ('bf16', 'fp16'):
            wrapper['dtype'] = {'bf16': 'bfloat16', 'fp16': 'float16'}[choice]
    elif wrapper.get('type') == 'AmpOptimWrapper':
        wrapper['type'] = 'OptimWrapper'
        for key in ('dtype', 'loss_scale'):
            wrapper.pop(key, None)


def build_runner(cfg: Config | dict, is_training: bool = True) -> Runner:
    """The built runner; what a constructor refuses is the config's fault.

    Raises:
        ConfigError: naming the class that could not be built.
        DataError: for a file that a data set of another library does not find.
    """
    from mmengine.config import Config

    from clear.engine.training.runner import Runner

    with building('The config'):
        runner = Runner.from_cfg(Config(dict(cfg)))
        if is_training:
            runner.build()
    return runner


def has_wandb_key() -> bool:
    """True if W&B could upload: a key in the environment or in `~/.netrc`."""
    netrc = Path.home() / '.netrc'
    return bool(os.environ.get('WANDB_API_KEY')) or netrc.is_file() and 'wandb' in netrc.read_text(errors='ignore')

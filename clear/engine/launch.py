"""From parsed command-line arguments to a finished run. The programs in `tools/` end here; runners are in `RUNNERS`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.config import find_config, load_config
from clear.core.configs.building import building
from clear.core.configs.options import parse_options
from clear.core.errors import ConfigError
from clear.core.logs import setup_logging
from clear.engine.base import RunnerProgram
from clear.engine.runners import runner_type, runners
from clear.engine.schema import check_names, check_options

if TYPE_CHECKING:
    from mmengine.config import Config


@building('The config')
def read_run_config(args: argparse.Namespace, program: str = 'train') -> Config:
    """The config of a run: the file, then `--cfg-options`, then the options with a name of their own; checked.

    Args:
        program: 'train', 'test' or 'predict': what is going to be done.

    Returns:
        The `mmengine.Config`, with `name` and `work_dir` set.

    Raises:
        ConfigError: for a missing file, a broken one, an option on a key that nobody reads, or what the runner refuses.
    """
    runners()  # before the file's custom_imports: of two runners of one name, the second is the user's
    options = args.cfg_options if isinstance(args.cfg_options, dict) else parse_options(args.cfg_options or [])
    cfg, assigned = load_config(args.config, options)
    name = runner_type(cfg)
    runner = runners()[name]
    check_options(options, assigned, runner.KEYS)
    check_names(assigned, runner.KEYS)
    for key in ('seed', 'device', 'work_dir'):
        if getattr(args, key, None) is not None:
            cfg[key] = getattr(args, key)
    runner.check(cfg, program)
    if not callable(getattr(runner, program, None)):
        raise ConfigError(f'tools/{program}.py: a {name} offers nothing of the kind; tools/train.py runs its configs.')
    stem = find_config(args.config).stem
    cfg['name'] = cfg.get('name') or stem
    cfg['work_dir'] = str(cfg.get('work_dir') or Path('work_dirs') / stem)
    return cfg


def train(args: argparse.Namespace) -> int:
    """Train as `tools/train.py` was told to. Returns the exit code."""
    with _processes(args.launcher):
        run(args)
    return 0


def run(args: argparse.Namespace) -> RunnerProgram:
    """Train in this process as `args` say; the runner that did it."""
    runner = runner_of(read_run_config(args))
    if args.resume and args.overwrite:
        raise ConfigError('--resume goes on with the run that the work_dir holds, --overwrite replaces it; give one of '
                          'them.')
    for option in ('shard', 'collect'):
        if getattr(args, option, None) is not None and option not in runner.OPTIONS:
            raise ConfigError(f'--{option} is for probing configs, which have many jobs; leave it out.')
    runner.run(args)
    return runner


def test(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint as `tools/test.py` was told to. Returns the exit code."""
    with _processes(args.launcher):
        runner_of(read_run_config(args, 'test')).test(args)
    return 0


def predict(args: argparse.Namespace) -> int:
    """Classify images with a checkpoint as `tools/predict.py` was told to. Returns the exit code."""
    setup_logging(None)
    runner_of(read_run_config(args, 'predict')).predict(args)
    return 0


def runner_of(cfg: Config) -> RunnerProgram:
    """The runner that a checked config asks for."""
    return runners()[runner_type(cfg)](cfg)


@contextmanager
def _processes(launcher: str) -> Iterator[None]:
    if launcher != 'none':
        # On import Avalanche makes a console logger, which it refuses in every process of a group but the first.
        import avalanche.training  # noqa: F401
    dist.start(launcher)
    try:
        setup_logging(None)
        yield
    finally:
        dist.stop()

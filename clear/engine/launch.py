"""From parsed command-line arguments to a finished run. The programs in `tools/` end here."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clear.core import dist
from clear.core.building import building
from clear.core.checks import check_shared_keys
from clear.core.config import find_config, load_config, to_plain
from clear.core.errors import ConfigError
from clear.core.files import write_json
from clear.core.logs import logger, setup_logging
from clear.core.options import parse_options
from clear.core.startup import resume_collection, set_threads
from clear.engine.continual.keys import KNOWN
from clear.engine.schema import check_names, check_options
from clear.engine.work_dir import claimed, held, refuse_run, replacing, start_logs

RUNNER_TYPES = ('ContinualRunner', 'ProbeRunner', 'Runner')


@building('The config')
def read_run_config(args: argparse.Namespace) -> Any:
    """The config of a run: the file, then `--cfg-options`, then the options with a name of their own.

    Returns:
        The `mmengine.Config`, with `name` and `work_dir` set.

    Raises:
        ConfigError: for a missing file, a broken one, or an option on a key that nobody reads.
    """
    options = parse_options(args.cfg_options or [])
    cfg, assigned = load_config(args.config, options)
    if runner_type(cfg) == 'ContinualRunner':
        check_options(options, assigned, KNOWN)
        check_names(assigned, KNOWN)
    elif runner_type(cfg) == 'ProbeRunner':
        from clear.engine.probing.keys import KNOWN as PROBE_KEYS

        check_options(options, assigned, PROBE_KEYS)
        check_names(assigned, PROBE_KEYS)
    else:
        from clear.engine.training.keys import KNOWN as RUNNER_KEYS
        from clear.engine.training.keys import check_runner_config, in_our_scope

        check_options(options, assigned, RUNNER_KEYS)
        in_our_scope(cfg)
        check_runner_config(cfg, assigned, is_training=not hasattr(args, 'checkpoint'))
    for key in ('seed', 'device', 'work_dir'):
        if getattr(args, key, None) is not None:
            cfg[key] = getattr(args, key)
    check_shared_keys(cfg)
    stem = find_config(args.config).stem
    cfg['name'] = cfg.get('name') or stem
    cfg['work_dir'] = str(cfg.get('work_dir') or Path('work_dirs') / stem)
    return cfg


def runner_type(cfg: dict) -> str:
    """Which runner a config asks for: `runner_type`, else by the keys it has.

    Raises:
        ConfigError: if there is none of that name.
    """
    name = cfg.get('runner_type') or ('ContinualRunner' if 'cl_strategy' in cfg else 'Runner')
    if name not in RUNNER_TYPES:
        raise ConfigError(f"runner_type '{name}' is unknown. Known: {', '.join(RUNNER_TYPES)}.")
    return name


def train(args: argparse.Namespace) -> int:
    """Train as `tools/train.py` was told to. Returns the exit code."""
    _join_processes(args.launcher)
    try:
        setup_logging(None)
        cfg = read_run_config(args)
        if runner_type(cfg) == 'ContinualRunner':
            _train_continual(cfg, args)
        elif runner_type(cfg) == 'ProbeRunner':
            _train_probes(cfg, args)
        else:
            _train_ordinary(cfg, args)
        return 0
    finally:
        dist.stop()


def _join_processes(launcher: str) -> None:
    if launcher != 'none':
        # On import Avalanche makes a console logger, which it refuses in every process of a group but the first.
        import avalanche.training  # noqa: F401
    dist.start(launcher)


def _train_continual(cfg: Any, args: argparse.Namespace) -> None:
    from clear.engine.continual.runner import ContinualRunner

    if args.amp is not None:
        cfg['amp'] = args.amp
    if args.branch and args.resume:
        raise ConfigError('--branch starts a new run from a checkpoint, --resume continues one; give one of them.')
    set_threads(cfg.get('threads'))
    work_dir = Path(cfg['work_dir'])
    if args.dry_run:
        from clear.features import planned_banks

        runner = ContinualRunner(cfg)
        with planned_banks():
            runner.build()
        runner.work_dir = work_dir
        logger.info('%s\ndry run: nothing was trained or written', runner.describe())
    elif cfg.get('seeds') is None or args.seed is not None:
        cfg.pop('seeds', None)
        _run_continual(cfg, work_dir, args)
    else:
        _run_seeds(cfg, work_dir, args)


def _run_continual(cfg: Any, work_dir: Path, args: argparse.Namespace, on_built: Callable[[], None] | None = None
                   ) -> None:
    from clear.engine.continual.runner import ContinualRunner

    runner = ContinualRunner(cfg, work_dir)
    with claimed(work_dir, args.resume, args.overwrite):
        with replacing(work_dir, args.overwrite and not args.resume):
            start_logs(work_dir, cfg, is_resumed=bool(args.resume))
            runner.build()
        if on_built is not None:
            on_built()
        logger.info('%s', runner.describe())
        resume_collection()
        runner.train(args.resume, branch=args.branch)


def _run_seeds(cfg: Any, work_dir: Path, args: argparse.Namespace) -> None:
    from clear.engine.repeats import check_finished, check_seeds, run_seeds

    seeds = check_seeds(cfg['seeds'])
    if args.resume not in (None, False, True) or args.branch:
        raise ConfigError('seeds: --resume takes no checkpoint, and --branch none of one seed; finished seeds are kept '
                          'and the others continued. Use --seed N for one of them.')
    folders = [work_dir / f'seed_{seed}' for seed in seeds]
    with held(work_dir):
        if not args.resume and not args.overwrite:
            refuse_run(work_dir, folders)
        if args.resume:
            check_finished(cfg, seeds, work_dir)
        with replacing(work_dir, args.overwrite and not args.resume, folders) as built:

            def run(one: Any, folder: Path) -> None:
                options = copy.copy(args)
                has_begun = any((folder / name).is_file() for name in ('latest.pth', 'iteration.pth'))
                options.resume = bool(args.resume) and has_begun
                options.overwrite = not options.resume
                _run_continual(one, folder, options, built)

            run_seeds(cfg, seeds, work_dir, run)


def _train_probes(cfg: Any, args: argparse.Namespace) -> None:
    from clear.engine.probing.runner import ProbeRunner

    if args.amp:
        raise ConfigError('--amp: heads on frozen features are trained in float32; leave it out.')
    if args.resume not in (None, False, True):
        raise ConfigError('--resume takes no checkpoint for a ProbeRunner: what is finished stands in the work_dir.')
    set_threads(cfg.get('threads'))
    work_dir = Path(cfg['work_dir'])
    runner = ProbeRunner(cfg, work_dir)
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


def _train_ordinary(cfg: Any, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
    if cfg.get('stream') is not None:
        from clear.engine.streams.pretraining import launch_stream

        launch_stream(cfg, args, _train_ordinary)
        return
    from clear.engine.training.program import built, dry_run, prepare, run

    prepare(cfg, args)
    set_threads(cfg.get('threads'))
    work_dir = Path(cfg['work_dir'])
    if args.dry_run:
        dry_run(cfg)
        return
    with claimed(work_dir, args.resume, args.overwrite):
        with replacing(work_dir, args.overwrite and not args.resume):
            start_logs(work_dir, cfg, is_resumed=bool(args.resume))
            runner = built(cfg)
        if on_built is not None:
            on_built()
        resume_collection()
        run(runner, work_dir, args.resume)


def test(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint as `tools/test.py` was told to. Returns the exit code."""
    from clear.engine.continual.runner import ContinualRunner

    _join_processes(args.launcher)
    try:
        setup_logging(None)
        cfg = read_run_config(args)
        if runner_type(cfg) == 'ProbeRunner':
            raise ConfigError('tools/test.py evaluates checkpoints of training; run a probing config with '
                              'tools/train.py.')
        if runner_type(cfg) == 'Runner':
            from clear.engine.training.program import test as test_ordinary

            test_ordinary(cfg, Path(args.checkpoint), args.out)
            return 0
        set_threads(cfg.get('threads'))
        cfg['loggers'], cfg['metrics'], cfg['load_from'] = [], [], None
        runner = ContinualRunner(cfg)
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
        return 0
    finally:
        dist.stop()


def predict(args: argparse.Namespace) -> int:
    """Classify images with a checkpoint as `tools/predict.py` was told to. Returns the exit code."""
    from clear.core.modes import evaluation_mode
    from clear.datasets.images.decode import UnreadableImage, decode_image
    from clear.datasets.transforms import build_transform
    from clear.engine.checkpoint import load_model_weights
    from clear.engine.class_names import class_names_of
    from clear.engine.continual.runner import ContinualRunner

    setup_logging(None)
    cfg = read_run_config(args)
    if runner_type(cfg) != 'ContinualRunner':
        raise ConfigError('tools/predict.py reads continual configs (those with cl_strategy) so far.')
    if not cfg['scenario'].get('eval_transform'):
        raise ConfigError('The config has no scenario.eval_transform: it trains on stored features, not on images.')
    missing = [path for path in args.images if not Path(path).is_file()]
    if missing:
        raise ConfigError(f"No such image: {', '.join(missing)}.")
    cfg['load_from'] = None
    runner = ContinualRunner(cfg)
    runner.build_model()
    load_model_weights(runner.model, Path(args.checkpoint))
    names = class_names_of(cfg, Path(args.checkpoint), runner.model.num_classes)
    transform = build_transform(cfg['scenario']['eval_transform'])
    with evaluation_mode(runner.model):
        for path in args.images:
            try:
                image = transform(decode_image(path))
            except UnreadableImage as error:
                raise ConfigError(f'{path} cannot be read as an image: {error}') from error
            scores = runner.model(image[None].to(runner.device)).softmax(1)[0]
            top = scores.topk(min(args.top, len(scores)))
            logger.info('%s  %s', path, '  '.join(f'{names[index]} {value:.3f}' for value, index in
                                                   zip(top.values.tolist(), top.indices.tolist())))
    return 0

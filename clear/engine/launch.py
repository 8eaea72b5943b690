"""From parsed command-line arguments to a finished run. The programs in `tools/` end here."""

from __future__ import annotations

import argparse
import copy
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clear.core import dist
from clear.core.config import find_config, load_config, to_plain
from clear.core.errors import ConfigError
from clear.core.files import read_text, write_json, write_text
from clear.core.logs import logger, setup_logging, write_environment
from clear.core.options import parse_options
from clear.core.results import RESULTS_FILE, git_state, library_versions
from clear.core.startup import resume_collection
from clear.engine.continual_config import KNOWN, check_options, suspicious_names

RUNNER_TYPES = ('ContinualRunner', 'ProbeRunner', 'Runner')
# What a run writes into its work_dir, and --overwrite removes.
RUN_FILES = ('results.json', 'report.html', 'run.log', 'env.txt', 'config.py', 'bad_samples.jsonl', 'latest.pth',
             'iteration.pth', 'results.csv', 'jobs.json', 'best.pth')
RUN_PATTERNS = ('exp_*.pth', 'epoch_*.pth', 'iter_*.pth', 'figures/*.png', '[0-9]*.log', 'failures/*.txt',
                'vis_data/*.*')


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
        for name in suspicious_names(assigned, cfg):
            logger.warning('The config assigns %s, which nobody reads.', name)
    elif runner_type(cfg) == 'ProbeRunner':
        from clear.engine.probe_config import KNOWN as PROBE_KEYS

        check_options(options, assigned, PROBE_KEYS)
    else:
        from clear.engine.runner_config import KNOWN as RUNNER_KEYS
        from clear.engine.runner_config import check_runner_config

        check_options(options, assigned, RUNNER_KEYS)
        check_runner_config(cfg, assigned, is_training=not hasattr(args, 'checkpoint'))
    for key in ('seed', 'device', 'work_dir'):
        if getattr(args, key, None) is not None:
            cfg[key] = getattr(args, key)
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
    from clear.engine.continual_runner import ContinualRunner

    if args.amp is not None:
        cfg['amp'] = args.amp
    if args.branch and args.resume:
        raise ConfigError('--branch starts a new run from a checkpoint, --resume continues one; give one of them.')
    _set_threads(cfg.get('threads'))
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


def _run_continual(cfg: Any, work_dir: Path, args: argparse.Namespace) -> None:
    from clear.engine.checkpoint import find_checkpoint
    from clear.engine.continual_runner import ContinualRunner

    runner = ContinualRunner(cfg, work_dir)
    if args.resume:
        find_checkpoint(args.resume, work_dir)
    if dist.is_main():
        _claim(work_dir, args.resume, args.overwrite)
    with _replacing(work_dir, args.overwrite and not args.resume):
        _start_logs(work_dir, cfg, is_resumed=bool(args.resume))
        runner.build()
    logger.info('%s', runner.describe())
    resume_collection()
    runner.train(args.resume, branch=args.branch)


def _run_seeds(cfg: Any, work_dir: Path, args: argparse.Namespace) -> None:
    from clear.engine.repeats import check_seeds, run_seeds

    seeds = check_seeds(cfg['seeds'])
    if args.resume not in (None, False, True) or args.branch:
        raise ConfigError('seeds: --resume takes no checkpoint, and --branch none of one seed; finished seeds are kept '
                          'and the others continued. Use --seed N for one of them.')
    folders = [work_dir / f'seed_{seed}' for seed in seeds]
    if not args.resume and not args.overwrite and any(run_files(folder) for folder in folders):
        raise ConfigError(f'{work_dir} already holds runs. Continue with --resume, replace them with --overwrite, or '
                          'choose another folder with --work-dir.')
    if args.overwrite and dist.is_main():
        for path in (path for folder in folders for path in run_files(folder)):
            path.unlink()
    dist.barrier()

    def run(one: Any, folder: Path) -> None:
        options = copy.copy(args)
        has_begun = any((folder / name).is_file() for name in ('latest.pth', 'iteration.pth'))
        options.resume = bool(args.resume) and has_begun
        options.overwrite = not options.resume
        _run_continual(one, folder, options)

    run_seeds(cfg, seeds, work_dir, run)


def _train_probes(cfg: Any, args: argparse.Namespace) -> None:
    from clear.engine.probe_runner import ProbeRunner

    if args.amp:
        raise ConfigError('--amp: heads on frozen features are trained in float32; leave it out.')
    if args.resume not in (None, False, True):
        raise ConfigError('--resume takes no checkpoint for a ProbeRunner: what is finished stands in the work_dir.')
    _set_threads(cfg.get('threads'))
    work_dir = Path(cfg['work_dir'])
    runner = ProbeRunner(cfg, work_dir)
    if not args.dry_run:
        _claim(work_dir, args.resume, args.overwrite)
        with _replacing(work_dir, args.overwrite and not args.resume):
            # A rerun may add encoders and tasks: its config is the one to keep.
            _start_logs(work_dir, cfg, is_resumed=False)
    if args.resume:
        runner.resume()
    logger.info('%s', runner.describe())
    if args.dry_run:
        logger.info('dry run: nothing was computed or written')
        return
    resume_collection()
    runner.run()


def _claim(work_dir: Path, resume: str | bool | None, overwrite: bool) -> None:
    """Refuse a folder that holds another run's results, unless they are to be replaced.

    Raises:
        ConfigError: if the folder cannot be made, or there are results and neither --resume nor --overwrite was given.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'work_dir {work_dir} cannot be made: {error.strerror}.') from error
    if resume:
        return
    if not overwrite and any((work_dir / name).exists() for name in (RESULTS_FILE, 'latest.pth', 'iteration.pth')):
        raise ConfigError(f'{work_dir} already holds a run. Continue it with --resume, replace it with --overwrite, or '
                          'choose another folder with --work-dir.')


@contextmanager
def _replacing(work_dir: Path, overwrite: bool) -> Iterator[None]:
    """Set the files of the old run aside while a new one is built, and put them back if it cannot be."""
    aside, old = work_dir / '.replaced', []
    if overwrite and dist.is_main():
        old = list(run_files(work_dir))
        for path in old:
            (aside / path.relative_to(work_dir)).parent.mkdir(parents=True, exist_ok=True)
            path.replace(aside / path.relative_to(work_dir))
    dist.barrier()
    try:
        yield
    except BaseException:
        for path in run_files(work_dir) if old else ():
            path.unlink()
        for path in old:
            (aside / path.relative_to(work_dir)).replace(path)
        raise
    finally:
        if overwrite and dist.is_main():
            shutil.rmtree(aside, ignore_errors=True)


def run_files(work_dir: Path) -> Iterable[Path]:
    """The files of a run in its folder."""
    found = [work_dir / name for name in RUN_FILES if (work_dir / name).is_file()]
    for pattern in RUN_PATTERNS:
        found += sorted(work_dir.glob(pattern))
    return found


def _start_logs(work_dir: Path, cfg: Any, is_resumed: bool) -> None:
    setup_logging(work_dir)
    if dist.is_main():
        # A resume that is refused must leave the config of the run that is there.
        if not (is_resumed and (work_dir / 'config.py').is_file()):
            write_text(work_dir / 'config.py', cfg.pretty_text)
        write_environment(work_dir / 'env.txt', library_versions(), git_state(Path(__file__).parent))


def _set_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        if not isinstance(threads, int) or threads < 1:
            raise ConfigError(f'threads is {threads!r}; expected a whole number of at least 1.')
        torch.set_num_threads(threads)
    elif dist.world_size() > 1 and not torch.cuda.is_available():
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // dist.world_size()))


def _train_ordinary(cfg: Any, args: argparse.Namespace) -> None:
    if cfg.get('stream') is not None:
        from clear.engine.continual_pretraining import launch_stream

        launch_stream(cfg, args, _train_ordinary)
        return
    from clear.engine.checkpoint import find_checkpoint
    from clear.engine.launch_runner import built, dry_run, prepare, run

    prepare(cfg, args)
    _set_threads(cfg.get('threads'))
    work_dir = Path(cfg['work_dir'])
    if args.dry_run:
        dry_run(cfg)
        return
    if args.resume:
        find_checkpoint(args.resume, work_dir)
    if dist.is_main():
        _claim(work_dir, args.resume, args.overwrite)
    with _replacing(work_dir, args.overwrite and not args.resume):
        _start_logs(work_dir, cfg, is_resumed=bool(args.resume))
        runner = built(cfg)
    resume_collection()
    run(runner, work_dir, args.resume)


def test(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint as `tools/test.py` was told to. Returns the exit code."""
    from clear.engine.continual_runner import ContinualRunner

    _join_processes(args.launcher)
    try:
        setup_logging(None)
        cfg = read_run_config(args)
        if runner_type(cfg) == 'ProbeRunner':
            raise ConfigError('tools/test.py evaluates checkpoints of training; run a probing config with '
                              'tools/train.py.')
        if runner_type(cfg) == 'Runner':
            from clear.engine.launch_runner import test as test_ordinary

            test_ordinary(cfg, Path(args.checkpoint), args.out)
            return 0
        _set_threads(cfg.get('threads'))
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
    from clear.continual.evaluate import evaluation_mode
    from clear.datasets.decode import UnreadableImage, decode_image
    from clear.datasets.transforms import build_transform
    from clear.engine.checkpoint import load_model_weights
    from clear.engine.continual_runner import ContinualRunner

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
    names = _class_names(cfg, runner.model.num_classes)
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


def _class_names(cfg: Any, num_classes: int) -> list[str]:
    """The names beside the data if they are there, else the class numbers."""
    root = Path(cfg['scenario'].get('data_root') or '.')
    for path in (root / 'class_names.txt', root / 'train' / 'class_names.txt'):
        if path.is_file():
            names = [name.strip() for name in read_text(path).split('\n') if name.strip()]
            if len(names) == num_classes:
                return names
    return [str(index) for index in range(num_classes)]

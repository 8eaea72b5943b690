"""Pretraining through time buckets, from command-line arguments to a finished stream."""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.datasets.loaders.samplers import EpochSampler, GlobalBatchSampler
from clear.engine.training.hooks.continuing import ImportanceHook
from clear.engine.training.loading import is_read_by_workers, sampler_kind
from clear.engine.training.program import TrainingProgram, build_runner, prepare
from clear.engine.work_dir import held, replacing
from clear.registry import DATA_SAMPLERS, RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.datasets.table import ImageTable
    from clear.engine.streams.pretraining import Stream


@RUNNERS.register_module('StreamRunner')
class StreamProgram(TrainingProgram):
    """Ordinary runs on bucket after bucket (see `clear.engine.streams.pretraining`)."""

    FILES = (*TrainingProgram.FILES, 'stream.json', 'results.csv', 'importance.pth')
    MARK = 'stream'

    def run(self, args: argparse.Namespace, on_built: Callable[[], None] | None = None) -> None:
        """Train on the stream; where `stream` is None, once and on all data."""
        if self.cfg.get('stream') is None:
            super().run(args, on_built)
        else:
            launch_stream(self.cfg, args)


def launch_stream(cfg: Config, args: argparse.Namespace) -> None:
    """Train on a stream as `tools/train.py` was told to; a dry run describes it and plans the first bucket's run.

    Raises:
        ConfigError: for options that a stream does not have; see also `check_later_batches` and `train_stream`.
    """
    from clear.engine.streams.branch import find_branch
    from clear.engine.streams.pretraining import (
        bucket_config,
        describe_stream,
        read_stream_images,
        read_stream_options,
        train_stream,
    )

    work_dir = Path(cfg['work_dir'])
    if args.resume not in (None, False, True):
        raise ConfigError('stream: --resume takes no checkpoint; finished buckets are kept and the one that was '
                          'stopped is continued.')
    if args.branch and args.resume:
        raise ConfigError('--branch starts a new run from a checkpoint, --resume continues one; give one of them.')
    stream = read_stream_options(cfg)
    images = read_stream_images(cfg, stream)
    branch = find_branch(args.branch, cfg, stream, images, work_dir) if args.branch else None
    args = copy.copy(args)
    args.branch = None
    check_later_batches(cfg, args, stream, images, branch.finished if branch else 0)
    if args.dry_run:
        first, before = (branch.finished, branch.origin) if branch else (0, work_dir)
        logger.info('%s\n\nthe run on the first bucket:', describe_stream(images, stream, first))
        names = list(images.in_buckets()[1])
        TrainingProgram(bucket_config(cfg, stream, names, first, before)).run(args)
        return
    is_replaced = args.overwrite and not args.resume
    parts = sorted(folder for folder in work_dir.glob('bucket_*') if folder.is_dir())
    with held(work_dir), replacing(work_dir, is_replaced, parts) as built:

        def run(one: Config, folder: Path, resume: bool) -> None:
            options = copy.copy(args)
            options.resume, options.overwrite = resume, not resume
            TrainingProgram(one).run(options, built)

        train_stream(cfg, work_dir, run, resume=bool(args.resume), branch=branch)


def check_later_batches(cfg: Config, args: argparse.Namespace, stream: Stream, images: ImageTable, begin: int = 0
                        ) -> None:
    """Refuse a bucket after the first that has too few samples, of the data or of those that are replayed beside them.

    Too few for one batch, or for one that measures what mattered (`stream.ewc`); or a batch of one sample per process
    is left, on which the model cannot train. For the last a run is built, with the first weights; without, nothing is.

    Args:
        begin: position of the first bucket that is trained.

    Raises:
        ConfigError: naming the bucket.
    """
    from clear.engine.streams.pretraining import bucket_config

    loader, world = cfg['train_dataloader'], dist.world_size()
    drops_last = loader.get('drop_last', (loader.get('batch_sampler') or {}).get('drop_last', True))
    whole = loader['batch_size'] * world
    least = (whole if drops_last else world) if _has_epochs_of_data(loader) else 1
    ewc = {key: value for key, value in (stream.ewc or {}).items() if key != 'weight'}
    measured = ImportanceHook(**ewc).batch_size if stream.ewc is not None else 1
    buckets = images.in_buckets()[1]
    names = list(buckets)
    for position, (name, rows) in enumerate(buckets.items()):
        count = len(rows) + stream.num_replayed([len(buckets[each]) for each in names[:position]])
        if position < max(begin, 1):
            continue
        if count < least:
            raise ConfigError(f"bucket '{name}' of the stream: {count} samples make no batch of "
                              f'{loader["batch_size"]} x {world} process(es). Lower train_dataloader.batch_size, or '
                              "draw as many in every bucket: sampler=dict(type='EpisodicSampler', episode_size=...).")
        if count < measured:
            raise ConfigError(f"bucket '{name}' of the stream: stream.ewc.batch_size is {measured}, but there are "
                              f'{count} samples. Lower it.')
        if drops_last or count % whole // world != 1:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            # The later run's images and the first one's model: a later model reads weights that do not exist yet.
            one = bucket_config(cfg, stream, names, 0, Path(scratch))
            later = bucket_config(cfg, stream, names, position, Path(scratch))
            one['train_dataloader'] = later['train_dataloader']
            prepare(one, args)
            try:
                build_runner(one)
            except ConfigError as error:
                raise ConfigError(f"bucket '{name}' of the stream: {error}") from error


def _has_epochs_of_data(loader: Mapping) -> bool:
    """Whether an epoch of a `train_dataloader` config has the samples of the data, in batches of our samplers."""
    kind, batches = sampler_kind(loader), loader.get('batch_sampler')
    batches = batches and DATA_SAMPLERS.get(batches['type'])
    return (kind is EpochSampler or is_read_by_workers(loader)) and (
        batches is None or isinstance(batches, type) and issubclass(batches, GlobalBatchSampler))

"""Pretraining that moves through time buckets: one ordinary run per bucket, each from the weights of the one before."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mmengine.hooks import EMAHook

from clear.core import dist
from clear.core.checks import check_choice, check_number, check_whole
from clear.core.config import to_plain
from clear.core.configs.signatures import check_keys
from clear.core.errors import CheckpointError, ConfigError, DataError, suggestion
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, read_results
from clear.datasets.loaders.streams import can_stream, images_in_stream, of_buckets
from clear.datasets.readers.stream_part import SHARES, replay_counts
from clear.datasets.table import ImageTable
from clear.engine.checkpoint import LATEST
from clear.engine.streams.finished import (
    STREAM_FILE,
    Branch,
    FinishedBucket,
    StreamRecord,
    check_record,
    read_record,
    require_empty,
    take_over,
    write_record,
)
from clear.engine.streams.matrices import check_evaluation, evaluation_hook, report_matrices, require_measured
from clear.engine.training.hooks.continuing import check_share
from clear.engine.training.keys import computed_config, runner_config_hash
from clear.models.continuing import adds_tensors, check_distil, continued_config
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Options, Plain

MODES = ('finetune', 'replay', 'distil')
STARTS = ('last', 'first')
ALL = 'all'
STREAM_KEYS = {'buckets', 'mode', 'replay_size', 'replay_shares', 'distil', 'start', 'evaluation', 'interpolate', 'ewc'}
EWC_KEYS = {'weight', 'batch_size', 'num_batches'}

Run: TypeAlias = 'Callable[[Config, Path, bool], None]'


@dataclass(frozen=True)
class Stream:
    """The `stream` of a config, checked.

    Args:
        buckets: names (text) or positions in time (whole numbers) of `train_dataloader.dataset`, in the order of
            training.
        mode: 'finetune' goes on with the images of the next bucket alone; 'replay' adds a reservoir of earlier images;
            'distil' also learns to predict the features of the encoder before (see `Distillation`).
        replay_size: images of the reservoir, or 'all' earlier ones; with 'replay', and if wanted with 'distil'.
        replay_shares: of the reservoir: None draws alike from all earlier images, 'equal' and 'halves' by buckets (see
            `replay_counts`).
        distil: arguments of `Distillation`.
        start: every bucket begins with the 'last' weights, or with the 'first', those of the config.
        interpolate: share of the new weights in those that a bucket ends with, the rest being the bucket's before.
        ewc: weight of the loss that holds weights which mattered, and how that is measured (see `ImportanceHook`).
        evaluation: what is measured on every bucket after each, see `clear.engine.streams.matrices`.
    """

    buckets: list[int | str]
    mode: str = 'finetune'
    replay_size: int | str | None = None
    distil: dict[str, Plain] | None = None
    start: str = 'last'
    evaluation: dict[str, Plain] | None = None
    interpolate: float | None = None
    ewc: dict[str, Plain] | None = None
    replay_shares: str | None = None

    @property
    def reservoir(self) -> int | None:
        """Images of the reservoir; None where there is none."""
        return None if self.replay_size == ALL else self.replay_size

    def num_replayed(self, earlier: list[int]) -> int:
        """How many images are replayed beside a bucket, `earlier` being the sizes of those before."""
        if self.replay_size is None or not earlier:
            return 0
        if self.replay_size == ALL:
            return sum(earlier)
        if self.replay_shares is None:
            return min(self.replay_size, sum(earlier))
        return sum(replay_counts(earlier, self.replay_size, self.replay_shares))


def read_stream_options(cfg: Config) -> Stream:
    """The checked `stream` of a config.

    Raises:
        ConfigError: for a missing, unknown or unfitting key or value, or a data set without buckets.
    """
    options = to_plain(cfg['stream'])
    if not isinstance(options, dict):
        raise ConfigError(f"stream is {options!r}; expected dict(buckets=[0, 1, ...], mode='finetune').")
    check_keys('stream', options, STREAM_KEYS, 'stream')
    buckets, mode = options.get('buckets'), options.get('mode', 'finetune')
    if not isinstance(buckets, list) or len(buckets) < 2 or not all(type(each) in (int, str) for each in buckets):
        raise ConfigError(f'stream.buckets is {buckets!r}; expected at least two buckets, e.g. [0, 1, 2].')
    if mode not in MODES:
        raise ConfigError(f'stream.mode is {mode!r}; expected one of {", ".join(map(repr, MODES))}.'
                          f'{suggestion(mode, MODES)}')
    size, distil = options.get('replay_size'), options.get('distil')
    if (size is None) if mode == 'replay' else (size is not None and mode == 'finetune'):
        raise ConfigError(f"stream.replay_size is {size!r}, but mode is '{mode}': mode='replay' needs it, "
                          "mode='finetune' replays nothing.")
    if size is not None and size != ALL:
        check_whole('stream.replay_size', size, 1)
    shares = options.get('replay_shares')
    if shares is not None:
        check_choice('stream.replay_shares', shares, SHARES)
        if size in (None, ALL):
            raise ConfigError(f'stream.replay_shares divides a reservoir, and stream.replay_size is {size!r}; give its '
                              'size.')
    start = check_choice('stream.start', options.get('start', 'last'), STARTS)
    if distil is not None and mode != 'distil':
        raise ConfigError(f"stream.distil is given, but mode is '{mode}'. Use mode='distil', or leave it out.")
    check_distil(cfg['model'], distil, options.get('ewc'))
    interpolate, ewc = options.get('interpolate'), options.get('ewc')
    if interpolate is not None:
        check_share('stream.interpolate', interpolate)
    if ewc is not None:
        check_keys('stream.ewc', ewc, EWC_KEYS, 'ewc')
        check_number('stream.ewc.weight', ewc.get('weight'), above=0)
    if start == 'first' and (interpolate is not None or ewc is not None):
        raise ConfigError("stream.interpolate and stream.ewc keep a bucket near the weights of the one before; with "
                          "start='first' it does not begin there.")
    for key in ('evaluation', 'interpolate', 'ewc'):
        if options.get(key) is not None and _averages(cfg):
            raise ConfigError(f'stream.{key} works on the weights that train, and with an EMAHook a bucket leaves '
                              'their average, with which the next one begins. Leave out one of them.')
    dataset = cfg['train_dataloader'].get('dataset') or {}
    if not can_stream(dataset):
        raise ConfigError(f"stream needs train_dataloader.dataset=dict(type='BucketImages', data_root=...), which has "
                          f"buckets, or a data set over the images=dict(type=...) of such a reader; got "
                          f"{dataset.get('type')!r}.")
    return Stream(buckets, mode, size, distil, start, check_evaluation(options.get('evaluation')), interpolate, ewc,
                  shares)


def _averages(cfg: Config) -> bool:
    """Whether a hook of a config puts an average in the place of the weights."""
    hooks = [*(cfg.get('custom_hooks') or ()), *(cfg.get('default_hooks') or {}).values()]
    kinds = [hook.get('type') if isinstance(hook, dict) else type(hook) for hook in hooks]
    kinds = [HOOKS.get(kind) if isinstance(kind, str) else kind for kind in kinds]
    return any(isinstance(kind, type) and issubclass(kind, EMAHook) for kind in kinds)


def read_stream_images(cfg: Config, stream: Stream) -> ImageTable:
    """All images of the stream, in the order of its buckets. Nothing is decoded.

    Raises:
        ConfigError: if a bucket does not exist or is there twice.
        DataError: if data are missing or a bucket has no images.
    """
    options = to_plain(cfg['train_dataloader']['dataset'])
    images = images_in_stream(options, stream.buckets, 'train_dataloader.dataset')
    for name in images.in_buckets()[1]:
        if '/' in name or name in ('', '.', '..'):
            raise DataError(f"bucket '{name}' cannot name a folder; rename it.")
    return images


def bucket_config(cfg: Config, stream: Stream, names: list[str], position: int, work_dir: Path) -> Config:
    """The config of the ordinary run on one bucket.

    Args:
        names: of all buckets, in the order of training.
    """
    one = copy.deepcopy(cfg)
    one.pop('stream')
    one['work_dir'] = str(bucket_folder(work_dir, names[position]))
    if one.get('name'):
        one['name'] = f"{one['name']}_bucket_{names[position]}"
    earlier, loader = names[:position], one['train_dataloader']
    new = names[:position + 1] if stream.replay_size == ALL else [names[position]]
    loader['dataset'] = of_buckets(dict(loader['dataset']), new, earlier if stream.reservoir else (),
                                   stream.reservoir, one.get('seed') or 0, stream.replay_shares)
    hooks = _hooks(stream, names, position)
    if hooks:
        one['custom_hooks'] = [*(one.get('custom_hooks') or ()), *hooks]
    if position == 0:
        return one
    before = str(bucket_folder(work_dir, names[position - 1]) / LATEST)
    if stream.start == 'last':
        one['load_from'] = before
    if stream.mode == 'distil' or stream.ewc is not None:
        inner = dict(one['model'])
        if one.get('data_preprocessor') is not None:
            inner.setdefault('data_preprocessor', one.pop('data_preprocessor'))
        distil = (stream.distil or {}) if stream.mode == 'distil' else None
        one['model'] = continued_config(inner, before, distil, (stream.ewc or {}).get('weight', 0.0))
        if stream.start == 'last' and adds_tensors(inner):
            # By name, tensor by tensor: the predictor of the distillation is the only thing that the first run, or one
            # that this branches from, had not. That everything else is there is seen before, when the frozen copy is
            # read from the same file.
            one['load_from'] = dict(path=before, source='mmpretrain', min_matched=0.5)
    return one


def _hooks(stream: Stream, names: list[str], position: int) -> list[Options]:
    """What a bucket's run does at its end, in this order."""
    hooks: list[Options] = []
    if stream.interpolate is not None and position:
        hooks.append(dict(type='WeightInterpolationHook', weight=stream.interpolate))
    if stream.ewc is not None:
        hooks.append(dict({key: value for key, value in stream.ewc.items() if key != 'weight'}, type='ImportanceHook'))
    if stream.evaluation is not None:
        hooks.append(evaluation_hook(stream.evaluation, names))
    return hooks


def bucket_folder(work_dir: Path, name: str) -> Path:
    """Where the run on a bucket writes."""
    return work_dir / f'bucket_{name}'


def train_stream(cfg: Config, work_dir: str | Path, run: Run, *, resume: bool = False, branch: Branch | None = None
                 ) -> list[FinishedBucket]:
    """Train on bucket after bucket; finished ones are kept, the one that was stopped continues.

    After each bucket `work_dir/stream.json` says what is there. The folder is then what
    `tools/analysis_tools/representation_over_time.py` takes as `checkpoints`.

    Args:
        cfg: an ordinary config with `stream`; not changed.
        run: (config of one bucket, its folder, whether to resume there) -> trains it to the end.
        resume: go on with what an earlier call left. Without it the folder must hold no bucket.
        branch: a bucket of another stream to begin behind, see `clear.engine.streams.branch`.

    Raises:
        ConfigError, DataError: if the config cannot be run, a finished bucket was trained with another config, or the
            folder holds a run and `resume` is False; before any training.
    """
    work_dir, stream = Path(work_dir), read_stream_options(cfg)
    images = read_stream_images(cfg, stream)
    buckets = images.in_buckets()[1]
    names = list(buckets)
    if resume:
        record = read_record(work_dir) or StreamRecord()
    else:
        require_empty(work_dir)
        record = StreamRecord() if branch is None else take_over(branch, work_dir)
    record.stream = asdict(stream)
    finished = record.buckets
    configs = [bucket_config(cfg, stream, names, position, work_dir) for position in range(len(names))]
    hashes = [_hash(cfg, stream, names, position) for position in range(len(names))]
    check_record(record, names, hashes, work_dir)
    logger.info('%s', describe_stream(images, stream, len(finished)))
    for position in range(len(finished), len(names)):
        name, folder = names[position], bucket_folder(work_dir, names[position])
        logger.info('\nbucket %s (%d of %d): %d images', name, position + 1, len(names), len(buckets[name]))
        run(configs[position], folder, resume and (folder / LATEST).is_file())
        gc.collect()  # The run before is a circle, which would keep its images and weights.
        if not (folder / LATEST).is_file():
            raise CheckpointError(f'The run on bucket {name} left no {folder / LATEST}; the next bucket cannot '
                                  'start from it. Is the checkpoint hook switched off?')
        metrics = read_results(folder / RESULTS_FILE).metrics
        if stream.evaluation is not None:
            require_measured(stream.evaluation, names, metrics, name)
        finished.append(FinishedBucket(name, f'{folder.name}/{LATEST}', hashes[position], len(buckets[name]), metrics))
        if dist.is_main():
            write_record(work_dir, record)
        dist.barrier()
    logger.info('\nall %d buckets are trained: %s', len(names), work_dir / STREAM_FILE)
    if stream.evaluation is not None and dist.is_main():
        report_matrices(cfg, stream.evaluation, names, [each.metrics for each in finished], work_dir,
                        record.branched_from)
    return finished


def _hash(cfg: Config, stream: Stream, names: list[str], position: int) -> str:
    # As if it ran in the folder 'stream': the same wherever the work_dir lies.
    one = bucket_config(cfg, stream, names, position, Path('stream'))
    return runner_config_hash(computed_config(one, dist.world_size()))


def describe_stream(images: ImageTable, stream: Stream, num_finished: int = 0) -> str:
    """What a stream will train on."""
    replay = f', replay of {stream.replay_size} images' if stream.replay_size is not None else ''
    replay += f' in shares: {stream.replay_shares}' if stream.replay_shares is not None else ''
    replay += f', {", ".join(_kept(stream))}' if _kept(stream) else ''
    if stream.start == 'first':
        replay += ', every bucket from the weights of the config: none are taken over, also of a branch'
    buckets = images.in_buckets()[1]
    sizes = ', '.join(f'{name} ({len(rows):,} images)' for name, rows in buckets.items())
    tasks = ', '.join(str(each.get('name') or each['type']) for each in (stream.evaluation or {}).get('tasks', ()))
    return (f'stream    {stream.mode}{replay}, {num_finished} of {len(buckets)} buckets finished\n'
            f'buckets   {sizes}' + (f'\nmeasured  {tasks}, on every bucket after each' if tasks else ''))


def _kept(stream: Stream) -> list[str]:
    """What holds a bucket near the ones before, in a few words each."""
    found = [f'distil {name} {value}' for name, value in (stream.distil or {}).items()]
    if stream.interpolate is not None:
        found.append(f'ends with {stream.interpolate:g} of the new weights, {1 - stream.interpolate:g} of those before')
    if stream.ewc is not None:
        found.append('ewc ' + ' '.join(f'{name} {value}' for name, value in stream.ewc.items()))
    return found

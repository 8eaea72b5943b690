"""Every reader as a scenario: `scenario=dict(type=READER, <its options>, train_transform=[...])`."""

from __future__ import annotations

from collections.abc import Callable

from clear.continual.scenarios.bank_features import add_bank_features
from clear.continual.scenarios.base import ScenarioInfo, make_benchmark
from clear.continual.scenarios.bucket_images import add_images
from clear.core.configs.signatures import accepted_arguments, joined_signature
from clear.core.logs import logger
from clear.datasets import ClearData
from clear.datasets.images.cache import check_cache
from clear.datasets.readers.by_time import SplitOptions
from clear.datasets.readers.clear.lacking_classes import quoted
from clear.datasets.streams import read_stream_of
from clear.datasets.table import ImageTable
from clear.registry import READERS


def scenario_of(kind: str) -> Callable[..., object] | None:
    """What `SCENARIOS` builds under the name of a reader; None if there is no reader of that name.

    One experience per bucket, in the order in which buckets first occur. It takes the arguments of the reader and
    those of `_build`.
    """
    reader = READERS.get_own(kind)
    if reader is None:
        return None

    def build(**options: object):
        given = {key: options.pop(key) for key in OPTIONS & {*options}}
        return _build(options | dict(type=kind), **given)

    build.__name__ = build.__qualname__ = kind
    build.__module__, build.__doc__ = reader.__module__, reader.__doc__
    build.__signature__ = joined_signature(reader, _build)
    return build


def _build(cfg: dict, /, *, evaluation_protocol: str = 'iid', seed: int | None = None, shot: int | None = None,
           test_ratio: float = 0.3, feature: dict | None = None, train_transform: list[dict] | None = None,
           eval_transform: list[dict] | None = None, cache: str | None = None, cache_dir: str | None = None,
           decoder: str = 'pil', max_bad_fraction: float = 0.01, work_dir: str | None = None):
    """The benchmark of a reader's images.

    Args:
        cfg: of the reader.
        seed: of the split that is drawn, any whole number; None means 0, and must be None under `streaming`.
        shot: train on that many images per class, test on the rest of the bucket.
        test_ratio: share of each class and bucket to test on, where a split is drawn.
        feature, train_transform, eval_transform, cache, cache_dir, decoder, max_bad_fraction, work_dir: as for CLEAR.

    Raises:
        ConfigError, DataError: as `read_stream_of` does.
    """
    check_cache(cache, cache_dir, where='scenario.')
    seed = 0 if seed is None and evaluation_protocol == 'iid' else seed
    data, images = read_stream_of(cfg, SplitOptions(evaluation_protocol, seed, shot, test_ratio), 'scenario')
    reading = dict(cache=cache, cache_dir=cache_dir, decoder=decoder)
    return benchmark_of(data, images, feature, train_transform, eval_transform, reading, max_bad_fraction, work_dir)


def benchmark_of(data: ClearData, images: ImageTable, feature: dict | None, train_transform: list[dict] | None,
                 eval_transform: list[dict] | None, reading: dict, max_bad_fraction: float, work_dir: str | None):
    """The benchmark of a stream that was read and divided; see `_build`.

    Args:
        images: all of them in an order that no split changes.
        reading: cache, cache_dir and decoder.
    """
    # The metrics of CLEAR compare the same classes at other times; buckets without a common class have none.
    is_class_incremental = data.protocol == 'iid' and data.is_class_incremental
    if is_class_incremental:
        logger.info('%s: no two of the %d buckets share a class, so the stream is class-incremental: %s', data.root,
                    len(data.train), _classes_by_bucket(data))
    protocol = 'class-incremental' if is_class_incremental else data.protocol
    info = ScenarioInfo(class_names=data.class_names, bucket_names=[bucket.name for bucket in data.train],
                        protocol=protocol, fingerprint=data.fingerprint, train=[], test=[])
    if feature is not None:
        add_bank_features(info, data, feature, max_bad_fraction, work_dir, images)
    else:
        add_images(info, data, train_transform, eval_transform, reading, max_bad_fraction, work_dir)
    return make_benchmark(info)


def _classes_by_bucket(data: ClearData, most: int = 5) -> str:
    """Which classes come when, of the first buckets."""
    found = [f'{bucket.name}: {quoted([data.class_names[label] for label in sorted(set(bucket.targets.tolist()))])}'
             for bucket in data.train[:most]]
    return '; '.join(found) + (f'; and {len(data.train) - most} more' if len(data.train) > most else '')


OPTIONS = accepted_arguments(_build)

"""Data sets that a stream of buckets can be trained on, by their configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clear.core.types import Options
from clear.datasets.loaders.of_readers import bucket_key, images_of
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.registry import READERS


def can_stream(dataset: Mapping) -> bool:
    """Whether a config names a reader, or a data set over the `images` of one."""
    images = dataset.get('images')
    return _is_reader(dataset) or isinstance(images, Mapping) and _is_reader(images)


def images_in_stream(dataset: Options, buckets: Sequence[int | str], where: str = 'dataset') -> ImageTable:
    """All images of some buckets; nothing is decoded.

    Raises:
        ConfigError: if a bucket does not exist or is asked for twice, or the images have none.
        DataError: as the reader does.
    """
    if _is_reader(dataset):
        return images_of(dataset, buckets, where)
    return read_images(dict(type='StreamPart', images=dataset['images'], buckets=list(buckets)), f'{where}.images')


def of_buckets(dataset: Options, buckets: Sequence[str], replay_buckets: Sequence[str] = (),
               replay_size: int | None = None, replay_seed: int = 0, replay_shares: str | None = None) -> Options:
    """The config of a data set of some buckets, with a reservoir of `replay_buckets` where there are any."""
    replay = dict(replay_buckets=list(replay_buckets), replay_size=replay_size,
                  replay_seed=replay_seed) if replay_buckets else {}
    if replay and replay_shares is not None:
        replay['replay_shares'] = replay_shares
    if not _is_reader(dataset):
        return dict(dataset, images=dict(type='StreamPart', images=dataset['images'], buckets=list(buckets), **replay))
    # The second reads no other buckets than it needs.
    kind = 'ReplayedBuckets' if replay and dataset['type'] == 'BucketImages' else dataset['type']
    return {**dataset, 'type': kind, bucket_key(dataset['type']) or 'buckets': list(buckets), **replay}


def _is_reader(cfg: Mapping) -> bool:
    return isinstance(cfg.get('type'), str) and READERS.get_own(cfg['type']) is not None

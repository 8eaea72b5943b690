"""A time bucket with a sample of the buckets before it, for pretraining that moves through a stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow

from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError
from clear.datasets.columns import PARTS, runs
from clear.datasets.loaders.self_supervised import SelfSupervisedImages
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.datasets.readers.stream_part import REPLAY, reservoir_rows
from clear.datasets.table import ImageTable
from clear.registry import DATASETS


@DATASETS.register_module()
class ReplayedBuckets(SelfSupervisedImages):
    """The images of `buckets`, and a reservoir of at most `replay_size` images of `replay_buckets`.

    An epoch passes once over all of them, so earlier images make up `replay_size / (replay_size + new)` of it. The
    reservoir knows no classes: every earlier image is in it with the same probability, and one that has left it in
    the course of the stream does not come back (see `reservoir_rows`). For corrupt images of it others of it stand in.

    Args:
        buckets: what is new.
        replay_buckets: the buckets before, in the order of the stream.
        replay_size: images of the reservoir, at least 1; all there are, if they are fewer.
        replay_seed: of the reservoir.
        split, split_seed, layout, bucket_files, times, image_dir, part_folders: which images; see `BucketChoice`.
        replay_shares: None draws alike from all earlier images, else see `replay_counts`.
        reading: of `SelfSupervisedImages`.

    Raises:
        ConfigError: if a bucket does not exist or is both new and earlier, or `replay_size` is out of range.
        DataError: if data are missing or wrong, or a bucket has no images.
    """

    def __init__(self, data_root: str | Path, buckets: Sequence[int | str], replay_buckets: Sequence[int | str],
                 replay_size: int, replay_seed: int = 0, split: str = 'train', split_seed: int = 0,
                 layout: str = 'auto', bucket_files: str | Path | Sequence[str | Path] | None = None,
                 times: Sequence[str] | None = None, image_dir: str | None = None, part_folders: bool | None = None,
                 replay_shares: str | None = None, **reading: object):
        check_keys('dataset', reading, accepted_arguments(ReplayedBuckets), 'ReplayedBuckets')
        where = (split, split_seed, layout, bucket_files, times, image_dir, part_folders)
        new = read_buckets(data_root, BucketChoice(buckets, *where))
        earlier = read_buckets(data_root, BucketChoice(replay_buckets, *where))
        super().__init__(with_replay(new, earlier, replay_size, replay_seed, replay_shares), **reading)


def with_replay(new: ImageTable, earlier: ImageTable, replay_size: int, seed: int, shares: str | None = None
                ) -> ImageTable:
    """The images of `new`, then a bucket `'replay'` with the reservoir of `earlier`, in the order of the stream."""
    (new, buckets), (earlier, replayed) = new.in_buckets(), earlier.in_buckets()
    both = {*buckets} & {*replayed}
    if both:
        raise ConfigError(f"bucket '{min(both)}' is both new and replayed.")
    rows = reservoir_rows([(name, len(rows)) for name, rows in replayed.items()], replay_size, seed, shares)
    columns = ['id', 'path', *(['label'] if 'label' in new and 'label' in earlier else [])]
    columns += PARTS if 'shard' in new and 'shard' in earlier else ()
    parts = [images.table.select(columns) for images in (new, earlier.select(rows))]
    bucket = runs([*((name, len(rows)) for name, rows in buckets.items()), (REPLAY, len(rows))])
    return ImageTable(new.root, pyarrow.concat_tables(parts).append_column('bucket', bucket), new.class_names,
                      kind=new.kind)

"""Streams from one's own images: folders named by time, or a table with dates."""

from __future__ import annotations

from clear.continual.scenarios.bank_features import add_bank_features
from clear.continual.scenarios.base import ScenarioInfo, make_benchmark
from clear.continual.scenarios.bucket_images import add_images
from clear.datasets import ClearData, ImageTable
from clear.datasets.images.cache import check_cache
from clear.datasets.readers.by_time import SplitOptions, all_images, read_folder_by_time
from clear.datasets.readers.table_by_time import Periods, read_table_by_time
from clear.datasets.readers.table_file import Columns
from clear.registry import SCENARIOS


@SCENARIOS.register_module(name='FolderByTime')
def folder_by_time(data_root: str, times: list[str] | None = None, evaluation_protocol: str = 'iid',
                   seed: int | None = None, shot: int | None = None, test_ratio: float = 0.3,
                   part_folders: bool | None = None, feature: dict | None = None,
                   train_transform: list[dict] | None = None, eval_transform: list[dict] | None = None,
                   cache: str | None = None, cache_dir: str | None = None, decoder: str = 'pil',
                   max_bad_fraction: float = 0.01, work_dir: str | None = None):
    """Read `data_root/<time>/<class>/<image>` as an Avalanche benchmark, one experience per time.

    Args:
        data_root: may also hold `train` and `test` folders, above or below the times; else a split is drawn.
        times: the time folders to take, in stream order; None takes all, in the order of numbers or dates.
        seed: of the split that is drawn, any whole number; None means 0, and must be None under `streaming`.
        shot: train on that many images per class, test on the rest of the bucket.
        test_ratio: share of each class and bucket to test on, where a split is drawn.
        part_folders: whether folders called `train` and `test` below a time are the split (True) or classes (False);
            None looks (see `SplitOptions`).
        feature, train_transform, eval_transform, cache, cache_dir, decoder, max_bad_fraction, work_dir: as for CLEAR.

    Raises:
        ConfigError, DataError: as `read_folder_by_time` does.
    """
    data = read_folder_by_time(data_root, split_options(evaluation_protocol, seed, shot, test_ratio, part_folders),
                               times)
    return benchmark_of('FolderByTime', data, feature, train_transform, eval_transform,
                      dict(cache=cache, cache_dir=cache_dir, decoder=decoder), max_bad_fraction, work_dir)


@SCENARIOS.register_module(name='TableByTime')
def table_by_time(table: str, data_root: str | None = None, num_buckets: int | None = None, edges: list | None = None,
                  freq: str | None = None, equal: str = 'count', path_column: str = 'path',
                  label_column: str = 'label', time_column: str = 'timestamp', missing: str = 'refuse',
                  evaluation_protocol: str = 'iid', seed: int | None = None, shot: int | None = None,
                  test_ratio: float = 0.3, feature: dict | None = None, train_transform: list[dict] | None = None,
                  eval_transform: list[dict] | None = None, cache: str | None = None, cache_dir: str | None = None,
                  decoder: str = 'pil', max_bad_fraction: float = 0.01, work_dir: str | None = None):
    """Read a CSV or Parquet table of images with dates as an Avalanche benchmark, one experience per period.

    Exactly one of `num_buckets`, `edges` and `freq` says how time is cut.

    Args:
        table: one row per image.
        data_root: what its paths are relative to; None means the folder of the table.
        num_buckets: that many periods, of equal counts of images, or with `equal='time'` of equal length.
        edges: dates between the periods.
        freq: 'year' or 'month', in UTC.
        path_column, label_column, time_column: names of the columns; formats of dates as in `parse_time`.
        missing: rows without a date: 'refuse', or 'drop' with a warning.
        evaluation_protocol, seed, shot, test_ratio: as for `FolderByTime`.
        feature, train_transform, eval_transform, cache, cache_dir, decoder, max_bad_fraction, work_dir: as for CLEAR.

    Raises:
        ConfigError, DataError: as `read_table_by_time` does.
    """
    data = read_table_by_time(table, Periods(num_buckets, edges, freq, equal),
                              split_options(evaluation_protocol, seed, shot, test_ratio),
                              Columns(path_column, label_column, time_column), root=data_root, missing=missing)
    return benchmark_of('TableByTime', data, feature, train_transform, eval_transform,
                      dict(cache=cache, cache_dir=cache_dir, decoder=decoder), max_bad_fraction, work_dir)


def split_options(protocol: str, seed: int | None, shot: int | None, test_ratio: float,
                  part_folders: bool | None = None) -> SplitOptions:
    """Options of a split, of seed 0 where one is drawn and no other is given."""
    if seed is None and protocol == 'iid':
        seed = 0
    return SplitOptions(protocol, seed, shot, test_ratio, part_folders)


def benchmark_of(kind: str, data: ClearData, feature: dict | None, train_transform: list[dict] | None,
                 eval_transform: list[dict] | None, reading: dict, max_bad_fraction: float, work_dir: str | None,
                 images: ImageTable | None = None):
    """The benchmark of a stream.

    Args:
        kind: the type of the reader that its images come from.
        reading: cache, cache_dir and decoder.
        images: all of them, as banks are made of them; None means `all_images`.
    """
    check_cache(reading['cache'], reading['cache_dir'], where='scenario.')
    # The metrics of CLEAR compare the same classes at other times; buckets without a common class have none.
    protocol = 'class-incremental' if data.protocol == 'iid' and data.is_class_incremental else data.protocol
    info = ScenarioInfo(class_names=data.class_names, bucket_names=[bucket.name for bucket in data.train],
                        protocol=protocol, fingerprint=data.fingerprint, train=[], test=[])
    if feature is not None:
        images = all_images(data).of_kind(kind) if images is None else images
        add_bank_features(info, data, feature, max_bad_fraction, work_dir, images)
    else:
        add_images(info, data, train_transform, eval_transform, reading, max_bad_fraction, work_dir)
    return make_benchmark(info)

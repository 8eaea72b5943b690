"""One tree in CLEAR's old layout from the official train and test folders."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import inside
from clear.core.logs import Report
from clear.datasets.make.writing import (
    new_folder,
    write_class_names,
    write_labeled_metadata,
    write_training_folder,
)
from clear.datasets.readers.clear.metadata import LabeledMetadata, bucket_number, read_metadata
from clear.datasets.readers.image_files import plain_path

OFFICIAL_SEED = 0  # the official split is filed as split_0


@dataclass(frozen=True)
class MergeSummary:
    """What `merge_official` wrote: image counts, the buckets, and those left out because one part lacks them."""

    num_train: int
    num_test: int
    buckets: list[str]
    skipped: list[str]


def merge_official(train_root: str | Path, test_root: str | Path, out: str | Path, *, overwrite: bool = False,
                   progress: Report | None = None) -> MergeSummary:
    """Write a self-contained old-layout tree with the official split as `testset_ratio_0.3/split_0`.

    Images are hard links where the file system allows it, else copies; a hard link means that editing an image in
    place changes both trees. In each `all.txt` classes follow `class_names.txt`, within a class the training images
    come first. Only buckets that both parts have are taken (CLEAR-100 has a bucket 0 without test images). Features
    are not carried over.

    Args:
        train_root, test_root: folders with `class_names.txt`, `labeled_metadata.json`, `labeled_images/`.
        out: folder to write; it appears complete or not at all.
        overwrite: replace whatever `out` holds.
        progress: called as `progress(done, total)` with image counts.

    Raises:
        DataError: if the parts disagree on classes, share an image or no bucket, lack a file, or if `out` has content.
    """
    train, test = (read_metadata(root, every_class=True) for root in (train_root, test_root))
    if train.class_names != test.class_names:
        raise DataError(f'{train_root} and {test_root} list different classes in class_names.txt.')
    buckets = sorted(train.records.keys() & test.records.keys(), key=bucket_number)
    if not buckets:
        raise DataError(f'{train_root} and {test_root} have no bucket in common.')
    total = sum(part.num_images(bucket) for part in (train, test) for bucket in buckets)
    rows, merged, splits = {}, {}, {}
    with new_folder(out, replace=overwrite) as root:
        write_class_names(root, train.class_names)
        for bucket in buckets:
            rows[bucket], merged[bucket], splits[bucket] = _merge_bucket(train, test, bucket)
        done = 0
        for part, bucket in ((part, bucket) for bucket in buckets for part in (train, test)):
            for by_id in part.records[bucket].values():
                for record in by_id.values():
                    _link(inside(part.root, record['IMG_PATH']), inside(root, record['IMG_PATH']))
                    done += 1
                    if progress is not None:
                        progress(done, total)
        write_labeled_metadata(root, merged)
        write_training_folder(root, rows, {OFFICIAL_SEED: splits})
    return MergeSummary(sum(len(train_rows) for train_rows, _ in splits.values()),
                        sum(len(test_rows) for _, test_rows in splits.values()), buckets,
                        sorted(train.records.keys() ^ test.records.keys(), key=bucket_number))


def _merge_bucket(train: LabeledMetadata, test: LabeledMetadata, bucket: str):
    """Rows of `all.txt`, merged metadata, and (train, test) row numbers of one bucket."""
    rows: list[tuple[str, int]] = []
    merged: dict[str, dict[str, dict]] = {}
    split: tuple[list[int], list[int]] = ([], [])
    seen: set[str] = set()
    for index, name in enumerate(train.class_names):
        merged[name] = {}
        for part, indices in ((train, split[0]), (test, split[1])):
            for image_id, record in part.records[bucket][name].items():
                path = record['IMG_PATH']
                if plain_path(path) in seen or image_id in merged[name]:
                    raise DataError(f'bucket {bucket}: image {image_id} ({path}) occurs twice in {train.root} and '
                                    f'{test.root}.')
                seen.add(plain_path(path))
                merged[name][image_id] = record
                indices.append(len(rows))
                rows.append((path, index))
    return rows, merged, split


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except FileNotFoundError as error:
        raise DataError(f'{source} is listed in the metadata but does not exist.') from error
    except FileExistsError as error:
        raise DataError(f'{source} is listed twice in the metadata.') from error
    except OSError:  # another file system, or one without hard links
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise DataError(f'{source} could not be copied to {target}: {error.strerror}.') from error

"""A new CLEAR tree from the images of another: per class sorted by a key of the metadata, and cut into buckets anew."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import inside, write_json
from clear.core.logs import Report
from clear.datasets.make.writing import (
    TEST_RATIO,
    new_folder,
    write_class_names,
    write_labeled_metadata,
    write_training_folder,
)
from clear.datasets.readers.clear.metadata import LabeledMetadata, bucket_number, read_metadata
from clear.datasets.readers.dates import MISSING, parse_time
from clear.datasets.readers.image_files import existing_folder, real_path
from clear.datasets.splits import check_split_options, stratified_split

MARKER = 'regroup.json'
LINKS = ('symlink', 'hard', 'copy')
MISSING_VALUES = ('drop', 'first', 'last')
KINDS = ('auto', 'date', 'number', 'text')


# By which images are sorted; all of one kind, None where an image has none.
Value: TypeAlias = datetime | float | str | None


@dataclass(frozen=True)
class RegroupSummary:
    """What `regroup` wrote.

    Attributes:
        counts: bucket -> images.
        ranges: bucket -> the first and the last value of the key in it, as the metadata write them.
        without_value: images whose key is missing or unreadable: id, class, bucket in the old tree, reason.
    """

    counts: dict[str, int]
    ranges: dict[str, tuple[str, str]]
    without_value: list[dict[str, str]]


@dataclass(frozen=True)
class _Image:
    image_id: str
    class_name: str
    bucket: str
    file: Path
    record: dict
    value: Value  # comparable with the other values; None if there is none
    reason: str = ''


def regroup(root: str | Path, out: str | Path, *, by: str = 'date_taken', num_buckets: int = 10, kind: str = 'auto',
            missing: str = 'drop', link: str = 'symlink', seeds: Sequence[int] = (0, 1, 2, 3, 4),
            test_ratio: float = TEST_RATIO, overwrite: bool = False, progress: Report | None = None
            ) -> RegroupSummary:
    """Write to `out` an old-layout tree in which time (or any other key) is cut into `num_buckets` buckets.

    Within each class all images are sorted by the key (equal ones by bucket and id) and cut into runs whose sizes
    differ by at most one, the longer ones first: every bucket has every class, and no image is left over. Buckets
    are called "1", "2", ...; records keep their old bucket as `ORIGINAL_BUCKET`. The tree has class names, metadata,
    file lists and a stratified split per seed. Features are not carried over.

    Args:
        root: a tree in either layout, with metadata; or the official train folder alone.
        by: a key of the records, upper or lower case.
        kind: how values compare. 'auto' takes dates for a key with "date" or "time" in its name, else numbers if all
            values are, else dates if all are, else text.
        missing: where images without a value go: left out, or before or after all others of their class.
        link: 'symlink' and 'hard' need no disk space; with a hard link, editing an image in place changes both trees.
        progress: called as `progress(done, total)` with image counts.

    Raises:
        ConfigError: if an option is unknown, or no record has the key (naming the nearest).
        DataError: if metadata or an image are missing, an image occurs twice, a class has fewer images than buckets,
            hard links are not possible, or `out` has content.
    """
    _check_options(num_buckets, kind, missing, link, seeds, test_ratio)
    parts = _read_parts(real_path(root))
    images = _collect(parts, by, kind)
    without = [dict(id=image.image_id, class_name=image.class_name, bucket=image.bucket, reason=image.reason)
               for image in images if image.value is None]
    names = parts[0].class_names
    runs = {name: _cut(_ordered(images, name, missing), num_buckets, name, by) for name in names}
    buckets = [str(number + 1) for number in range(num_buckets)]
    ranges = {bucket: _range(runs, number, by) for number, bucket in enumerate(buckets)}
    with new_folder(out, replace=overwrite) as folder:
        write_class_names(folder, names)
        rows, records = _write_images(folder, runs, buckets, link, progress)
        write_labeled_metadata(folder, records)
        splits = {seed: {bucket: stratified_split([target for _, target in rows[bucket]], test_ratio=test_ratio,
                                                  seed=seed, bucket=bucket) for bucket in buckets} for seed in seeds}
        write_training_folder(folder, rows, splits, test_ratio)
        write_json(folder / MARKER, dict(by=by, num_buckets=num_buckets, missing=missing, ranges=ranges,
                                         without_value=without))
    return RegroupSummary({bucket: len(rows[bucket]) for bucket in buckets}, ranges, without)


def _check_options(num_buckets: int, kind: str, missing: str, link: str, seeds: Sequence[int], test_ratio: float
                   ) -> None:
    for name, value, known in (('kind', kind, KINDS), ('missing', missing, MISSING_VALUES), ('link', link, LINKS)):
        check_choice(name, value, known)
    check_whole('num_buckets', num_buckets, 1)
    for seed in seeds:
        check_split_options(test_ratio, seed)


def _read_parts(root: Path) -> list[LabeledMetadata]:
    """The metadata of the tree itself, or of its train and test parts."""
    existing_folder(root, 'data root')
    folders = [root] if (root / 'labeled_metadata.json').is_file() else \
        [root / part for part in ('train', 'test') if (root / part / 'labeled_metadata.json').is_file()]
    if not folders:
        raise DataError(f'{root} has no labeled_metadata.json, neither itself nor in train/ and test/: there is '
                        'nothing to sort by.')
    parts = [read_metadata(folder) for folder in folders]
    if any(part.class_names != parts[0].class_names for part in parts):
        raise DataError(f'{root}: train and test list different classes in class_names.txt.')
    return parts


def _collect(parts: list[LabeledMetadata], by: str, kind: str) -> list[_Image]:
    """All images with the value that they are sorted by."""
    found = [(part, bucket, name, image_id, record, _lookup(record, by)) for part in parts
             for bucket, classes in part.records.items() for name, by_id in classes.items()
             for image_id, record in by_id.items()]
    values = [value for *_, value in found]
    if all(value is _ABSENT for value in values):
        known = sorted({key.lower() for _, _, _, _, record, _ in found for key in record})
        near = nearest(by, known)
        raise ConfigError(f"no record has the key '{by}'{f', nearest: {near}' if near else ''}. Keys: "
                          f'{", ".join(known)}.')
    read = _reader(by, kind, values)
    images = []
    seen: dict[tuple[str, str], str] = {}
    for part, bucket, name, image_id, record, raw in found:
        if (name, image_id) in seen:
            raise DataError(f"image {image_id} of class '{name}' occurs twice in the metadata, in bucket "
                            f'{seen[name, image_id]} and in bucket {bucket}.')
        seen[name, image_id] = bucket
        value, reason = read(raw)
        images.append(_Image(image_id, name, bucket, inside(part.root, record['IMG_PATH']), record, value, reason))
    return images


_ABSENT = object()


def _lookup(record: dict, key: str) -> object:
    return next((value for name, value in record.items() if name.lower() == key.lower()), _ABSENT)


def _reader(by: str, kind: str, values: list) -> Callable[[object], tuple[Value, str]]:
    """A function from a raw value to (comparable value or None, reason of None)."""
    converters: dict[str, Callable[[object], Value]] = {'date': parse_time, 'number': _number, 'text': str}
    if kind == 'auto':
        named = 'date' if 'date' in by.lower() or 'time' in by.lower() else None
        fitting = (each for each in ('number', 'date') if _all_fit(converters[each], values))
        kind = named or next(fitting, 'text')
    convert = converters[kind]

    def read(raw: object) -> tuple[Value, str]:
        if raw is _ABSENT or raw is None or str(raw).strip().lower() in MISSING:
            return None, f'no {by}'
        try:
            value = convert(raw)
        except ValueError as error:
            return None, str(error)
        return value, '' if value is not None else f'no {by}'

    return read


def _all_fit(convert: Callable[[object], Value], values: Iterable) -> bool:
    try:
        for value in values:
            if value is not _ABSENT and value is not None and str(value).strip().lower() not in MISSING:
                convert(value)
    except ValueError:
        return False
    return True


def _number(value: object) -> float:
    number = float(str(value))
    if not math.isfinite(number):
        raise ValueError(f"'{value}' is no finite number")
    return number


def _ordered(images: list[_Image], name: str, missing: str) -> list[_Image]:
    """The images of a class in their new order."""
    of_class = sorted((image for image in images if image.class_name == name),
                      key=lambda image: (bucket_number(image.bucket), image.image_id))
    valued = sorted((image for image in of_class if image.value is not None), key=lambda image: image.value)
    others = [image for image in of_class if image.value is None]
    return {'drop': valued, 'first': others + valued, 'last': valued + others}[missing]


def _cut(images: list[_Image], num_buckets: int, name: str, by: str) -> list[list[_Image]]:
    """Runs whose lengths differ by at most one, the longer ones first."""
    if len(images) < num_buckets:
        raise DataError(f"class '{name}' has {len(images)} images with a {by}, too few for {num_buckets} buckets. Use "
                        "fewer buckets, or missing='first' or 'last' if most lack it.")
    size, longer = divmod(len(images), num_buckets)
    ends = [number * size + min(number, longer) for number in range(num_buckets + 1)]
    return [images[start:end] for start, end in zip(ends, ends[1:])]


def _range(runs: dict[str, list[list[_Image]]], number: int, by: str) -> tuple[str, str]:
    valued = sorted((image for run in runs.values() for image in run[number] if image.value is not None),
                    key=lambda image: image.value)
    return tuple(str(_lookup(image.record, by)) for image in (valued[0], valued[-1])) if valued else ('', '')


def _write_images(folder: Path, runs: dict[str, list[list[_Image]]], buckets: list[str], link: str,
                  progress: Report | None) -> tuple[dict[str, list[tuple[str, int]]], dict[str, dict]]:
    """Rows of each bucket's `all.txt`, and the records with their new paths."""
    total = sum(len(run) for of_class in runs.values() for run in of_class)
    rows: dict[str, list[tuple[str, int]]] = {bucket: [] for bucket in buckets}
    records: dict[str, dict] = {bucket: {name: {} for name in runs} for bucket in buckets}
    done = 0
    for label, (name, of_class) in enumerate(runs.items()):
        for bucket, run in zip(buckets, of_class):
            (folder / 'labeled_images' / bucket / name).mkdir(parents=True)
            for image in run:
                path = f'labeled_images/{bucket}/{name}/{image.image_id}{image.file.suffix}'
                _place(image, inside(folder, path), link)
                records[bucket][name][image.image_id] = {**image.record, 'IMG_PATH': path,
                                                         'ORIGINAL_BUCKET': image.bucket}
                rows[bucket].append((path, label))
                done += 1
                if progress is not None:
                    progress(done, total)
    return rows, records


def _place(image: _Image, target: Path, link: str) -> None:
    source = image.file.resolve()
    if not source.is_file():
        raise DataError(f'{image.file} is listed in the metadata but does not exist.')
    try:
        if link == 'symlink':
            target.symlink_to(source)
        elif link == 'hard':
            os.link(source, target)
        else:
            shutil.copyfile(source, target)
    except OSError as error:
        advice = " Use link='symlink' or 'copy'." if link == 'hard' else ''
        raise DataError(f'{source} could not be put to {target} ({link}): {error.strerror}.{advice}') from error

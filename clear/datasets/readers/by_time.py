"""Streams of image files whose buckets are periods of time: from folders named by time, or from a table with dates."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute

from clear.core.checks import check_flag
from clear.core.errors import ConfigError, DataError
from clear.datasets.buckets import Bucket, cut_buckets
from clear.datasets.columns import chunked_texts, runs, text_column
from clear.datasets.fingerprints import stream_fingerprint
from clear.datasets.readers.clear.clear import PROTOCOLS, ClearData
from clear.datasets.readers.clear.clear_layouts import PARTS
from clear.datasets.readers.clear.lacking_classes import quoted, warn_of_lacking_classes
from clear.datasets.readers.dates import parse_time
from clear.datasets.readers.folder import warn_of_empty_classes
from clear.datasets.readers.image_files import IMAGE_SUFFIXES, existing_folder, folders_in, image_files, is_hidden
from clear.datasets.splits import check_split_options, few_shot_split, stratified_split
from clear.datasets.table import ImageTable

# Name of a bucket, paths, class indices.
Listed = tuple[str, pyarrow.Array, np.ndarray]


@dataclass(frozen=True)
class SplitOptions:
    """How a stream is divided: the protocol, and the seed, ratio or shot of splits that are drawn here.

    Attributes:
        part_folders: whether folders called `train` and `test` below a time are the parts of the split (True) or
            classes (False); None looks: parts hold the folders of classes, and no image right below them.
    """

    protocol: str = 'iid'
    seed: int | None = 0
    shot: int | None = None
    test_ratio: float = 0.3
    part_folders: bool | None = None

    def check(self) -> None:
        """Raise ConfigError for values that are unknown or do not go together."""
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"evaluation_protocol is '{self.protocol}', expected 'iid' or 'streaming'. Only "
                              "scenario.type='CLEAR' takes 'both'.")
        if self.protocol == 'streaming':
            for name, value in (('seed', self.seed), ('shot', self.shot)):
                if value is not None:
                    raise ConfigError(f"evaluation_protocol='streaming' splits nothing, so {name} must be None, not "
                                      f'{value!r}.')
        else:
            check_split_options(self.test_ratio, self.seed)
        if self.part_folders is not None:
            check_flag('part_folders', self.part_folders)


def read_folder_by_time(root: str | Path, options: SplitOptions, times: Sequence[str] | None = None) -> ClearData:
    """Read `ROOT/<time>/<class>/<image>`, with `train` and `test` folders above or below `<time>` where there are any.

    Without such folders each class of each bucket is split by `options`; with them the split is the folders', and
    `seed` and `test_ratio` are not used (`shot` pools both parts, as for CLEAR). Buckets come in the order of numbers
    if all times are numbers, else of dates. Images lie in the order of their names; classes are sorted by name.

    Args:
        times: names of the time folders in stream order; None takes all of them, ordered.

    Raises:
        ConfigError: for options that do not go together, or times that have no order.
        DataError: if a folder is missing or empty, only one of train and test is there, or a class is never trained on.
    """
    options.check()
    root = existing_folder(root)
    has_parts_above = {path.name for path in folders_in(root)} == set(PARTS)
    holders = [root / part for part in PARTS] if has_parts_above else [root]
    names = _time_names(root, holders, times)
    places = [_part_folders(root, name, has_parts_above, options.part_folders) for name in names]
    if len({frozenset(place) for place in places}) > 1:
        odd = next(name for name, place in zip(names, places) if set(place) != set(places[0]))
        raise DataError(f"{root}: '{names[0]}' and '{odd}' differ in having train/ and test/ folders.")
    class_names = sorted({folder.name for place in places for part in place.values() for folder in folders_in(part)})
    if not class_names:
        raise DataError(f'{root}/{names[0]} has no class folders; expected <time>/<class>/<image>.')
    listed = [(name, *_read_bucket(root, place[part], class_names)) for name, place in zip(names, places)
              for part in place]  # (time, paths, labels), train before test
    class_names, listed = _without_empty(root, class_names, listed)
    images = ImageTable.from_columns(root, dict(
        path=chunked_texts([paths for _, paths, _ in listed]), label=np.concatenate([labels for *_, labels in listed]),
        bucket=runs((name, len(paths)) for name, paths, _ in listed)), class_names)
    return divide('folder', images, [(name, len(paths)) for name, paths, _ in listed], options,
                  has_parts='all' not in places[0])


def divide(layout: str, images: ImageTable, sizes: Sequence[tuple[str, int]], options: SplitOptions, *,
           has_parts: bool = False) -> ClearData:
    """The train and test streams of images that lie bucket by bucket.

    A class that a bucket lacks is named in one warning: accuracy on such a bucket is that of the classes it has. Of
    a class-incremental stream that is meant, and nothing is said.

    Args:
        sizes: name and number of images of each bucket; with `has_parts` of its train part, then of its test part.

    Raises:
        DataError: if a class occurs in no training list, or a bucket is empty in train or test.
    """
    root, class_names = images.root, list(images.class_names)
    whole = sizes
    if has_parts:
        whole = [(name, count + other) for (name, count), (_, other) in zip(sizes[::2], sizes[1::2])]
    if options.protocol == 'streaming':
        train = cut_buckets(images, whole)
        test = list(train)
    else:
        if not has_parts or options.shot is not None:
            images, sizes = _split(images, whole, options)
        parts = cut_buckets(images, sizes)
        train, test = parts[::2], parts[1::2]
    _check_coverage(root, class_names, train, test)
    data = ClearData(class_names, train, test, layout, options.protocol, root,
                     stream_fingerprint(layout, options.protocol, class_names, train, test), images)
    if not data.is_class_incremental:
        warn_of_lacking_classes(root, class_names, train, test, options.protocol)
    return data


def all_images(data: ClearData) -> ImageTable:
    """All images of a stream in an order that no split changes, so that one bank serves every seed."""
    order, start = [], 0
    for place, bucket in enumerate(data.train):
        count = len(bucket) if data.protocol == 'streaming' else len(bucket) + len(data.test[place])
        ids = data.images['id'].slice(start, count)
        order.append(compute.sort_indices(ids).to_numpy().astype(np.int64) + start)
        start += count
    return data.images.select(np.concatenate(order))


def _split(images: ImageTable, sizes: Sequence[tuple[str, int]], options: SplitOptions
           ) -> tuple[ImageTable, list[tuple[str, int]]]:
    """The images with the drawn train part of each bucket before its test part, and the sizes of these."""
    order: list[np.ndarray] = []
    found: list[tuple[str, int]] = []
    start = 0
    for bucket in cut_buckets(images, sizes):
        targets = bucket.targets.tolist()
        if options.shot is not None:
            parts = few_shot_split(targets, shot=options.shot, seed=options.seed, bucket=bucket.name,
                                   class_names=images.class_names)
        else:
            parts = stratified_split(targets, test_ratio=options.test_ratio, seed=options.seed, bucket=bucket.name)
        order += [start + np.array(rows, np.int64) for rows in parts]
        found += [(bucket.name, len(rows)) for rows in parts]
        start += len(bucket)
    return images.select(np.concatenate(order)), found


def _check_coverage(root: Path, class_names: list[str], train: list[Bucket], test: list[Bucket]) -> None:
    trained = {target for bucket in train for target in bucket.targets.tolist()}
    never = [name for label, name in enumerate(class_names) if label not in trained]
    if never:
        raise DataError(f'{root}: {quoted(never)} occur in no training list of any bucket, so no model can know them. '
                        'Leave these classes out, or split otherwise.')
    for part, buckets in (('train', train), ('test', test)):
        for bucket in buckets:
            if not len(bucket):
                raise DataError(f'{root}: the {part} list of bucket {bucket.name} is empty.')


def _time_names(root: Path, holders: list[Path], times: Sequence[str] | None) -> list[str]:
    found = sorted({path.name for holder in holders for path in folders_in(holder)})
    if not found:
        raise DataError(f'{root} has no folders; expected <time>/<class>/<image>.')
    if times is None:
        return order_times(found, root)
    if not times:
        raise ConfigError('times is empty; expected names of time folders, or None for all.')
    absent = [str(name) for name in times if str(name) not in found]
    if absent:
        raise DataError(f'{root} has no folder {quoted(absent)}; it has {quoted(found)}.')
    return [str(name) for name in times]


def order_times(names: list[str], source: Path) -> list[str]:
    """Names in the order of their numbers if all are numbers, or one text and a number (`exp_1`), else of their dates.

    Raises:
        ConfigError: if some are neither, or two are the same time.
    """
    numbered = [re.fullmatch(r'([^\W\d]*[ _-]?)(\d+)', name) for name in names]
    if all(numbered) and len({match[1] for match in numbered}) == 1:
        keys = {name: int(match[2]) for name, match in zip(names, numbered)}
    else:
        try:
            keys = {name: parse_time(name) for name in names}
        except ValueError as error:
            raise ConfigError(f'{source}: {error}, so its folders have no order in time. Rename them, or list them in '
                              'order with scenario.times=[...].') from error
        none = [name for name, key in keys.items() if key is None]
        if none:
            raise ConfigError(f'{source}: {quoted(none)} is no time. List the folders in order with '
                              'scenario.times=[...].')
    ordered = sorted(names, key=keys.get)
    for one, other in zip(ordered, ordered[1:]):
        if keys[one] == keys[other]:
            raise ConfigError(f"{source}: '{one}' and '{other}' are the same time.")
    return ordered


def _part_folders(root: Path, name: str, has_parts_above: bool, part_folders: bool | None) -> dict[str, Path]:
    """Where the images of a time lie: {'all': folder}, or one folder for each of train and test."""
    if has_parts_above:
        places = {part: root / part / name for part in PARTS}
    else:
        found = [path for path in folders_in(root / name) if path.name in PARTS]
        # One part alone that holds classes is half a split; a class holds images.
        if not (bool(found) and all(map(_holds_classes, found)) if part_folders is None else part_folders):
            return {'all': root / name}
        places = {part: root / name / part for part in PARTS}
    for part, place in places.items():
        if not place.is_dir():
            raise DataError(f'{place} is missing: bucket {name} needs a {part} folder, because it has the other one. '
                            'If that is a class, set part_folders=False.')
    return places


def _holds_classes(place: Path) -> bool:
    """Whether a folder holds folders, and no image right below it."""
    entries = [entry for entry in os.scandir(place) if not is_hidden(entry.name)]
    return any(entry.is_dir() for entry in entries) and not any(
        entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in entries if not entry.is_dir())


def _read_bucket(root: Path, folder: Path, class_names: list[str]) -> tuple[pyarrow.Array, np.ndarray]:
    """Paths and class indices (N,) int64."""
    paths, labels = [], []
    for label, class_name in enumerate(class_names):
        place = folder / class_name
        files = image_files(root, place.relative_to(root).as_posix()) if place.is_dir() else []
        paths += files
        labels += [label] * len(files)
    return text_column(paths), np.array(labels, dtype=np.int64)


def _without_empty(root: Path, class_names: list[str], listed: list[Listed]) -> tuple[list[str], list[Listed]]:
    """The classes that have images anywhere, and the lists with labels to match. With none, all classes."""
    used = np.unique(np.concatenate([labels for *_, labels in listed]))
    if len(used) in (0, len(class_names)):
        return class_names, listed
    names = [class_names[label] for label in used]
    warn_of_empty_classes(root, class_names, names)
    return names, [(name, paths, np.searchsorted(used, labels)) for name, paths, labels in listed]

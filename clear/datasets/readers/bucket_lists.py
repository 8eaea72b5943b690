"""The images of one or several time buckets: of a CLEAR tree, of folders by time, or of a curation's bucket files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError
from clear.datasets.buckets import Bucket, check_first_images, in_one_table
from clear.datasets.readers.bucket_files import bucket_column, find_bucket_files, read_bucket_files
from clear.datasets.readers.by_time import SplitOptions, order_times, read_folder_by_time
from clear.datasets.readers.clear.clear_layouts import Choice, open_layout
from clear.datasets.readers.image_files import (
    IMAGE_SUFFIXES,
    check_different,
    existing_folder,
    folders_in,
    image_files,
    is_hidden,
)
from clear.datasets.table import ImageTable
from clear.registry import READERS

SPLITS = ('train', 'test', 'all')
LAYOUTS = ('auto', 'old', 'new', 'folder', 'json')


@dataclass(frozen=True)
class BucketChoice:
    """Which images of a stream are asked for.

    Attributes:
        buckets: names (text) or positions in time (whole numbers, 0 is the earliest); None takes all.
        split: 'train', 'test' or 'all'. Bucket files, and time folders without classes, are not divided: it plays
            no part there.
        split_seed: of the split whose parts 'train' and 'test' are, one on disk (old layout) or drawn here (folders
            by time with classes); the new layout has one split and ignores it.
        layout: 'old' and 'new' (CLEAR), 'folder' (`<time>/...`), 'json' (`bucket_<name>.json`), or 'auto' to look.
        bucket_files: JSON files in place of those below the root.
        times: names of the time folders in stream order, where names alone have no order.
        image_dir: stands in for every record's IMG_DIR of bucket files, relative to the root.
        part_folders: whether folders called `train` and `test` below a time are parts or classes; see `SplitOptions`.
    """

    buckets: int | str | Sequence[int | str] | None = (0,)
    split: str = 'train'
    split_seed: int = 0
    layout: str = 'auto'
    bucket_files: str | Path | Sequence[str | Path] | None = None
    times: Sequence[str] | None = None
    image_dir: str | None = None
    part_folders: bool | None = None

    def check(self) -> None:
        """Raise ConfigError for values that are unknown."""
        check_choice('split', self.split, SPLITS)
        check_choice('layout', self.layout, LAYOUTS)
        if self.bucket_files is not None and self.layout not in ('auto', 'json'):
            raise ConfigError(f'bucket_files are bucket files, so layout must not be {self.layout!r}.')

    def chosen(self, names: Sequence[str], source: Path) -> list[str]:
        """The names among `names` (in order of time) that `buckets` asks for, in the order asked.

        Raises:
            ConfigError: if one does not exist or is asked for twice.
        """
        if self.buckets is None:
            return list(names)
        wanted = [self.buckets] if isinstance(self.buckets, (int, str)) else list(self.buckets)
        known = ', '.join(f'{place} = {name!r}' for place, name in enumerate(names))
        if not wanted:
            raise ConfigError(f'buckets is empty; {source} has {known}.')
        found = []
        for each in wanted:
            is_place = type(each) is int and 0 <= each < len(names)
            if not is_place and each not in names:
                what = f'bucket number {each}' if type(each) is int else f'bucket named {each!r}'
                raise ConfigError(f'buckets: {source} has no {what}. It has {known}; a whole number is a position in '
                                  'time, a text is a name.')
            found.append(names[each] if is_place else each)
        if len(set(found)) < len(found):
            raise ConfigError(f'buckets {wanted} of {source} name one bucket twice: {found}.')
        return found


def read_buckets(data_root: str | Path, choice: BucketChoice = BucketChoice()) -> ImageTable:
    """The images of the chosen buckets, one bucket after another in the order asked for.

    Raises:
        ConfigError: if an option is unknown, or a bucket does not exist.
        DataError: if something is missing or wrong, or a bucket has no images.
    """
    choice.check()
    # With its links, since records of bucket files may name the folder as the config does.
    root = Path(data_root).absolute()
    existing_folder(root)
    readers: dict[str, Callable[[Path, BucketChoice], ImageTable]] = {
        'old': _read_clear, 'new': _read_clear, 'folder': _read_folders, 'json': _read_bucket_files}
    return readers[_layout(root, choice)](root, choice)


@READERS.register_module(name='BucketImages')
def bucket_images(data_root: str | Path, buckets: int | str | Sequence[int | str] | None = (0,), split: str = 'train',
                  split_seed: int = 0, layout: str = 'auto',
                  bucket_files: str | Path | Sequence[str | Path] | None = None, times: Sequence[str] | None = None,
                  image_dir: str | None = None, part_folders: bool | None = None) -> ImageTable:
    """One or several time buckets of a CLEAR tree, of folders by time, or of bucket files; see `BucketChoice`."""
    return read_buckets(data_root, BucketChoice(buckets, split, split_seed, layout, bucket_files, times, image_dir,
                                                part_folders))


@READERS.register_module(name='FolderByTime')
def folder_by_time(data_root: str, times: Sequence[str] | None = None, part_folders: bool | None = None) -> ImageTable:
    """All images of `<time>/<class>/<image>`, bucket by bucket, as `scenario.type='FolderByTime'` reads them."""
    images = read_buckets(data_root, BucketChoice(None, 'all', layout='folder', times=times, part_folders=part_folders))
    # As the scenario sorts them, which takes this bank for its own.
    images, buckets = images.in_buckets()
    paths = images.texts('path')
    return images.select([row for rows in buckets.values() for row in sorted(rows, key=paths.__getitem__)])


def is_clear_tree(root: Path) -> bool:
    """Whether a folder looks like CLEAR data of either layout."""
    return (root / 'training_folder').is_dir() or any(
        (root / part / 'labeled_metadata.json').is_file() for part in ('train', 'test'))


def _layout(root: Path, choice: BucketChoice) -> str:
    if choice.layout != 'auto':
        return choice.layout
    if choice.bucket_files is not None:
        return 'json'
    if is_clear_tree(root):
        return open_layout(root).name
    return 'json' if find_bucket_files(root) else 'folder'


def _read_clear(root: Path, choice: BucketChoice) -> ImageTable:
    # The lists of other buckets are left alone, so a tree of which one bucket is there will do.
    tree = open_layout(root, choice.layout if choice.layout in ('old', 'new') else 'auto')
    class_names = tree.class_names()
    samples = Choice(choice.split_seed)
    names = choice.chosen(tree.bucket_names(choice.split, samples), root)
    return _labelled(root, [tree.bucket(name, choice.split, samples, class_names) for name in names])


def _labelled(root: Path, buckets: list[Bucket]) -> ImageTable:
    images, buckets = in_one_table(buckets)
    check_different(images['path'], root)
    check_first_images(root, buckets)
    return images


def _read_bucket_files(root: Path, choice: BucketChoice) -> ImageTable:
    files = choice.bucket_files
    if files is None:
        files = find_bucket_files(root)
        if not files:
            raise DataError(f'{root} holds no bucket_<name>.json; name them by bucket_files.')
    files = [Path(file) for file in ([files] if isinstance(files, (str, Path)) else files)]
    return read_bucket_files(root, files, choice.chosen, choice.image_dir)


def _read_folders(root: Path, choice: BucketChoice) -> ImageTable:
    if _has_classes(root):
        options = SplitOptions('streaming', None, part_folders=choice.part_folders) if choice.split == 'all' else \
            SplitOptions('iid', choice.split_seed, part_folders=choice.part_folders)
        data = read_folder_by_time(root, options, choice.times)
        buckets = {bucket.name: bucket for bucket in (data.test if choice.split == 'test' else data.train)}
        return _labelled(data.root, [buckets[name] for name in choice.chosen(list(buckets), root)])
    found = [path.name for path in folders_in(root)]
    if not found:
        raise DataError(f'{root} has no buckets: neither CLEAR lists, nor bucket_<name>.json, nor folders by time.')
    names = choice.chosen(list(choice.times) if choice.times else order_times(found, root), root)
    paths = {name: image_files(root, name) for name in names}
    return ImageTable.from_columns(root, dict(path=[*chain(*paths.values())], bucket=bucket_column(paths, root)))


def _has_classes(root: Path) -> bool:
    """Whether the images of a time lie in folders, its classes, and none right below the time."""
    has_folders = False
    for folder in folders_in(root):
        for entry in os.scandir(folder):  # stops at the first image: there may be a million
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                has_folders = True
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                return False
    return has_folders

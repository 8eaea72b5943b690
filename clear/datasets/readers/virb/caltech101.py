"""Caltech-101 with the lists of ViRB, or thirty training images of every category."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from clear.core.checks import check_choice, check_whole
from clear.core.errors import DataError
from clear.core.files import inside, read_json
from clear.core.logs import logger
from clear.core.seeding import derive_seed
from clear.datasets.readers.image_files import check_different, check_there, existing_folder, image_files
from clear.datasets.table import ImageTable
from clear.registry import READERS

TRAIN_PER_CLASS = 30  # as in most papers on Caltech-101; 102 categories make ViRB's 3,060 training images
_LISTS = 'caltech101_{}.json'


@READERS.register_module(name='Caltech101')
def caltech101(root: str, split: str, seed: int = 0) -> ImageTable:
    """`root/<category>/<image>.jpg`, split by `root/caltech101_{train,test}.json`, lists of `<category>/<image>.jpg`.

    Without both lists 30 images of each category are drawn by `seed` to train on, and the log says so; all others are
    for testing. The category is the folder of an image; those of 'train' are the classes. (ViRB counts file names.)

    Args:
        split: 'train' or 'test'.

    Raises:
        ConfigError: for another split.
        DataError: if one list is there without the other, is no list of paths, or names a missing file or, in 'test', a
            category that 'train' does not have; or if, without lists, a category has no more than 30 images.
    """
    check_choice('split', split, ('train', 'test'))
    check_whole('seed', seed, 0)
    base = existing_folder(root)
    files = {part: base / _LISTS.format(part) for part in ('train', 'test')}
    there = [part for part, file in files.items() if file.is_file()]
    if len(there) == 1:
        raise DataError(f"{base} has {files[there[0]].name} without the other list; give both, or none.")
    if there:
        lists = {part: _listed(file, base) for part, file in files.items()}
    else:
        lists = thirty_per_class(image_files(base), base, seed)
        logger.info('%s has no %s and %s: %d images of each category, drawn with seed %d, are for training, and %d '
                    'images of %d categories for testing.', base, *(file.name for file in files.values()),
                    TRAIN_PER_CLASS, seed, len(lists['test']), len({_category(path) for path in lists['test']}))
    names = sorted({_category(path) for path in lists['train']})
    of_name = {name: label for label, name in enumerate(names)}
    unknown = next((path for path in lists[split] if _category(path) not in of_name), None)
    if unknown is not None:
        raise DataError(f"{base}: '{unknown}' is for testing, and no image of category '{_category(unknown)}' is for "
                        'training.')
    return ImageTable.from_columns(base, dict(path=lists[split], label=[of_name[_category(path)]
                                                                        for path in lists[split]]),
                                   names, name=f'caltech101_{split}')


def thirty_per_class(paths: Sequence[str], where: Path, seed: int) -> dict[str, list[str]]:
    """Paths `<category>/<image>` as 'train', 30 of each category, and 'test', the others; both sorted.

    Raises:
        DataError: if a category has too few, or there is none.
    """
    by_category: dict[str, list[str]] = {}
    for path in sorted(path for path in paths if path.count('/') == 1):
        by_category.setdefault(_category(path), []).append(path)
    if not by_category:
        raise DataError(f'{where} holds no images: expected <category>/<image>.jpg.')
    train: set[str] = set()
    for category, found in by_category.items():
        if len(found) <= TRAIN_PER_CLASS:
            raise DataError(f"{where}: category '{category}' has {len(found)} images; {TRAIN_PER_CLASS} to train on "
                            'and one to test on are needed. Is the archive complete? Or give both lists.')
        train.update(random.Random(derive_seed(seed, 'caltech101', category)).sample(found, TRAIN_PER_CLASS))
    every = [path for found in by_category.values() for path in found]
    return dict(train=[path for path in every if path in train], test=[path for path in every if path not in train])


def _listed(file: Path, base: Path) -> list[str]:
    """The paths of a list, in their order, whose files are there."""
    paths = read_json(file)
    if not isinstance(paths, list) or not paths or not all(
            isinstance(path, str) and path.count('/') == 1 and all(path.split('/')) for path in paths):
        raise DataError(f"{file}: expected a list of '<category>/<image>.jpg'.")
    for path in paths:
        inside(base, path)
    check_different(paths, file)
    check_there(paths, base, file)
    return paths


def _category(path: str) -> str:
    return path.split('/')[0]

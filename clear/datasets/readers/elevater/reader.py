"""ELEVATER's image sets as tables: index files, class names, zip archives that stay as they are.

::

    <root>/classification/<folder>/
        train.txt, val.txt, test.txt     one line per image: path label[,label...]; or COCO JSON
        labels.txt                       class names, one per line (COCO JSON has its own)
        train.zip, test.zip, ...         the images; paths in an index are archive.zip@inner/name
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow

from clear.core.checks import check_choice, check_flag, check_text
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import inside
from clear.core.logs import logger
from clear.datasets.images.zip_members import ZippedImages, member_columns
from clear.datasets.readers.elevater.index import LABEL_FILES, IndexedImages, read_class_names, read_index
from clear.datasets.readers.elevater.sets import SPLITS, STORED_SETS, StoredSet, stored_set
from clear.datasets.readers.folder import image_folder
from clear.datasets.readers.image_files import existing_folder, folders_in
from clear.datasets.readers.labels import unique_names
from clear.datasets.table import ImageTable
from clear.registry import READERS

# What the index of a split may be called in a set that is not ELEVATER's; the first that is there is read.
_STEMS = {'train': ('train',), 'val': ('val', 'valid', 'validation'), 'test': ('test',)}
_ENDS = ('.txt', '.json', '_images.txt', '_ic.txt', '_meta.json', '_coco.json')


class ElevaterImages(ZippedImages):
    """Images of one split of a set."""

    def fingerprint(self) -> str:
        """As of any table, and the labels of images that may have several."""
        if 'labels' not in self:
            return super().fingerprint()
        labels = json.dumps(self['labels'].to_pylist())
        return hashlib.sha256(f'{super().fingerprint()} {labels}'.encode()).hexdigest()


@READERS.register_module(name='ElevaterSet')
def elevater_set(root: str, set: str, split: str, multi_label: bool | None = None) -> ImageTable:  # noqa: A002
    """One split of one of ELEVATER's sets, or of a set of one's own that lies in the same way.

    A set of ELEVATER's is found by the name of its config or of the benchmark, and read by its published index and
    class names. Any other name is a folder below `classification/`, with an index per split (`train.txt`,
    `train.json` ...), or, if it has none, with the folders `train`, `val` and `test` of folders of classes. Zip
    archives are read in place. Images without a label stay in.

    Args:
        root: the folder that has `classification/`, or that folder.
        split: 'train', 'val' or 'test'. Some of ELEVATER's sets have no 'val'; its protocol uses none.
        multi_label: whether an image may have several classes: then there is a column `labels` of lists in place of
            `label`. By default as published; of other sets, whether any image of any split has several.

    Raises:
        ConfigError: for an unknown set, with the nearest, or a split that it does not have.
        DataError: if the folder, the index or an archive is missing or damaged, labels do not fit the class names, or a
            path leaves the root. An image that is missing or damaged is met when it is read.
    """
    check_choice('split', split, SPLITS)
    check_text('set', set)
    if multi_label is not None:
        check_flag('multi_label', multi_label)
    base = existing_folder(root)
    if (base / 'classification').is_dir():
        base = base / 'classification'
    known = stored_set(set)
    folder = _folder_of(base, set, known)
    file = _index_of(folder, split, known)
    if file is None:
        return _image_folder(folder, set, split)
    found = read_index(file)
    names = _class_names(folder, file, found, known)
    _check_labels(file, found, len(names))
    if known is not None and len(found.paths) != known.sizes[split]:
        logger.warning("%s has %d images; ELEVATER's '%s' has %d in its %s set.", file, len(found.paths), known.name,
                       known.sizes[split], split)
    if multi_label is None:
        multi_label = known.is_multi_label if known is not None else _has_several(folder)
    return ElevaterImages.from_columns(
        folder, dict(id=_ids(found.paths, file), path=found.paths, split=pyarrow.repeat(split, len(found.paths)),
                     **_label_column(file, found, multi_label), **member_columns(folder, found.paths)), names,
        name=f'{known.name if known is not None else set}_{split}')


def _folder_of(base: Path, name: str, known: StoredSet | None) -> Path:
    folder = inside(base, known.folder if known is not None else name)
    if folder.is_dir() and folder != base:
        return folder
    if known is not None:
        raise DataError(f"{folder} is not there: ELEVATER's '{known.name}' lies in classification/{known.folder} below "
                        'the root, see docs/elevater.md.')
    own = [path.name for path in folders_in(base)]
    names = {name for each in STORED_SETS for name in (each.config, each.name)}
    near = nearest(name, [*names, *own])
    raise ConfigError(f"set is {name!r}, which is none of ELEVATER's and no folder in {base}"
                      f'{f"; nearest: {near}" if near else ""}.')


def _index_of(folder: Path, split: str, known: StoredSet | None) -> Path | None:
    """The index of a split; None for folders of classes.

    Raises:
        ConfigError: for a split that a set does not have.
        DataError: if the index is missing.
    """
    if known is not None:
        if split not in known.sizes:
            raise ConfigError(f"'{known.name}' has no images for {split}; there are {' and '.join(known.sizes)}.")
        if not (folder / known.index_file(split)).is_file():
            raise DataError(f"{folder} has no {known.index_file(split)}, the index of '{known.name}' for {split}.")
        return folder / known.index_file(split)
    return next((folder / f'{stem}{end}' for end in _ENDS for stem in _STEMS[split]
                 if (folder / f'{stem}{end}').is_file()), None)


def _image_folder(folder: Path, name: str, split: str) -> ImageTable:
    found = next((folder / stem for stem in _STEMS[split] if (folder / stem).is_dir()), None)
    if found is None:
        raise DataError(f'{folder} has no index for {split} ({split}.txt or {split}.json) and no folder {split}/ with '
                        'folders of classes.')
    images = image_folder(str(found))
    return ImageTable(images.root, images.table, images.class_names, name=f'{name}_{split}')


def _class_names(folder: Path, file: Path, found: IndexedImages, known: StoredSet | None) -> list[str]:
    """The names of a set; if it has none, numbers up to the largest label of any split.

    Raises:
        DataError: if ELEVATER's set has another number of them.
    """
    if found.class_names is not None:
        where, names = file, found.class_names
    else:
        places = (known.labels,) if known is not None and known.labels else LABEL_FILES
        where = next((folder / name for name in places if (folder / name).is_file()), None)
        if where is None and known is not None:
            raise DataError(f"{folder} has no {places[0]}, the class names of '{known.name}'.")
        names = read_class_names(where) if where is not None else [str(index) for index in range(_num_labels(folder))]
    if known is not None and len(names) != known.num_classes:
        raise DataError(f"{where} names {len(names)} classes; ELEVATER's '{known.name}' has {known.num_classes}.")
    return unique_names(names)


def _check_labels(file: Path, found: IndexedImages, num_classes: int) -> None:
    for row, own in enumerate(found.labels):
        if own and max(own) >= num_classes:
            raise DataError(f"{file}, image {row + 1} ('{found.paths[row]}'): label {max(own)}, but there are only "
                            f'{num_classes} class names. Are these the class names of this set?')


def _num_labels(folder: Path) -> int:
    return 1 + max((label for own in _all_labels(folder) for label in own), default=-1)


def _has_several(folder: Path) -> bool:
    return any(len(own) > 1 for own in _all_labels(folder))


def _all_labels(folder: Path) -> Iterator[list[int]]:
    """Those of every image of every split of a set of one's own."""
    for split in SPLITS:
        file = _index_of(folder, split, None)
        yield from () if file is None else read_index(file).labels


def _label_column(file: Path, found: IndexedImages, multi_label: bool) -> dict[str, list]:
    if multi_label:
        return dict(labels=found.labels)
    several = next((row for row, own in enumerate(found.labels) if len(own) > 1), None)
    if several is not None:
        raise DataError(f"{file}, image {several + 1} ('{found.paths[several]}') has {len(found.labels[several])} "
                        'labels, in a set of one per image. If images may have several: multi_label=True.')
    return dict(label=[own[0] if own else -1 for own in found.labels])


def _ids(paths: list[str], file: Path) -> list[str]:
    """The paths; an image that an index names again gets its line besides, so that ids differ."""
    if len({*paths}) == len(paths):
        return paths
    seen: set[str] = set()
    ids = []
    for row, path in enumerate(paths):
        ids.append(f'{path}#{row}' if path in seen else path)
        seen.add(path)
    logger.warning('%s names %d images more than once; they count each time.', file, len(paths) - len(seen))
    return ids

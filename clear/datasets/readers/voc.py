"""PASCAL VOC 2007 as a classification task: which of twenty classes an image shows, some of them in doubt.

::

    VOC2007/ImageSets/Main/{train,val,trainval,test}.txt   one image id per line
    VOC2007/Annotations/<id>.xml                           the objects of the image, with their names
    VOC2007/JPEGImages/<id>.jpg

The archives unpack to `VOCdevkit/VOC2007`; labels of the test part are in an archive of its own.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow

from clear.core.errors import ConfigError, DataError
from clear.core.files import inside, read_text
from clear.datasets.table import ImageTable
from clear.registry import READERS

VOC_CLASSES = ('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable',
               'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')
VOC_SPLITS = ('train', 'val', 'trainval', 'test')
PRESENT, ABSENT, DIFFICULT = 1, 0, -1
_MAX_XML_BYTES = 2**20  # the largest of VOC 2007 has 12 kB


def find_voc(root: str | Path) -> Path:
    """The folder `VOC2007` at `root`, or below it as the archives unpack.

    Raises:
        DataError: if there is none.
    """
    root = Path(root)
    for folder in (root, root / 'VOC2007', root / 'VOCdevkit' / 'VOC2007'):
        if (folder / 'ImageSets' / 'Main').is_dir():
            return folder
    raise DataError(f'{root} holds no VOC 2007: expected VOCdevkit/VOC2007 with ImageSets/Main, Annotations and '
                    'JPEGImages.')


@READERS.register_module(name='VOC2007')
def read_voc(root: str | Path, split: str) -> ImageTable:
    """The images of one list, in its order. Reads an XML file per image; images are not opened.

    Args:
        root: `VOC2007`, `VOCdevkit`, or the folder of that.
        split: 'train', 'val', 'trainval' or 'test'.

    Returns:
        The columns `id`, `path`, `split`, `labels` (the classes of which there is an object) and `difficult` (those of
        which there are only objects that are marked so, which count neither for nor against a classifier). See
        `voc_targets`.

    Raises:
        ConfigError: for another split.
        DataError: if a list or an annotation is missing or not what it should be. The test lists came in an archive
            of their own, so this is where its absence shows.
    """
    if split not in VOC_SPLITS:
        raise ConfigError(f"VOC has no split '{split}'; there are {', '.join(VOC_SPLITS)}.")
    base = find_voc(root)
    ids = read_ids(base / 'ImageSets' / 'Main' / f'{split}.txt', split)
    classes = [_read_classes(inside(base, f'Annotations/{name}.xml')) for name in ids]
    return ImageTable.from_columns(base, dict(
        id=ids, path=[f'JPEGImages/{name}.jpg' for name in ids], split=pyarrow.repeat(split, len(ids)),
        labels=[clear for clear, _ in classes], difficult=[difficult for _, difficult in classes]), VOC_CLASSES)


def voc_targets(images: ImageTable) -> np.ndarray:
    """(N, C) int8 with a column for each class: `PRESENT`, `ABSENT`, or `DIFFICULT`, of any images with `labels`.

    Raises:
        DataError: if these images have no column `labels`.
    """
    targets = np.full((len(images), len(images.class_names)), ABSENT, np.int8)
    for column, value in (('labels', PRESENT), *([('difficult', DIFFICULT)] if 'difficult' in images else [])):
        for row, classes in enumerate(images[column].to_pylist()):
            targets[row, classes or []] = value
    return targets


def read_ids(path: Path, split: str) -> list[str]:
    """The ids of a list, one a line, in its order.

    Raises:
        DataError: if the list is missing or empty, or has an id twice.
    """
    try:
        lines = read_text(path).split('\n')
    except DataError as error:
        hint = ' Labels of the test images are in the archive VOCtest_06-Nov-2007.' if split == 'test' else ''
        raise DataError(f'{error}{hint}') from error
    ids = [line.strip() for line in lines if line.strip()]
    twice = {name for name in ids if ids.count(name) > 1} if len(set(ids)) < len(ids) else ()
    if not ids or twice:
        raise DataError(f"{path} {f'lists {min(twice)} twice' if twice else 'lists no image'}.")
    return ids


def _read_classes(path: Path) -> tuple[list[int], list[int]]:
    """Of one annotation: the classes of which there is an object, and those of which all are marked difficult."""
    found: dict[str, set[int]] = {'0': set(), '1': set()}
    for index, item in enumerate(_parse(path).findall('object')):
        name = (item.findtext('name') or '').strip()
        difficult = (item.findtext('difficult') or '0').strip()
        if name not in VOC_CLASSES or difficult not in found:
            raise DataError(f"{path}: object {index} is called '{name}' with difficult='{difficult}'; expected one of "
                            "VOC's twenty classes, and 0 or 1.")
        found[difficult].add(VOC_CLASSES.index(name))
    # One clear object decides, whatever else is in doubt.
    return sorted(found['0']), sorted(found['1'] - found['0'])


def _parse(path: Path) -> ElementTree.Element:
    """The tree of an annotation. A document type, with which entities could be declared, is refused unread."""
    try:
        text = read_text(path, _MAX_XML_BYTES)  # no annotation of VOC is longer
        if '<!DOCTYPE' in text or '<!ENTITY' in text:
            raise DataError(f'{path} declares a document type, which no annotation of VOC does; it was not parsed.')
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f'{path} cannot be read as an annotation: {error}') from error
    if tree.tag != 'annotation':
        raise DataError(f"{path} begins with <{tree.tag}>, expected <annotation>.")
    return tree

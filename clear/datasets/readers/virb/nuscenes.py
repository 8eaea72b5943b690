"""Pairs of frames of nuScenes, and how the car moved between them."""

from __future__ import annotations

from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import inside, read_json
from clear.datasets.clips import clip_table
from clear.datasets.readers.image_files import check_there, existing_folder
from clear.datasets.table import ImageTable
from clear.registry import READERS

Pair = tuple[str, str, int | str]  # first image, second image, label


@READERS.register_module(name='NuScenesPairs')
def nuscenes_pairs(root: str, split: str) -> ImageTable:
    """`root/nuScenes_{train,test}.json`, a list of `{'img_a': path, 'img_b': path, 'label': number or text}`.

    A pair is a clip (`clear.datasets.clips`) of two frames, in the order of the list. The classes are the labels of
    'train', sorted: numbers by value, text as text.

    Raises:
        ConfigError: for another split than 'train' and 'test'.
        DataError: naming the image that is missing or the label that 'train' does not have, or if a list is not what it
            should be.
    """
    check_choice('split', split, ('train', 'test'))
    base = existing_folder(root)
    train = pairs_of(base / 'nuScenes_train.json')
    file = base / f'nuScenes_{split}.json'
    pairs = train if split == 'train' else pairs_of(file)
    labels = sorted({label for _, _, label in train})
    of_label = {label: place for place, label in enumerate(labels)}
    for row, (*images, label) in enumerate(pairs, start=1):
        if label not in of_label:
            raise DataError(f'{file}: pair {row} has the label {label!r}, which nuScenes_train.json does not have.')
        for image in images:
            inside(base, image)
    check_there([image for *images, _ in pairs for image in images], base, file)
    return clip_table(base, ((str(row), images, of_label[label]) for row, (*images, label) in enumerate(pairs)),
                      list(map(str, labels)), f'nuscenes_{split}')


def pairs_of(file: Path) -> list[Pair]:
    """The pairs of a list.

    Raises:
        DataError: naming the pair that lacks an image or a label, or whose label is of another type than the first's.
    """
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise DataError(f"{file}: expected a list of {{'img_a': ..., 'img_b': ..., 'label': ...}}.")
    pairs: list[Pair] = []
    for row, entry in enumerate(content, start=1):
        found = [entry.get(key) for key in ('img_a', 'img_b', 'label')] if isinstance(entry, dict) else [None] * 3
        if not all(isinstance(image, str) and image for image in found[:2]) or type(found[2]) not in (int, str):
            raise DataError(f"{file}: pair {row} is {str(entry)[:100]}; expected {{'img_a': path, 'img_b': path, "
                            "'label': whole number or text}}.")
        if type(found[2]) is not type(pairs[0][2] if pairs else found[2]):
            raise DataError(f'{file}: pair {row} has the label {found[2]!r}, the first one {pairs[0][2]!r}: all should '
                            'be numbers, or all text.')
        pairs.append(tuple(found))
    return pairs

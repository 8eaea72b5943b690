"""CLEVR (Johnson et al. 2017, arXiv:1612.06890): how many objects a scene holds, or how far the nearest one is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import inside, read_json
from clear.datasets.readers.image_files import check_different, check_there, existing_folder
from clear.datasets.readers.virb.counts import check_count, count_names
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='CLEVRScenes')
def clevr_scenes(root: str, split: str, answer: str) -> ImageTable:
    """`root/images/{train,val}/<image_filename>` and `root/scenes/CLEVR_{train,val}_scenes.json`, in the order of that.

    An image and its scene are matched by `image_filename`. (ViRB takes sorted images and scenes as they come.) The
    classes are the numbers 0 ... the largest of 'train'.

    Args:
        split: 'train' or 'val'; the answers to 'test' are not published.
        answer: 'count', the number of objects; or 'distance', int(2 d) where d is the distance of the nearest object
            to the origin of the scene's `3d_coords`, the middle of the floor (as in ViRB), not to the camera.

    Raises:
        ConfigError: for another split or answer.
        DataError: naming the scene without a file name or objects, or the image that is missing; or if the file is not
            what it should be.
    """
    check_choice('split', split, ('train', 'val'))
    check_choice('answer', answer, tuple(_ANSWERS))
    base = existing_folder(root)
    train = _answers(base / 'scenes' / 'CLEVR_train_scenes.json', answer)
    names = count_names(train.values())
    file = base / 'scenes' / f'CLEVR_{split}_scenes.json'
    found = train if split == 'train' else _answers(file, answer)
    for name, number in found.items():
        check_count(f"{file}: the answer to '{name}' is", number, len(names))
    paths = [f'images/{split}/{name}' for name in found]
    for path in paths:
        inside(base / 'images' / split, path.removeprefix(f'images/{split}/'))
    check_there(paths, base, file)
    return ImageTable.from_columns(base, dict(path=paths, label=list(found.values())), names,
                                   name=f'clevr_{answer}_{split}')


def _answers(file: Path, answer: str) -> dict[str, int]:
    """File name -> answer of every scene."""
    content = read_json(file)
    scenes = content.get('scenes') if isinstance(content, dict) else None
    if not isinstance(scenes, list) or not scenes:
        raise DataError(f"{file}: expected {{'scenes': [{{'image_filename': ..., 'objects': [...]}}, ...]}}.")
    found = []
    for number, scene in enumerate(scenes):
        name = scene.get('image_filename') if isinstance(scene, dict) else None
        objects = scene.get('objects') if isinstance(scene, dict) else None
        if not isinstance(name, str) or not name or not isinstance(objects, list):
            raise DataError(f"{file}: scene {number} has no image_filename that is text, or no list of objects.")
        found.append((name, _ANSWERS[answer](objects, f"{file}: scene {number} ('{name}')")))
    check_different([name for name, _ in found], file)
    return dict(found)


def _count(objects: list, where: str) -> int:
    return len(objects)


def _distance(objects: list, where: str) -> int:
    """Twice the distance of the nearest object to the origin, cut to a whole number."""
    places = [each.get('3d_coords') if isinstance(each, dict) else None for each in objects]
    if not places or not all(isinstance(place, list) and len(place) == 3 and all(map(_is_number, place))
                             for place in places):
        raise DataError(f"{where} has {'no objects' if not places else 'an object without 3d_coords, three numbers'}.")
    return int(2 * min(math.hypot(*place) for place in places))


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and -1e9 < value < 1e9


_ANSWERS: dict[str, Callable[[list, str], int]] = dict(count=_count, distance=_distance)

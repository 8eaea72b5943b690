"""COCO's panoptic annotations (Kirillov et al. 2019) as classes of pixels, in the layout of the probing suite.

::

    <root>/{train,val}2017/<name>.jpg
    <root>/annotations/panoptic_labels_{train,val}2017/<name>.png       one channel: category ids 0 ... 200
    <root>/annotations/panoptic_categories.json                         their names: [{"id": 1, "name": "person"}, ...]

The official `panoptic_*2017` files hold segments in colours. `make_virb_data.py` turns them into ids of categories,
through their JSON.
"""

from __future__ import annotations

from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import read_json
from clear.datasets.dense.decoders import ClassIds
from clear.datasets.dense.targets import VOID, DenseTable
from clear.datasets.readers.dense.matching import paired_table, stem, targets_of
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.datasets.readers.labels import check_class_names
from clear.registry import READERS

MOST_CATEGORY_ID = 200
NAMES = 'panoptic_categories.json'


@READERS.register_module(name='CocoPanoptic')
def coco_panoptic(root: str, split: str) -> DenseTable:
    """The category of every pixel. 0, where nothing is annotated, is void.

    A category has the place of its id, so there are 201 classes, as the probing suite has it: 133 of them occur. One
    that does not, but is predicted for a pixel that counts, has an IoU of 0. Without the file of names, and where it
    has none, a class is called by its id.

    Args:
        split: 'train' or 'val'.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the labels of an image are missing, or the file of names is none.
    """
    check_choice('split', split, ('train', 'val'))
    base = existing_folder(root)
    parts = f'{split}2017', f'annotations/panoptic_labels_{split}2017'
    for part in parts:
        existing_folder(base / part)
    images, labels = (image_files(base, part) for part in parts)
    targets = targets_of(base, split, images, labels, stem)
    ids = {category: category for category in range(1, MOST_CATEGORY_ID + 1)} | {0: VOID}
    return paired_table(base, split, images, targets, 'classes', ClassIds.of(ids), _names(base / 'annotations' / NAMES))


def _names(file: Path) -> list[str]:
    names = ['void', *map(str, range(1, MOST_CATEGORY_ID + 1))]
    if file.exists():
        found = read_json(file)
        for each in found if isinstance(found, list) else [found]:
            if not (isinstance(each, dict) and type(each.get('id')) is int and 0 < each['id'] <= MOST_CATEGORY_ID
                    and isinstance(each.get('name'), str)):
                raise DataError(f'{file}: expected a list of {{"id": 1 ... {MOST_CATEGORY_ID}, "name": text}}, found '
                                f'{each!r}.')
            names[each['id']] = each['name']
    check_class_names(names, str(file))
    return names

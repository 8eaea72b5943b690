"""ImageNet-V2, whose folders are numbers of classes."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow

from clear.core.errors import DataError
from clear.datasets.readers.benchmarks.imagenet import wordnet_ids
from clear.datasets.readers.image_files import existing_folder, folders_in, image_files
from clear.datasets.table import ImageTable
from clear.registry import READERS

_NUMBER = re.compile('[0-9]{1,4}')


@READERS.register_module(name='ImageNetV2')
def imagenet_v2(root: str, classes: str | None = None) -> ImageTable:
    """`root/<number>/<image>`: number k is class k of ImageNet, 10 follows 9, and its name is that of ImageNet.

    So a head that was trained on ImageNet, or on some of its classes, can be tested here. `ImageNet(variant='v2')`
    reads the same folders and wants all 1,000 classes.

    Args:
        classes: the folder of ImageNet's training images, relative to `root`: its folders, sorted, are the classes
            0, 1, ... Without it they are the 1,000 of ImageNet.

    Raises:
        DataError: if a folder is no number of a class, an image lies in none, or there is no image.
    """
    base = existing_folder(root)
    names = wordnet_ids() if classes is None else \
        [folder.name for folder in folders_in(existing_folder(base / classes))]
    paths = image_files(base)
    labels = [_label(base, path, len(names)) for path in paths]
    order = sorted(range(len(paths)), key=lambda row: (labels[row], paths[row]))
    return ImageTable.from_columns(base, dict(path=[paths[row] for row in order],
                                              label=pyarrow.array([labels[row] for row in order], pyarrow.int32())),
                                   names, name='imagenetv2')


def _label(base: Path, path: str, num_classes: int) -> int:
    folder = path.partition('/')[0] if '/' in path else ''
    if not _NUMBER.fullmatch(folder) or int(folder) >= num_classes:
        raise DataError(f"{base}: '{path}' lies in no folder that is a number of ImageNet's {num_classes} classes, "
                        f'0 ... {num_classes - 1}.')
    return int(folder)

"""ImageNet's validation images and the test sets that were made for its classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_text
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.datasets.table import ImageTable
from clear.registry import READERS

# How many of the 1,000 classes each has.
VARIANTS = {'train': 1000, 'val': 1000, 'v2': 1000, 'a': 200, 'r': 200, 'sketch': 1000}
_DEVKIT = ('. The ground truth of the development kit counts classes from 1 and in another order: turn it into ids of '
           'WordNet first.')


@READERS.register_module(name='ImageNet')
def imagenet_set(root: str, variant: str = 'val', labels: str | None = None) -> ImageTable:
    """`root/<class>/<image>`, sorted by path. The classes are called by their ids in WordNet and sorted by them.

    So the classes of all variants are matched by name: a probe that was trained on ImageNet is tested on one of them,
    and `ZeroShot(names='imagenet', match='name')` compares with the classes of that variant alone, the 200 of
    ImageNet-A for example. The folders of ImageNet-V2 are numbers, and 10 is not the class that text puts behind 1.

    Args:
        root: the folder of the classes.
        variant: 'train' or 'val' of ImageNet (Russakovsky et al. 2015, arXiv:1409.0575), 'v2' (Recht et al. 2019,
            arXiv:1902.10811), 'a' (Hendrycks et al. 2021, arXiv:1907.07174), 'r' (arXiv:2006.16241), 'sketch' (Wang et
            al. 2019, arXiv:1905.13549).
        labels: of 'val' as it is downloaded, all images in `root` without folders: a file with a line for each image,
            in the order of their names, that holds an id of WordNet or a number from 0 in the order of the ids.

    Raises:
        ConfigError: for another variant; for ImageNet-O, whose images show none of the 1,000 classes, that of their
            folder included, so that an accuracy would mean nothing (its measure is how well such images are told from
            ImageNet's, AUPR).
        DataError: if a folder is no class, a class of the variant is missing, or `labels` does not fit.
    """
    if variant == 'o':
        raise ConfigError('ImageNet-O is no set to classify: its images show none of the 1,000 classes, not even that '
                          'of their folder. Its measure, how well they are told from images of ImageNet (AUPR), is not '
                          'there.')
    check_choice('variant', variant, VARIANTS)
    if labels is not None and variant != 'val':
        raise ConfigError("labels belong to images without folders, those of variant='val'.")
    base = existing_folder(root)
    paths = image_files(base)
    if not paths:
        raise DataError(f'{base}: no images.')
    folders = [path.partition('/')[0] if '/' in path else '' for path in paths] if labels is None else \
        _lines_of(Path(labels), paths)
    where = str(base) if labels is None else labels
    ids = wordnet_ids()
    found = _class_of_each(folders, ids, where, numbers=variant == 'v2' or labels is not None,
                           names=variant != 'v2')
    classes = sorted(set(found))
    if len(classes) != VARIANTS[variant]:
        lacking = f', for example {next(each for each in ids if each not in classes)}' if len(classes) < 1000 and \
            VARIANTS[variant] == 1000 else ''
        raise DataError(f"{where}: {len(classes)} classes have images, variant='{variant}' has {VARIANTS[variant]}"
                        f'{lacking}. Are the data complete, and is it this variant?')
    of_class = {name: label for label, name in enumerate(classes)}
    name = dict(train='imagenet_train', val='imagenet_val').get(variant, f'imagenet_{variant}')
    return ImageTable.from_columns(base, dict(path=paths, label=[of_class[each] for each in found]), classes, name=name)


def wordnet_ids() -> list[str]:
    """The ids of the 1,000 classes, sorted, which is their usual order."""
    from timm.data import ImageNetInfo

    return list(ImageNetInfo('imagenet-1k').label_names())


def _class_of_each(written: Sequence[str], ids: Sequence[str], where: str, *, numbers: bool, names: bool) -> list[str]:
    """The id of the class of each image from a number or an id."""
    known = {name: name for name in ids} if names else {}
    kind = ' or '.join([*(['an id of WordNet'] if names else []), *(['a number from 0 to 999'] if numbers else [])])

    def read(text: str) -> str | None:
        number = int(text) if numbers and re.fullmatch('[0-9]{1,4}', text) else -1
        return ids[number] if 0 <= number < len(ids) else known.get(text)

    of_text: dict[str, str] = {}
    for row, text in enumerate(written, start=1):
        if text in of_text:
            continue
        found = read(text)
        if found is None:
            what = f"'{text}'" if text else 'no folder'
            raise DataError(f'{where}: image {row} is of {what}, and a class is {kind}'
                            + (_DEVKIT if text == str(len(ids)) else '.'))
        of_text[text] = found
    return [of_text[text] for text in written]


def _lines_of(file: Path, paths: Sequence[str]) -> list[str]:
    lines = [line.strip() for line in read_text(file).strip().split('\n')]
    if len(lines) != len(paths):
        raise DataError(f'{file} has {len(lines)} lines for {len(paths)} images; expected one for each.')
    return lines

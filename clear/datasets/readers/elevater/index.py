"""The two index formats of ELEVATER: lines of text, and COCO JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import read_json, read_text

_LABELS = re.compile('-?[0-9]{1,9}(,-?[0-9]{1,9})*')
LABEL_FILES = ('labels.txt', 'labelmap.txt')


@dataclass(frozen=True)
class IndexedImages:
    """What an index says, in its order.

    Attributes:
        paths: below the folder of the set; `archive.zip@inner/name` for a member of an archive.
        labels: the class indices of each image, each once.
        class_names: of COCO JSON; None where they stand in a file of their own.
    """

    paths: list[str]
    labels: list[list[int]]
    class_names: list[str] | None = None


def read_index(file: Path) -> IndexedImages:
    """An index file, by its suffix.

    Raises:
        DataError: if it cannot be read or is no index.
    """
    return _read_coco(file) if file.suffix.lower() == '.json' else _read_lines(file)


def read_class_names(file: Path) -> list[str]:
    """One name per line, in the order of the indices; blank lines are skipped."""
    return [line.strip() for line in read_text(file).split('\n') if line.strip()]


def _read_lines(file: Path) -> IndexedImages:
    """Lines `path label[,label...]`. Paths may hold blanks; a line that does not end in numbers has no label."""
    paths, labels = [], []
    for line in map(str.strip, read_text(file).split('\n')):
        if not line:
            continue
        path, _, last = line.rpartition(' ')
        if path and _LABELS.fullmatch(last):
            paths.append(path.strip())
            labels.append(list(dict.fromkeys(map(int, last.split(',')))) if ',' in last else [int(last)])
        else:
            paths.append(line)
            labels.append([])
        if labels[-1] and min(labels[-1]) < 0:
            raise DataError(f"{file}, image {len(paths)} ('{paths[-1]}'): label {min(labels[-1])}, expected class "
                            'indices from 0.')
    return IndexedImages([path.replace('\\', '/') for path in paths], labels)


def _read_coco(file: Path) -> IndexedImages:
    """COCO's `images`, `annotations` and `categories`: images by id, classes in the order of their ids.

    An image says where it lies by `file_name`, which may name a member of an archive, or by `zip_file` besides.
    """
    content = read_json(file)
    try:
        categories = sorted((int(each['id']), str(each['name'])) for each in content['categories'])
        place = {number: index for index, (number, _) in enumerate(categories)}
        if len(place) < len(categories):
            raise ValueError('two categories have one id')
        images = {int(each['id']): _path(each) for each in content['images']}
        if len(images) < len(content['images']):
            raise ValueError('two images have one id')
        labels: dict[int, dict[int, None]] = {number: {} for number in images}
        for note in content['annotations']:
            labels[int(note['image_id'])][place[int(note['category_id'])]] = None
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f'{file} is no index of classified images: expected {{"images": [{{"id", "file_name"}}], '
                        '"annotations": [{"image_id", "category_id"}], "categories": [{"id", "name"}]}; '
                        f'{type(error).__name__}: {error}.') from error
    order = sorted(images)
    return IndexedImages([images[number] for number in order], [list(labels[number]) for number in order],
                         [name for _, name in categories])


def _path(image: dict) -> str:
    name, archive = image['file_name'], image.get('zip_file') or ''
    if not isinstance(name, str) or not isinstance(archive, str):
        raise TypeError(f'an image is called {name!r} in {archive!r}')
    path = (f'{archive}@{name}' if archive else name).replace('\\', '/')
    path.encode()  # half a surrogate pair, which JSON may hold, is in no path: a ValueError
    return path
